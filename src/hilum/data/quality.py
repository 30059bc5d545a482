"""The input quality check: does a film look like those that a model was trained on? An `ok` is no promise.

It learns from the training films, from corrupted versions of them, and from lateral views drawn by the phantom.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from hilum.data.film_kind import LATERAL, NOT_CHEST, TURNED
from hilum.data.images import coverage

Grey = Float32[np.ndarray, "height width"]
Resized = Float32[np.ndarray, "tall wide"]

OK, BLANK, INVERTED, CROPPED = "ok", "blank", "inverted", "cropped"
UNDEREXPOSED, OVEREXPOSED, CLIPPED, FAINT = "under-exposed", "over-exposed", "clipped", "low contrast"


def corrupted(film: Grey, generator: np.random.Generator) -> Iterator[tuple[str, Resized]]:
    """One film in each way in which it can be wrong, always in the same order, each with its name.

    A name may occur several times. Kinds that differ have to be ways of their own: together they would fill a cloud so
    wide that films which fit lie in it too.
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
    for least, most in ((0.35, 0.55), (0.12, 0.35), (0.03, 0.12)):
        yield UNDEREXPOSED, film * np.float32(np.exp(generator.uniform(np.log(least), np.log(most))))
    yield UNDEREXPOSED, film ** np.float32(generator.uniform(2.0, 4.0))
    yield OVEREXPOSED, np.clip(film * np.float32(generator.uniform(1.8, 4.0)), 0, 1)
    yield OVEREXPOSED, 1 - (1 - film) * np.float32(generator.uniform(0.1, 0.5))
    yield OVEREXPOSED, film ** np.float32(generator.uniform(0.2, 0.5))
    yield CLIPPED, np.clip(film.mean() + (film - film.mean()) * np.float32(generator.uniform(2.5, 6.0)), 0, 1)
    yield FAINT, film.mean() + (film - film.mean()) * np.float32(generator.uniform(0.1, 0.45))


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
    """Up to three discs, ovals, rings, boxes or frames, each of one grey, on a ground of one grey or a ramp."""
    line = np.linspace(0, 1, size, dtype=np.float32)
    across, down = np.meshgrid(line, line)
    shapes = int(generator.integers(0, 4))
    slopes = generator.uniform(-1, 1, 2) * (shapes == 0 or generator.random() < 0.3)
    drawn = generator.uniform() + slopes[0] * across + slopes[1] * down
    for _ in range(shapes):
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


Pixels = Float64[np.ndarray, "films pixels"]
Look = Float64[np.ndarray, " pixels"]
Traits = Float64[np.ndarray, "films traits"]

FAR = "unlike the training films"
SIDE = 20
LEAST_CONTRAST = 0.01
"""Standard deviation of the greys of a film, of 0 to 1, below which nothing can be seen on it."""

LEAST_FILMS = 16
"""Below which nothing can be learned about what fits."""

