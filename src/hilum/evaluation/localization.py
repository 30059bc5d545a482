"""The section on localization: whether class maps find what people drew boxes around."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from hilum.data.films import Films
from hilum.data.sources.masks import grid_of
from hilum.evaluation.case import Case, ClassMaps
from hilum.evaluation.published import MEAN, WANG_LOCALIZATION
from hilum.evaluation.views import (
    Cell,
    TableView,
    View,
    cell,
    decimal,
    interval,
    listed,
    plural,
    signed_interval,
    words,
)
from hilum.metrics.bootstrap import (
    Estimate,
    estimate,
    estimate_json,
    macro_mean,
    resampled_sums,
    share,
    unanimous,
)
from hilum.metrics.influence import measured_mean, patient_codes
from hilum.metrics.localization import BOX_THRESHOLD, MEASURES, Masks, Truths, at_centre, at_random, hits, mark

key = "localization"

PLACEMENTS = 500
"""How often the random control guesses for each finding of a film; its value is the mean."""

SYSTEMS = ("model", "random", "centre")


class Boxed(NamedTuple):
    """One finding of one film that has true boxes, and the model's map of it."""

    finding: str
    film: str
    patient: str
    class_map: Float[np.ndarray, "rows columns"]
    truths: Truths
    masks: Masks = ()


def measure(case: Case) -> dict[str, Any]:
    """What `localization_section` finds on the evaluated films with true boxes; empty without class maps."""
    section = localization_section(
        boxed_films(case), case.films.findings, bootstrap_samples=case.bootstrap_samples, seed=case.seed
    )
    return section if case.has_peers or not section else section | {"published": None}


def boxed_films(case: Case) -> list[Boxed]:
    """The evaluated films' findings with true boxes, and the model's map of each."""
    if case.model is None:
        return []
    return boxed_findings(case.films.select(case.split), case.model.bundle.findings, case.class_maps)


def boxed_findings(films: Films, findings: Sequence[str], class_maps: Mapping[str, ClassMaps]) -> list[Boxed]:
    """Each finding of these films that has true boxes; findings that the model does not know are left out.

    Args:
        films: their boxes are in the notes.
        findings: the model's.
        class_maps: by film, a map for each of the model's findings.
    """
    truths: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for box in films.notes.get("boxes", []):
        if box["finding"] in findings:
            truths.setdefault(box["film"], {}).setdefault(box["finding"], []).append(box)
    return [
        Boxed(
            finding,
            str(film),
            str(patient),
            class_maps[film][findings.index(finding)],
            np.array([[box[name] for name in ("x", "y", "width", "height")] for box in boxes], dtype=np.float64),
            tuple(grid_of(box["mask"]) if "mask" in box else None for box in boxes),
        )
        for film, patient in films.table[["film", "patient"]].itertuples(index=False)
        if film in truths
        for finding, boxes in truths[film].items()
    ]


