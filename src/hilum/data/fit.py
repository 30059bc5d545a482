"""The gate on the way in: does a film look like those that a model was trained on? An `ok` is no promise."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int

from hilum.data.spoil import BLANK, CROPPED, INVERTED, NOT_CHEST, OK, TURNED, resized, spoilt, varied

Grey = Float32[np.ndarray, "height width"]
Look = Float64[np.ndarray, " pixels"]
Traits = Float64[np.ndarray, "films traits"]

FAR = "unlike the training films"
SIDE = 20
LEAST_CONTRAST = 0.01
"""Standard deviation of the greys of a film, of 0 to 1, below which nothing can be seen on it."""

LEAST_FILMS = 16
"""Below which nothing can be learned about what fits."""

_SPOILT_AT = 64
_AXES = 40
_TIMES = 2  # each film is spoilt in each way
_FREEDOM = 30
_MOST_FILMS = 1500
_BLOCK = 8  # films in a row go into the same half, so that few patients are in both
_REFUSED = 0.0175
_NOTHING = 1e-6  # a variance that films have which are all the same
_WHY = {
    BLANK: "it has next to no contrast",
    FAR: "it lies farther from the training films than any film that was looked at in training",
    NOT_CHEST: "it looks less like a chest film than like drawings, textures and torn films",
    INVERTED: "it looks like chest films whose dark and bright were exchanged",
    TURNED: "it looks like chest films that lie on a side or upside down",
    CROPPED: "it looks like a part of a chest film",
}


class Verdict(NamedTuple):
    """Whether a film fits: `ok` or what is wrong, and a sentence that says why, empty for ok."""

    reason: str
    why: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.why}" if self.why else self.reason


class Cloud(NamedTuple):
    """Where the films of one kind lie: Student's t distribution of their traits.

    A normal one would let one odd trait outweigh all others; among real films some are odd in every way.
    """

    reason: str
    mean: Float64[np.ndarray, " traits"]
    whitening: Float64[np.ndarray, "traits traits"]  # lower triangle; times its transpose, the inverse covariance

    def distance(self, traits: Traits) -> Float64[np.ndarray, " films"]:
        """Squared Mahalanobis distance, per trait: about 1 for the cloud's own films."""
        squared: Float64[np.ndarray, " films"] = (((traits - self.mean) @ self.whitening) ** 2).mean(axis=1)
        return squared

    def log_density(self, traits: Traits) -> Float64[np.ndarray, " films"]:
        """Up to a constant that all clouds share."""
        size = len(self.mean)
        volume = np.log(np.diagonal(self.whitening)).sum()
        tail = (_FREEDOM + size) / 2 * np.log1p(size * self.distance(traits) / _FREEDOM)
        density: Float64[np.ndarray, " films"] = volume - tail
        return density


