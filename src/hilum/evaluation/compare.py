"""Compare reports on the same films: paired differences of AUROC as JSON, CSV, page and tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hilum import DISCLAIMER, __version__
from hilum.errors import HilumError
from hilum.evaluation.inputs import StoredReport, read_report
from hilum.evaluation.page import PROTOCOLS, page_environment
from hilum.evaluation.views import half_width, marks, shown_p, signed_interval, signed_number, words
from hilum.files import write_whole
from hilum.metrics.bootstrap import estimate_json, number_json
from hilum.metrics.compare import FindingDifference, Pair, compare

DRAWS = 2000

_REMEDY = "Evaluate each system's scores on one manifest: hilum evaluate REPORT/predictions.csv --films F --out REPORT"

_NOTES = (
    "Differences are the second system minus the first, paired: a bootstrap sample has the same patients for all.",
    "Intervals and p-values come from patient-clustered bootstrap samples. Holm's correction is over the findings of "
    "one pair of systems; it does not cover several pairs, nor the mean.",
    "DeLong's test takes every film for independent. Where patients have several films its p-values are too small; it "
    "stands here only because others report it.",
)


class TextTable(NamedTuple):
    """What a command line prints."""

    title: str
    header: list[str]
    rows: list[list[str]]


def compare_reports(folders: Sequence[Path], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Differences of AUROC between all pairs of systems, over the findings that every report evaluated.

    The result is plain JSON in which NaN is null; an ESTIMATE is {value, low, high, undefined}, as in report.json:

        hilum, protocol, split, films, patients, films_fingerprint, draws, seed, disclaimer
        systems: [{name, report, mean: {auroc: ESTIMATE}, findings: {FINDING: {auroc: ESTIMATE}}}]
        findings: {FINDING: {films, patients, positives}}
        differences: [{first, second (names), mean: {auroc: ESTIMATE, p_value}, findings: {FINDING: {auroc: ESTIMATE,
            p_value, p_value_holm, delong: {standard_error, p_value}}}}]    second minus first
        not_compared, undefined_findings: [FINDING]    evaluated by some only; of one class
        notes: [sentence]

    Args:
        folders: of reports that `hilum evaluate` wrote, at least two.
        draws: patient-clustered bootstrap samples; no p-value can be below 2 / (draws + 1).

    Raises:
        HilumError: if there are fewer than two reports, one is not whole, or their films, split or labels differ.
    """
    if len(folders) < 2:
        raise HilumError(f"reports must be at least two, got {len(folders)}. Name two folders or more.")
    twice = [str(folder) for i, folder in enumerate(folders) if folder.resolve() in {f.resolve() for f in folders[:i]}]
    if twice:
        raise HilumError(f"reports must be different folders, got {twice[0]} twice. Name each once.")
    if draws < 1:
        raise HilumError(f"draws must be at least 1, got {draws}. Take 1000 or more for p-values.")
    reports = [read_report(folder) for folder in folders]
    first = reports[0]
    for other in reports[1:]:
        _refuse_other_films(first, other)
    every = list(dict.fromkeys(name for report in reports for name in report.evaluated.findings))
    findings = [name for name in every if all(name in report.evaluated.findings for report in reports)]
    if not findings:
        raise HilumError(
            f"reports must have a finding in common, got none in {', '.join(map(str, folders))}. "
            "Score the same findings."
        )
    for other in reports[1:]:
        _refuse_other_labels(first, other, findings)
    labels, patients = first.evaluated.truth[findings].to_numpy(dtype=np.float64), first.evaluated.patients
    scores = [report.evaluated.scores[findings].to_numpy(dtype=np.float64) for report in reports]
    compared = compare(scores, labels, patients, draws=draws, seed=seed)
    names = _names(reports)
    known = ~np.isnan(labels)
    counts = {
        name: {
            "films": int(known[:, i].sum()),
            "patients": len(set(patients[known[:, i]])),
            "positives": int((labels[:, i] == 1).sum()),
        }
        for i, name in enumerate(findings)
    }
    shared = {key: first.content[key] for key in ("protocol", "split", "films_fingerprint")}
    return {
        "hilum": __version__,
        **shared,
        "films": len(labels),
        "patients": len(set(patients)),
        "draws": draws,
        "seed": seed,
        "systems": [
            {
                "name": name,
                "report": str(report.folder),
                "mean": {"auroc": estimate_json(compared.mean[i])},
                "findings": {
                    finding: {"auroc": estimate_json(value)}
                    for finding, value in zip(findings, compared.auroc[i], strict=True)
                },
            }
            for i, (name, report) in enumerate(zip(names, reports, strict=True))
        ],
        "findings": counts,
        "differences": [_pair(pair, names, findings) for pair in compared.pairs],
        "not_compared": [name for name in every if name not in findings],
        "undefined_findings": [
            name for name, value in zip(findings, compared.auroc[0], strict=True) if np.isnan(value.value)
        ],
        "notes": list(_NOTES),
        "disclaimer": DISCLAIMER,
    }


