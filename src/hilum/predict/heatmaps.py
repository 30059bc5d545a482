"""Heatmaps on the one scale of the bundle, regions of findings with side and zone, and how both are drawn.

Files, DICOM pictures and viewer show a finding's region by `region_of` alone: none below its threshold.
"""

import base64
import io
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from PIL import Image, ImageDraw

from hilum.errors import extras_named
from hilum.files import unfinished
from hilum.findings import drawn
from hilum.metrics.operating_points import DEFAULT_POINT
from hilum.metrics.thresholds import Threshold
from hilum.model.metadata import ModelDescription, strength
from hilum.predict.scoring import Scored

Strength = Float32[np.ndarray, "height width"]

Outline = list[tuple[float, float]]
"""Points (across, down) of a closed line, in proportions of the film's width and height."""

_FAINT, _FULL = np.array([1.0, 0.85, 0.2]), np.array([0.9, 0.1, 0.1])
"""The colours of heat, yellow to red, as red, green and blue in [0, 1]: files, viewer and DICOM pictures have these."""
_FULL_OPACITY = 0.6
_SIDE = 128
_LINE = np.array([1.0, 1.0, 1.0])
_UPPER, _LOWER = 0.34, 0.56
"""Where the zones meet, as parts of the film's height: thirds of 12 to 78 %, in which lungs lie on a frontal film."""
_ONE_SIDED = 2 / 3
_CENTRAL_WIDTH = 0.5
_SHORTEST_SHOWN = 512
_UP, _ROOT = "__", "_"
"""What stands in a heatmap's place for the parent folder and for the root, so that none is written elsewhere."""


Side = Literal["left", "right", "both", "central"]
Zone = Literal["upper", "mid", "lower"]


class Region(NamedTuple):
    """Where the evidence for a finding lies on a film.

    Attributes:
        field: on a square grid over the whole film, from 1 on where the region is.
        area: proportion of the film.
        side: the patient's, where the film is hung as usual: left is at the right of the picture. The film's own side
            marker is not read. Both: a wide region; central: a narrow one across the midline.
        zone: by the height of its middle; see _UPPER and _LOWER.
    """

    field: Float32[np.ndarray, "side side"]
    area: float
    side: Side
    zone: Zone

    @property
    def words(self) -> str:
        """Side and zone as a radiologist says them."""
        return place_words(self.side, self.zone)


def place_words(side: Side, zone: Zone) -> str:
    """Side and zone as a radiologist says them, such as `left upper zone`."""
    match side:
        case "both":
            return f"both {zone} zones"
        case "central":
            return f"central, {zone} zone"
        case _:
            return f"{side} {zone} zone"


def is_marked(score: float, threshold: Threshold | None) -> bool:
    """Whether a finding may have a region: its score reaches the threshold, or there is none."""
    return threshold is None or score >= threshold.value


def region_of(
    class_map: Float32[np.ndarray, "rows columns"],
    description: ModelDescription,
    finding: str,
    score: float,
    threshold: Threshold | None,
) -> Region | None:
    """The region of a finding on a film; None below its threshold, or if the map has no evidence anywhere.

    A place belongs to it if its strength reaches the model's level of that of the strongest place: the level that
    `hilum calibrate` chose on true boxes, or else UNVALIDATED_LEVEL.
    """
    if not is_marked(score, threshold):
        return None
    return region(strength(class_map, description.heatmap_logits[finding]), description.region_level)


