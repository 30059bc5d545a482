"""comparison.json, its table as CSV and the page that people read, all from one comparison and from nothing else."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from hilum.files import write_whole
from hilum.report.figures import scaled
from hilum.report.page import PROTOCOLS, page_environment
from hilum.report.words import shown_p, signed_interval

LEVEL = 0.05
"""The corrected p-value below which the page names a finding."""


_ENDS = ("value", "low", "high")


def write_comparison(comparison: dict[str, Any], folder: Path) -> None:
    """Write comparison.json, comparison.csv and comparison.html (one file that loads nothing else).

    Args:
        comparison: what `hilum.report.comparison.compare_reports` gives.

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
    environment.filters["signed"] = _signed
    title, meaning = PROTOCOLS.get(comparison["protocol"], PROTOCOLS[None])
    limit = _limit(comparison)
    pairs = [
        {
            "first": pair["first"],
            "second": pair["second"],
            "sentences": pair_sentences(pair),
            "mean": {**pair["mean"], "bar": _bar(pair["mean"]["auroc"], limit)},
            "rows": [
                {"name": name, **one, **comparison["findings"][name], "bar": _bar(one["auroc"], limit)}
                for name, one in pair["findings"].items()
            ],
        }
        for pair in comparison["differences"]
    ]
    return environment.get_template("comparison.html").render(
        comparison=comparison, protocol_title=title, protocol_meaning=meaning, pairs=pairs, limit=limit
    )


def pair_sentences(pair: dict[str, Any]) -> list[str]:
    """Which of two systems ranks better, in mean and for single findings, in plain sentences."""
    first, second, mean = pair["first"], pair["second"], pair["mean"]["auroc"]
    if mean["value"] is None:
        return [f"{second} and {first} cannot be compared: no finding occurs both present and absent."]
    measured = f"{_signed(mean['value'])} ({signed_interval(mean)}, p {shown_p(pair['mean']['p_value'])})"
    if mean["low"] is None or mean["low"] <= 0 <= mean["high"]:
        sentences = [f"These films do not tell the mean AUROC of {second} from that of {first}: {measured}."]
    else:
        higher = "higher" if mean["value"] > 0 else "lower"
        sentences = [f"{second} has a {higher} mean AUROC than {first}: {measured}."]
    differing = {name: one for name, one in pair["findings"].items() if (one["p_value_holm"] or 1.0) < LEVEL}
    for word, sign in (("better", 1), ("worse", -1)):
        names = [name.replace("_", " ") for name, one in differing.items() if sign * one["auroc"]["value"] > 0]
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
    return max(1, math.ceil(max(ends, default=0.0) / 0.05)) * 0.05


def _bar(auroc: dict[str, Any], limit: float) -> dict[str, float] | None:
    """Where an interval graphic's marks lie, from 0 to 100, no difference being at 50; None for an undefined value."""
    if auroc["value"] is None:
        return None
    ends = [auroc[key] if auroc[key] is not None else auroc["value"] for key in _ENDS]
    value, low, high = (100 * part for part in scaled(ends, -limit, limit))
    return {"low": low, "value": value, "high": high}


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3f}"