_CORRUPTED_AT = 64
_AXES = 40
_LEVELS = (20, 100, 200, 300, 379)  # ranks among the 400 greys: about the quantiles 0.05, 0.25, 0.5, 0.75, 0.95
_BLACK = 0.02  # added to greys and to their distance from 1 before the logarithm
_TIMES = 2  # each film is corrupted in each way
_FREEDOM = 30
_MOST_FILMS = 1500
_BLOCK = 8  # films in a row go into the same half, so that few patients are in both
_SHAPE, _EXPOSURE = "shape", "exposure"
_EXPOSURES = (UNDEREXPOSED, OVEREXPOSED, CLIPPED, FAINT)
_REFUSED = {_SHAPE: 0.0125, _EXPOSURE: 0.0075, LATERAL: 0.0075}
_NOTHING = 1e-6  # a variance that films have which are all the same
_WHY = {
    BLANK: "it has next to no contrast",
    FAR: "it lies farther from the training films than any film that was looked at in training",
    NOT_CHEST: "it looks less like the training films than like drawings, textures and torn films",
    INVERTED: "it looks like chest films whose dark and bright were exchanged",
    TURNED: "it looks like chest films that lie on a side or upside down",
    CROPPED: "it looks like a part of a chest film",
    LATERAL: "it looks like a chest film taken from the side",
    UNDEREXPOSED: "it is darker than the training films. Do its values use all bits of its format?",
    OVEREXPOSED: "it is brighter than the training films",
    CLIPPED: "its dark and bright parts are cut off. Was it saved with a narrow window?",
    FAINT: "it has less contrast than the training films",
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
class QualityCheck:
    """What the training films look like at 20 x 20 px, and what films look like that do not fit.

    A film's traits are its coordinates on the main axes of all these films once brightness and contrast are taken out,
    how much they leave unexplained, and its brightness and contrast. It fits if the cloud of the training films
    explains it well enough beside the clouds of each way to be corrupted and of lateral views. Training films of
    several sources have a cloud each, and a film fits if one of these explains it.

    Attributes:
        centre: the mean film, standardised.
        axes: the main axes, scaled so that the coordinates' standard deviation is 1.
        clouds: the training films first, of each source with enough of them, then each way not to fit.
        least_odds: log odds of the first cloud against another, below which a film does not fit: of the wrong shape, of
            the wrong exposure, or lateral.
        farthest: distance from the first cloud above which a film does not fit.
        exposure: whether brightness and contrast are among the traits. They are not in older bundles.
    """

    centre: Look
    axes: Float64[np.ndarray, "axes pixels"]
    clouds: tuple[Cloud, ...]
    least_odds: dict[str, float]
    farthest: float
    exposure: bool = True

    def check(self, grey: Grey) -> Verdict:
        """Whether a film fits.

        Args:
            grey: the film as the model's preprocessing makes it, one channel.
        """
        contrast = float(grey.std())
        if contrast < LEAST_CONTRAST:
            return _verdict(UNDEREXPOSED if contrast > 0.2 * float(grey.mean()) > 0 else BLANK)
        traits = self.traits(_small([grey]))
        odds = self.odds(traits)[0]
        reasons = self.reasons
        limits = np.array([self.least_odds[_group(reason)] for reason in reasons])
        if (odds < limits).any():
            return _verdict(reasons[int(np.where(odds < limits, odds, np.inf).argmin())])
        return _verdict(FAR) if self.distance(traits)[0] > self.farthest else Verdict(OK, "")

    @property
    def reasons(self) -> list[str]:
        """The ways not to fit, in the order of `odds`."""
        return [cloud.reason for cloud in self.clouds if cloud.reason != OK]

    def distance(self, traits: Traits) -> Float64[np.ndarray, " films"]:
        """Of each film from the nearest cloud of training films."""
        nearest: Float64[np.ndarray, " films"] = np.min(
            [cloud.distance(traits) for cloud in self.clouds if cloud.reason == OK], axis=0
        )
        return nearest

    def traits(self, pixels: Pixels) -> Traits:
        """The traits of films, a row each."""
        shape = _shape(_looks(pixels), self.centre, self.axes)
        return np.column_stack([shape, _exposure(pixels)]) if self.exposure else shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QualityCheck) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.least_odds[_SHAPE], self.farthest))

    def odds(self, traits: Traits) -> Float64[np.ndarray, "films ways"]:
        """Log odds of fitting against each way not to."""
        own = np.max([cloud.log_density(traits) for cloud in self.clouds if cloud.reason == OK], axis=0)
        others = [cloud.log_density(traits) for cloud in self.clouds if cloud.reason != OK]
        against: Float64[np.ndarray, "films ways"] = own[:, np.newaxis] - np.column_stack(others)
        return against

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
            "exposure": self.exposure,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "QualityCheck":
        """The reverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: if a field is missing or is not what it must be.
        """
        centre, axes = _numbers([fields["centre"]])[0], _numbers(fields["axes"])
        clouds = tuple(
            Cloud(str(c["reason"]), _numbers([c["mean"]])[0], _numbers(c["whitening"])) for c in fields["clouds"]
        )
        exposure = bool(fields.get("exposure", False))  # absent from bundles whose check does not look at it
        traits = len(axes) + 1 + (len(_LEVELS) + 1) * exposure
        shapes = {(c.mean.shape, c.whitening.shape) for c in clouds}
        if axes.shape[1:] != centre.shape or len(centre) != SIDE**2 or shapes != {((traits,), (traits, traits))}:
            raise ValueError("the quality check's numbers must be of shapes that belong together")
        if not all(
            (np.tril(c.whitening) == c.whitening).all() and (np.diagonal(c.whitening) > 0).all() for c in clouds
        ):
            raise ValueError("the quality check's whitenings must be lower triangles with a diagonal above 0")
        own = sum(c.reason == OK for c in clouds)
        if not own or own == len(clouds) or not {c.reason for c in clouds[own:]} <= set(_WHY):
            raise ValueError(f"the quality check's clouds must be ok and then {', '.join(_WHY)}")
        limits, farthest = _read_limits(fields["least_odds"]), float(fields["farthest"])
        if not np.isfinite([*limits.values(), farthest]).all():
            raise ValueError(f"the quality check's limits must be finite, got {limits} and {farthest}")
        return cls(centre, axes, clouds, limits, farthest, exposure)


