"""Systems trained several times: the mean AUROC over the training seeds, and paired differences of such means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from hilum.metrics.bootstrap import Estimate, bootstrap, estimate, macro_mean
from hilum.metrics.compare import holm, p_value
from hilum.metrics.ranking import PerFinding, Table, auroc_per_finding


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
