"""The page's section on external validation, and its table on the command line."""

from typing import Any

from hilum.report.operating import POINTS
from hilum.report.sections import Cell, Section, TableView
from hilum.report.words import decimal, listed, plural, shown_p, signed_interval, words

LEVEL = 0.05
"""Changes whose corrected p-value lies below are named."""

_CALIBRATION = {
    "ece": "Calibration error",
    "brier": "Brier score",
    "excess": "Mean score minus share",
    "slope": "Slope",
}
_RATES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "alarms_per_100": "Alarms per 100 films",
}


def shift_view(report: dict[str, Any]) -> Section:
    """What is other than in an earlier report: sentences, a table of ranking, of calibration and of each threshold."""
    section = report["shift"]
    there, mean, findings = section["report"], section["mean"], section["findings"]
    sentences = [
        f"Set against the report of {there['system']} on {plural(there['films'], 'film')} of "
        f"{plural(there['patients'], 'other patient')} (split {there['split']}, protocol "
        f"{there['protocol'] or 'unknown'}).",
        *section["notes"],
    ]
    if mean["auroc"]["difference"]["value"] is not None:
        sentences.append(
            f"Mean AUROC over {plural(len(mean['findings']), 'finding')}: {_arrow(mean['auroc'])}, a change of "
            f"{_gap(mean['auroc'])}."
        )
    for measure, name in (("auroc", "AUROC"), ("prevalence", "share of films with the finding")):
        clear = [finding for finding, one in findings.items() if _below(one[measure]["p_value_holm"])]
        sentences.append(
            f"Changes of the {name} that chance does not explain: {listed(clear)}."
            if clear
            else f"No finding's {name} changed by more than chance explains."
        )
    tables = [_table("Ranking", findings, {"prevalence": "Share of films with it", "auroc": "AUROC"})]
    if all(measure in one for one in findings.values() for measure in _CALIBRATION):
        tables.append(_table("Calibration", findings, _CALIBRATION))
    tables += [
        _table(f"At the other report's thresholds: {POINTS.get(name, name)}", point, _RATES)
        for name, point in section["operating_points"].items()
    ]
    return Section(
        "shift",
        "External validation: what is other here",
        tuple(sentences),
        tables=tuple(tables),
        legend=(
            "From there to here; small: here minus there, its 95 % interval, and p, corrected (Holm) for the findings "
            "of a column. The patients are others, so nothing is paired: the interval is made from the two values' own "
            "intervals (Zou and Donner 2008). Labels that were made in another way change these numbers as other "
            "patients do. The calibration error of fewer films is larger by chance alone."
        ),
    )


def shift_table(section: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows for the command line."""
    rows = [
        [words(name), decimal(one["there"]["value"]), decimal(one["here"]["value"]), _gap(one), p]
        for name, one, p in [
            *((name, one["auroc"], shown_p(one["auroc"]["p_value_holm"])) for name, one in section["findings"].items()),
            ("mean", section["mean"]["auroc"], ""),
        ]
    ]
    return (
        f"AUROC against {section['report']['folder']}",
        ["finding", "there", "here", "difference [95 %]", "p\n(Holm)"],
        rows,
    )


def _table(title: str, findings: dict[str, dict[str, Any]], measures: dict[str, str]) -> TableView:
    rows = tuple((Cell(words(name)), *(_cell(one[measure]) for measure in measures)) for name, one in findings.items())
    return TableView(title, ("Finding", *measures.values()), rows)


def _cell(change: dict[str, Any]) -> Cell:
    if change["difference"]["value"] is None:
        return Cell(_arrow(change))
    return Cell(_arrow(change), f"{_gap(change)}, p {shown_p(change['p_value_holm'])}")


def _arrow(change: dict[str, Any]) -> str:
    return f"{decimal(change['there']['value'])} \N{RIGHTWARDS ARROW} {decimal(change['here']['value'])}"


def _gap(change: dict[str, Any]) -> str:
    difference = change["difference"]
    if difference["value"] is None:
        return "undefined"
    return f"{difference['value']:+.3f} ({signed_interval(difference)})"


def _below(p_value: float | None) -> bool:
    return p_value is not None and p_value < LEVEL
