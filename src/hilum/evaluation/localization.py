"""The localisation section of a report: do a model's maps find what people drew boxes around?

The section of a report that shows films: where maps hit true boxes, and where they missed them.

The page's section on localisation.

The page's gallery: films with true boxes, the heatmap and what it points at.
"""

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Float64
from PIL import Image

from hilum.data.films import Films
from hilum.data.images import read_grey
from hilum.evaluation.published import MEAN, WANG_LOCALIZATION
from hilum.evaluation.views import (
    Cell,
    Section,
    TableView,
    cell,
    decimal,
    interval,
    listed,
    plural,
    signed_interval,
    words,
)
from hilum.findings import CHESTXRAY14
from hilum.messages import track
from hilum.metrics.bootstrap import estimate, estimate_json, macro_mean, resampled_sums, share
from hilum.metrics.localization import BOX_THRESHOLD, MEASURES, Truths, at_centre, at_random, hits, mark
from hilum.model.engines import Engine, GreyFilms
from hilum.model.metadata import Description
from hilum.predict.heatmaps import overlay, strength

PLACEMENTS = 500
"""How often the random control guesses for each finding of a film; its value is the mean."""

SYSTEMS = ("model", "random", "centre")

Maps = Callable[[GreyFilms], Float32[np.ndarray, "batch findings rows columns"]]


class Boxed(NamedTuple):
    """One finding of one film that has true boxes, and the model's map of it."""

    finding: str
    film: str
    patient: str
    class_map: Float[np.ndarray, "rows columns"]
    truths: Truths


def boxed_maps(engine: Engine, films: Films, *, maps: Maps | None = None) -> list[Boxed]:
    """The model's maps of all findings with boxes on these films; findings that it does not know are left out.

    Args:
        films: the judged ones; their boxes are in the notes.
        maps: from grey films to maps, a row per finding of the engine; the engine's class maps if None.
    """
    findings = engine.description.findings
    truths: dict[str, dict[str, list[list[float]]]] = {}
    for box in films.notes.get("boxes", []):
        if box["finding"] in findings:
            sides = [box[name] for name in ("x", "y", "width", "height")]
            truths.setdefault(box["film"], {}).setdefault(box["finding"], []).append(sides)
    rows = [row for row, film in enumerate(films.table["film"]) if film in truths]
    maps = maps or (lambda grey: engine.run(grey).maps)
    found = []
    for row, per_finding in zip(rows, _each(engine, films, rows, maps), strict=True):
        film, patient = films.table[["film", "patient"]].iloc[row]
        found += [
            Boxed(
                finding,
                str(film),
                str(patient),
                per_finding[findings.index(finding)],
                np.array(boxes, dtype=np.float64),
            )
            for finding, boxes in truths[film].items()
        ]
    return found


def _each(
    engine: Engine, films: Films, rows: list[int], maps: Maps
) -> Iterator[Float32[np.ndarray, "findings rows columns"]]:
    read = engine.description.preprocessing.read
    for first in track(range(0, len(rows), engine.batch), "looking where findings are"):
        grey = np.stack([read(films.path(row))[0] for row in rows[first : first + engine.batch]])
        yield from maps(grey)


def localization_section(boxed: Iterable[Boxed], *, draws: int, seed: int) -> dict[str, Any]:
    """Each measure per finding and their mean, for the model and both controls; empty without a box.

    The unit is a finding on a film. Intervals come from resampled patients; differences are paired.
    """
    cases = list(boxed)
    if not cases:
        return {}
    generator = np.random.default_rng(seed)
    right = np.stack([_right(case, generator) for case in cases])
    patients = np.array([case.patient for case in cases])
    findings = [name for name in CHESTXRAY14 if any(case.finding == name for case in cases)]
    own = np.array([[case.finding == name for name in findings] for case in cases], dtype=np.float64)
    parts = np.einsum("cf,csm->csmf", own, right)
    sums = resampled_sums(
        np.concatenate([own, parts.reshape(len(cases), -1)], axis=1), patients, draws=draws, seed=seed
    )
    whole, part = own.sum(axis=0), parts.sum(axis=0)
    whole_drawn, part_drawn = sums[:, : len(findings)], sums[:, len(findings) :].reshape(draws, *part.shape)
    values = part / whole
    drawn = np.divide(
        part_drawn,
        whole_drawn[:, None, None],
        out=np.full(part_drawn.shape, np.nan),
        where=whole_drawn[:, None, None] > 0,
    )
    people = [len(set(patients[own[:, f] == 1])) for f in range(len(findings))]

    def means(system: int) -> dict[str, Any]:
        each, everyone = np.full(draws, float(len(findings))), len(set(patients))
        return {
            k: estimate_json(
                share(
                    float(values[system, m].sum()),
                    float(len(findings)),
                    drawn[:, system, m].sum(axis=1),
                    each,
                    patients=everyone,
                )
            )
            for m, k in enumerate(MEASURES)
        }

    def differences(control: int) -> dict[str, Any]:
        ahead, per_draw = values[0] - values[control], drawn[:, 0] - drawn[:, control]
        return {k: estimate_json(estimate(*macro_mean(ahead[m], per_draw[:, m]))) for m, k in enumerate(MEASURES)}

    def shares(system: int, finding: int) -> dict[str, Any]:
        return {
            k: estimate_json(
                share(
                    float(part[system, m, finding]),
                    float(whole[finding]),
                    part_drawn[:, system, m, finding],
                    whole_drawn[:, finding],
                    patients=people[finding],
                )
            )
            for m, k in enumerate(MEASURES)
        }

    return {
        "box_threshold": round(BOX_THRESHOLD, 4),
        "films_with_findings": len(cases),
        "patients": len(set(patients)),
        "flat_maps": sum(bool(np.ptp(case.class_map) == 0) for case in cases),
        "mean": {
            **{name: means(s) for s, name in enumerate(SYSTEMS)},
            **{f"model_minus_{name}": differences(s) for s, name in enumerate(SYSTEMS) if s},
        },
        "findings": {
            finding: {
                "films": int(whole[f]),
                "patients": people[f],
                **{name: shares(s, f) for s, name in enumerate(SYSTEMS)},
            }
            for f, finding in enumerate(findings)
        },
        "published": asdict(WANG_LOCALIZATION),
    }