def fit_quality_check(
    read: Callable[[int], Grey],
    films: int,
    *,
    laterals: Sequence[Grey] = (),
    seed: int,
    sources: Sequence[str] | None = None,
) -> QualityCheck:
    """Learn what fits from training films, from corrupted versions of them and from lateral views.

    The limits refuse 1.25, 0.75 and 0.75 % of the films for shape, exposure and as lateral when half of them is checked
    by what the other half taught. The worst of NIH's own films are upside down, inverted or lateral in truth, so that a
    limit below all is none.

    Args:
        read: from a row to a film as the model's preprocessing makes it, one channel; a patient's films in a row.
        films: how many there are, at least LEAST_FILMS; of more than 1,500, as many are looked at.
        laterals: films that are refused as lateral, whichever way they face; none are if there are none.
        seed: of the corruptions.
        sources: of the films; one if None. Those with fewer than twice LEAST_FILMS films count with the largest.

    Raises:
        ValueError: if there are too few films.
    """
    if films < LEAST_FILMS:
        raise ValueError(f"films must be at least {LEAST_FILMS}, got {films}")
    rows = np.unique(np.linspace(0, films - 1, min(films, _MOST_FILMS)).round().astype(int))
    small = [resized(read(int(row)), _CORRUPTED_AT, _CORRUPTED_AT) for row in rows]
    own = _numbered([sources[int(row)] for row in rows]) if sources is not None else [0] * len(small)
    part = np.arange(len(small)) // _BLOCK % 2
    halves = [np.flatnonzero(part == half).tolist() for half in (0, 1)]
    odds, distances = [], []
    for known, unknown in (halves, halves[::-1]):
        check = _learned(
            [small[row] for row in known], [own[row] for row in known], laterals, np.random.default_rng(seed)
        )
        traits = check.traits(_small([small[row] for row in unknown]))
        odds.append(check.odds(traits))
        distances.append(check.distance(traits))
    check = _learned(small, own, laterals, np.random.default_rng(seed))
    limits = _limits(np.concatenate(odds), check.reasons)
    limited = replace(check, least_odds=limits, farthest=1.5 * float(np.concatenate(distances).max()))
    return QualityCheck.from_dict(limited.to_dict())  # with the digits that a bundle keeps


def _numbered(sources: Sequence[str]) -> list[int]:
    """A number for each film's source; the small ones have that of the largest."""
    counts = Counter(sources)
    large = [source for source, count in counts.most_common() if count >= 2 * LEAST_FILMS]
    return [large.index(source) if source in large else 0 for source in sources]


