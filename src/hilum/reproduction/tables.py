"""The paper's tables and claims from the finished trainings of a suite: reproduce.json and its page."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hilum import DISCLAIMER, __version__
from hilum.evaluation.controls import control_sentences
from hilum.evaluation.curves import roc_png
from hilum.evaluation.inputs import EvaluationSet, read_evaluation_set
from hilum.evaluation.page import PROTOCOLS, page_environment
from hilum.evaluation.published import ERRATA, MEAN, VALUES
from hilum.evaluation.views import interval, shown_p, signed_interval
from hilum.files import write_whole
from hilum.findings import CHESTXRAY14
from hilum.metrics.bootstrap import estimate_json, number_json
from hilum.metrics.compare import PairedDifference, SystemMeasures, SystemPair, compare_systems, holm
from hilum.metrics.ranking import PerFinding, auroc_per_finding
from hilum.model.info import architecture_png
from hilum.reproduction.plan import Plan, Run, not_the_papers

OURS = "am-densenet"
"""The recipe of the paper's own system."""

PUBLISHED = {
    "wang-resnet50": ("Wang 2017",),
    "chestnet": ("ChestNet",),
    "dnetloc": ("DNetLoc (as printed)", "DNetLoc"),
    "densenet": ("DenseNet-121",),
    "am-densenet-bce": ("AM_DenseNet + BCE",),
    OURS: ("AM_DenseNet + focal",),
}
"""Each recipe's columns among the published values."""

TABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Table 1: AM_DenseNet and the systems that it is compared with", ("wang-resnet50", "chestnet", "dnetloc", OURS)),
    (
        "Table 2: without attention, against with it; both with binary cross-entropy",
        ("densenet", "am-densenet-bce"),
    ),
    ("Table 3: binary cross-entropy against focal loss", ("am-densenet-bce", OURS)),
)
"""What each table of the paper sets side by side."""


class Claim(NamedTuple):
    """What the paper says of two systems: the mean AUROC of `second` minus `first` lies above 0.

    Nothing if `text` is empty; the two are then set side by side all the same.
    """

    first: str
    second: str
    text: str


def claims_of(systems: Sequence[str]) -> list[Claim]:
    """The paper's claims that a suite of these systems can speak to."""
    claims = [
        Claim("densenet", "am-densenet-bce", "attention raises the mean AUROC (tables 2 and 3)"),
        Claim("am-densenet-bce", OURS, "focal loss raises the mean AUROC (table 3)"),
    ]
    claims += [
        Claim(system, OURS, f"AM_DenseNet with focal loss is better than {PUBLISHED[system][-1]} (table 1)")
        for system in ("wang-resnet50", "chestnet", "dnetloc")
    ]
    claims += [
        Claim(system, OURS, "") for system in systems if system not in PUBLISHED
    ]  # the paper says nothing of them
    return [claim for claim in claims if claim.first in systems and claim.second in systems]


LEVEL = 0.05
"""The p-value, corrected over the page, below which a difference speaks for or against a claim."""


def verdict(mean: dict[str, Any]) -> str:
    """Whether a measured difference of means supports that it lies above 0.

    Only where its corrected p-value is small, and its interval and every single seed's difference lie on one side.

    Args:
        mean: as in reproduce.json.
    """
    auroc, seeds, p_value = mean["auroc"], mean["seeds"], mean["p_value_holm"]
    if auroc["low"] is None or p_value is None or p_value >= LEVEL or None in seeds:
        return "undecided"
    if auroc["low"] > 0 and all(seed > 0 for seed in seeds):
        return "supported"
    if auroc["high"] < 0 and all(seed < 0 for seed in seeds):
        return "not supported"
    return "undecided"


DASH = "\N{EN DASH}"
_VERDICTS = {"supported": "Supported here", "not supported": "Not supported here", "undecided": "Undecided here"}