def _right(case: Boxed, generator: np.random.Generator) -> Float64[np.ndarray, "systems measures"]:
    """How often the model and each control are right about a case: 0 or 1, and for the random one a share."""
    marks = mark(case.class_map)
    guesses = at_random(marks, generator, times=PLACEMENTS)
    return np.stack([hits(said, case.truths).mean(axis=0) for said in (marks, guesses, at_centre(marks))])


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


_SYSTEMS = ("model", "random", "centre")
_CALLED = {"pointing": "Point", "centre": "Box's centre", "iou": "IoU", "iobb": "IoBB"}


def localization_view(report: dict[str, Any]) -> Section:
    """Whether the heatmaps find what people drew boxes around, beside both controls."""
    section = report["localization"]
    mean, findings = section["mean"], section["findings"]
    model, random, centre = (mean[name]["pointing"] for name in _SYSTEMS)
    ahead = mean["model_minus_centre"]["pointing"]
    sentences = [
        f"{plural(section['films_with_findings'], 'finding')} on films of {plural(section['patients'], 'patient')} "
        "have true boxes. The share of them in which the strongest place of the heatmap lies in a box, averaged over "
        f"kinds of finding, is {decimal(model['value'])} ({interval(model)}); a random point reaches "
        f"{decimal(random['value'])}, always pointing at the film's centre {decimal(centre['value'])}.",
        f"Heatmap minus the film's centre: {ahead['value']:+.3f} ({signed_interval(ahead)}). {_verdict(ahead)}",
    ]
    behind = [k for k, one in findings.items() if _pointing(one, "model") <= _pointing(one, "centre")]
    if behind:
        sentences.append(f"Pointed at no better than by the film's centre: {listed(behind)}.")
    if section["flat_maps"]:
        sentences.append(f"{plural(section['flat_maps'], 'map')} had one value everywhere, and found nothing.")
    wang = section["published"]
    tables = [
        _table(section, "Is the point in the box, and the centre of the drawn box?", ("pointing", "centre")),
        _table(section, "Boxes that agree by more than 0.1", ("iou_0.1", "iobb_0.1")),
        _table(section, "Boxes that agree by more than 0.25", ("iou_0.25", "iobb_0.25")),
        _table(section, "Boxes that agree by more than 0.5", ("iou_0.5", "iobb_0.5")),
    ]
    return Section(
        "localization",
        "Does the heatmap find the finding?",
        tuple(sentences),
        tables=tuple(tables),
        legend=(
            "Shares of findings on films, with 95 % intervals from resampled patients. The drawn box surrounds the "
            f"largest connected region of what lies above {100 * section['box_threshold']:.0f} % of the map's own "
            "range, a rule that was fixed before any box was looked at. Random: a point anywhere, or "
            "a box of the drawn one's size anywhere; centre: the film's centre, and such a box there. IoU: "
            "intersection over union; IoBB: over the drawn box. Of several true boxes the best counts. "
            f"{wang['system']}: {wang['caveat']}"
        ),
    )


def _pointing(finding: dict[str, Any], system: str) -> float:
    return float(finding[system]["pointing"]["value"])


def _verdict(ahead: dict[str, Any]) -> str:
    if ahead["low"] is None or ahead["low"] <= 0 <= ahead["high"]:
        return "These films cannot tell whether it knows more than where films have their middle."
    if ahead["low"] > 0:
        return "It knows more than where films have their middle."
    return "It points worse than someone who always points at the middle: do not take these heatmaps for places."


def _table(section: dict[str, Any], title: str, measures: tuple[str, str]) -> TableView:
    header, published = ["Finding"], section["published"]
    for measure in measures:
        header += [f"{_CALLED[measure.partition('_')[0]]}: heatmap", "random", "centre"]
        header += [published["system"]] if measure.startswith("iobb") else []
    rows = [(Cell("Mean"), *_cells(MEAN, section["mean"], measures, published["iobb"]))]
    for name, one in section["findings"].items():
        of = f"{plural(one['films'], 'film')}, {plural(one['patients'], 'patient')}"
        rows.append((Cell(words(name), of), *_cells(name, one, measures, published["iobb"])))
    return TableView(title, tuple(header), tuple(rows))


def _cells(
    name: str, values: dict[str, Any], measures: tuple[str, str], published: dict[str, dict[str, float]]
) -> tuple[Cell, ...]:
    cells = []
    for measure in measures:
        kind, _, least = measure.partition("_")
        cells += [cell(values[system][measure]) for system in _SYSTEMS]
        if kind == "iobb":
            printed = published[least].get(name)
            cells.append(Cell("none" if printed is None else decimal(printed)))
    return tuple(cells)


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
