"""Whether a map finds a finding: its strongest place, and the box around it, against boxes that people drew."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy import ndimage

Points = Float64[np.ndarray, "marks 2"]
"""Across and down, in fractions of the film's width and height."""

Boxes = Float64[np.ndarray, "marks 4"]
"""Left, top, width and height, in fractions of the film's width and height."""

Truths = Float64[np.ndarray, "truths 4"]
"""True boxes of one finding on one film, in the same fractions."""

Masks = Sequence[Bool[np.ndarray, "rows columns"] | None]
"""For each true box the outline that it surrounds, spread over the film, or None."""

BOX_THRESHOLD = 180 / 255
"""From which part of a map's own range a place belongs to the box.

Fixed before any box was looked at: one of two thresholds that are ascribed to Wang et al., "ChestX-ray8", CVPR 2017,
which could not be checked at the source from here.
"""

OVERLAPS = (0.1, 0.25, 0.5, 0.75)
"""The overlaps above which a box counts as right."""

MEASURES = ("pointing", "centre", *(f"iou_{t}" for t in OVERLAPS), *(f"iobb_{t}" for t in OVERLAPS))
"""What `hits` tells of a mark, in this order."""

_GRID = 128
"""Cells a side on which a map is enlarged before its box is drawn."""

REGION_LEVELS = tuple(round(0.02 * step, 2) for step in range(10, 48))
"""The levels that `choose_level` tries: parts of a map's strongest place, 0.2 to 0.94."""


class Level(NamedTuple):
    """A level for regions and how well it did.

    Attributes:
        value: part of a map's strongest place from which a place belongs to the region, in (0, 1).
        iou: mean intersection over union of these regions with the true boxes.
    """

    value: float
    iou: float


class Marks(NamedTuple):
    """Where findings are said to be: a point and a box for each; NaN where nothing is said."""

    points: Points
    boxes: Boxes


def mark(class_map: Float[np.ndarray, "rows columns"], *, threshold: float = BOX_THRESHOLD) -> Marks:
    """The one point and the one box that a map stands for; NaN for a map that is the same everywhere.

    The point is the centre of the strongest place, the first of several. The box surrounds the largest connected region
    of what reaches the threshold, after the map has been enlarged by bilinear interpolation.

    Args:
        class_map: higher where the finding is; only its shape over the film counts, not its unit.
        threshold: part of the way from the enlarged map's lowest value to its highest, in (0, 1).

    Raises:
        ValueError: if the threshold is not in (0, 1) or the map not finite.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be in (0, 1), got {threshold}")
    if not np.isfinite(class_map).all():
        raise ValueError(f"class_map must be finite, got {class_map[~np.isfinite(class_map)][0]}")
    low, high = float(class_map.min()), float(class_map.max())
    if low == high:
        return Marks(np.full((1, 2), np.nan), np.full((1, 4), np.nan))
    rows, columns = class_map.shape
    row, column = divmod(int(class_map.argmax()), columns)
    fine = _enlargement(rows) @ class_map.astype(np.float64) @ _enlargement(columns).T
    strong = fine >= fine.min() + threshold * (fine.max() - fine.min())
    down, across = _bounds(strong)
    box = [across[0], down[0], across[1] - across[0], down[1] - down[0]]
    return Marks(np.array([[(column + 0.5) / columns, (row + 0.5) / rows]]), np.array([box]) / _GRID)


def choose_level(strengths: Sequence[Float[np.ndarray, "_ _"]], truths: Sequence[Float64[np.ndarray, "_ 4"]]) -> Level:
    """The level at which regions of maps fit true boxes: the highest that is as good as the best but for noise.

    Good is the mean intersection over union of a map's region with its true boxes. As good but for noise means at most
    one standard error below the best, which gives the smallest regions that the boxes support.

    Args:
        strengths: a map for each finding with true boxes, at least 0 everywhere; one that is 0 has no region.
        truths: the true boxes of each.

    Raises:
        ValueError: if there is no map.

    Source: the one-standard-error rule of Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3.
    """
    if not strengths:
        raise ValueError("strengths must be of at least one finding with true boxes, got none")
    ious = np.array([_region_ious(one, boxes) for one, boxes in zip(strengths, truths, strict=True)])
    means = ious.mean(axis=0)
    best = int(means.argmax())
    noise = ious[:, best].std(ddof=1) / np.sqrt(len(ious)) if len(ious) > 1 else 0.0
    chosen = int(np.flatnonzero(means >= means[best] - noise)[-1])
    return Level(REGION_LEVELS[chosen], float(means[chosen]))


def _region_ious(strength: Float[np.ndarray, "rows columns"], truths: Truths) -> Float64[np.ndarray, " levels"]:
    """Intersection over union of a map's region with the true boxes at each of REGION_LEVELS."""
    rows, columns = strength.shape
    fine = _enlargement(rows) @ strength.astype(np.float64) @ _enlargement(columns).T
    cells = (np.arange(_GRID) + 0.5) / _GRID
    inside = np.zeros((_GRID, _GRID), dtype=bool)
    for left, top, width, height in truths:
        across, down = (cells >= left) & (cells < left + width), (cells >= top) & (cells < top + height)
        inside |= down[:, None] & across
    regions = (fine > 0) & (fine >= np.array(REGION_LEVELS)[:, None, None] * fine.max())
    common, either = (regions & inside).sum(axis=(1, 2)), (regions | inside).sum(axis=(1, 2))
    ious: Float64[np.ndarray, " levels"] = common / np.maximum(either, 1)
    return ious


