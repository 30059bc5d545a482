"""Which of several systems ranks the same films better: paired differences, finding by finding and in mean."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.stats import norm

from hilum.metrics.bootstrap import Estimate, PerDraw, bootstrap, estimate, macro_mean
from hilum.metrics.influence import (
    Difference,
    Measured,
    against_zero,
    auroc_difference,
    average,
    measured_per_finding,
    paired_by_intervals,
    patient_codes,
)
from hilum.metrics.ranking import DelongTest, PerFinding, Table, auroc_per_finding, placements


class FindingDifference(NamedTuple):
    """AUROC of the second system minus that of the first, on the films whose label is known."""

    auroc: Estimate
    p_value: float  # from the resamples of the patients
    p_value_holm: float  # the same, corrected for the findings of this pair
    delong: DelongTest


class MeanDifference(NamedTuple):
    """The mean, over the findings defined on all films, of the second system's AUROC minus the first's."""

    auroc: Estimate
    p_value: float


@dataclass(frozen=True)
class Pair:
    """Two systems, by their place in the order given: the second minus the first."""

    first: int
    second: int
    findings: tuple[FindingDifference, ...]
    mean: MeanDifference


@dataclass(frozen=True)
class Comparison:
    """Each system's AUROCs and means, and the differences of every pair of systems, all from the same resamples."""

    auroc: tuple[tuple[Estimate, ...], ...]  # by system, then finding
    mean: tuple[Estimate, ...]
    pairs: tuple[Pair, ...]


def compare(
    scores: Sequence[Table],
    labels: Table,
    patients: Shaped[np.ndarray, " _"],
    *,
    draws: int,
    seed: int | np.random.Generator,
) -> Comparison:
    """Paired differences of AUROC between all systems, with 95 % intervals and p-values from resampled patients.

    Every resample draws the same patients for all systems and findings, so what makes films easy or hard for all of
    them cancels out. A single patient gives no resample: intervals and p-values are then NaN.

    Args:
        scores: a table for each system, all with the films and findings of `labels`; scales may differ.
        labels: 1 present, 0 absent, NaN unknown.
        patients: whose film each row is.
        draws: number of resamples. No p-value can be below 2 / (draws + 1).
        seed: a number, or a generator, which is then advanced.

    Raises:
        ValueError: if there are fewer than two systems, shapes differ, or a score or label cannot be.
    """
    if len(scores) < 2:
        raise ValueError(f"scores must be of at least two systems, got {len(scores)}")
    wrong = [table.shape for table in scores if table.shape != labels.shape]
    if wrong:
        raise ValueError(f"scores must have the shape of labels, got {wrong[0]} and {labels.shape}")
    findings = labels.shape[1]
    drawn = bootstrap(np.hstack(scores), np.tile(labels, len(scores)), patients, draws=draws, seed=seed).auroc
    if len(set(patients.tolist())) < 2:
        drawn[:] = np.nan
    per_draw = [drawn[:, system * findings : (system + 1) * findings] for system in range(len(scores))]
    values = [auroc_per_finding(table, labels) for table in scores]
    placed = [placements(np.stack([table[:, i] for table in scores], axis=1), labels[:, i]) for i in range(findings)]
    pairs = []
    for first, second in combinations(range(len(scores)), 2):
        gained, gained_per_draw = values[second] - values[first], per_draw[second] - per_draw[first]
        p_values = np.array([p_value(gained[i], gained_per_draw[:, i]) for i in range(findings)], dtype=np.float64)
        corrected = holm(p_values)
        differences = tuple(
            FindingDifference(
                estimate(float(gained[i]), gained_per_draw[:, i]),
                float(p_values[i]),
                float(corrected[i]),
                placed[i].test(first, second),
            )
            for i in range(findings)
        )
        mean, mean_per_draw = macro_mean(gained, gained_per_draw)
        over_all = MeanDifference(estimate(mean, mean_per_draw), p_value(mean, mean_per_draw))
        pairs.append(Pair(first, second, differences, over_all))
    return Comparison(
        auroc=tuple(
            tuple(estimate(float(values[system][i]), per_draw[system][:, i]) for i in range(findings))
            for system in range(len(scores))
        ),
        mean=tuple(estimate(*macro_mean(values[system], per_draw[system])) for system in range(len(scores))),
        pairs=tuple(pairs),
    )


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
    """Two systems, by their place in the order given: the second minus the first, finding by finding and in mean."""

    first: int
    second: int
    auroc: tuple[PairedDifference, ...]
    average_precision: tuple[PairedDifference, ...]
    mean_auroc: PairedDifference
    mean_average_precision: PairedDifference


class SystemsCompared(NamedTuple):
    """Each system's measures, and the differences of every pair."""

    systems: tuple[SystemMeasures, ...]
    pairs: tuple[SystemPair, ...]