def _limits(odds: Float64[np.ndarray, "films ways"], reasons: Sequence[str]) -> dict[str, float]:
    """The limit of log odds for each group of ways not to fit, which refuses its proportion of these films.

    Training films are far from lateral views and near to cropped films: under one limit for all, those that look most
    cropped would decide how dark a film may be.
    """
    groups = np.array([_group(reason) for reason in reasons])
    limits = {}
    for group, proportion in _REFUSED.items():
        own = odds[:, groups == group]
        limits[group] = min(0.0, float(np.quantile(own.min(axis=1), proportion))) if own.size else 0.0
    return limits


def _read_limits(written: Any) -> dict[str, float]:
    """The limits of a bundle; older ones have one number for all."""
    return {group: float(written[group] if isinstance(written, Mapping) else written) for group in _REFUSED}


def _group(reason: str) -> str:
    return LATERAL if reason == LATERAL else _EXPOSURE if reason in _EXPOSURES else _SHAPE


def _learned(
    films: Sequence[Grey], sources: Sequence[int], laterals: Sequence[Grey], generator: np.random.Generator
) -> QualityCheck:
    """A check without limits."""
    kinds: dict[tuple[str, int], list[Grey]] = {(OK, source): [] for source in sorted(set(sources))}
    for film, source in zip(films, sources, strict=True):
        for _ in range(_TIMES):
            versions = [(OK, film), (OK, varied(film, generator)), *corrupted(film, generator)]
            for way, (reason, version) in enumerate(versions):
                kinds.setdefault((reason, source if reason == OK else way), []).append(_shrunk(version))
    for film in laterals:
        for way, version in enumerate((film, film[:, ::-1])):
            kinds.setdefault((LATERAL, way), []).append(_shrunk(version))
    pixels = {kind: np.array(versions, dtype=np.float64).reshape(-1, SIDE**2) for kind, versions in kinds.items()}
    looks = np.concatenate([_looks(some) for some in pixels.values()])
    centre = looks.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(looks.T))  # rising
    kept = slice(-1, -1 - max(2, min(_AXES, len(films) // 4)), -1)
    axes = (directions[:, kept] / np.sqrt(np.maximum(variances[kept], _NOTHING))).T
    check = QualityCheck(centre, axes, (), least_odds={}, farthest=math.inf)
    numbers = {
        (reason, way): len(laterals) if reason == LATERAL else sources.count(way) if reason == OK else len(films)
        for reason, way in pixels
    }
    clouds = [_cloud(kind[0], check.traits(some), films=numbers[kind]) for kind, some in pixels.items()]
    return replace(check, clouds=tuple(clouds))


def look(grey: Grey) -> Look:
    """A film at 20 x 20 px, with mean 0 and standard deviation 1."""
    one: Look = _looks(_small([grey]))[0]
    return one


def _shrunk(grey: Resized) -> Grey:
    return resized(grey, SIDE, SIDE)


def _small(films: Sequence[Grey]) -> Pixels:
    return np.array([_shrunk(film).ravel() for film in films], dtype=np.float64)


def _looks(pixels: Pixels) -> Pixels:
    apart = pixels - pixels.mean(axis=1, keepdims=True)
    standardised: Pixels = apart / np.maximum(pixels.std(axis=1, keepdims=True), 1e-3)
    return standardised


def _exposure(pixels: Pixels) -> Traits:
    """Brightness and contrast: five of a film's greys by rank, as log odds, and the logarithm of their deviation."""
    levels = np.sort(pixels, axis=1)[:, _LEVELS]
    logits = np.log((levels + _BLACK) / (1 - levels + _BLACK))
    return np.column_stack([logits, np.log(pixels.std(axis=1) + _BLACK)])


def _shape(looks: Pixels, centre: Look, axes: Float64[np.ndarray, "axes pixels"]) -> Traits:
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
        raise ValueError("the quality check's rows must be finite numbers, as many in each")
    return table