def region(heat: Strength, level: float) -> Region | None:
    """The region of a map of strengths at a level; None if the map is empty."""
    fine = _enlarged(heat)
    if not fine.any():
        return None
    field = (fine / (np.float32(level) * fine.max())).astype(np.float32)
    inside = field >= 1
    columns, rows = inside.mean(axis=0), inside.mean(axis=1)
    left = float(columns[_SIDE // 2 :].sum() / columns.sum())
    side: Side = "left" if left >= _ONE_SIDED else "right" if left <= 1 - _ONE_SIDED else "both"
    if side == "both" and np.ptp(np.flatnonzero(columns)) < _CENTRAL_WIDTH * _SIDE:
        side = "central"
    middle = float(rows @ (np.arange(_SIDE) + 0.5) / rows.sum() / _SIDE)
    zone: Zone = "upper" if middle < _UPPER else "mid" if middle < _LOWER else "lower"
    return Region(field, float(inside.mean()), side, zone)


def default_threshold(description: ModelDescription, finding: str, point: str | None = None) -> Threshold | None:
    """The threshold that decides about a region: of the named operating point, else of youden, else none."""
    points = description.thresholds
    if points is None:
        return None
    name = point if point is not None else DEFAULT_POINT
    return points.thresholds(name)[finding] if name in points.points else None


def write_heatmaps(
    description: ModelDescription, scored: Scored, folder: Path, *, film: str, top: int = 3, point: str | None = None
) -> list[Path]:
    """Write pictures of a film for the findings with the highest scores, as FILM.FINDING.png; return their paths.

    Each shows the finding's region, outlined, with the heat inside it; below the threshold, the film alone. The colour
    says how far a place's evidence goes from the median film's (nothing) to the strongest places of the training films
    (full): the same scale for every film. A film that has its folders in its name has its pictures in such folders.

    Args:
        film: its name in the predictions.
        top: for how many findings.
        point: operating point whose thresholds decide; youden if None.
    """
    if scored.image is None or scored.scores is None or scored.maps is None:
        return []
    grey = enlarged(scored.image)
    place = place_of(folder, film)
    written = []
    for k in np.argsort(-scored.scores, kind="stable")[:top]:
        finding = description.findings[k]
        path = place.with_name(f"{place.name}.{finding}.png")
        picture, words = marked(grey, scored.maps[k], description, finding, float(scored.scores[k]), point=point)
        save_picture(path, heatmap_picture(picture, words, note=scored.caveat))
        written.append(path)
    return written


def marked(
    grey: Float[np.ndarray, "height width"],
    class_map: Float32[np.ndarray, "rows columns"],
    description: ModelDescription,
    finding: str,
    score: float,
    *,
    point: str | None = None,
) -> tuple[UInt8[np.ndarray, "height width 3"], str]:
    """A film with the region of a finding, outlined, the heat inside it; and words that say finding, score and place.

    Args:
        grey: the film in [0, 1].
        point: operating point whose thresholds decide whether there is a region; youden if None.
    """
    threshold = default_threshold(description, finding, point)
    found = region_of(class_map, description, finding, score, threshold)
    none = "no region" if is_marked(score, threshold) else "below threshold"
    where = none if found is None else found.words
    heat = strength(class_map, description.heatmap_logits[finding])
    return overlay(grey, heat, found), f"{drawn(finding)}: score {score:.3f}, {where}"


def heatmap_picture(picture: UInt8[np.ndarray, "height width 3"], words: str, *, note: str = "") -> Image.Image:
    """A film with a finding's region, and its words, a note if there is one, and the disclaimer in a strip below."""
    return captioned(picture, "\n".join(filter(None, [words, note, "Research software, not a medical device"])))


def place_of(folder: Path, film: str) -> Path:
    """Where the files of a film begin: its name in the predictions, below the folder whatever it says."""
    return folder.joinpath(*({"..": _UP, Path(film).anchor: _ROOT}.get(part, part) for part in Path(film).parts))


def enlarged(grey: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "tall wide"]:
    """A film made large enough to be looked at: 512 px on its shorter side, if it has less."""
    height, width = grey.shape
    factor = max(1.0, _SHORTEST_SHOWN / min(height, width))
    larger = Image.fromarray(grey).resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    shown: Float32[np.ndarray, "tall wide"] = np.clip(np.asarray(larger), 0, 1)
    return shown


def overlay(
    grey: Float[np.ndarray, "height width"],
    heat: Float32[np.ndarray, "rows columns"],
    inside: Region | None,
) -> UInt8[np.ndarray, "height width 3"]:
    """A film with heat in a region and a line around it: yellow to red, and the more opaque the stronger.

    Args:
        grey: the film in [0, 1].
        heat: strength in [0, 1]; enlarged to the film by bilinear interpolation.
        inside: where heat is drawn; None draws nothing.
    """
    height, width = grey.shape
    if inside is None:
        return np.repeat(np.round(np.clip(grey.astype(np.float64), 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
    opacity, colour = _heat(heat, (height, width))
    within = np.asarray(Image.fromarray(inside.field).resize((width, height), Image.Resampling.BILINEAR)) >= 1
    blended = grey[..., None] + within[..., None] * opacity * (colour - grey[..., None])
    border = within & ~_eroded(within, max(1, round(min(height, width) / 256)))
    blended[border] = _LINE
    picture: UInt8[np.ndarray, "height width 3"] = np.round(np.clip(blended, 0, 1) * 255).astype(np.uint8)
    return picture


def heat_over(
    grey: Float[np.ndarray, "height width"], heat: Float32[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A film with all of a map's heat over it, for those who judge maps: yellow to red, the more opaque the stronger.

    Args:
        grey: the film in [0, 1].
        heat: strength in [0, 1]; enlarged to the film by bilinear interpolation.
    """
    height, width = grey.shape
    opacity, colour = _heat(heat, (height, width))
    blended = grey[..., None] * (1 - opacity) + colour * opacity
    picture: UInt8[np.ndarray, "height width 3"] = np.round(np.clip(blended, 0, 1) * 255).astype(np.uint8)
    return picture


def _heat(
    heat: Float32[np.ndarray, "rows columns"], sides: tuple[int, int]
) -> tuple[Float[np.ndarray, "height width 1"], Float[np.ndarray, "height width 3"]]:
    """Opacity and colour of a map that is enlarged to a film of this height and width."""
    height, width = sides
    enlarged = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))[..., None]
    return _FULL_OPACITY * enlarged, _FAINT + (_FULL - _FAINT) * enlarged


def _eroded(inside: Bool[np.ndarray, "height width"], by: int) -> Bool[np.ndarray, "height width"]:
    """What is left of a region without a border of so many pixels; the film's edge is a border, too."""
    padded = np.pad(inside, by)
    height, width = inside.shape
    left = inside.copy()
    for down in range(2 * by + 1):
        for across in range(2 * by + 1):
            left &= padded[down : down + height, across : across + width]
    return left


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


def _clear_png(strength: Strength) -> bytes:
    faint, full = np.round(255 * _FAINT), np.round(255 * _FULL)
    picture = np.empty((*strength.shape, 4), dtype=np.uint8)
    picture[..., :3] = np.round(faint + (full - faint) * strength[..., None])
    picture[..., 3] = np.round(255 * strength)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def outlines(found: Region) -> list[Outline]:
    """The lines around a region.

    Raises:
        MissingExtraError: if the extra [serve] is not installed.
    """
    with extras_named():
        from contourpy import contour_generator

    fine = np.pad(found.field, 1)  # a border of nothing closes each line
    lines = contour_generator(z=fine).lines(1.0)
    return [_places(line) for line in lines if isinstance(line, np.ndarray)]


def _places(line: Float64[np.ndarray, "points 2"]) -> Outline:
    return [(float(x), float(y)) for x, y in (np.clip(line[::2] - 0.5, 0, _SIDE) / _SIDE).round(4)]


def _enlarged(strength: Strength) -> Float32[np.ndarray, "tall wide"]:
    larger = Image.fromarray(strength).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    fine: Float32[np.ndarray, "tall wide"] = np.clip(np.asarray(larger), 0, 1)
    return fine
