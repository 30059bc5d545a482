"""The page of a reproduction, from reproduce.json and pictures and from nothing else."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from hilum.report.claims import OURS, PUBLISHED, TABLES
from hilum.report.page import PROTOCOLS, page_environment
from hilum.report.summary import control_sentences
from hilum.report.words import shown_p, signed_interval

DASH = "\N{EN DASH}"
_VERDICTS = {"supported": "Supported here", "not supported": "Not supported here", "undecided": "Undecided here"}


def render_reproduction(content: dict[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page as HTML, one file that loads nothing else.

    Args:
        content: what reproduce.json holds.
        pictures: PNG files by name; `architecture.png` is figure 1, every other one figure 2 of a protocol.
    """
    environment = page_environment()
    environment.filters["signed"] = _signed
    return environment.get_template("reproduction.html").render(
        content=content,
        finished=sum(run["finished"] for run in content["runs"]),
        failed=[run for run in content["runs"] if run["failed"]],
        headline=_headline(content),
        summary=[sentence for one in content["protocols"] for sentence in _claims(one, content)],
        terms=_terms_table(content),
        protocols=[_protocol(one) for one in content["protocols"]],
        pictures={name: base64.b64encode(picture).decode() for name, picture in pictures.items()},
    )


def summary_rows(content: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The means as a table for the command line: its header and its rows."""
    rows = []
    for one in content["protocols"]:
        for name, system in one["systems"].items():
            cell = _cell({"kind": "here", "system": system}, "mean")
            printed = [
                f"{one['published'][of]['mean']:.4f} ({one['published'][of]['protocol']})"
                for of in PUBLISHED.get(name, ())[-1:]
            ]
            here = f"{cell['text']} [{cell['small']}]" if cell["small"] else cell["text"]
            rows.append([one["protocol"], name, here, *(printed or [DASH])])
    return ["split by", "system", "AUROC [95 %]", "published (split by)"], rows


def label(system: str) -> str:
    """What the paper calls a recipe's system; the recipe's name for others."""
    return PUBLISHED[system][-1] if system in PUBLISHED else system


def _headline(content: dict[str, Any]) -> str:
    """How the training of AM_DenseNet, or of the first system, departs from its recipe."""
    systems = content["protocols"][0]["systems"]
    name = OURS if OURS in systems else next(iter(systems))
    terms = str(systems[name]["terms"])
    return f"{label(name)}: {terms} What holds for the others stands with each table."


def _claims(one: dict[str, Any], content: dict[str, Any]) -> list[str]:
    """A plain sentence for each claim of the paper, under one protocol."""
    several = len(content["protocols"]) > 1
    return [
        (f"{PROTOCOLS[one['protocol']][0]}: " if several else "") + claim_sentence(difference)
        for difference in one["differences"]
        if difference["claim"]
    ]


def claim_sentence(difference: dict[str, Any]) -> str:
    """Whether a claim of the paper is supported here, and by which number."""
    claim, mean = difference["claim"], difference["mean"]
    if mean is None or difference["verdict"] is None:
        return f"{DASH} not trained yet: {claim}."
    names = f"{label(difference['second'])} minus {label(difference['first'])}"
    measured = (
        f"{names}: {_signed(mean['auroc']['value'])} ({signed_interval(mean['auroc'])}, p {shown_p(mean['p_value'])})"
    )
    seeds = mean["seeds"]
    if len(seeds) > 1:
        each = "; ".join(_signed(seed) for seed in seeds)
        luck = f"seed by seed {each}"
    else:
        luck = "one training each, and another seed could change it"
    printed = difference["published"]
    paper = f" The paper's printed difference is {printed:+.4f}." if printed is not None else ""
    why = {
        "supported": "",
        "not supported": " The opposite was measured.",
        "undecided": " The interval or the seeds leave both signs open.",
    }[difference["verdict"]]
    return f"{_VERDICTS[difference['verdict']]}: {claim}. {measured}; {luck}.{why}{paper}"


def _terms_table(content: dict[str, Any]) -> list[dict[str, Any]]:
    """For each protocol and system what its training was, and how long it took."""
    rows = []
    for one in content["protocols"]:
        for name, system in one["systems"].items():
            recipe = system["recipe"]
            runs = [run for run in content["runs"] if run["name"].startswith(f"{one['protocol']}/{name}-seed")]
            minutes = [run["minutes"] for run in runs if run["finished"] and run["minutes"] is not None]
            rows.append(
                {
                    "name": name,
                    "protocol": one["protocol"],
                    "size": recipe["preprocessing"]["size"],
                    "interpolation": recipe["preprocessing"]["interpolation"],
                    "epochs": recipe["training"]["epochs"],
                    "loss": recipe["loss"]["name"],
                    "lr": f"{recipe['optimizer']['lr']:g}",
                    "schedule": recipe["schedule"]["name"],
                    "weights": {"none": "random", "imagenet": "ImageNet"}.get(recipe["weights"], recipe["weights"]),
                    "trained": f"{system['trained_seeds']} of {content['seeds']}",
                    "minutes": f"{sum(minutes) / len(minutes):.1f}" if minutes else DASH,
                }
            )
    return rows


def _protocol(one: dict[str, Any]) -> dict[str, Any]:
    """What the template shows of one protocol."""
    title, meaning = PROTOCOLS[one["protocol"]]
    tables = [_table(one, heading, names) for heading, names in TABLES]
    others = [name for name in one["systems"] if name not in PUBLISHED]
    if others:
        tables.append(_table(one, "Other systems", [*others, OURS] if OURS in one["systems"] else others))
    controls = dict(one["controls"])
    sentences = []
    if controls:
        system = controls.pop("system")
        sentences = control_sentences({"controls": controls, "system": system})
    return {
        **one,
        "title": title,
        "meaning": meaning,
        "tables": tables,
        "pairs": [
            {**pair, "names": f"{label(pair['second'])} minus {label(pair['first'])}"} for pair in one["differences"]
        ],
        "control_sentences": sentences,
    }


def _table(one: dict[str, Any], heading: str, names: Sequence[str]) -> dict[str, Any]:
    """One table: for each system a column of what was measured here, then its published columns."""
    columns: list[dict[str, Any]] = []
    for name in names:
        system = one["systems"].get(name)
        columns.append({"title": label(name), "kind": "here", "why_not": [], "system": system})
        columns += [{"title": of, "kind": "published", **one["published"][of]} for of in PUBLISHED.get(name, ())]
    findings = one["findings"] or list(next(iter(one["published"].values()))["findings"])
    rows = [
        {"name": finding, "cells": [_cell(column, finding) for column in columns]} for finding in (*findings, "mean")
    ]
    terms: dict[str, list[str]] = {}
    for name in names:
        if name in one["systems"]:
            terms.setdefault(one["systems"][name]["terms"], []).append(label(name))
        else:
            terms.setdefault("Not in this suite.", []).append(label(name))
    reasons: dict[str, list[str]] = {}
    for column in columns:
        if column["why_not"]:
            reasons.setdefault("; ".join(column["why_not"]), []).append(column["title"])
    return {"heading": heading, "columns": columns, "rows": rows, "terms": terms, "reasons": reasons}


def _cell(column: dict[str, Any], finding: str) -> dict[str, Any]:
    """A number and what stands small below it; a dash where nothing was trained."""
    if column["kind"] == "published":
        value = column["mean"] if finding == "mean" else column["findings"].get(finding)
        return {"text": DASH if value is None else f"{value:.3f}", "small": "", "grey": bool(column["why_not"])}
    system = column["system"]
    if system is None or system["mean"] is None:
        return {"text": DASH, "small": "", "grey": True}
    measured = system["mean"] if finding == "mean" else system["findings"][finding]
    auroc, deviation = measured["auroc"], measured["seed_deviation"]
    if auroc["value"] is None:
        return {"text": "undefined", "small": "", "grey": True}
    small = "no interval" if auroc["low"] is None else f"{auroc['low']:.3f} to {auroc['high']:.3f}"
    spread = f"; seeds \N{PLUS-MINUS SIGN} {deviation:.3f}" if deviation is not None else ""
    return {"text": f"{auroc['value']:.3f}", "small": small + spread, "grey": False}


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.4f}"
