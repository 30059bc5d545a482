"""The section of a report that shows films: where maps hit true boxes, and where they missed them."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hilum.data.films import Films
from hilum.data.images import read_grey
from hilum.description import Description
from hilum.judging.localization import Boxed
from hilum.metrics.localization import MEASURES, hits, mark
from hilum.predict.heatmaps import overlay, strength

SHOWN = 6
"""Hits at most, and misses at most."""
LONGER_SIDE = 288
"""Of a shown film, in pixels."""

_QUALITY = 72
_POINTING = MEASURES.index("pointing")


def gallery_section(
    boxed: Sequence[Boxed], films: Films, scores: pd.DataFrame, description: Description, *, seed: int
) -> list[dict[str, Any]]:
    """Some hits and misses with film, heat, point and boxes; empty without a box.

    They are drawn by chance, kinds of finding in turn, so that nobody chose them for their looks. Sides are fractions
    of the film's; the picture is a JPEG as a data URI.

    Args:
        scores: a column `film` and one per finding, of these films at least.
    """
    order = np.random.default_rng(seed).permutation(len(boxed))
    cases = [(boxed[i], bool(hits(mark(boxed[i].class_map), boxed[i].truths)[0, _POINTING])) for i in order]
    numbers = scores.set_index("film").to_dict()
    rows = {film: row for row, film in enumerate(films.table["film"])}
    shown = []
    for hit in (True, False):
        for case in _in_turn([case for case, right in cases if right is hit]):
            said = mark(case.class_map)
            flat = bool(np.isnan(said.points).any())
            shown.append(
                {
                    "film": case.film,
                    "finding": case.finding,
                    "score": float(numbers[case.finding][case.film]),
                    "hit": hit,
                    "point": None if flat else said.points[0].round(4).tolist(),
                    "drawn": None if flat else said.boxes[0].round(4).tolist(),
                    "boxes": case.truths.round(4).tolist(),
                    **_picture(films, rows[case.film], case, description),
                }
            )
    return shown


def _in_turn(cases: Sequence[Boxed]) -> list[Boxed]:
    """The first few: one of each finding before a second of any."""
    seen: dict[str, int] = {}
    ranked = []
    for place, case in enumerate(cases):
        seen[case.finding] = seen.get(case.finding, 0) + 1
        ranked.append((seen[case.finding], place, case))
    return [case for _, _, case in sorted(ranked, key=lambda one: one[:2])[:SHOWN]]


def _picture(films: Films, row: int, case: Boxed, description: Description) -> dict[str, Any]:
    pixels = read_grey(films.path(row))
    grey = Image.fromarray(pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max))
    grey.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.BOX)
    heat = strength(case.class_map.astype(np.float32), description.heatmap_logits[case.finding])
    file = io.BytesIO()
    film = Image.fromarray(overlay(np.clip(np.asarray(grey), 0, 1), heat))
    film.save(file, format="JPEG", quality=_QUALITY)
    return {
        "width": film.width,
        "height": film.height,
        "picture": f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}",
    }
