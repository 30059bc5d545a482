"""Intervals by resampling patients, sums over films in those resamples, and estimates in the form of report.json."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped
from scipy import sparse

from hilum.metrics.ranking import Table

Counts = Float[np.ndarray, "patients samples"]  # whole numbers
PerDraw = Float64[np.ndarray, " samples"]

MEMORY_BYTES = 96 * 2**20
"""What the arrays of one chunk of bootstrap samples may take together."""


EXACT_FILMS = 2**24
"""Up to so many films, single precision counts exactly, and moves half as many bytes as double precision."""


class Estimate(NamedTuple):
    """A measure on all films with its interval; all NaN where the measure does not exist."""

    value: float
    low: float
    high: float
    undefined: int  # resamples in which the metric does not exist, e.g. no positive film; 0 without resamples
    why: str = ""  # why there is no interval, e.g. "too few patients with the finding: 3"


class Draws(NamedTuple):
    """Each measure in each resample: a row per draw, a column per finding, NaN where it does not exist."""

    auroc: Float64[np.ndarray, "samples findings"]
    average_precision: Float64[np.ndarray, "samples findings"]


def bootstrap(
    scores: Table,
    labels: Table,
    patients: Shaped[np.ndarray, " _"],
    *,
    bootstrap_samples: int,
    seed: int | np.random.Generator,
) -> Draws:
    """AUROC and average precision in resamples of the patients, all findings in the same resamples.

    A resample is a count per patient, which weighs that patient's films. Each finding is sorted once; a draw then
    costs one pass over its films. All sums are of whole numbers, so the result is that of sorting every resample.

    Args:
        scores: finite; higher means more likely present.
        labels: 1 present, 0 absent, NaN unknown (left out for that finding).
        patients: whose film each row is, as text or numbers. The order of the rows does not change the samples.
        bootstrap_samples: number of resamples.
        seed: a number, or a generator, which is then advanced.

    Raises:
        ValueError: if shapes differ, there is no sample or no film, a score is not finite, a label is not 0, 1 or NaN.
    """
    if scores.shape != labels.shape or len(patients) != len(scores):
        shapes = f"{scores.shape}, {labels.shape} and {patients.shape}"
        raise ValueError(f"scores, labels and patients must have the same films, got shapes {shapes}")
    if bootstrap_samples < 1:
        raise ValueError(f"bootstrap_samples must be at least 1, got {bootstrap_samples}")
    if not len(scores):
        raise ValueError("scores must have at least one film, got none")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, got {scores[~np.isfinite(scores)][0]}")
    if not (np.isnan(labels) | (labels == 0) | (labels == 1)).all():
        raise ValueError("labels must be 0, 1 or NaN, got another number")
    names, codes = np.unique(patients, return_inverse=True)
    most_films = len(names) * int(np.bincount(codes).max())  # that a resample can have
    rankings = [_ranking(scores[:, i], labels[:, i], codes, len(names)) for i in range(scores.shape[1])]
    rows = len(names) + max((ranking.rows for ranking in rankings), default=0)
    chunk = int(np.clip(MEMORY_BYTES // (4 * rows), 8, 512))
    result = Draws(np.empty((bootstrap_samples, len(rankings))), np.empty((bootstrap_samples, len(rankings))))
    done = 0
    for counts in patient_counts(len(names), bootstrap_samples=bootstrap_samples, seed=seed, chunk=chunk):
        here = slice(done, done + counts.shape[1])
        exact = counts if most_films <= EXACT_FILMS else counts.astype(np.float64)
        for finding, ranking in enumerate(rankings):
            result.auroc[here, finding], result.average_precision[here, finding] = ranking.measure(exact)
        done = here.stop
    return result


def patient_counts(
    patients: int, *, bootstrap_samples: int, seed: int | np.random.Generator, chunk: int = 256
) -> Iterator[Counts]:
    """How often each patient occurs in each resample with replacement, some at a time.

    The samples do not depend on the size of a chunk.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, bootstrap_samples, chunk):
        size = min(chunk, bootstrap_samples - start)
        counts = np.empty((patients, size), dtype=np.float32)
        for draw in range(size):
            counts[:, draw] = np.bincount(generator.integers(0, patients, size=patients), minlength=patients)
        yield counts


