"""Compare reports on the same films: paired differences as JSON, CSV, page and tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from hilum import DISCLAIMER, __version__
from hilum.errors import HilumError
from hilum.evaluation.inputs import StoredReport, read_report
from hilum.evaluation.page import PROTOCOLS, page_environment
from hilum.evaluation.views import (
    half_width,
    listed,
    marks,
    no_interval,
    shown_p,
    signed_interval,
    signed_number,
    words,
)
from hilum.files import write_whole
from hilum.metrics.bootstrap import estimate_json, number_json
from hilum.metrics.compare import PairedDifference, SystemPair, compare_systems
from hilum.metrics.influence import FEWEST_PATIENTS, Measured
from hilum.metrics.ranking import DelongTest, placements

_REMEDY = "Evaluate each system's scores on one manifest: hilum evaluate REPORT/predictions.csv --films F --out REPORT"

_NOTES = (
    "Differences are the second system minus the first, paired film by film: what makes a film easy or hard for both "
    "cancels out.",
    "Intervals and p-values take patients, not films, as independent. Holm's correction is over the findings of one "
    "pair of systems that could be tested; it does not cover several pairs, nor the mean.",
    f"Findings that fewer than {FEWEST_PATIENTS} patients have, or do not have, get no interval and no p-value: none "
    "would hold. They stay part of the mean.",
    "DeLong's test takes every film for independent. Where patients have several films its p-values are too small; it "
    "stands here only because others report it.",
)


_MARGIN_NOTE = (
    "Not inferior: the one-sided test against being worse by the margin has p below 0.025, which is the same as a 95 % "
    "interval above minus the margin; of findings, after Holm's correction. Where that is not shown the system may be "
    "worse, or the films too few to tell. A margin that is chosen after looking at the difference shows nothing."
)


class TextTable(NamedTuple):
    """What a command line prints."""

    title: str
    header: list[str]
    rows: list[list[str]]


def compare_reports(folders: Sequence[Path], *, margin: float | None = None) -> dict[str, Any]:
    """Differences between all pairs of systems, over the findings that every report evaluated.

    The result is plain JSON in which NaN is null; an ESTIMATE is {value, low, high, undefined, why}, as in report.json:

        hilum, protocol, split, films, patients, films_fingerprint, disclaimer
        systems: [{name, report, mean: MEASURES, findings: {FINDING: MEASURES}}]
        MEASURES: {auroc, average_precision: ESTIMATE}
        findings: {FINDING: {films, patients, positives, positive_patients}}
        differences: [{first, second (names), mean: {auroc: ESTIMATE, p_value, average_precision: TESTED}, findings:
            {FINDING: {auroc: ESTIMATE, p_value, p_value_holm, average_precision: TESTED, delong: {standard_error,
            p_value}}}}]    second minus first
        TESTED: {difference: ESTIMATE, p_value, p_value_holm (null for the mean)}
            with a margin also non_inferiority: {margin, mean: {p_value, shown}, findings: {FINDING: {p_value,
            p_value_holm, shown}}}    one-sided, for the second not worse than the first; shown: below 0.025
        not_compared, undefined_findings: [FINDING]    evaluated by some only; of one class
        notes: [sentence]

    Args:
        folders: of reports that `hilum evaluate` wrote, at least two.
        margin: of AUROC, by which a system may be worse without being called inferior; above 0.

    Raises:
        HilumError: if there are fewer than two reports, one is not whole, or their films, split or labels differ.
    """
    if margin is not None and not 0 < margin < 1:
        raise HilumError(
            f"margin must be between 0 and 1, got {margin}. Give the AUROC that may be lost, such as 0.02."
        )
    if len(folders) < 2:
        raise HilumError(f"reports must be at least two, got {len(folders)}. Name two folders or more.")
    twice = [str(folder) for i, folder in enumerate(folders) if folder.resolve() in {f.resolve() for f in folders[:i]}]
    if twice:
        raise HilumError(f"reports must be different folders, got {twice[0]} twice. Name each once.")
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
    compared = compare_systems([[table] for table in scores], labels, patients)
    names = _names(reports)
    known = ~np.isnan(labels)
    counts = {
        name: {
            "films": int(known[:, i].sum()),
            "patients": len(set(patients[known[:, i]])),
            "positives": int((labels[:, i] == 1).sum()),
            "positive_patients": len(set(patients[labels[:, i] == 1])),
        }
        for i, name in enumerate(findings)
    }
    shared = {key: first.content[key] for key in ("protocol", "split", "films_fingerprint")}
    return {
        "hilum": __version__,
        **shared,
        "films": len(labels),
        "patients": len(set(patients)),
        "systems": [
            {
                "name": name,
                "report": str(report.folder),
                "mean": _measures(system.mean_auroc, system.mean_average_precision),
                "findings": {
                    finding: _measures(auroc, precision)
                    for finding, auroc, precision in zip(findings, system.auroc, system.average_precision, strict=True)
                },
            }
            for name, report, system in zip(names, reports, compared.systems, strict=True)
        ],
        "findings": counts,
        "differences": [_pair(pair, names, findings, scores, labels, margin) for pair in compared.pairs],
        "not_compared": [name for name in every if name not in findings],
        "undefined_findings": [
            name for name, value in zip(findings, compared.systems[0].auroc, strict=True) if np.isnan(value.value)
        ],
        "notes": [*_NOTES, *([_MARGIN_NOTE] if margin is not None else [])],
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
                f"{comparison['findings'][name]['positive_patients']:,}",
            ]
            for name, one in pair["findings"].items()
        ]
        mean, tested = pair["mean"], pair.get("non_inferiority")
        rows.append(["mean", _shown_difference(mean["auroc"]), shown_p(mean["p_value"]), "", "", "", ""])
        if tested:
            for row in rows:
                one = tested["findings"].get(row[0], tested["mean"])
                row.append(f"{_margin_word(one)}, p {shown_p(one.get('p_value_holm', one['p_value']))}")
        header = [
            "finding",
            "difference [95 %]",
            "p",
            "p\n(Holm)",
            "p\n(DeLong)",
            "films\nwith it",
            "patients\nwith it",
            *([f"not inferior\nby {tested['margin']:g}"] if tested else []),
        ]
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


def _measures(auroc: Measured, precision: Measured) -> dict[str, Any]:
    return {"auroc": estimate_json(auroc.estimate), "average_precision": estimate_json(precision.estimate)}


def _pair(
    pair: SystemPair,
    names: Sequence[str],
    findings: Sequence[str],
    scores: Sequence[Float64[np.ndarray, "films findings"]],
    labels: Float64[np.ndarray, "films findings"],
    margin: float | None,
) -> dict[str, Any]:
    mean = pair.mean_auroc
    by_finding = {}
    for k, (name, auroc, precision) in enumerate(zip(findings, pair.auroc, pair.average_precision, strict=True)):
        both = np.stack([scores[pair.first][:, k], scores[pair.second][:, k]], axis=1)
        by_finding[name] = _finding(auroc, precision, placements(both, labels[:, k]).test(0, 1))
    return {
        "first": names[pair.first],
        "second": names[pair.second],
        "mean": {
            "auroc": estimate_json(mean.estimate),
            "p_value": number_json(mean.p_value),
            "average_precision": _tested(pair.mean_average_precision),
        },
        "findings": by_finding,
        **({} if margin is None else {"non_inferiority": _non_inferiority(pair, margin, findings)}),
    }


def _non_inferiority(pair: SystemPair, margin: float, findings: Sequence[str]) -> dict[str, Any]:
    tests = pair.non_inferior(margin)
    return {
        "margin": margin,
        "mean": {"p_value": number_json(tests.mean), "shown": tests.mean < ONE_SIDED},
        "findings": {
            name: {"p_value": number_json(p), "p_value_holm": number_json(corrected), "shown": corrected < ONE_SIDED}
            for name, p, corrected in zip(findings, tests.p_values, tests.p_values_holm, strict=True)
        },
    }


ONE_SIDED = 0.025
"""The level of a test for non-inferiority."""


def _finding(auroc: PairedDifference, precision: PairedDifference, delong: DelongTest) -> dict[str, Any]:
    """Where patients are too few for a test of ours there is none of DeLong's either."""
    error, p_value = (float("nan"),) * 2 if auroc.estimate.why else (delong.standard_error, delong.p_value)
    return {
        "auroc": estimate_json(auroc.estimate),
        "p_value": number_json(auroc.p_value),
        "p_value_holm": number_json(auroc.p_value_holm),
        "average_precision": _tested(precision),
        "delong": {"standard_error": number_json(error), "p_value": number_json(p_value)},
    }


