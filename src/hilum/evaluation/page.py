"""The page of a report, its summary, limits and citation, from report.json and from nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hilum.evaluation.curves import roc_png
from hilum.evaluation.sections import views
from hilum.evaluation.views import (
    Marks,
    count,
    decimal,
    interval,
    listed,
    marks,
    plural,
    shown_p,
    signed_interval,
    signed_number,
    were,
    words,
)
from hilum.files import write_whole


def limits(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What stays open, each as a few words and their explanation."""
    labels = (
        "Whether the labels are right.",
        "ChestX-ray14's labels were mined from report texts, and some of them are wrong. The values here say how well "
        "such labels are predicted.",
    )
    simulated = (
        "Anything about patients.",
        "The films and their labels are simulated. The values say that training, evaluation and heatmaps work; nothing "
        "published is set beside them.",
    )
    found = [
        simulated if report.get("simulated") else labels,
        (
            "What happens elsewhere.",
            "Films and patients of another hospital, machine or time differ. Measure ranking, calibration and calls "
            "there before you trust them.",
        ),
        (
            "What happens to patients.",
            "Nobody read films with this system, and no decision was based on it. Good ranking alone helps no patient.",
        ),
        (
            "What was not looked for.",
            "A film without any of these findings may show others. Side, extent and change are not evaluated.",
        ),
    ]
    if report.get("localization"):
        found.append(
            (
                "Why a score is what it is.",
                "A heatmap shows where the network's evidence lies. It was only checked on films with true boxes.",
            )
        )
    else:
        found.append(("Where the system looked.", "There were no heatmaps, or no true boxes to compare them with."))
    if not report.get("subgroups"):
        found.append(("Whether it performs alike for all.", "Sex, age and view were not evaluated as subgroups."))
    return found


def citation(report: dict[str, Any]) -> list[str]:
    """What to name: the software with this report, the paper, the data."""
    data = "ChestX-ray14: Wang et al., “ChestX-ray8”, CVPR 2017, arXiv 1705.02315; images by the NIH Clinical Center."
    return [
        f"The Hilum developers. Hilum {report['hilum']}: open software for chest X-ray classification. Report of "
        f"{report['system']}, protocol {report['protocol'] or 'unknown'}, split {report['split']}, manifest "
        f"{report['films_fingerprint'][:12]}.",
        "AM_DenseNet: Zhao et al., “A deep learning method for classification of chest X-ray images”, J. Phys.: Conf. "
        "Ser. 1848 (2021) 012030.",
        *([] if report.get("simulated") else [data]),
    ]


def summary(report: dict[str, Any]) -> list[str]:
    """The report in plain sentences."""
    findings, mean = report["findings"], report["mean"]["auroc"]
    defined = {name: finding["auroc"] for name, finding in findings.items() if finding["auroc"]["value"] is not None}
    if not defined:
        return ["No finding occurs both present and absent among these films, so nothing can be ranked."]
    right = f"{100 * mean['value']:.0f} times out of 100"
    sentences = [
        f"Shown a film with a finding and one without, {report['system']} gives the first the higher score about "
        f"{right}, on average over {plural(len(defined), 'finding')}; guessing would be right 50 times."
    ]
    if len(defined) > 1:
        ranked = sorted(defined, key=lambda name: float(defined[name]["value"]))
        best, weakest = ranked[-1], ranked[0]
        sentences.append(
            f"Best ranked is {words(best)} ({decimal(defined[best]['value'])}), weakest {words(weakest)} "
            f"({decimal(defined[weakest]['value'])})."
        )
    unclear = [
        name for name, auroc in defined.items() if auroc["low"] is not None and auroc["low"] <= 0.5 <= auroc["high"]
    ]
    if unclear:
        sentences.append(f"Not distinguishable from chance on these films: {listed(unclear)}.")
    if report.get("localization"):
        model, centre = (report["localization"]["mean"][name]["pointing"]["value"] for name in ("model", "centre"))
        sentences.append(
            "Of 100 findings with a true box, averaged over kinds of finding, its heatmaps point into the box for "
            f"{100 * model:.0f}; always pointing at the image centre does so for {100 * centre:.0f}."
        )
    undefined = report["undefined_findings"]
    if undefined:
        is_or_are = "is" if len(undefined) == 1 else "are"
        sentences.append(
            f"{listed(undefined)} {is_or_are} undefined, because these films do not show both presence and absence; "
            "the mean leaves this out."
        )
    if report["not_judged"]:
        sentences.append(f"Not evaluated, because the system gave no scores: {listed(report['not_judged'])}.")
    missing = report["missing_films"]
    if missing:
        sentences.append(f"{plural(len(missing), 'film')} of the split had no score and {were(missing)} left out.")
    return sentences + list(report["notes"])


