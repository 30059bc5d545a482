"""Judge scores on a split: every number that a report shows, with its interval and what it was computed from."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Shaped

from hilum import DISCLAIMER, __version__
from hilum.data.films import Films
from hilum.data.predictions import match, read_predictions
from hilum.errors import PredictionsError
from hilum.findings import CHESTXRAY14
from hilum.metrics.bootstrap import Estimate, bootstrap, estimate, macro_mean
from hilum.metrics.ranking import (
    RocCurve,
    auroc_per_finding,
    average_precision_per_finding,
    roc_curve,
    thin,
)
from hilum.published import MEAN, Published, others, peers

__all__ = ["FindingReport", "Report", "judge", "read_predictions"]

CURVE_POINTS = 200
CHESTXRAY14_FILMS = 112_120


@dataclass(frozen=True)
class FindingReport:
    """What is known of one finding; both measures are NaN if its films with known labels are of one class."""

    auroc: Estimate
    average_precision: Estimate
    films: int  # with a known label
    patients: int
    positives: int
    positive_patients: int
    curve: RocCurve

    def to_dict(self) -> dict[str, Any]:
        """The form of report.json; the curve of an undefined finding is empty."""
        defined = not math.isnan(self.auroc.value)
        rates = {name: getattr(self.curve, name).round(6) for name in ("false_positive_rate", "true_positive_rate")}
        return {
            "auroc": _estimate_json(self.auroc),
            "average_precision": _estimate_json(self.average_precision),
            "films": self.films,
            "patients": self.patients,
            "positives": self.positives,
            "positive_patients": self.positive_patients,
            "curve": {name: rate.tolist() if defined else [] for name, rate in rates.items()},
        }


@dataclass(frozen=True)
class Report:
    """One system on one split. Means are over the findings that are neither `undefined` nor `not_judged`."""

    system: str
    protocol: str | None
    split: str
    films: int
    patients: int
    seed: int
    draws: int
    films_fingerprint: str
    manifest_films: int
    mean_auroc: Estimate
    mean_average_precision: Estimate
    findings: dict[str, FindingReport]
    undefined_findings: tuple[str, ...]
    not_judged: tuple[str, ...]
    missing_films: tuple[str, ...]
    shared_patients: int  # of this split, who also have films in training
    films_with_siblings_in_training: int
    notes: tuple[str, ...]  # what a reader should know about the scores, in sentences

    def to_dict(self) -> dict[str, Any]:
        """report.json: plain JSON in which NaN is null."""
        incomparable = self._incomparable()
        return {
            "hilum": __version__,
            "system": self.system,
            "protocol": self.protocol,
            "split": self.split,
            "films": self.films,
            "patients": self.patients,
            "seed": self.seed,
            "draws": self.draws,
            "films_fingerprint": self.films_fingerprint,
            "manifest_films": self.manifest_films,
            "mean": {
                "auroc": _estimate_json(self.mean_auroc),
                "average_precision": _estimate_json(self.mean_average_precision),
            },
            "findings": {name: finding.to_dict() for name, finding in self.findings.items()},
            "undefined_findings": list(self.undefined_findings),
            "not_judged": list(self.not_judged),
            "missing_films": list(self.missing_films),
            "shared_patients": self.shared_patients,
            "films_with_siblings_in_training": self.films_with_siblings_in_training,
            "notes": list(self.notes),
            "disclaimer": DISCLAIMER,
            "published": _systems(peers(self.protocol)),
            "published_incomparable": incomparable,
            "published_elsewhere": _systems(others(self.protocol)),
        }

    def _incomparable(self) -> str:
        """Why even values of the same protocol do not compare with this report; empty if they do."""
        if self.manifest_films < 0.99 * CHESTXRAY14_FILMS or tuple(self.findings) != CHESTXRAY14:
            return (
                f"Published values were measured on all {CHESTXRAY14_FILMS:,} films and 14 findings of ChestX-ray14; "
                f"here the manifest holds {self.manifest_films:,} films and {len(self.findings)} findings were judged."
            )
        if self.split != "test" or self.missing_films:
            return "Published values were measured on the whole test split, which this report did not judge."
        return ""


def judge(
    films: Films,
    scores: pd.DataFrame,
    *,
    split: str = "test",
    seed: int = 0,
    draws: int = 1000,
    system: str = "",
    allow_missing: bool = False,
    allow_unknown: bool = False,
) -> Report:
    """AUROC and average precision per finding and their means, with 95 % intervals from resampled patients.

    Args:
        scores: a column `film`, then a column per finding; any finite numbers that rise with the finding.
        split: which films are judged; scores of other films of the manifest are not looked at.
        system: what gave the scores, for the heading.
        allow_missing: judge the films that have scores, and name the others, where some have none.
        allow_unknown: leave out scores of films that the manifest does not hold.

    Raises:
        FilmsError: if the manifest has no such split.
        PredictionsError: if the scores cannot be judged, with file, row and column.
    """
    chosen = films.select(split)
    matched = match(films, scores, allow_unknown=allow_unknown)
    where = str(scores.attrs.get("file", "the table of scores"))
    judged = tuple(finding for finding in films.findings if finding in matched.columns)
    if not judged:
        raise PredictionsError(
            f"scores must have a column for at least one finding of the manifest ({', '.join(films.findings)}), got "
            f"none in {where}. Name each column after its finding."
        )
    present = chosen.table["film"].isin(set(matched["film"])).to_numpy(dtype=bool)
    missing = tuple(chosen.table["film"][~present])
    if missing and not (allow_missing and present.any()):
        remedy = "Judge the others with --allow-missing." if present.any() else "Check the column 'film'."
        raise PredictionsError(
            f"scores must cover every film of the split {split}, got none for {len(missing):,} of {len(chosen):,}, the "
            f"first of which is {missing[0]!r}, in {where}. Add them. {remedy}"
        )
    table = chosen.table[present]
    numbers = matched.set_index("film").loc[table["film"], list(judged)].to_numpy(dtype=np.float64)
    labels = table[list(judged)].to_numpy(dtype=np.float64)
    patients = table["patient"].to_numpy(dtype=str)

    drawn = bootstrap(numbers, labels, patients, draws=draws, seed=seed)
    values = auroc_per_finding(numbers, labels), average_precision_per_finding(numbers, labels)
    if len(set(patients)) < 2:  # resampling one patient gives that patient: no news, not certainty
        drawn.auroc[:], drawn.average_precision[:] = np.nan, np.nan
    findings = {
        name: FindingReport(
            auroc=estimate(float(values[0][i]), drawn.auroc[:, i]),
            average_precision=estimate(float(values[1][i]), drawn.average_precision[:, i]),
            films=int((~np.isnan(labels[:, i])).sum()),
            patients=len(set(patients[~np.isnan(labels[:, i])])),
            positives=int((labels[:, i] == 1).sum()),
            positive_patients=len(set(patients[labels[:, i] == 1])),
            curve=thin(roc_curve(numbers[:, i], labels[:, i]), CURVE_POINTS),
        )
        for i, name in enumerate(judged)
    }
    in_training = set(films.table["patient"][films.table["split"] == "train"]) if split != "train" else set()
    return Report(
        system=system or "unnamed system",
        protocol=films.notes.get("protocol"),
        split=split,
        films=len(table),
        patients=len(set(patients)),
        seed=seed,
        draws=draws,
        films_fingerprint=films.fingerprint(),
        manifest_films=len(films),
        mean_auroc=estimate(*macro_mean(values[0], drawn.auroc)),
        mean_average_precision=estimate(*macro_mean(values[1], drawn.average_precision)),
        findings=findings,
        undefined_findings=tuple(name for name, value in zip(judged, values[0], strict=True) if np.isnan(value)),
        not_judged=tuple(name for name in films.findings if name not in judged),
        missing_films=missing,
        shared_patients=len(in_training & set(patients)),
        films_with_siblings_in_training=int(table["patient"].isin(in_training).sum()),
        notes=tuple(_notes(scores, matched, numbers, judged, findings, split)),
    )


def _notes(
    scores: pd.DataFrame,
    matched: pd.DataFrame,
    numbers: Float64[np.ndarray, "films findings"],
    judged: Sequence[str],
    findings: dict[str, FindingReport],
    split: str,
) -> list[str]:
    """What is unusual about the scores, a sentence each."""
    notes = []
    if split != "test":
        notes.append(
            f"These are films of the split {split}, on which choices were made: the values flatter the system."
        )
    constant = _names(judged, np.ptp(numbers, axis=0) == 0)
    if constant:
        notes.append(f"All scores are equal, which is no ranking and gives an AUROC of 0.5: {constant}.")
    calls = _names(judged, ((numbers == 0) | (numbers == 1)).all(axis=0) & (np.ptp(numbers, axis=0) > 0))
    if calls:
        notes.append(f"The scores are only 0 and 1, calls or labels rather than scores: {calls}.")
    below = _names(judged, np.array([findings[name].auroc.high < 0.5 for name in judged]))
    if below:
        notes.append(f"Ranks worse than chance; are columns swapped or scores inverted? {below}.")
    if (numbers < 0).any() or (numbers > 1).any():
        notes.append(
            f"Scores lie outside [0, 1] (from {numbers.min():.4g} to {numbers.max():.4g}); AUROC and average precision "
            "use only their order."
        )
    known = {"film", *judged}
    ignored = scores.attrs.get("ignored_columns", [str(name) for name in scores.columns if name not in known])
    if ignored:
        notes.append(f"Columns that are no scores were not used: {', '.join(ignored)}.")
    unknown = matched.attrs["unknown_films"]
    if unknown:
        notes.append(f"{len(unknown):,} films are not in the manifest and were left out, the first is {unknown[0]}.")
    return notes


def _names(judged: Sequence[str], which: Shaped[np.ndarray, " findings"]) -> str:
    return ", ".join(name for name, chosen in zip(judged, which, strict=True) if chosen)


def _systems(values: Sequence[Published]) -> list[dict[str, Any]]:
    """Published values, a dictionary per system."""
    systems: dict[str, dict[str, Any]] = {}
    for value in values:
        entry = asdict(value)
        finding, auroc, _ = entry.pop("finding"), entry.pop("auroc"), entry.pop("misprinted")
        system = systems.setdefault(value.system, {**entry, "mean": None, "findings": {}})
        if finding == MEAN:
            system["mean"] = auroc
        else:
            system["findings"][finding] = auroc
    return list(systems.values())


def _estimate_json(result: Estimate) -> dict[str, float | int | None]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in result._asdict().items()
    }
