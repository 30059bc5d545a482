"""Which of several systems ranks the same films better: paired differences, finding by finding and in mean."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from scipy.special import ndtr, ndtri

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.influence import (
    Difference,
    Measured,
    against_zero,
    auroc_difference,
    average,
    measured_per_finding,
    minus,
    non_inferiority,
    paired_by_intervals,
    patient_codes,
)
from hilum.metrics.ranking import PerFinding, Table


class PairedDifference(NamedTuple):
    """The second system minus the first on the same films; `p_value_holm` is corrected over the pair's findings."""

    estimate: Estimate
    p_value: float
    p_value_holm: float  # NaN for a mean, which is one question


@dataclass(frozen=True)
class SystemMeasures:
    """One system: each finding's AUROC and average precision, and their means; of several seeds, the seeds' mean."""

    auroc: tuple[Measured, ...]
    average_precision: tuple[Measured, ...]
    mean_auroc: Measured
    mean_average_precision: Measured


@dataclass(frozen=True)
class SystemPair:
    """Two systems, by their place in the order given: the second minus the first, finding by finding and in mean.

    Attributes:
        auroc_gains, mean_auroc_gain: the differences of AUROC with all that their errors come from.
    """

    first: int
    second: int
    auroc: tuple[PairedDifference, ...]
    average_precision: tuple[PairedDifference, ...]
    mean_auroc: PairedDifference
    mean_average_precision: PairedDifference
    auroc_gains: tuple[Measured, ...]
    mean_auroc_gain: Measured

    def non_inferior(self, margin: float) -> "NonInferiority":
        """One-sided p-values of AUROCs against being worse by the margin; Holm's are over the findings."""
        p_values = np.array([non_inferiority(gained, margin) for gained in self.auroc_gains], dtype=np.float64)
        return NonInferiority(
            tuple(map(float, p_values)),
            tuple(map(float, holm(p_values))),
            non_inferiority(self.mean_auroc_gain, margin),
        )


class NonInferiority(NamedTuple):
    """P-values by finding, the same corrected, and that of the mean."""

    p_values: tuple[float, ...]
    p_values_holm: tuple[float, ...]
    mean: float


class SystemsCompared(NamedTuple):
    """Each system's measures, and the differences of every pair."""

    systems: tuple[SystemMeasures, ...]
    pairs: tuple[SystemPair, ...]


def compare_systems(
    systems: Sequence[Sequence[Table]],
    labels: Table,
    patients: Shaped[np.ndarray, " _"],
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> SystemsCompared:
    """Paired differences of AUROC and average precision between all systems, in which patients are the units.

    Closed form, from each patient's influence. A finding of fewer than 10 patients with it, or without it, gets no
    interval and no test, is not corrected for, and says why; it stays part of the mean.

    Args:
        systems: for each system a table of scores per training seed (one, if there is one), all with the films and
            findings of `labels`; scales may differ.
        labels: 1 present, 0 absent, NaN unknown.
        patients: whose film each row is.
        pairs: places of the systems to be compared, first and second; each with each later one if None.

    Raises:
        ValueError: if a system has no table, shapes differ, or a score cannot be.
    """
    if not systems or not all(systems):
        raise ValueError("systems must have at least one table of scores each, got none")
    wrong = [table.shape for tables in systems for table in tables if table.shape != labels.shape]
    if wrong:
        raise ValueError(f"scores must have the shape of labels, got {wrong[0]} and {labels.shape}")
    measures = tuple(_system(tables, labels, patients) for tables in systems)
    codes, people = patient_codes(patients)
    found = []
    for first, second in combinations(range(len(systems)), 2) if pairs is None else pairs:
        aurocs = [
            auroc_difference(
                [table[:, k] for table in systems[first]],
                [table[:, k] for table in systems[second]],
                np.asarray(labels[:, k], np.float64),
                codes,
                people,
            )
            for k in range(labels.shape[1])
        ]
        one, other = measures[first].average_precision, measures[second].average_precision
        precisions = [minus(after, before) for before, after in zip(one, other, strict=True)]
        found.append(
            SystemPair(
                first,
                second,
                _corrected([against_zero(gained) for gained in aurocs]),
                _corrected([paired_by_intervals(before, after) for before, after in zip(one, other, strict=True)]),
                PairedDifference(*against_zero(average(aurocs)), float("nan")),
                PairedDifference(*against_zero(average(precisions)), float("nan")),
                tuple(aurocs),
                average(aurocs),
            )
        )
    return SystemsCompared(measures, tuple(found))


def _system(tables: Sequence[Table], labels: Table, patients: Shaped[np.ndarray, " _"]) -> SystemMeasures:
    by_seed = [measured_per_finding(table, labels, patients) for table in tables]
    auroc, precision = (
        tuple(_seed_mean([seed[which][k] for seed in by_seed]) for k in range(labels.shape[1])) for which in (0, 1)
    )
    return SystemMeasures(auroc, precision, average(auroc), average(precision))


def _seed_mean(seeds: Sequence[Measured]) -> Measured:
    """The mean over the seeds of one finding, whose patients are the same."""
    if len(seeds) == 1 or seeds[0].present is None:
        return seeds[0]
    value, parts = np.mean([one.value for one in seeds]), np.mean([one.parts for one in seeds], axis=0)
    present = np.mean([one.present for one in seeds if one.present is not None], axis=0)
    return replace(
        seeds[0], value=float(value), parts=parts, present=present, degrees=min(one.degrees for one in seeds)
    )


def _corrected(differences: Sequence[Difference]) -> tuple[PairedDifference, ...]:
    corrected = holm(np.array([one.p_value for one in differences], dtype=np.float64))
    return tuple(
        PairedDifference(one.estimate, one.p_value, float(p)) for one, p in zip(differences, corrected, strict=True)
    )


def independent_difference(first: Estimate, second: Estimate) -> tuple[Estimate, float]:
    """The second minus the first, measured on other patients, with its 95 % interval and two-sided p-value.

    From the two intervals alone, so that it holds for whatever has one, and a lopsided interval stays lopsided: either
    end is as far as the two values' own distances to that side, squared and added. The p-value is the normal one of
    the end towards 0. NaN where either has no interval.

    Source: Zou and Donner, "Construction of confidence limits about effect measures: a general approach", Statistics in
        Medicine 27, 2008.
    """
    value, why = second.value - first.value, first.why or second.why
    if why or np.isnan([first.low, first.high, second.low, second.high]).any():
        return Estimate(value, float("nan"), float("nan"), first.undefined + second.undefined, why), float("nan")
    below = float(np.hypot(second.value - second.low, first.high - first.value))
    above = float(np.hypot(second.high - second.value, first.value - first.low))
    towards_zero = below if value > 0 else above
    p = float(2 * ndtr(-ndtri(0.975) * abs(value) / towards_zero)) if towards_zero > 0 else float("nan")
    return Estimate(value, value - below, value + above, first.undefined + second.undefined), p


def holm(p_values: PerFinding) -> PerFinding:
    """P-values corrected so that the chance of any false claim among them stays below the level; NaN stays NaN.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.
    """
    corrected = np.full(len(p_values), np.nan)
    order = [int(i) for i in np.argsort(p_values, kind="stable") if not np.isnan(p_values[i])]
    reached = 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, float(p_values[i]) * (len(order) - rank)))
        corrected[i] = reached
    return corrected