def _tested(one: PairedDifference) -> dict[str, Any]:
    return {
        "difference": estimate_json(one.estimate),
        "p_value": number_json(one.p_value),
        "p_value_holm": number_json(one.p_value_holm),
    }


def _shown(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "undefined"
    return f"{estimate['value']:.4f} {_interval(estimate, '.3f')}"


def _shown_difference(estimate: dict[str, Any]) -> str:
    return "undefined" if estimate["value"] is None else f"{estimate['value']:+.3f} {_interval(estimate, '+.3f')}"


def _interval(estimate: dict[str, Any], form: str) -> str:
    if estimate["low"] is None:
        return f"[{no_interval(estimate)}]"
    return f"[{estimate['low']:{form}}, {estimate['high']:{form}}]"


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
    margins = [pair["non_inferiority"]["margin"] for pair in comparison["differences"] if "non_inferiority" in pair]
    limit = max([limit, *(half_width([margin]) for margin in margins)])
    pairs = [
        {
            "first": pair["first"],
            "second": pair["second"],
            "sentences": pair_sentences(pair),
            "margin": _margin_view(pair, limit),
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


def _margin_view(pair: dict[str, Any], limit: float) -> dict[str, Any] | None:
    """The margin's place in the graphics, and each finding's word."""
    tested = pair.get("non_inferiority")
    if tested is None:
        return None
    return {
        **tested,
        "place": 100 * (limit - tested["margin"]) / (2 * limit),
        "words": {name: _margin_word(one) for name, one in [*tested["findings"].items(), ("Mean", tested["mean"])]},
    }


def _margin_word(one: dict[str, Any]) -> str:
    if one["p_value"] is None:
        return "not tested"
    return "shown" if one["shown"] else "not shown"


def margin_sentences(pair: dict[str, Any]) -> list[str]:
    """Whether the second system is shown not to be worse by the margin; nothing without one."""
    tested = pair.get("non_inferiority")
    if tested is None:
        return []
    mean, margin = tested["mean"], tested["margin"]
    if mean["p_value"] is None:
        return []
    whole = f"a margin of {margin:g} (one-sided p {shown_p(mean['p_value'])})"
    if mean["shown"]:
        sentences = [f"In mean AUROC {pair['second']} is not inferior by {whole}."]
    else:
        sentences = [f"That {pair['second']} is not inferior in mean AUROC is not shown, by {whole}."]
    shown = [name for name, one in tested["findings"].items() if one["shown"]]
    if shown:
        sentences.append(f"After Holm's correction not inferior: {listed(shown)}.")
    return sentences


def pair_sentences(pair: dict[str, Any]) -> list[str]:
    """Which of two systems ranks better, in mean and for single findings, in plain sentences."""
    first, second, mean = pair["first"], pair["second"], pair["mean"]["auroc"]
    if mean["value"] is None:
        return [f"{second} and {first} cannot be compared: no finding occurs both present and absent."]
    if mean["low"] is None:
        return [f"Whether {second} and {first} differ cannot be told from these films: {no_interval(mean)}."]
    measured = f"{signed_number(mean['value'])} ({signed_interval(mean)}, p {shown_p(pair['mean']['p_value'])})"
    if mean["low"] <= 0 <= mean["high"]:
        sentences = [f"These films do not distinguish the mean AUROC of {second} from that of {first}: {measured}."]
    else:
        higher = "higher" if mean["value"] > 0 else "lower"
        sentences = [f"{second} has a {higher} mean AUROC than {first}: {measured}."]
    differing = {name: one for name, one in pair["findings"].items() if (one["p_value_holm"] or 1.0) < LEVEL}
    for word, sign in (("better", 1), ("worse", -1)):
        names = [words(name) for name, one in differing.items() if sign * one["auroc"]["value"] > 0]
        if names:
            sentences.append(f"After Holm's correction it ranks {word} in {', '.join(names)}.")
    untested = [name for name, one in pair["findings"].items() if one["p_value"] is None]
    if not differing and len(untested) < len(pair["findings"]):
        of = "Of those that could be tested, no" if untested else "No"
        sentences.append(f"{of} single finding differs at the level {LEVEL} after Holm's correction.")
    if untested:
        sentences.append(f"Too few patients to test: {listed(untested)}.")
    return sentences + margin_sentences(pair)


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
                    "positive_patients": comparison["findings"].get(name, {}).get("positive_patients"),
                    "why_no_interval": one["auroc"].get("why", ""),
                    **_margin_columns(pair, name),
                }
            )
    return rows


def _margin_columns(pair: dict[str, Any], name: str) -> dict[str, Any]:
    tested = pair.get("non_inferiority")
    if tested is None:
        return {}
    one = tested["findings"].get(name, tested["mean"])
    return {
        "margin": tested["margin"],
        "non_inferiority_p_value": one["p_value"],
        "non_inferiority_p_value_holm": one.get("p_value_holm"),
    }


def _limit(comparison: dict[str, Any]) -> float:
    """Half the width of the interval graphics: the farthest end of any interval, rounded up to a twentieth."""
    every = [one["auroc"] for pair in comparison["differences"] for one in (*pair["findings"].values(), pair["mean"])]
    ends = [abs(auroc[key]) for auroc in every for key in _ENDS if auroc[key] is not None]
    return half_width(ends)
