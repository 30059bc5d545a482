"""report.json, the page that people read and roc.png, all from one report and from nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hilum.files import write_whole
from hilum.report.calibration import calibration_view
from hilum.report.confusions import confusions_view
from hilum.report.curves import curve_views, threshold_view
from hilum.report.figures import roc_png, scaled
from hilum.report.gallery import gallery_view
from hilum.report.limits import citation, limits
from hilum.report.localization import localization_view
from hilum.report.manifest import manifest_view
from hilum.report.model import model_facts, training_charts
from hilum.report.operating import operating_view
from hilum.report.reference import reference_view
from hilum.report.sections import Section
from hilum.report.shift import shift_view
from hilum.report.subgroups import subgroups_view
from hilum.report.summary import CONTROLS, control_sentences, summary
from hilum.report.words import count, decimal, interval, shown_p, signed_interval, words

PROTOCOLS: dict[str | None, tuple[str, str]] = {
    "official": (
        "NIH's official split",
        "The films are those of NIH's published test list. Its patients are sicker than those of the training list, "
        "and no patient is in both. Most of the literature can be compared with this protocol.",
    ),
    "patient": (
        "A random split of patients",
        "Patients were dealt to training and test at random, so no patient is in both. The test films resemble the "
        "training films more than NIH's official test list does: do not compare with values of the official split.",
    ),
    "image": (
        "A random split of images: inflated values",
        "Images were dealt to training and test at random, so one patient's films stand in both. In ChestX-ray14, "
        "81.6 % of the test films then have siblings in training, and a control that sees no pixel, only the labels of "
        "the same patient's training films, reaches a mean AUROC of about 0.746. The values are inflated and must not "
        "be compared with those of other protocols.",
    ),
    None: (
        "Unknown split",
        "The manifest does not say how its films were split. Nothing published is set beside these values.",
    ),
}
"""What each protocol is called, and what it means for the numbers."""

_AXIS_LOW = 0.4
"""Where the interval graphics begin; what lies below is drawn at the edge."""


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write report.json, report.html (one file that loads nothing else) and roc.png.

    Args:
        report: what `hilum.report.evaluation` makes, or `hilum.evaluate.Report.to_dict`.

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
    model, confusions = report["model"], confusions_view(report)
    sections = plain_sections(report)
    return (
        page_environment()
        .get_template("report.html")
        .render(
            report=report,
            protocol_title=title,
            protocol_meaning=meaning,
            summary=summary(report),
            rows=[_row(name, finding, report["published"]) for name, finding in report["findings"].items()],
            mean_bar=_bar(report["mean"]["auroc"]),
            controls=CONTROLS,
            control_sentences=control_sentences(report),
            errata=list(dict.fromkeys(system["erratum"] for system in report["published"] if system["erratum"])),
            curves=curve_views(report),
            sections=sections,
            thresholds=threshold_view(report),
            confusions=confusions,
            gallery=gallery_view(report),
            limits=limits(report),
            citation=citation(report),
            facts=model_facts(model) if model else {},
            charts=training_charts(model["history"]) if model else [],
            contents=_contents(report, sections, confusions is not None),
        )
    )


def plain_sections(report: dict[str, Any]) -> list[Section]:
    """The sections that are sentences, tables and small figures, for the page and the model card."""
    return [
        calibration_view(report),
        operating_view(report),
        *([subgroups_view(report)] if report["subgroups"] else []),
        *([reference_view(report)] if report["reference"] else []),
        *([shift_view(report)] if report["shift"] else []),
        *([localization_view(report)] if report["localization"] else []),
        *([manifest_view(report)] if report["manifest"] else []),
    ]


def _contents(report: dict[str, Any], sections: Sequence[Section], confusions: bool) -> list[tuple[str, str]]:
    """The anchors of the page's sections and what they are called in its list of contents."""
    inside = []
    for section in sections:
        inside.append((section.name, section.title.partition(":")[0]))
        if section.name == "calls" and confusions:
            inside.append(("confusions", "Confusions"))
    return [
        ("summary", "In plain words"),
        ("findings", "Finding by finding"),
        *([("controls", "Without pixels")] if report["controls"] else []),
        ("curves", "Curves"),
        *inside,
        *([("training", "The model")] if report["model"] else []),
        ("method", "Method"),
        ("limits", "What this does not show"),
        ("cite", "How to cite"),
    ]


def page_environment() -> Environment:
    """Where the pages' templates are found, with the filters that write numbers."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"decimal": decimal, "interval": interval, "count": count, "words": words}
    environment.filters |= {"signed_interval": signed_interval, "p": shown_p}
    return environment


def _row(name: str, finding: dict[str, Any], published: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        **finding,
        "bar": _bar(finding["auroc"]),
        "peers": [system["findings"].get(name) for system in published],
    }


def _bar(auroc: dict[str, Any]) -> dict[str, float] | None:
    """Where an interval graphic's marks lie, from 0 to 100; None for an undefined value."""
    if auroc["value"] is None:
        return None
    ends = [auroc[key] if auroc[key] is not None else auroc["value"] for key in ("low", "value", "high")]
    low, value, high = (100 * max(0.0, part) for part in scaled(ends, _AXIS_LOW, 1.0))
    return {"low": low, "value": value, "high": high, "chance": 100 * scaled([0.5], _AXIS_LOW, 1.0)[0]}
