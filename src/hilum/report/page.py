"""report.json, the page that people read and roc.png, all from one report and from nothing else."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hilum.files import write_whole
from hilum.report.figures import roc_png, scaled, svg_path

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

CONTROLS = {
    "identity": ("Patient identity", "the labels of the same patient's training films"),
    "view_age_sex": ("View, age, sex", "the view and the patient's age and sex"),
}
"""What each control that sees no pixel is called, and what it knows instead."""

_AXIS_LOW = 0.4
"""Where the interval graphics begin; what lies below is drawn at the edge."""


def write_report(report: dict[str, Any], folder: Path, *, training: dict[str, Any] | None = None) -> None:
    """Write report.json, report.html (one file that loads nothing else) and roc.png.

    Args:
        report: what `hilum.evaluate.Report.to_dict` gives.
        training: how the system was trained, for the page: names and values; under "history", if there, a list of
            dictionaries of numbers, one per epoch ("epoch", "train_loss", "val_auroc", ...).

    Raises:
        HilumError: if the folder cannot be written to.
    """
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    picture, page = roc_png(report), render_page(report, training=training)  # all is made before any is written
    write_whole(folder / "report.json", text.encode())
    write_whole(folder / "roc.png", picture)
    write_whole(folder / "report.html", page.encode())


def render_page(report: dict[str, Any], *, training: dict[str, Any] | None = None) -> str:
    """The page as HTML. Arguments as for `write_report`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"decimal": _decimal, "interval": _interval, "count": _count, "words": _words}
    title, meaning = PROTOCOLS.get(report["protocol"], PROTOCOLS[None])
    facts, charts = _training(training or {})
    return environment.get_template("report.html").render(
        report=report,
        protocol_title=title,
        protocol_meaning=meaning,
        summary=_summary(report),
        rows=[_row(name, finding, report["published"]) for name, finding in report["findings"].items()],
        mean_bar=_bar(report["mean"]["auroc"]),
        controls=CONTROLS,
        control_sentences=_control_sentences(report),
        errata=list(dict.fromkeys(system["erratum"] for system in report["published"] if system["erratum"])),
        facts=facts,
        charts=charts,
    )


def _summary(report: dict[str, Any]) -> list[str]:
    """The report in plain sentences."""
    findings, mean = report["findings"], report["mean"]["auroc"]
    defined = {name: finding["auroc"] for name, finding in findings.items() if finding["auroc"]["value"] is not None}
    if not defined:
        return ["No finding occurs both present and absent among these films, so nothing can be ranked."]
    share = f"{100 * mean['value']:.0f} times out of 100"
    sentences = [
        f"Shown a film with a finding and one without, {report['system']} gives the first the higher score about "
        f"{share}, on average over {_plural(len(defined), 'finding')}; guessing would be right 50 times."
    ]
    if len(defined) > 1:
        ranked = sorted(defined, key=lambda name: float(defined[name]["value"]))
        best, weakest = ranked[-1], ranked[0]
        sentences.append(
            f"Best ranked is {_words(best)} ({_decimal(defined[best]['value'])}), weakest {_words(weakest)} "
            f"({_decimal(defined[weakest]['value'])})."
        )
    unclear = [
        name for name, auroc in defined.items() if auroc["low"] is not None and auroc["low"] <= 0.5 <= auroc["high"]
    ]
    if unclear:
        sentences.append(f"No better than chance as far as these films can tell: {_and(unclear)}.")
    undefined = report["undefined_findings"]
    if undefined:
        is_or_are = "is" if len(undefined) == 1 else "are"
        sentences.append(
            f"{_and(undefined)} {is_or_are} undefined, because these films do not show both presence and absence; "
            "the mean leaves this out."
        )
    if report["not_judged"]:
        sentences.append(f"Not judged, because the system gave no scores: {_and(report['not_judged'])}.")
    missing = report["missing_films"]
    if missing:
        sentences.append(f"{_plural(len(missing), 'film')} of the split had no score and {_were(missing)} left out.")
    return sentences + list(report["notes"])


def _control_sentences(report: dict[str, Any]) -> list[str]:
    """What the controls reach and where the system stands, a sentence for each control."""
    sentences = []
    for name, control in report["controls"].items():
        auroc, difference, knows = control["mean"]["auroc"], control["mean"]["difference"], CONTROLS[name][1]
        if auroc["value"] is None:
            sentences.append(f"A control that knows only {knows} could not be judged: no finding defines it.")
            continue
        reached = f"reaches a mean AUROC of {_decimal(auroc['value'])} ({_interval(auroc)})"
        sentence = f"A control that sees no pixel and knows only {knows} {reached}"
        if difference["value"] is None:
            sentences.append(f"{sentence}; it shares no defined finding with {report['system']}.")
            continue
        above = f"{abs(difference['value']):.3f} {'above' if difference['value'] >= 0 else 'below'} it"
        ends = "no interval" if difference["low"] is None else f"{difference['low']:+.3f} to {difference['high']:+.3f}"
        sentences.append(f"{sentence}; {report['system']} lies {above} ({ends}).")
    return sentences


def _row(name: str, finding: dict[str, Any], published: Sequence[dict[str, Any]]) -> dict[str, Any]:
    curve = finding["curve"]
    return {
        "name": name,
        **finding,
        "bar": _bar(finding["auroc"]),
        "path": svg_path(curve["false_positive_rate"], curve["true_positive_rate"]),
        "peers": [system["findings"].get(name) for system in published],
    }


def _bar(auroc: dict[str, Any]) -> dict[str, float] | None:
    """Where an interval graphic's marks lie, from 0 to 100; None for an undefined value."""
    if auroc["value"] is None:
        return None
    ends = [auroc[key] if auroc[key] is not None else auroc["value"] for key in ("low", "value", "high")]
    low, value, high = (100 * max(0.0, part) for part in scaled(ends, _AXIS_LOW, 1.0))
    return {"low": low, "value": value, "high": high, "chance": 100 * scaled([0.5], _AXIS_LOW, 1.0)[0]}


def _training(training: dict[str, Any]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The plain facts of a training, and a small chart for each number that its history follows."""
    facts = {_words(name): str(value) for name, value in training.items() if name != "history"}
    history = training.get("history") or []
    names = list(dict.fromkeys(name for epoch in history for name in epoch if name != "epoch"))
    charts = []
    for name in names:
        points = [(i, epoch.get(name)) for i, epoch in enumerate(history)]
        known = [(i, float(y)) for i, y in points if isinstance(y, int | float) and math.isfinite(y)]
        if len(known) < 2:
            continue
        ups = [y for _, y in known]
        across = scaled([float(i) for i, _ in known], 0.0, float(len(history) - 1))
        charts.append(
            {
                "name": _words(name),
                "path": svg_path(across, scaled(ups, min(ups), max(ups))),
                "low": min(ups),
                "high": max(ups),
                "last": ups[-1],
                "epochs": len(history),
            }
        )
    return facts, charts


def _decimal(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _interval(estimate: dict[str, Any]) -> str:
    return "no interval" if estimate["low"] is None else f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _and(names: Sequence[str]) -> str:
    words = [_words(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _were(items: Sequence[object]) -> str:
    return "was" if len(items) == 1 else "were"
