"""How often 95 % intervals hold the truth, and tests that find what is not there, for rare findings and many films.

Simulated patients: whether films of a patient hold the finding, and their scores, are correlated. Or other people's
real scores: a table of scores and a manifest are then the population, from which patients are drawn with replacement.

Example: python benchmarks/coverage.py --measures auroc average_precision
Example: python benchmarks/coverage.py --scores predictions.csv --films films.parquet
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int
from scipy.special import expit, logit
from scipy.stats import norm

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.calibration import measured_calibration
from hilum.metrics.compare import compare_systems
from hilum.metrics.influence import measured_per_finding, measured_rate, patient_codes
from hilum.metrics.operating_points import OPERATING_POINTS
from hilum.metrics.ranking import auroc_per_finding, average_precision_per_finding
from hilum.metrics.thresholds import choose

POSITIVES = (3, 10, 30, 100, 300)
AUROCS = (0.72, 0.93)
FILMS_PER_PATIENT = ("1", "3", "12", "unequal")
PREVALENCES = (0.02, 0.30)
MOST_FILMS = 20_000
POPULATION = 1_000_000
"""Films on which the truth is measured where no formula gives it."""

Numbers = Float64[np.ndarray, " films"]
Table = Float64[np.ndarray, "films systems"]


class Cell(NamedTuple):
    """One kind of data set."""

    positives: int
    auroc: float
    films_per_patient: str
    prevalence: float
    greys: bool  # scores in 256 steps, as of 8 bits


class Data(NamedTuple):
    """Scores of two equally good systems, and labels."""

    scores: Table
    labels: Numbers
    patients: Int[np.ndarray, " films"]


Interval = tuple[str, Estimate, float]  # measure, estimate, truth


def simulate(cell: Cell, generator: np.random.Generator) -> Data:
    """Patients until about as many films hold the finding; scores of a film with it are one shift higher."""
    number = {"1": 1.0, "3": 3.0, "12": 12.0, "unequal": 12.0}[cell.films_per_patient]
    patients = max(2, round(cell.positives / cell.prevalence / number))
    if cell.films_per_patient == "unequal":
        films = np.minimum(np.floor(generator.pareto(0.9, patients) * 3) + 1, 180).astype(np.int64)
    else:
        films = np.full(patients, int(number))
    codes = np.repeat(np.arange(patients), films)

    def alike(within: float) -> Numbers:
        shared, own = generator.normal(size=patients)[codes], generator.normal(size=len(codes))
        return np.asarray(np.sqrt(within) * shared + np.sqrt(1 - within) * own)

    labels = (alike(0.6) < norm.ppf(cell.prevalence)).astype(np.float64)
    common, shift = alike(0.5), np.sqrt(2) * norm.ppf(cell.auroc)
    scores = [shift * labels + np.sqrt(0.6) * common + np.sqrt(0.4) * alike(0.5) for _ in range(2)]
    table = expit(np.stack(scores, axis=1) * shift - shift**2 / 2 + logit(cell.prevalence))  # calibrated
    if cell.greys:
        table = (255 * norm.cdf(np.stack(scores, axis=1) - 1)).round().clip(1, 254) / 255
    return Data(table, labels, codes)


class Truth(NamedTuple):
    """The measures of a population, and thresholds that were chosen elsewhere."""

    values: dict[str, float]
    called_from: float


def truth_of(population: Data) -> Truth:
    """The measures on the whole of a large population, whose own error is neglected."""
    scores, labels = population.scores[:, 0], population.labels
    calls = float(np.quantile(scores[labels == 1], 0.3))  # a sensitivity of 70 %
    calibration = measured_calibration(scores, labels, population.patients, seed=0)
    values = {
        "auroc": auroc_per_finding(scores[:, np.newaxis], labels[:, np.newaxis])[0],
        "average_precision": average_precision_per_finding(scores[:, np.newaxis], labels[:, np.newaxis])[0],
        "ece": calibration.ece.value,
        "brier": calibration.brier.value,
        "brier_skill": calibration.brier_skill.value,
        "excess": calibration.excess.value,
        "slope": calibration.slope.value,
    }
    if population.scores.shape[1] > 1:
        other, both = population.scores[:, 1:], labels[:, np.newaxis]
        values["auroc_difference"] = auroc_per_finding(other, both)[0] - values["auroc"]
        values["precision_difference"] = average_precision_per_finding(other, both)[0] - values["average_precision"]
    values |= {name: value.value for name, value, _ in rates(population, calls, {})}
    codes, _ = patient_codes(population.patients)
    for name, point in OPERATING_POINTS.items():
        threshold = choose(scores, labels, codes, point.rule)
        values[name] = float("nan") if threshold is None else threshold.value
    return Truth({name: float(value) for name, value in values.items()}, calls)


def rates(data: Data, calls: float, values: dict[str, float]) -> Iterator[Interval]:
    """Calls at a threshold that was chosen elsewhere."""
    codes, _ = patient_codes(data.patients)
    present, called = data.labels == 1, data.scores[:, 0] >= calls
    every = np.ones(len(codes), dtype=bool)
    for name, what, among, whose in (
        ("sensitivity", called, present, "with the finding"),
        ("specificity", ~called, ~present, "without the finding"),
        ("ppv", present, called, "called"),
        ("npv", ~present, ~called, "not called"),
        ("positive_calls", called, every, ""),
    ):
        rate = measured_rate(what.astype(np.float64), among, codes, whose)
        yield name, rate.estimate, values.get(name, float("nan"))


def intervals(data: Data, truth: Truth) -> Iterator[Interval]:
    """All intervals that one data set gives."""
    values, scores, labels = truth.values, data.scores[:, 0], data.labels
    tables = [[data.scores[:, [i]]] for i in range(data.scores.shape[1])]
    if len(tables) > 1:
        compared = compare_systems(tables, labels[:, np.newaxis], data.patients)
        system, pair = compared.systems[0], compared.pairs[0]
        yield "auroc", system.auroc[0].estimate, values["auroc"]
        yield "average_precision", system.average_precision[0].estimate, values["average_precision"]
        yield "auroc_difference", pair.auroc[0].estimate, values["auroc_difference"]
        yield "precision_difference", pair.average_precision[0].estimate, values["precision_difference"]
    else:
        auroc, precision = measured_per_finding(data.scores, labels[:, np.newaxis], data.patients)
        yield "auroc", auroc[0].estimate, values["auroc"]
        yield "average_precision", precision[0].estimate, values["average_precision"]
    yield from rates(data, truth.called_from, values)
    for name, point in OPERATING_POINTS.items():
        found = choose(scores, labels, data.patients, point.rule)
        ends = (float("nan"),) * 2 if found is None or found.why else (found.low, found.high)
        yield name, Estimate(0.0 if found is None else found.value, *ends, 0), values[name]
    if scores.min() >= 0 and scores.max() <= 1:
        calibration = measured_calibration(scores, labels, data.patients, seed=0)
        for name in ("ece", "brier", "brier_skill", "excess", "slope"):
            found_one = getattr(calibration, name)
            yield name, found_one if isinstance(found_one, Estimate) else found_one.estimate, values[name]


class Row(NamedTuple):
    """One measure in one kind of data set."""

    measure: str
    cell: dict[str, object]
    coverage: float
    width: float  # the median
    none: float  # proportion of data sets without an interval
    sets: int


def measure(draw: Callable[[], Data], truth: Truth, cell: dict[str, object], sets: int) -> list[Row]:
    """Coverage of each measure among the data sets that give it an interval."""
    held: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for _ in range(sets):
        data = draw()
        if not len(data.labels):
            continue
        for name, estimate, value in intervals(data, truth):
            inside, width = held.setdefault(name, []), widths.setdefault(name, [])
            if not np.isnan(estimate.low):
                inside.append(bool(estimate.low <= value <= estimate.high))
                width.append(estimate.high - estimate.low)
    return [
        Row(
            name,
            cell,
            float(np.mean(inside)) if inside else float("nan"),
            float(np.median(widths[name])) if inside else float("nan"),
            1 - len(inside) / sets,
            sets,
        )
        for name, inside in held.items()
    ]


def simulated(options: argparse.Namespace) -> Iterator[Row]:
    """Every cell of the table; without --full the ones that decide."""
    generator = np.random.default_rng(options.seed)
    films = FILMS_PER_PATIENT if options.full else ("1", "12")
    positives = POSITIVES if options.full else (3, 10, 30, 100)
    for prevalence in PREVALENCES:
        for auroc in AUROCS:
            for greys in (False, True) if options.full else (False,):
                everybody = Cell(
                    round(POPULATION * prevalence), auroc, "1", prevalence, greys
                )  # clusters leave the measures as they are
                truth = truth_of(simulate(everybody, generator))
                exact = {"auroc_difference": 0.0, "precision_difference": 0.0} | ({} if greys else {"auroc": auroc})
                truth = Truth(truth.values | exact, truth.called_from)
                for kind in films:
                    for number in positives:
                        if number / prevalence > MOST_FILMS:
                            continue
                        cell = Cell(number, auroc, kind, prevalence, greys)
                        yield from measure(
                            lambda cell=cell: simulate(cell, generator),  # type: ignore[misc]
                            truth,
                            cell._asdict(),
                            options.sets,
                        )


def drawn_from(options: argparse.Namespace) -> Iterator[Row]:
    """Patients of a table of scores as the population, so many that each finding has about as many positive films."""
    from hilum.data.films import read_films
    from hilum.evaluation.inputs import read_predictions

    generator = np.random.default_rng(options.seed)
    manifest = read_films(options.films)
    films = manifest.table.set_index("film")
    table: pd.DataFrame = read_predictions(options.scores, manifest.findings).set_index("film")
    both = table.index.intersection(films.index)
    names, codes = np.unique(films.loc[both, "patient"].to_numpy(dtype=str), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    for finding in table.columns.intersection(films.columns):
        scores = table.loc[both, [finding]].to_numpy(dtype=np.float64)
        labels = films.loc[both, finding].to_numpy(dtype=np.float64)
        known = np.isfinite(scores[:, 0]) & ~np.isnan(labels)
        if (labels[known] == 1).sum() < 50:
            continue
        truth = truth_of(Data(scores[known], labels[known], codes[known]))
        for number in POSITIVES:
            patients = round(number / (labels == 1).sum() * len(names))
            if not 2 <= patients <= len(names):
                continue

            def draw(patients: int = patients, scores: Table = scores, labels: Numbers = labels) -> Data:
                chosen = generator.integers(0, len(names), patients)
                rows = [order[starts[one] : starts[one + 1]] for one in chosen]
                films_of = np.repeat(np.arange(patients), [len(one) for one in rows])
                every = np.concatenate(rows)
                kept = np.isfinite(scores[every, 0]) & ~np.isnan(labels[every])
                return Data(scores[every][kept], labels[every][kept], films_of[kept])

            yield from measure(draw, truth, {"finding": finding, "positives": number}, options.sets)


def main() -> int:
    """Print the table, a line per measure and kind of data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, help="data sets of each kind; 100, or 1,000 with --full")
    parser.add_argument("--measures", nargs="+", default=[], help="only these")
    parser.add_argument("--full", action="store_true", help="all kinds of data sets; takes hours")
    parser.add_argument("--scores", type=Path, help="real scores: a table with a column film and one for each finding")
    parser.add_argument("--films", type=Path, help="the manifest of these films")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.scores is None) != (options.films is None):
        parser.error("--scores and --films must be given together")
    options.sets = options.sets or (1000 if options.full else 100)
    rows = []
    for row in drawn_from(options) if options.scores else simulated(options):
        if options.measures and row.measure not in options.measures:
            continue
        rows.append(row)
        if not options.json:
            cell = " ".join(f"{name}={value}" for name, value in row.cell.items())
            print(f"{row.measure:21s} {row.coverage:.3f} width {row.width:.3f} none {row.none:.2f}  {cell}", flush=True)
    if options.json:
        print(json.dumps([row._asdict() for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
