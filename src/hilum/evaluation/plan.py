"""A plan for a study: how many patients, with what power, under which assumptions, as JSON, tables and a page."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hilum import DISCLAIMER, __version__
from hilum.errors import HilumError
from hilum.evaluation.compare import TextTable, compare_reports
from hilum.evaluation.inputs import read_report
from hilum.evaluation.page import page_environment
from hilum.evaluation.views import FigureView, LineView, axis, decimal, svg_path
from hilum.files import write_whole
from hilum.metrics.influence import FEWEST_PATIENTS, auroc_difference, measured_auroc, patient_codes
from hilum.metrics.planning import MOST_PATIENTS, Aim, Design, patients_needed, power, reach, standard_error

_POWERS = (0.5, 0.8, 0.9, 0.95)


def plan_study(
    design: Design,
    aim: Aim,
    *,
    wanted: float = 0.8,
    patients: int | None = None,
    pilot: Sequence[Path] = (),
    finding: str = "",
) -> dict[str, Any]:
    """What a study needs, in plain JSON:

        hilum, disclaimer, question, sentences
        design, aim: {NAME: value}    what is assumed, and what is to be shown
        pilot: {reports, finding, patients, positive_patients, standard_error}    null without a pilot study
        needed: {power, patients, positive_patients, films}    patients null beyond 10 million
        stated: {the same, as far as known}    null without a stated number
        curve: [{patients, positive_patients, power, half_width}]

    Args:
        wanted: power.
        patients: a number that is stated, to be told its power.
        pilot: folders of one report (for a width) or two on the same films: their spread replaces the design's.
        finding: of the pilot's.

    Raises:
        HilumError: if the numbers do not go together, or the pilot cannot be used.
    """
    try:
        found, pilot_facts = _pilot(pilot, finding, aim) if pilot else (None, None)
        if pilot_facts:
            design = Design(
                **{**asdict(design), "prevalence": pilot_facts["prevalence"], "value": pilot_facts["value"]}
            )
        if aim.question != "width":
            standard_error(design, 1000.0, difference=aim.difference)
        fewest = patients_needed(design, aim, wanted, pilot=found)
    except ValueError as error:
        raise HilumError(f"{error}. See: hilum plan --help") from None

    def at(number: int) -> dict[str, Any]:
        if found:
            error = found[1] * math.sqrt(found[0] / number)
        else:
            error = standard_error(design, number, difference=None if aim.question == "width" else aim.difference)
        return {
            "patients": number,
            "positive_patients": round(number * design.prevalence),
            "films": round(number * design.films),
            "power": None if aim.question == "width" else power(design, aim, number, error=error),
            "half_width": reach(design, aim, number) * error,
        }

    asked = {
        None if aim.question == "width" else one: patients_needed(design, aim, one, pilot=found) for one in _POWERS
    }
    upper = max([number for number in (fewest, patients, asked.get(0.95)) if number] or [10_000])
    least = math.ceil(FEWEST_PATIENTS / min(design.prevalence, 1 - design.prevalence))
    numbers = sorted({round(number) for number in np.linspace(least, max(1.2 * upper, least + 1), 47)})
    content = {
        "hilum": __version__,
        "disclaimer": DISCLAIMER,
        "question": aim.question,
        "design": asdict(design),
        "aim": asdict(aim),
        "pilot": pilot_facts,
        "needed": {"wanted": wanted, **(at(fewest) if fewest else {"patients": None})},
        "stated": None if patients is None else at(patients),
        "for_power": [] if aim.question == "width" else [{"power": one, "patients": asked[one]} for one in _POWERS],
        "curve": [at(number) for number in numbers],
    }
    return content | {"sentences": _sentences(content)}


def _pilot(folders: Sequence[Path], finding: str, aim: Aim) -> tuple[tuple[float, float], dict[str, Any]]:
    """Patients and standard error of one report's AUROC, or of the difference between two, and what is said of it."""
    wanted = 1 if aim.question == "width" else 2
    if len(folders) != wanted:
        what = "one report for a width" if wanted == 1 else "two reports for a difference or a margin"
        raise HilumError(f"pilot must be {what}, got {len(folders)}. Name the folders that `hilum evaluate` wrote.")
    reports = [read_report(folder) for folder in folders]
    if wanted == 2:
        compare_reports(folders)  # refuses reports of other films or labels
    names = reports[0].evaluated.findings
    if finding not in names or any(finding not in report.evaluated.findings for report in reports):
        raise HilumError(f"finding must be one of the pilot's ({', '.join(names)}), got {finding!r}. Give --finding.")
    evaluated = reports[0].evaluated
    labels = evaluated.labels[:, evaluated.findings.index(finding)]
    scores = [one.evaluated.numbers[:, one.evaluated.findings.index(finding)] for one in reports]
    codes, people = patient_codes(evaluated.patients)
    first = measured_auroc(scores[0], labels, codes, people)
    spread = first if wanted == 1 else auroc_difference([scores[0]], [scores[1]], labels, codes, people)
    if spread.why or math.isnan(spread.value):
        raise HilumError(f"pilot must have 10 patients with and without {finding}, got: {spread.why}. Name another.")
    present = len(set(evaluated.patients[labels == 1]))
    known = len(set(evaluated.patients[~np.isnan(labels)]))
    error = math.sqrt(spread.variance)
    return (float(known), error), {
        "reports": [str(folder) for folder in folders],
        "finding": finding,
        "patients": known,
        "positive_patients": present,
        "prevalence": present / known,
        "value": first.value,
        "standard_error": error,
    }