def comparison_tables(comparison: dict[str, Any]) -> list[TextTable]:
    """A table of the systems' means, then one for each pair, from what `compare_reports` gives."""
    evaluated = (
        f"{comparison['films']:,} films of {comparison['patients']:,} patients, split by {comparison['protocol']}"
    )
    systems = [[system["name"], _shown(system["mean"]["auroc"])] for system in comparison["systems"]]
    tables = [TextTable(f"Mean AUROC: {evaluated}", ["system", "AUROC [95 %]"], systems)]
    for pair in comparison["differences"]:
        rows = [
            [
                name,
                _shown_difference(one["auroc"]),
                shown_p(one["p_value"]),
                shown_p(one["p_value_holm"]),
                shown_p(one["delong"]["p_value"]),
                f"{comparison['findings'][name]['positives']:,}",
            ]
            for name, one in pair["findings"].items()
        ]
        mean = pair["mean"]
        rows.append(["mean", _shown_difference(mean["auroc"]), shown_p(mean["p_value"]), "", "", ""])
        header = ["finding", "difference [95 %]", "p", "p\n(Holm)", "p\n(DeLong)", "present"]
        tables.append(TextTable(f"{pair['second']} minus {pair['first']}", header, rows))
    return tables


def _refuse_other_films(first: StoredReport, other: StoredReport) -> None:
    for key, what in (("split", "split"), ("films_fingerprint", "manifest (films_fingerprint)")):
        values = first.content[key], other.content[key]
        if values[0] != values[1]:
            raise HilumError(
                f"reports must have one {what}, got {str(values[0])[:12]} in {first.folder} and "
                f"{str(values[1])[:12]} in {other.folder}. {_REMEDY}"
            )
    films = set(first.evaluated.truth["film"]), set(other.evaluated.truth["film"])
    differing = sorted(films[0] ^ films[1])
    if differing:
        where = first.folder if differing[0] in films[0] else other.folder
        raise HilumError(
            f"reports must evaluate the same films, got {len(differing):,} that only one of {first.folder} and "
            f"{other.folder} evaluated, the first of which is {differing[0]!r} in {where}. Score the films that are "
            "missing, and evaluate again."
        )


def _refuse_other_labels(first: StoredReport, other: StoredReport, findings: list[str]) -> None:
    """One fingerprint vouches for one truth, unless a file was changed."""
    columns = ["film", "patient", *findings]
    if not first.evaluated.truth[columns].equals(other.evaluated.truth[columns]):
        raise HilumError(
            f"reports must hold the same patients and labels, got others in {other.folder} than in {first.folder}. "
            f"{_REMEDY}"
        )


def _names(reports: Sequence[StoredReport]) -> list[str]:
    """The systems' names, with the folder where two are called the same."""
    systems = [str(report.content["system"]) for report in reports]
    return [
        system if systems.count(system) == 1 else f"{system} in {report.folder}"
        for system, report in zip(systems, reports, strict=True)
    ]


def _pair(pair: Pair, names: Sequence[str], findings: Sequence[str]) -> dict[str, Any]:
    return {
        "first": names[pair.first],
        "second": names[pair.second],
        "mean": {"auroc": estimate_json(pair.mean.auroc), "p_value": number_json(pair.mean.p_value)},
        "findings": {name: _finding(one) for name, one in zip(findings, pair.findings, strict=True)},
    }


def _finding(one: FindingDifference) -> dict[str, Any]:
    return {
        "auroc": estimate_json(one.auroc),
        "p_value": number_json(one.p_value),
        "p_value_holm": number_json(one.p_value_holm),
        "delong": {
            "standard_error": number_json(one.delong.standard_error),
            "p_value": number_json(one.delong.p_value),
        },
    }


