"""Heatmaps on the one scale of the bundle: over the film, or alone with outlines for the viewer; and their colours."""

import base64
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from PIL import Image, ImageDraw

from hilum.errors import extras_named
from hilum.files import unfinished
from hilum.findings import drawn
from hilum.model.metadata import Description
from hilum.predict.scoring import Scored

Strength = Float32[np.ndarray, "height width"]

Outline = list[tuple[float, float]]
"""Points (across, down) of a closed line, in proportions of the film's width and height."""

_FAINT, _FULL = np.array([1.0, 0.85, 0.2]), np.array([0.9, 0.1, 0.1])
"""The colours of heat, yellow to red, as red, green and blue in [0, 1]: files, viewer and DICOM pictures have these."""
_FULL_OPACITY = 0.6
_SIDE = 128
_OUTLINE = 0.25
_SHORTEST_SHOWN = 512
_UP, _ROOT = "__", "_"
"""What stands in a heatmap's place for the parent folder and for the root, so that none is written elsewhere."""


def write_heatmaps(description: Description, scored: Scored, folder: Path, *, film: str, top: int = 3) -> list[Path]:
    """Write a film's heatmaps for the findings with the highest scores, as FILM.FINDING.png; return their paths.

    A film that has its folders in its name has its heatmaps in such folders. The colour says how far a place's evidence
    goes from the median film's (nothing) to the strongest places of the training films (full): the same scale for
    every film, so a map may be empty.

    Args:
        film: its name in the predictions.
        top: for how many findings.
    """
    if scored.image is None or scored.scores is None or scored.maps is None:
        return []
    grey = enlarged(scored.image)
    place = place_of(folder, film)
    written = []
    for k in np.argsort(-scored.scores, kind="stable")[:top]:
        finding = description.findings[k]
        path = place.with_name(f"{place.name}.{finding}.png")
        heat = strength(scored.maps[k], description.heatmap_logits[finding])
        save_picture(path, heatmap_picture(grey, heat, finding, float(scored.scores[k]), note=scored.caveat))
        written.append(path)
    return written


def heatmap_picture(
    grey: Float[np.ndarray, "height width"],
    heat: Float32[np.ndarray, "rows columns"],
    finding: str,
    score: float,
    *,
    note: str = "",
) -> Image.Image:
    """A film with its heat over it, and the score, a note if there is one, and the disclaimer in a strip below."""
    lines = [f"{drawn(finding)}: score {score:.3f}", note, "Research software, not a medical device"]
    return captioned(overlay(grey, heat), "\n".join(filter(None, lines)))


def place_of(folder: Path, film: str) -> Path:
    """Where the files of a film begin: its name in the predictions, below the folder whatever it says."""
    return folder.joinpath(*({"..": _UP, Path(film).anchor: _ROOT}.get(part, part) for part in Path(film).parts))


def strength(class_map: Float32[np.ndarray, "rows columns"], scale: tuple[float, float]) -> Strength:
    """A class map in 0 (nothing) to 1 (full) by the model's scale for this finding; what lies outside is cut off."""
    clear, full = scale
    cut: Strength = np.clip((class_map - np.float32(clear)) / np.float32(full - clear), 0, 1).astype(np.float32)
    return cut


def enlarged(grey: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "tall wide"]:
    """A film made large enough to be looked at: 512 px on its shorter side, if it has less."""
    height, width = grey.shape
    factor = max(1.0, _SHORTEST_SHOWN / min(height, width))
    larger = Image.fromarray(grey).resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    shown: Float32[np.ndarray, "tall wide"] = np.clip(np.asarray(larger), 0, 1)
    return shown


def overlay(
    grey: Float[np.ndarray, "height width"], heat: Float32[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A film with its heat over it: yellow to red, and the more opaque the stronger.

    Args:
        grey: the film in [0, 1].
        heat: strength in [0, 1]; enlarged to the film by bilinear interpolation.
    """
    height, width = grey.shape
    enlarged = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))[..., None]
    colour = _FAINT + (_FULL - _FAINT) * enlarged
    opacity = _FULL_OPACITY * enlarged
    blended = grey[..., None] * (1 - opacity) + colour * opacity
    picture: UInt8[np.ndarray, "height width 3"] = np.round(np.clip(blended, 0, 1) * 255).astype(np.uint8)
    return picture


def captioned(picture: UInt8[np.ndarray, "height width 3"], caption: str) -> Image.Image:
    """A picture with lines of text in a strip below it."""
    film = Image.fromarray(picture)
    lines = caption.split("\n")
    page = Image.new("RGB", (max(film.width, 320), film.height + 14 * len(lines) + 8), "black")
    page.paste(film, (0, 0))
    ImageDraw.Draw(page).multiline_text((6, film.height + 4), caption, fill="white", spacing=2)
    return page


def save_picture(path: Path, page: Image.Image) -> None:
    """Write a picture as PNG, whole or not at all."""
    with unfinished(path) as beside:
        page.save(beside, format="PNG")


def heat_png(strength: Strength) -> str:
    """The heat as a PNG in base64, the film's whole area squeezed into a square; clear where there is none.

    Args:
        strength: 0 (nothing) to 1 (full) on the model's scale for the finding.
    """
    return base64.b64encode(_clear_png(_enlarged(strength))).decode()


def scale_png() -> bytes:
    """The scale from nothing to full heat as a PNG, for a legend."""
    return _clear_png(np.linspace(0, 1, _SIDE, dtype=np.float32)[None])


def _clear_png(strength: Strength) -> bytes:
    faint, full = np.round(255 * _FAINT), np.round(255 * _FULL)
    picture = np.empty((*strength.shape, 4), dtype=np.uint8)
    picture[..., :3] = np.round(faint + (full - faint) * strength[..., None])
    picture[..., 3] = np.round(255 * strength)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def outlines(strength: Strength) -> list[Outline]:
    """Where the heat is a quarter of full.

    Raises:
        MissingExtraError: if the extra [serve] is not installed.
    """
    with extras_named():
        from contourpy import contour_generator

    fine = np.pad(_enlarged(strength), 1)  # a border of nothing closes each line
    lines = contour_generator(z=fine).lines(_OUTLINE)
    return [_places(line) for line in lines if isinstance(line, np.ndarray)]


def _places(line: Float64[np.ndarray, "points 2"]) -> Outline:
    return [(float(x), float(y)) for x, y in (np.clip(line[::2] - 0.5, 0, _SIDE) / _SIDE).round(4)]


def _enlarged(strength: Strength) -> Float32[np.ndarray, "tall wide"]:
    larger = Image.fromarray(strength).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    fine: Float32[np.ndarray, "tall wide"] = np.clip(np.asarray(larger), 0, 1)
    return fine