def _sentences(content: dict[str, Any]) -> list[str]:
    design, aim, needed, stated = (content[key] for key in ("design", "aim", "needed", "stated"))
    measure = "AUROC" if design["measure"] == "auroc" else design["measure"]
    goal = {
        "width": f"a 95 % interval of {measure} {design['value']:.3g} that is no wider than {aim['size']:.3g}",
        "difference": f"a difference of {measure} of {aim['difference']:+.3g} from {design['value']:.3g}",
        "margin": f"{measure} not worse by {aim['size']:.3g} where the true difference is {aim['difference']:+.3g}",
    }[content["question"]]
    chance = "" if content["question"] == "width" else f" with a power of {needed['wanted']:.0%}"
    if needed["patients"] is None:
        sentences = [f"To show {goal}{chance}, {MOST_PATIENTS:,} patients are not enough."]
    else:
        sentences = [
            f"To show {goal}{chance}: {needed['patients']:,} patients, of whom {needed['positive_patients']:,} have "
            f"the finding ({needed['films']:,} films)."
        ]
    if stated and stated["power"] is not None:
        sentences.append(
            f"With {stated['patients']:,} patients ({stated['positive_patients']:,} with the finding) the power is "
            f"{stated['power']:.2f}."
        )
    elif stated:
        sentences.append(
            f"With {stated['patients']:,} patients the interval is about {2 * stated['half_width']:.3f} wide."
        )
    if stated and min(stated["positive_patients"], stated["patients"] - stated["positive_patients"]) < FEWEST_PATIENTS:
        sentences.append(
            f"Fewer than {FEWEST_PATIENTS} patients with or without the finding get no interval and no test."
        )
    if content["pilot"]:
        pilot = content["pilot"]
        sentences.append(
            f"The spread is that of the pilot's {pilot['patients']:,} patients ({pilot['positive_patients']:,} with "
            f"{pilot['finding']}), whose error was {pilot['standard_error']:.4f}. A pilot's own difference is no plan: "
            "state the one that would matter."
        )
    else:
        sentences.append(
            f"Assumed: {design['prevalence']:.3g} of patients have the finding, {design['films']:.3g} films a patient, "
            f"alike to {design['alike']:.2g}, "
            + (
                ""
                if content["question"] == "width"
                else f"scores of both systems correlated to {design['correlation']:.2g}, "
            )
            + "normal scores of equal spread. A pilot's reports can take their place."
        )
    if content["question"] == "margin":
        sentences.append("State the margin, and why that much is bearable, before the films are scored.")
    return sentences


def plan_tables(content: dict[str, Any]) -> list[TextTable]:
    """The answer, then patients by power, for a command line."""
    curve = content["curve"][:: max(1, len(content["curve"]) // 8)]
    if content["question"] == "width":
        rows = [
            [f"{one['patients']:,}", f"{one['positive_patients']:,}", f"{2 * one['half_width']:.3f}"] for one in curve
        ]
        return [TextTable("Width of the 95 % interval", ["patients", "with the finding", "width"], rows)]
    rows = [
        [f"{one['power']:.2f}", "over 10,000,000" if one["patients"] is None else f"{one['patients']:,}"]
        for one in content["for_power"]
    ]
    return [TextTable("Patients for a power", ["power", "patients"], rows)]


def write_plan(content: dict[str, Any], folder: Path) -> None:
    """Write plan.json and plan.html (a self-contained page).

    Raises:
        HilumError: if the folder cannot be written to.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    page = (
        page_environment()
        .get_template("plan.html")
        .render(content=content, kind="plan", figure=_figure(content), tables=plan_tables(content))
    )
    write_whole(folder / "plan.json", text.encode())
    write_whole(folder / "plan.html", page.encode())


def _figure(content: dict[str, Any]) -> FigureView:
    curve = content["curve"]
    across = [float(one["patients"]) for one in curve]  # from the fewest that have an interval
    limit = across[-1]
    if content["question"] == "width":
        ups = [2 * float(one["half_width"]) for one in curve]
        top, name = max(ups), "width of the interval"
        aimed = content["aim"]["size"]
    else:
        ups, top, name = [float(one["power"]) for one in curve], 1.0, "power"
        aimed = content["needed"]["wanted"]
    return FigureView(
        "By the number of patients",
        decimal(float(aimed)),
        "aimed at (dotted)",
        f"{name} by the number of patients, from {across[0]:,.0f} to {limit:,.0f}: {ups[0]:.3f} to {ups[-1]:.3f}",
        axis("patients", 0, limit),
        axis(name, 0, top, upright=True),
        lines=(
            LineView(svg_path([0.0, 1.0], [min(1.0, float(aimed) / top)] * 2), "chance"),
            LineView(svg_path([x / limit for x in across], [up / top for up in ups])),
        ),
    )