def hits(marks: Marks, truths: Truths, masks: Masks = ()) -> Bool[np.ndarray, "marks measures"]:
    """What is right of each mark, in the order of MEASURES; of several true boxes, the best counts.

    Where a true box surrounds an outline, a point is right only in the outline.

    pointing: the point lies in a true box. centre: the centre of the mark's box does. iou: intersection over union is
    above the overlap; iobb: intersection over the mark's own box, which a small box inside a large truth fulfils.

    Args:
        truths: the true boxes of one finding on the film of all these marks.
        masks: for each true box the outline that it surrounds, or None; empty if none has one.
    """
    left, top, width, height = (marks.boxes[:, i, None] for i in range(4))
    truth_left, truth_top, truth_width, truth_height = truths.T
    common_width = np.minimum(left + width, truth_left + truth_width) - np.maximum(left, truth_left)
    common_height = np.minimum(top + height, truth_top + truth_height) - np.maximum(top, truth_top)
    common = np.maximum(common_width, 0) * np.maximum(common_height, 0)
    own, true = width * height, truth_width * truth_height
    iou, iobb = (common / (own + true - common)).max(axis=1), (common / own).max(axis=1)
    centres = np.concatenate([left + width / 2, top + height / 2], axis=1)
    columns = [_inside(marks.points, truths, masks), _inside(centres, truths, masks)]
    columns += [overlap > least for overlap in (iou, iobb) for least in OVERLAPS]
    return np.stack(columns, axis=1)


def at_centre(marks: Marks) -> Marks:
    """The control that knows only where films have their middle: the point there, and boxes of the marks' sizes."""
    sizes = marks.boxes[:, 2:]
    return Marks(np.full_like(marks.points, 0.5), np.concatenate([0.5 - sizes / 2, sizes], axis=1))


def at_random(marks: Marks, generator: np.random.Generator, *, times: int) -> Marks:
    """The control that knows nothing: points anywhere, and boxes of the marks' sizes anywhere inside the film.

    Args:
        times: how many for each mark; those of one mark follow each other.
    """
    sizes = np.repeat(marks.boxes[:, 2:], times, axis=0)
    points, corners = generator.random((2, len(sizes), 2))
    return Marks(points, np.concatenate([corners * (1 - sizes), sizes], axis=1))


def _inside(points: Points, boxes: Truths, masks: Masks) -> Bool[np.ndarray, " marks"]:
    offsets = points[:, None] - boxes[:, :2]
    inside = ((offsets >= 0) & (offsets <= boxes[:, 2:])).all(axis=2)
    for place, mask in enumerate(masks):
        if mask is not None:
            rows, columns = mask.shape
            across, down = np.nan_to_num(points, nan=-1).T  # a map without a strongest place points nowhere
            row, column = np.floor(down * rows).astype(int), np.floor(across * columns).astype(int)
            within = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            inside[:, place] = within & mask[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
    hit: Bool[np.ndarray, " marks"] = inside.any(axis=1)
    return hit


def _enlargement(places: int) -> Float64[np.ndarray, "grid places"]:
    """One axis of bilinear interpolation: a row of shares for each cell; beyond the outer centres nothing changes."""
    position = np.clip((np.arange(_GRID) + 0.5) * (places / _GRID) - 0.5, 0, places - 1)
    shares: Float64[np.ndarray, "grid places"] = np.maximum(1 - np.abs(position[:, None] - np.arange(places)), 0)
    return shares


def _bounds(strong: Bool[np.ndarray, "grid grid"]) -> Int[np.ndarray, "axes ends"]:
    """First row and the one after the last, then the same of columns, of the largest region of neighbours."""
    regions, _ = ndimage.label(strong)
    largest = regions == np.bincount(regions[strong]).argmax()
    filled = [np.flatnonzero(largest.any(axis=1 - axis)) for axis in (0, 1)]
    return np.array([[cells[0], cells[-1] + 1] for cells in filled])