def estimate(value: float, per_draw: PerDraw, *, level: float = 0.95) -> Estimate:
    """The value with the interval between the outer quantiles of the samples that define it.

    Args:
        value: the measure on all films.
        per_draw: the measure in each resample, NaN where it does not exist.
        level: coverage, in (0, 1).

    Raises:
        ValueError: if level is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    defined = per_draw[~np.isnan(per_draw)]
    undefined = len(per_draw) - len(defined)
    if np.isnan(value) or not len(defined):
        return Estimate(value, float("nan"), float("nan"), undefined)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), undefined)


def macro_mean(
    values: Float64[np.ndarray, " findings"], per_draw: Float64[np.ndarray, "samples findings"]
) -> tuple[float, PerDraw]:
    """The mean over the findings that are defined on all films, and the same mean in each resample.

    A resample in which one of these findings is undefined has no mean: averaging what is left would mix the spread of
    the films with a change of the question.
    """
    defined = ~np.isnan(values)
    if not defined.any():
        return float("nan"), np.full(len(per_draw), np.nan)
    return float(values[defined].mean()), per_draw[:, defined].mean(axis=1)


@dataclass(frozen=True)
class _Ranking:
    """One finding's films, sorted once: which patients' films lie at or above each score of a film with the finding.

    Only scores of films with the finding are steps. `films` has two blocks of rows, each a patient's number of films:
    per step those present at it; per step those absent from it up to the step above, and at last those below all steps.
    """

    films: sparse.csr_matrix
    ties: sparse.csr_matrix  # absent films that tie with present ones, a row per step in tied_steps
    tied_steps: Int[np.ndarray, " tied"]
    steps: int

    @property
    def rows(self) -> int:
        """Rows of samples that `measure` holds at once, with its intermediates."""
        return 4 * self.steps + 2 * len(self.tied_steps) + 1

    def measure(self, counts: Counts) -> tuple[PerDraw, PerDraw]:
        """AUROC and average precision of each draw."""
        weights = self.films @ counts
        present, absent = weights[: self.steps], weights[self.steps :]
        _accumulate(absent)
        recalled, reached = present.copy(), absent[:-1]
        _accumulate(recalled)
        all_present, all_absent = present.sum(axis=0, dtype=np.float64), absent[-1].astype(np.float64)
        one_class = (all_present == 0) | (all_absent == 0)
        pairs = np.where(one_class, np.nan, all_present * all_absent)
        lost = np.einsum("sd,sd->d", present, reached, dtype=np.float64)  # the absent film is not below the present one
        if len(self.tied_steps):
            lost -= np.einsum("sd,sd->d", present[self.tied_steps], self.ties @ counts, dtype=np.float64) / 2
        auroc = (pairs - lost) / pairs
        reached += recalled
        np.maximum(reached, 1, out=reached)  # no film drawn so far: 0 / 1
        precision = np.divide(recalled, reached, dtype=np.float64)
        return auroc, np.einsum("sd,sd->d", present, precision) / np.where(one_class, np.nan, all_present)


def _accumulate(rows: Float[np.ndarray, "steps samples"]) -> None:
    """Running sum down the rows, in place: `numpy.cumsum` along this axis takes five times as long."""
    for above, row in pairwise(rows):
        np.add(row, above, out=row)


def _ranking(
    scores: Shaped[np.ndarray, " films"],
    labels: Shaped[np.ndarray, " films"],
    codes: Int[np.ndarray, " films"],
    patients: int,
) -> _Ranking:
    present, absent = labels == 1, labels == 0
    levels = np.unique(scores[present])
    steps = len(levels)
    first, beyond = np.searchsorted(levels, scores, "left"), np.searchsorted(levels, scores, "right")
    step = steps - beyond  # the first step, from the top, that the film's score reaches; steps if none
    row = np.concatenate([step[present], steps + step[absent]])
    column = np.concatenate([codes[present], codes[absent]])
    tied = absent & (first != beyond)
    tied_steps, tied_row = np.unique(step[tied], return_inverse=True)
    return _Ranking(
        films=_number_of(row, column, (2 * steps + 1, patients)),
        ties=_number_of(tied_row, codes[tied], (len(tied_steps), patients)),
        tied_steps=tied_steps,
        steps=steps,
    )


def _number_of(
    row: Int[np.ndarray, " entries"], patient: Int[np.ndarray, " entries"], shape: tuple[int, int]
) -> sparse.csr_matrix:
    """How many entries each row has of each patient."""
    return sparse.csr_matrix((np.ones(len(row), dtype=np.float32), (row, patient)), shape=shape)  # sums duplicates


SumsPerDraw = Float64[np.ndarray, "samples columns"]


def resampled_sums(
    per_film: Table, patients: Shaped[np.ndarray, " _"], *, bootstrap_samples: int, seed: int
) -> SumsPerDraw:
    """The sum of each column over the films of each resample; the resamples are those of `bootstrap`.

    All NaN for a single patient: resampling one patient gives that patient, which is no news and not certainty.

    Args:
        per_film: films x columns, finite.
        patients: whose film each row is.
        bootstrap_samples: number of resamples.

    Raises:
        ValueError: if the two differ in length or there is no film.
    """
    if len(per_film) != len(patients) or not len(patients):
        raise ValueError(f"per_film and patients must be of one length, not 0, got {len(per_film)} and {len(patients)}")
    names, codes = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return np.full((bootstrap_samples, per_film.shape[1]), np.nan)
    films = np.arange(len(codes))
    per_patient = sparse.csr_matrix((np.ones(len(codes)), (codes, films)), shape=(len(names), len(codes))) @ per_film
    result = np.empty((bootstrap_samples, per_film.shape[1]))
    done = 0
    for counts in patient_counts(len(names), bootstrap_samples=bootstrap_samples, seed=seed):
        here = slice(done, done + counts.shape[1])
        result[here] = counts.T @ per_patient
        done = here.stop
    return result


def quotient(part: PerDraw, whole: PerDraw) -> PerDraw:
    """Part by whole in each resample; NaN where the whole is 0."""
    result: PerDraw = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return result


def share(part: float, whole: float, part_drawn: PerDraw, whole_drawn: PerDraw, *, patients: int) -> Estimate:
    """A share of films with its 95 % interval from resampled patients; NaN if there are no films.

    Where all films agree, every resample does too, which is no certainty: the interval is then the exact one for as
    many independent patients.

    Args:
        part: films that count.
        whole: films that could.
        part_drawn, whole_drawn: the same in each resample.
        patients: whose films the whole is.
    """
    value = part / whole if whole else float("nan")
    result = estimate(value, quotient(part_drawn, whole_drawn))
    if value not in (0.0, 1.0):
        return result
    return Estimate(value, *unanimous(value, patients), result.undefined)


def unanimous(value: float, patients: int) -> tuple[float, float]:
    """The exact 95 % interval of a share that is 0 or 1 in as many independent patients.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
    """
    outside = 1 - 0.025 ** (1 / patients)  # of one patient: 0.975, so that the interval says nothing
    return (0.0, outside) if value == 0 else (1 - outside, 1.0)


def estimate_json(result: Estimate) -> dict[str, Any]:
    """Value, low, high and undefined, with null for NaN; and why, if there is no interval and a reason."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in result._asdict().items()
        if name != "why" or value
    }


def number_json(value: float) -> float | None:
    """A number, with null for NaN."""
    return None if math.isnan(value) else value


def estimate_of(result: dict[str, Any]) -> Estimate:
    """The reverse of `estimate_json`."""
    value, low, high = (float("nan") if result[name] is None else result[name] for name in ("value", "low", "high"))
    return Estimate(value, low, high, result["undefined"], result.get("why", ""))
