"""Films spoilt on purpose: what the gate on the way in learns to tell from films that fit.

The gate on the way in: does a film look like those that a model was trained on? An `ok` is no promise.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int

from hilum.data.images import coverage

Grey = Float32[np.ndarray, "height width"]
Resized = Float32[np.ndarray, "tall wide"]

OK, BLANK, INVERTED, TURNED, CROPPED, NOT_CHEST = "ok", "blank", "inverted", "turned", "cropped", "not a chest film"


def spoilt(film: Grey, generator: np.random.Generator) -> Iterator[tuple[str, Resized]]:
    """One film in each of the ways in which it can be wrong, always in the same order, each with its name.

    A way may occur several times: turned to the left, upside down and to the right; cut in height, in width and in
    both, to its upper and its lower part, and a little; torn into tiles that are dealt anew, and replaced by clouds of
    random roughness or by a drawing. Kinds that differ have to be ways of their own: together they would fill a cloud
    so wide that films which fit lie in it too.
    """
    yield INVERTED, 1 - film
    for quarters in (1, 2, 3):
        yield TURNED, np.rot90(film, quarters)
    yield CROPPED, cut(film, generator.uniform(0.35, 0.6), 1.0, generator)
    yield CROPPED, cut(film, 1.0, generator.uniform(0.35, 0.6), generator)
    side = generator.uniform(0.3, 0.6)
    yield CROPPED, cut(film, side, side, generator)
    upper, lower = (max(2, round(generator.uniform(0.4, 0.65) * film.shape[0])) for _ in range(2))
    yield CROPPED, resized(film[:upper], *film.shape)
    yield CROPPED, resized(film[-lower:], *film.shape)
    side = generator.uniform(0.5, 0.65)
    yield CROPPED, cut(film, side, side, generator)
    yield NOT_CHEST, dealt(film, int(generator.choice([2, 4])), generator)
    yield NOT_CHEST, clouds(film.shape[0], generator.uniform(0, 3), generator)
    yield NOT_CHEST, drawing(film.shape[0], generator)


def varied(film: Grey, generator: np.random.Generator) -> Grey:
    """A film as another technician might have taken it: a little nearer, a little lighter or darker."""
    side = generator.uniform(0.9, 1.0)
    nearer = np.clip(cut(film, side, side, generator), 0, 1)
    lighter: Grey = nearer ** np.float32(np.exp(generator.uniform(-0.35, 0.35)))
    return lighter


def cut(film: Grey, height: float, width: float, generator: np.random.Generator) -> Grey:
    """A part of a film, from anywhere in it, enlarged to the whole.

    Args:
        height, width: of the part, as fractions of the film's.
    """
    sides = [max(2, round(part * side)) for part, side in zip((height, width), film.shape, strict=True)]
    top, left = (int(generator.integers(0, whole - side + 1)) for whole, side in zip(film.shape, sides, strict=True))
    return resized(film[top : top + sides[0], left : left + sides[1]], *film.shape)


def dealt(film: Grey, tiles: int, generator: np.random.Generator) -> Resized:
    """A film torn into tiles x tiles pieces, none of which lies in its own place; what does not divide is cut off."""
    height, width = (side // tiles for side in film.shape)
    pieces = [
        film[row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row in range(tiles)
        for column in range(tiles)
    ]
    places = generator.permutation(tiles**2)
    order = np.empty_like(places)
    order[places] = np.roll(places, 1)  # one great round, so that no piece stays
    dealt_anew: Resized = np.block([[pieces[piece] for piece in row] for row in order.reshape(tiles, tiles)])
    return dealt_anew


def clouds(size: int, smoothness: float, generator: np.random.Generator) -> Grey:
    """Noise whose amplitude falls with frequency to the power of `smoothness`: 0 is snow, 3 one soft cloud."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) + 1 / size
    wave = np.fft.ifft2(np.fft.fft2(generator.standard_normal((size, size))) / frequency**smoothness).real
    scaled: Grey = ((wave - wave.min()) / (wave.max() - wave.min())).astype(np.float32)
    return scaled


def drawing(size: int, generator: np.random.Generator) -> Grey:
    """One to three discs, ovals, rings, boxes or frames, each of one grey, on a ground of one grey or a ramp."""
    line = np.linspace(0, 1, size, dtype=np.float32)
    across, down = np.meshgrid(line, line)
    slopes = generator.uniform(-1, 1, 2) * (generator.random() < 0.3)
    drawn = generator.uniform() + slopes[0] * across + slopes[1] * down
    for _ in range(generator.integers(1, 4)):
        (x, y), (width, height) = generator.uniform(0.2, 0.8, 2), generator.uniform(0.05, 0.5, 2)
        apart = abs(across - x) / width, abs(down - y) / (width if generator.random() < 0.5 else height)
        edge = np.hypot(*apart) if generator.random() < 0.6 else np.maximum(*apart)
        inside = abs(edge - 1) < generator.uniform(0.1, 0.4) if generator.random() < 0.4 else edge < 1
        drawn = np.where(inside, generator.uniform(), drawn)
    clipped: Grey = np.clip(drawn, 0, 1).astype(np.float32)
    return clipped


def resized(film: Grey, height: int, width: int) -> Resized:
    """The film at another size, as THE preprocessing resizes."""
    down, across = coverage(film.shape[0], height), coverage(film.shape[1], width)
    smaller: Resized = np.asarray(across @ (down @ np.ascontiguousarray(film)).T).T
    return smaller


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