PROTOCOLS: dict[str | None, tuple[str, str]] = {
    "official": (
        "NIH's official split",
        "The films are those of NIH's published test list. Its patients are sicker than those of the training list, "
        "and no patient is in both. Most of the literature can be compared with this protocol.",
    ),
    "patient": (
        "A random split of patients",
        "Patients were assigned to training and test at random, so no patient is in both. The test films resemble the "
        "training films more than NIH's official test list does: do not compare with values of the official split.",
    ),
    "image": (
        "A random split of images: inflated values",
        "Images were assigned to training and test at random, so one patient's films are in both (patient leakage). In "
        "ChestX-ray14, 81.6 % of the test films then share a patient with training films, and a control that sees no "
        "pixel, only the labels of the same patient's training films, reaches a mean AUROC of about 0.746. The values "
        "are inflated: do not compare them with those of other protocols.",
    ),
    None: (
        "Unknown split",
        "The manifest does not say how its films were split. Nothing published is set beside these values.",
    ),
}
"""What each protocol is called, and what it means for the numbers."""

_AXIS_LOW = 0.4
"""Where the interval graphics begin; values below are drawn at the edge."""


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write report.json, report.html (a self-contained page) and roc.png.

    Args:
        report: the content of report.json.

    Raises:
        HilumError: if the folder cannot be written to.
    """
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    picture, page = roc_png(report), render_page(report)  # all is made before any is written
    write_whole(folder / "report.json", text.encode())
    write_whole(folder / "roc.png", picture)
    write_whole(folder / "report.html", page.encode())


def render_page(report: dict[str, Any]) -> str:
    """The page as HTML, from what report.json holds and from nothing else."""
    title, meaning = PROTOCOLS.get(report["protocol"], PROTOCOLS[None])
    sections = views(report)
    return (
        page_environment()
        .get_template("report.html")
        .render(
            content=report,
            kind="report",
            protocol_title=title,
            protocol_meaning=meaning,
            summary=summary(report),
            rows=[_row(name, finding, report["published"]) for name, finding in report["findings"].items()],
            mean_bar=_bar(report["mean"]["auroc"]),
            errata=list(dict.fromkeys(system["erratum"] for system in report["published"] if system["erratum"])),
            sections=sections,
            origins=_origins(report),
            limits=limits(report),
            citation=citation(report),
        )
    )


def _origins(report: dict[str, Any]) -> list[str]:
    """What the head of the page says of the films that the model learned from, and of those that it was tried on."""
    learned = report.get("learned_from")  # absent from reports that are older than it
    return [
        *([f"The model was {learned}."] if learned else []),
        *(
            ["The evaluated films are simulated: no value here says anything of patients."]
            * bool(report.get("simulated"))
        ),
    ]


def page_environment() -> Environment:
    """Where the pages' templates are found, with the filters that write numbers."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"decimal": decimal, "interval": interval, "count": count, "words": words}
    environment.filters |= {"signed": signed_number, "signed_interval": signed_interval, "p": shown_p}
    return environment


def _row(name: str, finding: dict[str, Any], published: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        **finding,
        "bar": _bar(finding["auroc"]),
        "peers": [system["findings"].get(name) for system in published],
    }


def _bar(auroc: dict[str, Any]) -> Marks | None:
    """An AUROC on the axis of the table of findings."""
    return marks(auroc, _AXIS_LOW, 1.0, chance=0.5)