def localization_section(
    boxed: Iterable[Boxed], findings: Sequence[str], *, bootstrap_samples: int, seed: int
) -> dict[str, Any]:
    """Each measure per finding and their mean, for the model and both controls; empty without a box.

    The unit is a finding on a film. Intervals of a finding's proportions are Jeffreys' for the effective number of
    films, as those of sensitivity are: resamples of few patients show too little spread. Those of means and of their
    paired differences come from patient-clustered bootstrap samples.

    Args:
        findings: the manifest's, in whose order the section is.
    """
    cases = list(boxed)
    if not cases:
        return {}
    generator = np.random.default_rng(seed)
    right = np.stack([_right(case, generator) for case in cases])
    patients = np.array([case.patient for case in cases])
    findings = [name for name in findings if any(case.finding == name for case in cases)]
    own = np.array([[case.finding == name for name in findings] for case in cases], dtype=np.float64)
    parts = np.einsum("cf,csm->csmf", own, right)
    sums = resampled_sums(
        np.concatenate([own, parts.reshape(len(cases), -1)], axis=1),
        patients,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
    )
    whole, part = own.sum(axis=0), parts.sum(axis=0)
    whole_drawn, part_drawn = sums[:, : len(findings)], sums[:, len(findings) :].reshape(bootstrap_samples, *part.shape)
    values = part / whole
    drawn = np.divide(
        part_drawn,
        whole_drawn[:, None, None],
        out=np.full(part_drawn.shape, np.nan),
        where=whole_drawn[:, None, None] > 0,
    )
    people = [len(set(patients[own[:, f] == 1])) for f in range(len(findings))]
    codes, everybody = patient_codes(patients)

    def means(system: int) -> dict[str, Any]:
        each, everyone = np.full(bootstrap_samples, float(len(findings))), len(set(patients))
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
        rows, found = own[:, finding] == 1, {}
        for m, k in enumerate(MEASURES):
            measured = measured_mean(right[rows, system, m], codes[rows], everybody, scale="rate")
            value = measured.value
            if value in (0.0, 1.0):
                found[k] = estimate_json(Estimate(value, *unanimous(value, people[finding]), 0))
            else:
                found[k] = estimate_json(replace(measured, why="").estimate)
        return found

    return {
        "box_threshold": round(BOX_THRESHOLD, 4),
        "films_with_findings": len(cases),
        "patients": len(set(patients)),
        **({"masks": masked} if (masked := sum(any(m is not None for m in case.masks) for case in cases)) else {}),
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
    """How often the model and each control are right about a case: 0 or 1, and for the random one a proportion."""
    marks = mark(case.class_map)
    guesses = at_random(marks, generator, times=PLACEMENTS)
    return np.stack([hits(said, case.truths, case.masks).mean(axis=0) for said in (marks, guesses, at_centre(marks))])


_SYSTEMS = ("model", "random", "centre")
_CALLED = {"pointing": "Point", "centre": "Box's centre", "iou": "IoU", "iobb": "IoBB"}


def view(report: dict[str, Any]) -> View | None:
    """Whether the heatmaps find what people drew boxes around, beside both controls."""
    section = report["localization"]
    if not section:
        return None
    mean, findings = section["mean"], section["findings"]
    model, random, centre = (mean[name]["pointing"] for name in _SYSTEMS)
    ahead = mean["model_minus_centre"]["pointing"]
    sentences = [
        f"{plural(section['films_with_findings'], 'finding')} on films of {plural(section['patients'], 'patient')} "
        "have true boxes. The proportion of them in which the strongest place of the heatmap lies in a box, averaged "
        f"over kinds of finding, is {decimal(model['value'])} ({interval(model)}); a random point reaches "
        f"{decimal(random['value'])}, always pointing at the image centre {decimal(centre['value'])}.",
        f"Heatmap minus the image centre: {ahead['value']:+.3f} ({signed_interval(ahead)}). {_verdict(ahead)}",
    ]
    behind = [k for k, one in findings.items() if _pointing(one, "model") <= _pointing(one, "centre")]
    if behind:
        sentences.append(f"Localized no better than by always pointing at the image centre: {listed(behind)}.")
    if section.get("masks"):
        sentences.append(
            f"{plural(section['masks'], 'finding')} on films have outlines: a point is right only in the outline, and "
            "the true box is the one around it."
        )
    if section["flat_maps"]:
        sentences.append(f"{plural(section['flat_maps'], 'map')} had one value everywhere, and found nothing.")
    wang = section["published"]
    tables = [
        _table(section, "Is the point in the box, and the centre of the drawn box?", ("pointing", "centre")),
        _table(section, "Boxes that agree by more than 0.1", ("iou_0.1", "iobb_0.1")),
        _table(section, "Boxes that agree by more than 0.25", ("iou_0.25", "iobb_0.25")),
        _table(section, "Boxes that agree by more than 0.5", ("iou_0.5", "iobb_0.5")),
    ]
    return View(
        "localization",
        "Does the heatmap find the finding?",
        tuple(sentences),
        tables=tuple(tables),
        legend=(
            "Proportions of findings on films, with 95 % intervals in which patients are the units. "
            "The drawn box surrounds the "
            f"largest connected region of what lies above {100 * section['box_threshold']:.0f} % of the map's own "
            "range, a rule that was fixed before any box was looked at. Random: a point anywhere, or "
            "a box of the drawn one's size anywhere; centre: the image centre, and such a box there. IoU: "
            "intersection over union; IoBB: over the drawn box. "
            "Of several true boxes the best counts." + (f" {wang['system']}: {wang['caveat']}" if wang else "")
        ),
    )


def _pointing(finding: dict[str, Any], system: str) -> float:
    return float(finding[system]["pointing"]["value"])


def _verdict(ahead: dict[str, Any]) -> str:
    if ahead["low"] is None or ahead["low"] <= 0 <= ahead["high"]:
        return "These films cannot tell it from always pointing at the image centre."
    if ahead["low"] > 0:
        return "It localizes better than always pointing at the image centre."
    return "It localizes worse than always pointing at the image centre: do not use these heatmaps for location."


def _table(section: dict[str, Any], title: str, measures: tuple[str, str]) -> TableView:
    header, published = ["Finding"], section["published"]
    for measure in measures:
        header += [f"{_CALLED[measure.partition('_')[0]]}: heatmap", "random", "centre"]
        header += [published["system"]] if published and measure.startswith("iobb") else []
    printed = published["iobb"] if published else None
    rows = [(Cell("Mean"), *_cells(MEAN, section["mean"], measures, printed))]
    for name, one in section["findings"].items():
        of = f"{plural(one['films'], 'film')}, {plural(one['patients'], 'patient')}"
        rows.append((Cell(words(name), of), *_cells(name, one, measures, printed)))
    return TableView(title, tuple(header), tuple(rows))


def _cells(
    name: str, values: dict[str, Any], measures: tuple[str, str], published: dict[str, dict[str, float]] | None
) -> tuple[Cell, ...]:
    cells = []
    for measure in measures:
        kind, _, least = measure.partition("_")
        cells += [cell(values[system][measure]) for system in _SYSTEMS]
        if published and kind == "iobb":
            printed = published[least].get(name)
            cells.append(Cell("none" if printed is None else decimal(printed)))
    return tuple(cells)
