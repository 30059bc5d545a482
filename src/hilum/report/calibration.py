"""The page's section on calibration."""

import math
from typing import Any

from hilum.report.sections import Cell, FigureView, Section, TableView, cell
from hilum.report.words import decimal, interval, listed, words

_HEADER = (
    "Finding",
    "Calibration error",
    "By chance",
    "Brier score",
    "Brier skill",
    "Mean score minus share",
    "Slope",
)


def calibration_view(report: dict[str, Any]) -> Section:
    """What the scores mean as probabilities: sentences, the table of measures, a reliability diagram per finding."""
    section = report["calibration"]
    title = "What a score means: calibration"
    if section["undefined"]:
        return Section("calibration", title, (section["undefined"],))
    error, findings = section["mean"]["ece"], section["findings"]
    sentences = ["Where scores are calibrated, 30 of 100 films with a score of 0.30 have the finding."]
    if section["how"]:
        sentences.append(section["how"])
    if error["value"] is not None:
        sentences.append(
            f"Here the share of films with a finding lies {decimal(error['value'])} from the mean score "
            f"({interval(error)}), on average over bins of films and over findings."
        )
    off = [name for name, one in findings.items() if _above(one["ece"]["value"], one["ece_by_chance"]["high"])]
    sentences.append(
        f"Further off than chance explains: {listed(off)}."
        if off
        else "No finding's scores are further off than chance explains on so few films."
    )
    rows = tuple(
        (
            Cell(words(name)),
            cell(one["ece"]),
            cell(one["ece_by_chance"]),
            cell(one["brier"]),
            cell(one["brier_skill"]),
            cell(one["excess"], signed=True),
            cell(one["slope"]),
        )
        for name, one in findings.items()
    )
    return Section(
        "calibration",
        title,
        tuple(sentences),
        tables=(TableView("Calibration per finding", _HEADER, rows),),
        figures=tuple(_figure(name, one) for name, one in findings.items() if one["reliability"]),
        legend=(
            "Reliability. Across: the mean score of a tenth of the films; up: the share of them with the finding, with "
            "its 95 % interval. Both run from 0 to the number given; on the dotted diagonal scores are calibrated. "
            "Calibration error: the distance from it, averaged over films; on few films it is never 0, so compare it "
            "with the column By chance, which calibrated scores would show on as many independent films. Brier skill: "
            "1 is perfect, 0 is what one same score for all films reaches. Slope: below 1 scores are too extreme, "
            "above 1 too timid."
        ),
    )


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _figure(name: str, finding: dict[str, Any]) -> FigureView:
    rows = finding["reliability"]
    ends = [(row["present"]["value"], row["present"]["low"], row["present"]["high"]) for row in rows]
    largest = max(
        max(row["mean_score"], *(end for end in three if end is not None))
        for row, three in zip(rows, ends, strict=True)
    )
    limit = max(0.1, math.ceil(10 * largest) / 10)
    points = [
        (row["mean_score"] / limit, value / limit, (value if low is None else low) / limit, (high or value) / limit)
        for row, (value, low, high) in zip(rows, ends, strict=True)
    ]
    pairs = ", ".join(f"{row['mean_score']:.2f}: {row['present']['value']:.2f}" for row in rows)
    return FigureView(
        title=words(name),
        value=decimal(finding["ece"]["value"]),
        small=f"0 to {limit:.1f}",
        label=f"Reliability of {words(name)}, mean score: share of films with the finding: {pairs}",
        points=tuple((100 * x, *(100 * (1 - y) for y in ups)) for x, *ups in points),
    )
