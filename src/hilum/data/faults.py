"""What makes a file no film, and the last checks that all formats share: sizes, and one grey channel from many."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

GreyPixels = UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]

SMALLEST_SIDE, LARGEST_SIDE = 16, 20_000
LARGEST_AREA = 100_000_000

SAVE_AGAIN = "Save it as an 8- or 16-bit grey PNG"
GET_AGAIN = "Download or copy the file again"


class Film(NamedTuple):
    """A film as its file holds it.

    Attributes:
        pixels: grey, bone bright, with the file's own depth: 8 bits, or 16.
        spacing_mm: height and width of a pixel, at the detector or the patient; None if the file does not say.
    """

    pixels: GreyPixels
    spacing_mm: tuple[float, float] | None = None


class FaultError(Exception):
    """What a film must be and what it is instead; `hilum.data.images.read` adds the file."""

    def __init__(self, rule: str, remedy: str):
        super().__init__(rule)
        self.rule, self.remedy = rule, remedy


def check_size(width: int, height: int) -> None:
    """Refuse absurd sizes, before any memory is taken for them."""
    sides_fit = all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in (width, height))
    if not sides_fit or width * height > LARGEST_AREA:
        raise FaultError(
            f"be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels a side and at most {LARGEST_AREA // 1_000_000} megapixels, "
            f"got {width} x {height}",
            "Remove it, or resize the film",
        )


def grey_pixels(film: Image.Image, size: tuple[int, int]) -> GreyPixels:
    """Grey pixels from Pillow's modes; transparent ones are refused, as nobody knows what is behind."""
    if film.size != size:
        raise FaultError(f"be as large as its header says, {size}, got {film.size}", GET_AGAIN)
    if film.mode == "P" or ("transparency" in film.info and film.mode in ("L", "RGB")):
        film = film.convert("RGBA")
    if film.mode in ("LA", "RGBA") and np.asarray(film.getchannel("A")).min() < 255:
        raise FaultError("be opaque, got transparent pixels", SAVE_AGAIN)
    match film.mode:
        case "L" | "LA":
            return np.array(film.getchannel("L"))
        case "RGB" | "RGBA":
            return np.array(film.convert("RGB").convert("L"))
        case "I;16":
            pixels = np.array(film)
            if (pixels == film.info.get("transparency", -1)).any():
                raise FaultError("be opaque, got transparent pixels", SAVE_AGAIN)
            return pixels.astype(np.uint16, copy=False)
        case mode:
            raise FaultError(f"be grey or RGB, got Pillow's mode {mode!r}", SAVE_AGAIN)
