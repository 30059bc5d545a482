"""Heatmaps for the page: the heat alone, to be laid over the film at any opacity, and its outlines."""

import base64
import io

import numpy as np
from contourpy import contour_generator
from jaxtyping import Float32, Float64
from PIL import Image

from hilum.predict.heatmaps import Strength

_SIDE = 128
_COLD, _HOT = np.array([255.0, 217.0, 51.0]), np.array([230.0, 26.0, 26.0])
_OUTLINE = 0.25

Line = list[tuple[float, float]]


def heat_png(strength: Strength) -> str:
    """The heat as a PNG in base64, the film's whole area squeezed into a square; clear where there is none.

    Args:
        strength: 0 (nothing) to 1 (full) on the model's scale for the finding.
    """
    fine = _enlarged(strength)
    picture = np.empty((_SIDE, _SIDE, 4), dtype=np.uint8)
    picture[..., :3] = np.round(_COLD + (_HOT - _COLD) * fine[..., None])
    picture[..., 3] = np.round(255 * fine)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def outlines(strength: Strength) -> list[Line]:
    """Where the heat is a quarter of full: lines of points (across, down), 0 to 1 of the film."""
    fine = np.pad(_enlarged(strength), 1)  # a border of nothing closes each line
    lines = contour_generator(z=fine).lines(_OUTLINE)
    return [_places(line) for line in lines if isinstance(line, np.ndarray)]


def _places(line: Float64[np.ndarray, "points 2"]) -> Line:
    return [(float(x), float(y)) for x, y in (np.clip(line[::2] - 0.5, 0, _SIDE) / _SIDE).round(4)]


def _enlarged(strength: Strength) -> Float32[np.ndarray, "tall wide"]:
    larger = Image.fromarray(strength).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    fine: Float32[np.ndarray, "tall wide"] = np.clip(np.asarray(larger), 0, 1)
    return fine