@dataclass(frozen=True, eq=False)
class Gate:
    """What the training films look like at 20 x 20 px, and what they look like when they are spoilt.

    A film's traits are its coordinates on the main axes of all these films, and how much they leave unexplained. It
    fits if the cloud of the training films explains it well enough beside the clouds of each way to be spoilt.

    Attributes:
        centre: the mean film, standardised.
        axes: the main axes, scaled so that the coordinates' standard deviation is 1.
        clouds: the training films first, then each way to be spoilt.
        least_odds: log odds of the first cloud against the best other, below which a film does not fit.
        farthest: distance from the first cloud above which a film does not fit.
    """

    centre: Look
    axes: Float64[np.ndarray, "axes pixels"]
    clouds: tuple[Cloud, ...]
    least_odds: float
    farthest: float

    def check(self, grey: Grey) -> Verdict:
        """Whether a film fits.

        Args:
            grey: the film as the model's preprocessing makes it, one channel.
        """
        if float(grey.std()) < LEAST_CONTRAST:
            return _verdict(BLANK)
        traits = _traits(look(grey)[None], self.centre, self.axes)
        odds, likeliest = self.odds(traits)
        if odds[0] < self.least_odds:
            return _verdict(self.clouds[1 + likeliest[0]].reason)
        return _verdict(FAR) if self.clouds[0].distance(traits)[0] > self.farthest else Verdict(OK, "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Gate) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.least_odds, self.farthest))

    def odds(self, traits: Traits) -> tuple[Float64[np.ndarray, " films"], Int[np.ndarray, " films"]]:
        """Log odds of fitting against the likeliest way to be spoilt, and which way that is."""
        own, *others = (cloud.log_density(traits) for cloud in self.clouds)
        ways = np.stack(others)
        return own - ways.max(axis=0), ways.argmax(axis=0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: a row of numbers is a text, so that a bundle can still be read by people."""
        return {
            "centre": _text(self.centre),
            "axes": [_text(row) for row in self.axes],
            "clouds": [
                {"reason": c.reason, "mean": _text(c.mean), "whitening": [_text(row) for row in c.whitening]}
                for c in self.clouds
            ],
            "least_odds": self.least_odds,
            "farthest": self.farthest,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Gate":
        """The reverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: if a field is missing or is not what it must be.
        """
        centre, axes = _numbers([fields["centre"]])[0], _numbers(fields["axes"])
        clouds = tuple(
            Cloud(str(c["reason"]), _numbers([c["mean"]])[0], _numbers(c["whitening"])) for c in fields["clouds"]
        )
        traits = len(axes) + 1
        shapes = {(c.mean.shape, c.whitening.shape) for c in clouds}
        if axes.shape[1:] != centre.shape or len(centre) != SIDE**2 or shapes != {((traits,), (traits, traits))}:
            raise ValueError("the gate's numbers must be of shapes that belong together")
        if not all(
            (np.tril(c.whitening) == c.whitening).all() and (np.diagonal(c.whitening) > 0).all() for c in clouds
        ):
            raise ValueError("the gate's whitenings must be lower triangles with a diagonal above 0")
        if clouds[0].reason != OK or len(clouds) < 2 or not {c.reason for c in clouds[1:]} <= set(_WHY):
            raise ValueError(f"the gate's clouds must be ok and then {', '.join(_WHY)}")
        limits = float(fields["least_odds"]), float(fields["farthest"])
        if not np.isfinite(limits).all():
            raise ValueError(f"the gate's limits must be finite, got {limits}")
        return cls(centre, axes, clouds, *limits)


def fit_gate(read: Callable[[int], Grey], films: int, *, seed: int) -> Gate:
    """Learn what fits from training films, and from the same films spoilt.

    The limit is the one below which 1.75 % of the films fall when half of them is judged by what the other half taught.
    The worst of NIH's own films are upside down, inverted or lateral in truth, so a limit below all of them is none.

    Args:
        read: from a row to a film as the model's preprocessing makes it, one channel; a patient's films in a row.
        films: how many there are, at least LEAST_FILMS; of more than 1,500, as many are looked at.
        seed: of the spoiling.

    Raises:
        ValueError: if there are too few films.
    """
    if films < LEAST_FILMS:
        raise ValueError(f"films must be at least {LEAST_FILMS}, got {films}")
    rows = np.unique(np.linspace(0, films - 1, min(films, _MOST_FILMS)).round().astype(int))
    small = [resized(read(int(row)), _SPOILT_AT, _SPOILT_AT) for row in rows]
    part = np.arange(len(small)) // _BLOCK % 2
    halves = [[film for film, own in zip(small, part, strict=True) if own == half] for half in (0, 1)]
    odds, distances = [], []
    for known, unknown in (halves, halves[::-1]):
        judge = _learned(known, np.random.default_rng(seed))
        traits = _traits(np.array([look(film) for film in unknown]), judge.centre, judge.axes)
        odds.append(judge.odds(traits)[0])
        distances.append(judge.clouds[0].distance(traits))
    gate = _learned(small, np.random.default_rng(seed))
    least = min(0.0, float(np.quantile(np.concatenate(odds), _REFUSED)))
    limited = replace(gate, least_odds=least, farthest=1.5 * float(np.concatenate(distances).max()))
    return Gate.from_dict(limited.to_dict())  # with the digits that a bundle keeps


def _learned(films: Sequence[Grey], generator: np.random.Generator) -> Gate:
    """A gate without limits."""
    looks: dict[tuple[str, int], list[Look]] = {}
    for film in films:
        for _ in range(_TIMES):
            versions = [(OK, film), (OK, varied(film, generator)), *spoilt(film, generator)]
            for way, (reason, version) in enumerate(versions):
                looks.setdefault((reason, 0 if reason == OK else way), []).append(look(version))
    rows = np.array([one for kind in looks.values() for one in kind])
    centre = rows.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(rows.T))  # rising
    kept = slice(-1, -1 - max(2, min(_AXES, len(films) // 4)), -1)
    axes = (directions[:, kept] / np.sqrt(np.maximum(variances[kept], _NOTHING))).T
    clouds = tuple(
        _cloud(reason, _traits(np.array(kind), centre, axes), films=len(films)) for (reason, _), kind in looks.items()
    )
    return Gate(centre, axes, clouds, least_odds=0.0, farthest=math.inf)


def look(grey: Grey) -> Look:
    """A film at 20 x 20 px, with mean 0 and standard deviation 1."""
    small = resized(grey, SIDE, SIDE).astype(np.float64).ravel()
    small -= small.mean()
    return small / max(float(small.std()), 1e-3)


def _traits(
    looks: Float64[np.ndarray, "films pixels"], centre: Look, axes: Float64[np.ndarray, "axes pixels"]
) -> Traits:
    apart = looks - centre
    coordinates = apart @ axes.T
    unexplained = apart - (coordinates / (axes**2).sum(axis=1)) @ axes
    return np.column_stack([coordinates, np.log((unexplained**2).mean(axis=1) + 1e-4)])


def _cloud(reason: str, traits: Traits, *, films: int) -> Cloud:
    """Mean and covariance of these traits; from few films, its covariance is drawn towards round."""
    covariance = np.cov(traits.T)
    width = traits.shape[1]
    part = width / (width + films)
    round_one = np.eye(width) * (np.trace(covariance) / width + _NOTHING)
    covariance = (1 - part) * covariance + part * round_one
    return Cloud(reason, traits.mean(axis=0), np.linalg.cholesky(np.linalg.inv(covariance)))


def _verdict(reason: str) -> Verdict:
    return Verdict(reason, _WHY[reason])


def _text(row: Float64[np.ndarray, " numbers"]) -> str:
    return " ".join(f"{number:.5g}" for number in row)


def _numbers(rows: Any) -> Float64[np.ndarray, "rows columns"]:
    table = np.array([[float(number) for number in row.split()] for row in rows], dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ValueError("the gate's rows must be finite numbers, as many in each")
    return table
