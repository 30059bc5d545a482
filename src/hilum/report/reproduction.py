"""reproduce.json: the paper's tables from the finished trainings of a suite, beside the published values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum import DISCLAIMER, __version__
from hilum.data.judged import Judged, read_judged
from hilum.files import write_whole
from hilum.findings import CHESTXRAY14
from hilum.judging.estimates import estimate_json
from hilum.metrics.seeds import SeedDifference, SeededSystem, seeded_systems
from hilum.published import ERRATA, MEAN, VALUES
from hilum.report.architecture import architecture_png
from hilum.report.claims import OURS, PUBLISHED, Claim, claims_of, verdict
from hilum.report.figures import roc_png
from hilum.report.reproduction_page import render_reproduction
from hilum.suite import Plan, Run, not_the_papers

DRAWS = 2000
SEED = 0
"""Of the resamples."""


@dataclass(frozen=True)
class _Finished:
    run: Run
    report: dict[str, Any]
    judged: Judged


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
        "draws": DRAWS,
        "bootstrap_seed": SEED,
        "errata": list(ERRATA),
        "protocols": [_protocol(plan, protocol, finished) for protocol in plan.recipes],
    }
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
    return _Finished(run, report, read_judged(folder, list(report["findings"])))


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
    seeded: dict[str, SeededSystem] = {}
    if first:
        judged = first.judged
        tables = [[one.judged.numbers for one in runs] for runs in done.values()]
        results = seeded_systems(tables, judged.labels, judged.patients, draws=DRAWS, seed=SEED)
        seeded = dict(zip(done, results, strict=True))
    findings = list(first.judged.findings) if first else []
    differences = [_difference(claim, seeded, findings) for claim in claims_of(list(systems))]
    return {
        "protocol": protocol,
        "films_fingerprint": plan.asked["films"][protocol],
        "films": first.report["films"] if first else None,
        "patients": first.report["patients"] if first else None,
        "manifest_films": first.report["manifest_films"] if first else None,
        "findings": findings,
        "positives": {name: first.report["findings"][name]["positives"] for name in findings} if first else {},
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


def _system(system: SeededSystem | None, findings: Sequence[str]) -> dict[str, Any]:
    if system is None:
        return {"trained_seeds": 0, "mean": None, "findings": {}}
    means = system.seed_means
    return {
        "trained_seeds": len(means),
        "mean": {"auroc": estimate_json(system.mean()), **_spread(means)},
        "findings": {
            name: {"auroc": estimate_json(auroc), **_spread(system.values[:, i].tolist())}
            for i, (name, auroc) in enumerate(zip(findings, system.findings(), strict=True))
        },
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Each seed's value and their standard deviation; None where a value is undefined or there is one seed."""
    known = [None if np.isnan(value) else float(value) for value in values]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 and None not in known else None
    return {"seeds": known, "seed_deviation": deviation}


def _difference(claim: Claim, seeded: dict[str, SeededSystem], findings: Sequence[str]) -> dict[str, Any]:
    """A claim, what was measured of it, and the verdict; null where a system is not trained yet."""
    entry: dict[str, Any] = {"first": claim.first, "second": claim.second, "claim": claim.text, "sign": claim.sign}
    entry["published"] = _published_difference(claim)
    if claim.first not in seeded or claim.second not in seeded:
        return {**entry, "mean": None, "findings": {}, "verdict": None}
    per_finding, mean = seeded[claim.second].minus(seeded[claim.first])
    return {
        **entry,
        "mean": _difference_json(mean),
        "findings": {name: _difference_json(one) for name, one in zip(findings, per_finding, strict=True)},
        "verdict": verdict(mean, claim.sign) if claim.sign else None,
    }


def _difference_json(one: SeedDifference) -> dict[str, Any]:
    p_values = {"p_value": one.p_value, "p_value_holm": one.p_value_holm}
    return {
        "auroc": estimate_json(one.auroc),
        **{name: None if np.isnan(value) else value for name, value in p_values.items()},
        **_spread(one.seeds),
    }


def _published_difference(claim: Claim) -> float | None:
    """Of the printed means; None where the two protocols differ."""
    if not claim.sign:
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