def compare_systems(
    systems: Sequence[Sequence[Table]], labels: Table, patients: Shaped[np.ndarray, " _"]
) -> SystemsCompared:
    """Paired differences of AUROC and average precision between all systems, in which patients are the units.

    Closed form, from each patient's influence. A finding of fewer than 10 patients with it, or without it, gets no
    interval and no test, is not corrected for, and says why; it stays part of the mean.

    Args:
        systems: for each system a table of scores per training seed (one, if there is one), all with the films and
            findings of `labels`; scales may differ.
        labels: 1 present, 0 absent, NaN unknown.
        patients: whose film each row is.

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
    pairs = []
    for first, second in combinations(range(len(systems)), 2):
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
        precisions = [_minus(after, before) for before, after in zip(one, other, strict=True)]
        pairs.append(
            SystemPair(
                first,
                second,
                _corrected([against_zero(gained) for gained in aurocs]),
                _corrected([paired_by_intervals(before, after) for before, after in zip(one, other, strict=True)]),
                PairedDifference(*against_zero(average(aurocs)), float("nan")),
                PairedDifference(*against_zero(average(precisions)), float("nan")),
            )
        )
    return SystemsCompared(measures, tuple(pairs))


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


def _minus(after: Measured, before: Measured) -> Measured:
    """The difference as one measure, for the mean over the findings."""
    present = None if after.present is None or before.present is None else after.present - before.present
    return replace(
        after, value=after.value - before.value, parts=after.parts - before.parts, present=present, scale="plain"
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
    value = second.value - first.value
    below = float(np.hypot(second.value - second.low, first.high - first.value))
    above = float(np.hypot(second.high - second.value, first.value - first.low))
    towards_zero = below if value > 0 else above
    p = float(2 * norm.sf(norm.ppf(0.975) * abs(value) / towards_zero)) if towards_zero > 0 else float("nan")
    return Estimate(value, value - below, value + above, first.undefined + second.undefined), p


def p_value(difference: float, per_draw: PerDraw) -> float:
    """Two-sided p-value that belongs to the percentile interval: where that interval would just touch 0.

    Resamples in which the difference does not exist are left out; one is added on either side, so that it is never 0.
    NaN if the difference, or every resample of it, is undefined.

    Source: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, sections 4.4 and 5.2.
    """
    defined = per_draw[~np.isnan(per_draw)]
    if np.isnan(difference) or not len(defined):
        return float("nan")
    on_either_side = 1 + min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * on_either_side / (len(defined) + 1))


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


class SeedDifference(NamedTuple):
    """One system's AUROC minus another's, each the mean over its seeds.

    `seeds` are the differences seed by seed, as far as both systems have them; `p_value_holm` is corrected over the
    findings of this pair, and NaN for the mean.
    """

    auroc: Estimate
    p_value: float
    p_value_holm: float
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class SeededSystem:
    """AUROCs of one system: per seed and finding, and, averaged over the seeds, per resample of the patients."""

    values: Float64[np.ndarray, "seeds findings"]
    per_draw: Float64[np.ndarray, "draws findings"]

    @property
    def auroc(self) -> PerFinding:
        """The mean over the seeds."""
        return np.asarray(self.values.mean(axis=0), dtype=np.float64)

    @property
    def seed_means(self) -> tuple[float, ...]:
        """For each seed the mean over the findings that are defined."""
        return tuple(macro_mean(values, self.per_draw)[0] for values in self.values)

    def findings(self) -> tuple[Estimate, ...]:
        """Each finding's AUROC; the interval is that of the mean over these seeds, for other patients."""
        return tuple(estimate(float(value), self.per_draw[:, i]) for i, value in enumerate(self.auroc))

    def mean(self) -> Estimate:
        """The mean over the findings."""
        return estimate(*macro_mean(self.auroc, self.per_draw))

    def minus(self, other: "SeededSystem") -> tuple[tuple[SeedDifference, ...], SeedDifference]:
        """The differences per finding, and that of the means; both systems must come from one `seeded_systems`."""
        gained, per_draw = self.auroc - other.auroc, self.per_draw - other.per_draw
        both = min(len(self.values), len(other.values))
        by_seed = self.values[:both] - other.values[:both]
        p_values = np.array([p_value(gained[i], per_draw[:, i]) for i in range(len(gained))], dtype=np.float64)
        corrected = holm(p_values)
        findings = tuple(
            SeedDifference(
                estimate(float(gained[i]), per_draw[:, i]),
                float(p_values[i]),
                float(corrected[i]),
                tuple(by_seed[:, i].tolist()),
            )
            for i in range(len(gained))
        )
        mean, mean_per_draw = macro_mean(gained, per_draw)
        seeds = tuple(macro_mean(row, per_draw)[0] for row in by_seed)
        over_all = SeedDifference(estimate(mean, mean_per_draw), p_value(mean, mean_per_draw), float("nan"), seeds)
        return findings, over_all


def seeded_systems(
    scores: Sequence[Sequence[Table]],
    labels: Table,
    patients: Shaped[np.ndarray, " _"],
    *,
    draws: int,
    seed: int | np.random.Generator,
) -> list[SeededSystem]:
    """AUROCs of several systems with several seeds each, all from the same resamples of the patients.

    A resample's AUROC is averaged over the seeds of a system: the intervals are those of seed means. They hold for
    other patients and these very trainings; how far another training would lie away, the seeds' spread tells.

    Args:
        scores: for each system a table per seed, all with the films and findings of `labels`.
        labels: 1 present, 0 absent, NaN unknown.
        patients: whose film each row is. A single patient gives no resample: intervals are then NaN.
        draws: number of resamples.
        seed: a number, or a generator, which is then advanced.

    Raises:
        ValueError: if a system has no seed, shapes differ, or a score or label cannot be.
    """
    if not scores or not all(scores):
        raise ValueError("scores must be of at least one seed of each system, got none")
    tables = [table for seeds in scores for table in seeds]
    wrong = [table.shape for table in tables if table.shape != labels.shape]
    if wrong:
        raise ValueError(f"scores must have the shape of labels, got {wrong[0]} and {labels.shape}")
    drawn = bootstrap(np.hstack(tables), np.tile(labels, len(tables)), patients, draws=draws, seed=seed).auroc
    if len(set(patients.tolist())) < 2:
        drawn[:] = np.nan
    by_table = drawn.reshape(draws, len(tables), labels.shape[1])
    systems, first = [], 0
    for seeds in scores:
        here = slice(first, first + len(seeds))
        values = np.stack([auroc_per_finding(table, labels) for table in seeds])
        systems.append(SeededSystem(values, by_table[:, here].mean(axis=1)))
        first = here.stop
    return systems
