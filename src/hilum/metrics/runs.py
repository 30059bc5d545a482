"""What a system reaches over several trainings: seeds on the same films, or folds on films of their own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hilum.metrics.influence import FEWEST_PATIENTS, Measured, average, kurtosis_degrees, nothing, too_few


@dataclass(frozen=True)
class OverRuns:
    """A measure over several runs.

    Attributes:
        mean: with an interval for the mean of all such runs on all such patients.
        by_run: the values; NaN where a run's films do not define the measure.
        between: standard deviation of the runs' true values, beyond what their patients explain; NaN for one run.
    """

    mean: Measured
    by_run: tuple[float, ...]
    between: float


def over_seeds(runs: Sequence[Measured]) -> OverRuns:
    """Over trainings that differ in their seed, all measured on the same films: patients and runs are both drawn.

    The variance of the mean is that of the patients for the mean of these runs, and the runs' own part, over as many.
    That part is the variance of the values beyond what the same patients' different answers to each run explain.

    Raises:
        ValueError: if there is no run.

    Source: moments of the two-way layout with both factors random (Searle, Casella and McCulloch, "Variance
        Components", 1992, chapter 4); degrees by Satterthwaite, Biometrics 2, 1946.
    """
    values = _values(runs)
    number, first = len(runs), runs[0]
    if number == 1 or np.isnan(values).any():
        return OverRuns(replace(first, value=float(values.mean())), tuple(values.tolist()), float("nan"))
    parts = np.mean([one.parts for one in runs], axis=0)
    apart = sum(float((one.parts - parts) @ (one.parts - parts)) for one in runs) / (number - 1)
    between = max(0.0, float(values.var(ddof=1)) - apart)
    hidden = float(np.mean([one.hidden for one in runs]))
    seen, of_runs = float(parts @ parts) + hidden, between / number
    degrees = _combined(seen, min(one.degrees for one in runs), of_runs, number - 1)
    of_present = [one.present for one in runs if one.present is not None]
    present = np.mean(of_present, axis=0) if len(of_present) == number else None
    mean = replace(
        first, value=float(values.mean()), parts=parts, hidden=hidden + of_runs, degrees=degrees, present=present
    )
    return OverRuns(mean, tuple(values.tolist()), math.sqrt(between))


def over_folds(runs: Sequence[Measured]) -> OverRuns:
    """Over folds, each a training that is measured on patients of its own: folds and patients are both drawn.

    Folds weigh as many patients as the rarer kind has in them. Trainings of a cross-validation share most of their
    films, so that the spread between folds understates that between trainings on films of others.

    Raises:
        ValueError: if there is no run.

    Source: DerSimonian and Kacker, "Random-effects model for meta-analysis of clinical trials: an update",
        Contemporary Clinical Trials 28, 2007 (moments with any weights).
    """
    values = _values(runs)
    known = [one for one in runs if not math.isnan(one.value) and one.patients > 0]
    patients = sum(one.patients for one in known)
    if not known:
        return OverRuns(
            nothing(len(runs[0].parts), "no fold has films of both kinds"), tuple(values.tolist()), float("nan")
        )
    weights = np.array([one.patients for one in known], dtype=np.float64) / patients
    found, variances = np.array([one.value for one in known]), np.array([one.variance for one in known])
    mean = float(weights @ found)
    between = float("nan")
    if len(known) > 1:
        beyond = float(weights @ (found - mean) ** 2 - (weights * (1 - weights)) @ variances)
        between = max(0.0, beyond / (1 - float(weights @ weights)))
    parts = sum((weight * one.parts for weight, one in zip(weights, known, strict=True)), np.zeros(len(known[0].parts)))
    seen = float(weights**2 @ variances)
    of_folds = 0.0 if math.isnan(between) else between * float(weights @ weights)
    degrees = _combined(seen, kurtosis_degrees(parts), of_folds, max(len(known) - 1, 1))
    measured = replace(
        known[0],
        value=mean,
        parts=parts,
        patients=patients,
        effective=sum(one.effective for one in known),
        degrees=degrees,
        why=too_few(patients, "with or without the finding") if patients < FEWEST_PATIENTS else "",
        present=None,
        hidden=max(0.0, seen + of_folds - float(parts @ parts)),
    )
    return OverRuns(measured, tuple(values.tolist()), math.sqrt(between) if between >= 0 else float("nan"))


def mean_over_seeds(runs: Sequence[Sequence[Measured]]) -> OverRuns:
    """The same for the mean over findings: each run's own mean, then over the runs."""
    return over_seeds([average(findings) for findings in runs])


def mean_over_folds(findings: Sequence[OverRuns]) -> OverRuns:
    """The mean over the findings of what each reaches over the folds; findings that no fold defines are left out."""
    known = [one for one in findings if not math.isnan(one.mean.value)]
    if not known:
        return OverRuns(nothing(0, "no finding is defined"), (), float("nan"))
    values = np.array([one.by_run for one in known])
    with np.errstate(invalid="ignore"):
        counted = (~np.isnan(values)).sum(axis=0)
        by_run = np.where(counted > 0, np.nansum(values, axis=0) / np.maximum(counted, 1), np.nan)
    return OverRuns(average([one.mean for one in known]), tuple(by_run.tolist()), float("nan"))


def _values(runs: Sequence[Measured]) -> np.ndarray:
    if not runs:
        raise ValueError("runs must be at least one, got none")
    return np.array([one.value for one in runs], dtype=np.float64)


def _combined(seen: float, degrees: float, hidden: float, others: int) -> float:
    """Satterthwaite's degrees of freedom of the sum of two variances."""
    below = seen**2 / max(degrees, 1.0) + hidden**2 / max(others, 1)
    return max(1.0, (seen + hidden) ** 2 / below) if below > 0 else max(degrees, 1.0)