def _shown(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "undefined"
    return f"{estimate['value']:.4f} {_interval(estimate, '.3f')}"


def _shown_difference(estimate: dict[str, Any]) -> str:
    return "undefined" if estimate["value"] is None else f"{estimate['value']:+.3f} {_interval(estimate, '+.3f')}"


def _interval(estimate: dict[str, Any], form: str) -> str:
    low, high = (format(end, form) if end is not None else "?" for end in (estimate["low"], estimate["high"]))
    return f"[{low}, {high}]"


LEVEL = 0.05
"""The corrected p-value below which the page names a finding."""


_ENDS = ("value", "low", "high")


def write_comparison(comparison: dict[str, Any], folder: Path) -> None:
    """Write comparison.json, comparison.csv and comparison.html (a self-contained page).

    Args:
        comparison: what `hilum.evaluation.compare.compare_reports` gives.

    Raises:
        HilumError: if the folder cannot be written to.
    """
    text = json.dumps(comparison, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    page, rows = render_comparison(comparison), pd.DataFrame(_csv_rows(comparison))
    write_whole(folder / "comparison.json", text.encode())
    write_whole(folder / "comparison.csv", rows.to_csv(index=False).encode())
    write_whole(folder / "comparison.html", page.encode())


def render_comparison(comparison: dict[str, Any]) -> str:
    """The page as HTML."""
    environment = page_environment()
    title, meaning = PROTOCOLS.get(comparison["protocol"], PROTOCOLS[None])
    limit = _limit(comparison)
    pairs = [
        {
            "first": pair["first"],
            "second": pair["second"],
            "sentences": pair_sentences(pair),
            "mean": {**pair["mean"], "bar": marks(pair["mean"]["auroc"], -limit, limit, chance=0.0)},
            "rows": [
                {
                    "name": name,
                    **one,
                    **comparison["findings"][name],
                    "bar": marks(one["auroc"], -limit, limit, chance=0.0),
                }
                for name, one in pair["findings"].items()
            ],
        }
        for pair in comparison["differences"]
    ]
    return environment.get_template("comparison.html").render(
        content=comparison, kind="comparison", protocol_title=title, protocol_meaning=meaning, pairs=pairs, limit=limit
    )


def pair_sentences(pair: dict[str, Any]) -> list[str]:
    """Which of two systems ranks better, in mean and for single findings, in plain sentences."""
    first, second, mean = pair["first"], pair["second"], pair["mean"]["auroc"]
    if mean["value"] is None:
        return [f"{second} and {first} cannot be compared: no finding occurs both present and absent."]
    measured = f"{signed_number(mean['value'])} ({signed_interval(mean)}, p {shown_p(pair['mean']['p_value'])})"
    if mean["low"] is None or mean["low"] <= 0 <= mean["high"]:
        sentences = [f"These films do not distinguish the mean AUROC of {second} from that of {first}: {measured}."]
    else:
        higher = "higher" if mean["value"] > 0 else "lower"
        sentences = [f"{second} has a {higher} mean AUROC than {first}: {measured}."]
    differing = {name: one for name, one in pair["findings"].items() if (one["p_value_holm"] or 1.0) < LEVEL}
    for word, sign in (("better", 1), ("worse", -1)):
        names = [words(name) for name, one in differing.items() if sign * one["auroc"]["value"] > 0]
        if names:
            sentences.append(f"After Holm's correction it ranks {word} in {', '.join(names)}.")
    if not differing:
        sentences.append(f"No single finding differs at the level {LEVEL} after Holm's correction.")
    return sentences


def _csv_rows(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for pair in comparison["differences"]:
        for name, one in [*pair["findings"].items(), ("mean", pair["mean"])]:
            delong = one.get("delong", {})
            rows.append(
                {
                    "first": pair["first"],
                    "second": pair["second"],
                    "finding": name,
                    **{f"difference_{key}" if key != "value" else "difference": one["auroc"][key] for key in _ENDS},
                    "p_value": one["p_value"],
                    "p_value_holm": one.get("p_value_holm"),
                    "delong_standard_error": delong.get("standard_error"),
                    "delong_p_value": delong.get("p_value"),
                    "positives": comparison["findings"].get(name, {}).get("positives"),
                }
            )
    return rows


def _limit(comparison: dict[str, Any]) -> float:
    """Half the width of the interval graphics: the farthest end of any interval, rounded up to a twentieth."""
    every = [one["auroc"] for pair in comparison["differences"] for one in (*pair["findings"].values(), pair["mean"])]
    ends = [abs(auroc[key]) for auroc in every for key in _ENDS if auroc[key] is not None]
    return half_width(ends)
