"""Films spoilt on purpose: what the gate on the way in learns to tell from films that fit."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from hilum.data.resize import coverage

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
