"""The localisation section of a report: do a model's maps find what people drew boxes around?"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64

from hilum.data.films import Films
from hilum.engines import Engine, GreyFilms
from hilum.findings import CHESTXRAY14
from hilum.judging.estimates import estimate_json
from hilum.metrics.bootstrap import estimate, macro_mean
from hilum.metrics.localization import BOX_THRESHOLD, MEASURES, Truths, at_centre, at_random, hits, mark
from hilum.metrics.sums import resampled_sums, share
from hilum.progress import track
from hilum.published import WANG_LOCALIZATION

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
