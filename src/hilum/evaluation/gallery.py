"""The section that shows some films: where heatmaps hit true boxes, and where they missed them."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hilum.data.films import Films
from hilum.data.images import read_grey
from hilum.evaluation.case import Case
from hilum.evaluation.localization import Boxed, boxed_films
from hilum.evaluation.views import Block, View, words
from hilum.metrics.localization import MEASURES, hits, mark
from hilum.model.metadata import ModelDescription, strength
from hilum.predict.heatmaps import heat_over

key = "gallery"

SHOWN = 6
"""Hits at most, and misses at most."""
LONGER_SIDE = 288
"""Of a shown film, in pixels."""

_QUALITY = 72
_POINTING = MEASURES.index("pointing")


def measure(case: Case) -> list[dict[str, Any]]:
    """Some hits and misses; empty without class maps, or if films may not be shown."""
    if case.model is None or not case.gallery:
        return []
    shown, description = boxed_films(case), case.model.bundle.description
    return gallery_section(shown, case.films, case.evaluated.scores, description, seed=case.seed)


def gallery_section(
    boxed: Sequence[Boxed], films: Films, scores: pd.DataFrame, description: ModelDescription, *, seed: int
) -> list[dict[str, Any]]:
    """Some hits and misses with film, heat, point and boxes; empty without a box.

    They are drawn at random, one of each finding before a second of any. Sides are fractions
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


def _picture(films: Films, row: int, case: Boxed, description: ModelDescription) -> dict[str, Any]:
    pixels = read_grey(films.path(row), bits=description.preprocessing.bits)
    grey = Image.fromarray(pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max))
    grey.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.BOX)
    heat = strength(case.class_map.astype(np.float32), description.heatmap_logits[case.finding])
    file = io.BytesIO()
    film = Image.fromarray(heat_over(np.clip(np.asarray(grey), 0, 1), heat))
    film.save(file, format="JPEG", quality=_QUALITY)
    return {
        "width": film.width,
        "height": film.height,
        "picture": f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}",
    }


def view(report: dict[str, Any]) -> View | None:
    """Hits, then misses, with their boxes; None without a film."""
    groups = gallery_view(report)
    if not groups:
        return None
    return View(
        "gallery",
        "Some of these films",
        (
            "Drawn at random, one of each finding before a second of any.",
            "They are simulated films, of nobody."
            if report.get("simulated")
            else "They are films of patients: share this page only as you may share them.",
        ),
        legend=(
            "Green, solid: a true box. White, dashed: the box drawn from the heatmap. White cross: its strongest "
            "place. Yellow to red: the heat, on one scale for all films, so that it may be faint."
        ),
        blocks=(Block("gallery.html", groups),),
        on_card=False,
    )


def gallery_view(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Hits, then misses: each a heading and its pictures, with places in pixels of the picture."""
    groups = (("Hits: the strongest place lies in a true box", True), ("Misses: it lies outside", False))
    return [
        {"title": title, "films": films}
        for title, hit in groups
        if (films := [_film(one) for one in report["gallery"] if one["hit"] is hit])
    ]


def _film(one: dict[str, Any]) -> dict[str, Any]:
    width, height = one["width"], one["height"]

    def pixels(box: list[float]) -> list[float]:
        return [side * (height if i % 2 else width) for i, side in enumerate(box)]

    finding = words(one["finding"])
    return {
        **one,
        "finding": finding,
        "point": one["point"] and pixels(one["point"]),
        "drawn": one["drawn"] and pixels(one["drawn"]),
        "boxes": [pixels(box) for box in one["boxes"]],
        "label": (
            f"Film {one['film']} with its heatmap for {finding}: the strongest place "
            + ("lies inside" if one["hit"] else "lies outside" if one["point"] else "does not exist, outside")
            + (" the true box." if len(one["boxes"]) == 1 else " the true boxes.")
        ),
    }