def render_reproduction(content: dict[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page as HTML, self-contained.

    Args:
        content: what reproduce.json holds.
        pictures: PNG files by name; `architecture.png` is figure 1, every other one figure 2 of a protocol.
    """
    environment = page_environment()
    environment.filters["signed"] = _signed
    return environment.get_template("reproduction.html").render(
        content=content,
        kind="reproduction",
        finished=sum(run["finished"] for run in content["runs"]),
        failed=[run for run in content["runs"] if run["failed"]],
        headline=_headline(content),
        summary=[sentence for one in content["protocols"] for sentence in _claims(one, content)],
        terms=_terms_table(content),
        protocols=[_protocol_view(one) for one in content["protocols"]],
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
        f"{names}: {_signed(mean['auroc']['value'])} ({signed_interval(mean['auroc'])}, p "
        f"{shown_p(mean['p_value_holm'])} after Holm's correction)"
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
        "undecided": " The test or the seeds leave both signs open.",
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


def _protocol_view(one: dict[str, Any]) -> dict[str, Any]:
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
    small = interval(auroc)
    spread = f"; seeds \N{PLUS-MINUS SIGN} {deviation:.3f}" if deviation is not None else ""
    return {"text": f"{auroc['value']:.3f}", "small": small + spread, "grey": False}


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.4f}"


@dataclass(frozen=True)
class _Finished:
    run: Run
    report: dict[str, Any]
    evaluated: EvaluationSet


def write_reproduction(plan: Plan, out: Path, failed: dict[str, str]) -> dict[str, Any]:
    """Write reproduce.json, reproduce.html and the pictures from whatever is finished; return what the JSON holds.

    Args:
        plan: of the suite in `out`.
        failed: why a training has none, by the run's name.

    Raises:
        HilumError: if the folder cannot be written to, or a report in it cannot be read.
    """
    finished = {
        run.name: _read(run, out) for run in plan.runs() if (out / "reports" / run.name / "report.html").is_file()
    }
    path = out / "minutes.json"
    minutes: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    content = {
        "hilum": __version__,
        "disclaimer": DISCLAIMER,
        "finished": len(finished) == len(plan.runs()),
        "runs": [
            {
                "name": run.name,
                "finished": run.name in finished,
                "failed": failed.get(run.name),
                "minutes": minutes.get(run.name),
                "mean_auroc": finished[run.name].report["mean"]["auroc"]["value"] if run.name in finished else None,
            }
            for run in plan.runs()
        ],
        "seeds": plan.asked["seeds"],
        "budget_minutes": plan.asked["budget_minutes"],
        "scale": plan.scale,
        "minutes": sum(minutes.values()),
        "errata": list(ERRATA),
        "protocols": [_protocol(plan, protocol, finished) for protocol in plan.recipes],
    }
    _decide([pair for one in content["protocols"] for pair in one["differences"] if pair["mean"]])
    pictures = _pictures(plan, finished)
    page = render_reproduction(content, pictures)  # all is made before any is written
    write_whole(out / "reproduce.json", (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    for name, picture in pictures.items():
        write_whole(out / name, picture)
    write_whole(out / "reproduce.html", page.encode())
    return content


def _read(run: Run, out: Path) -> _Finished:
    folder = out / "reports" / run.name
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return _Finished(run, report, read_evaluation_set(folder, list(report["findings"])))


def _protocol(plan: Plan, protocol: str, finished: dict[str, _Finished]) -> dict[str, Any]:
    """All that was measured under one protocol."""
    systems = plan.recipes[protocol]
    done = {
        name: [
            finished[run.name]
            for run in plan.runs()
            if (run.protocol, run.system) == (protocol, name) and run.name in finished
        ]
        for name in systems
    }
    done = {name: runs for name, runs in done.items() if runs}
    first = next(iter(done.values()))[0] if done else None
    claims, names = claims_of(list(systems)), list(done)
    seeded: dict[str, _Seeded] = {}
    compared: dict[tuple[str, str], SystemPair] = {}
    if first:
        evaluated = first.evaluated
        tables = [[one.evaluated.numbers for one in runs] for runs in done.values()]
        pairs = [
            (names.index(claim.first), names.index(claim.second))
            for claim in claims
            if claim.first in names and claim.second in names
        ]
        found = compare_systems(tables, evaluated.labels, evaluated.patients, pairs=pairs)
        compared = {(names[pair.first], names[pair.second]): pair for pair in found.pairs}
        for name, of_seeds, measures in zip(names, tables, found.systems, strict=True):
            values = [auroc_per_finding(table, evaluated.labels) for table in of_seeds]
            seeded[name] = _Seeded(measures, values)
    findings = list(first.evaluated.findings) if first else []
    differences = [_difference(claim, compared.get((claim.first, claim.second)), seeded, findings) for claim in claims]
    return {
        "protocol": protocol,
        "films_fingerprint": plan.asked["films"][protocol],
        "films": first.report["films"] if first else None,
        "patients": first.report["patients"] if first else None,
        "manifest_films": first.report["manifest_films"] if first else None,
        "findings": findings,
        **{
            count: {name: first.report["findings"][name][count] for name in findings} if first else {}
            for count in ("positives", "positive_patients")
        },
        "undefined_findings": first.report["undefined_findings"] if first else [],
        "incomparable": first.report["published_incomparable"] if first else "",
        "systems": {
            name: {
                "about": recipe.about,
                "terms": not_the_papers(plan.departures[protocol][name]),
                "recipe": recipe.to_dict(),
                "reports": [f"reports/{one.run.name}" for one in done.get(name, [])],
                **_system(seeded.get(name), findings),
            }
            for name, recipe in systems.items()
        },
        "published": _published(protocol, first, any(plan.departures[protocol].values())),
        "differences": differences,
        "controls": _controls(done.get(OURS) or next(iter(done.values()), [])),
    }


@dataclass(frozen=True)
class _Seeded:
    """One system: its measures over all seeds, and each seed's AUROCs."""

    measures: SystemMeasures
    values: list[PerFinding]

    @property
    def seed_means(self) -> list[float]:
        """For each seed the mean over the findings that are defined."""
        return [_mean(values) for values in self.values]


def _mean(values: PerFinding) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _system(system: _Seeded | None, findings: Sequence[str]) -> dict[str, Any]:
    if system is None:
        return {"trained_seeds": 0, "mean": None, "findings": {}}
    measures = system.measures
    return {
        "trained_seeds": len(system.values),
        "mean": {"auroc": estimate_json(measures.mean_auroc.estimate), **_spread(system.seed_means)},
        "findings": {
            name: {"auroc": estimate_json(auroc.estimate), **_spread([float(values[i]) for values in system.values])}
            for i, (name, auroc) in enumerate(zip(findings, measures.auroc, strict=True))
        },
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Each seed's value and their standard deviation; None where a value is undefined or there is one seed."""
    known = [None if np.isnan(value) else float(value) for value in values]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 and None not in known else None
    return {"seeds": known, "seed_deviation": deviation}


def _difference(
    claim: Claim, pair: SystemPair | None, seeded: Mapping[str, _Seeded], findings: Sequence[str]
) -> dict[str, Any]:
    """A claim and what was measured of it; null where a system is not trained yet."""
    entry: dict[str, Any] = {"first": claim.first, "second": claim.second, "claim": claim.text}
    entry |= {"published": _published_difference(claim), "mean": None, "findings": {}, "verdict": None}
    if pair is None:
        return entry
    first, second = seeded[claim.first].values, seeded[claim.second].values
    by_seed = [after - before for after, before in zip(second, first, strict=False)]  # as far as both have them
    return entry | {
        "mean": _difference_json(pair.mean_auroc, [_mean(values) for values in by_seed]),
        "findings": {
            name: _difference_json(one, [float(values[i]) for values in by_seed])
            for i, (name, one) in enumerate(zip(findings, pair.auroc, strict=True))
        },
    }


def _decide(differences: Sequence[dict[str, Any]]) -> None:
    """Correct p-values over all pairs of the page, the means' and the findings' each, and say what the claims come to.

    Args:
        differences: of all protocols, as far as they were measured.
    """
    _correct([pair["mean"] for pair in differences])
    _correct([one for pair in differences for one in pair["findings"].values()])
    for pair in differences:
        pair["verdict"] = verdict(pair["mean"]) if pair["claim"] else None


def _correct(tested: Sequence[dict[str, Any]]) -> None:
    p_values = np.array([np.nan if one["p_value"] is None else one["p_value"] for one in tested], dtype=np.float64)
    for one, corrected in zip(tested, holm(p_values), strict=True):
        one["p_value_holm"] = number_json(float(corrected))


def _difference_json(one: PairedDifference, by_seed: Sequence[float]) -> dict[str, Any]:
    return {
        "auroc": estimate_json(one.estimate),
        "p_value": number_json(one.p_value),
        "p_value_holm": None,
        **_spread(by_seed),
    }


def _published_difference(claim: Claim) -> float | None:
    """Of the printed means; None where the two protocols differ."""
    if not claim.text:
        return None
    first, second = (
        next(value for value in VALUES if value.system == PUBLISHED[name][-1] and value.finding == MEAN)
        for name in (claim.first, claim.second)
    )
    return round(second.auroc - first.auroc, 4) if first.protocol == second.protocol else None


def _published(protocol: str, first: _Finished | None, departs: bool) -> dict[str, Any]:
    """Each published column, with the reasons why it does not compare with what stands beside it; none if it does."""
    columns: dict[str, Any] = {}
    for value in VALUES:
        column = columns.setdefault(
            value.system,
            {"protocol": value.protocol, "source": value.source, "mean": None, "findings": {}, "why_not": []},
        )
        if value.finding == MEAN:
            column["mean"] = value.auroc
            if value.misprinted:
                column["why_not"].append("printed on the wrong rows")
            if value.protocol != protocol:
                column["why_not"].append(f"measured with films split by {value.protocol}, not {protocol}")
            if first is not None and first.report["published_incomparable"]:
                column["why_not"].append(
                    f"measured on all films of ChestX-ray14, not on these {first.report['films']:,}"
                )
            if departs:
                column["why_not"].append("the training here is not the paper's")
        else:
            column["findings"][value.finding] = value.auroc
    return columns


def _controls(runs: Sequence[_Finished]) -> dict[str, Any]:
    """What scores without a pixel reach on these films, from the first training's report; empty where none leaks."""
    if not runs:
        return {}
    report = runs[0].report
    return {"system": runs[0].run.name, **report["controls"]} if report["controls"] else {}


def _pictures(plan: Plan, finished: dict[str, _Finished]) -> dict[str, bytes]:
    """Figure 1, drawn from the network, and figure 2 for each protocol, of AM_DenseNet's first training."""
    pictures: dict[str, bytes] = {}
    for protocol, systems in plan.recipes.items():
        if OURS not in systems:
            continue
        pictures.setdefault("architecture.png", architecture_png(systems[OURS], len(CHESTXRAY14)))
        run = f"{protocol}/{OURS}-seed0"
        if run in finished:
            name = "roc.png" if len(plan.recipes) == 1 else f"roc-{protocol}.png"
            pictures[name] = roc_png(finished[run].report)
    return pictures
