"""Several trainings against simulated worlds in which both the patients and the trainings are drawn anew."""

import numpy as np
import pytest
from scipy.special import ndtr

from hilum.metrics.influence import Measured, measured_auroc
from hilum.metrics.runs import mean_over_folds, mean_over_seeds, over_folds, over_seeds


def run(generator: np.random.Generator, labels: np.ndarray, common: np.ndarray, skill: float) -> Measured:
    """One training of this skill on patients with one film each."""
    scores = common + 0.7 * generator.normal(size=len(labels)) + skill * labels
    return measured_auroc(scores, labels, np.arange(len(labels)), len(labels))


def test_the_interval_holds_what_runs_and_patients_do_together() -> None:
    """Trainings' skills spread by 0.25 around 1: the interval is for the mean AUROC of them all on all patients."""
    generator = np.random.default_rng(0)
    truth = float(ndtr(1 / np.sqrt(2 * 1.49 + 0.25**2)))
    held, widths, values = 0, [], []
    for _ in range(200):
        found = over_seeds(world(generator, 4, 250)).mean
        low, high = found.interval()
        held += low <= truth <= high
        widths.append(found.variance)
        values.append(found.value)
    assert held / 200 == pytest.approx(0.95, abs=0.04)
    assert np.mean(widths) == pytest.approx(np.var(values), rel=0.25)


def world(generator: np.random.Generator, runs: int, films: int) -> list[Measured]:
    labels = (generator.random(films) < 0.3).astype(np.float64)
    common = generator.normal(size=films)
    return [run(generator, labels, common, 1 + 0.25 * generator.normal()) for _ in range(runs)]


def test_equal_runs_are_as_uncertain_as_one() -> None:
    one = world(np.random.default_rng(1), 1, 300)[0]
    found = over_seeds([one] * 5)
    assert found.between == 0
    assert found.mean.estimate == pytest.approx(one.estimate)
    assert over_seeds([one]).mean.estimate == one.estimate


def test_seeds_that_differ_widen_the_interval_beyond_the_patients_part() -> None:
    generator = np.random.default_rng(2)
    labels = (generator.random(4000) < 0.3).astype(np.float64)
    runs = [run(generator, labels, generator.normal(size=4000), skill) for skill in (0.3, 1.0, 1.7)]
    found = over_seeds(runs)
    assert found.between == pytest.approx(np.std([one.value for one in runs], ddof=1), rel=0.05)
    assert found.mean.variance == pytest.approx(found.between**2 / 3, rel=0.1)
    assert found.mean.degrees < 3


def folded(generator: np.random.Generator, films: int = 1000) -> list[Measured]:
    """Five folds of films, a patient each, every fold with a training of its own skill."""
    labels, fold = (generator.random(films) < 0.2).astype(np.float64), generator.integers(0, 5, films)
    found = []
    for k in range(5):
        scores = generator.normal(size=films) + (1 + 0.2 * generator.normal()) * labels
        inside = fold == k
        found.append(measured_auroc(scores[inside], labels[inside], np.flatnonzero(inside), films))
    return found


def test_folds_hold_what_trainings_and_patients_do_together() -> None:
    generator = np.random.default_rng(3)
    truth = float(ndtr(1 / np.sqrt(2 + 0.2**2)))
    held = 0
    for _ in range(200):
        low, high = over_folds(folded(generator)).mean.interval()
        held += low <= truth <= high
    assert held / 200 == pytest.approx(0.95, abs=0.04)


def test_a_fold_without_the_finding_is_left_out_and_few_patients_have_a_word() -> None:
    generator = np.random.default_rng(4)
    labels = np.zeros(400)
    labels[:6] = 1.0  # of whom the fourth is in no fold
    runs = []
    for k in range(4):
        inside = np.arange(400) % 4 == k if k < 3 else np.zeros(400, dtype=bool)
        runs.append(measured_auroc(generator.random(int(inside.sum())), labels[inside], np.flatnonzero(inside), 400))
    found = over_folds(runs)
    assert np.isnan(found.by_run[3])
    assert found.mean.estimate.why == "too few patients with or without the finding: 5"
    assert 0 <= found.mean.value <= 1


def test_means_over_findings() -> None:
    generator = np.random.default_rng(5)
    runs = [[one, world(generator, 1, 300)[0]] for one in world(generator, 3, 300)]
    found = mean_over_seeds(runs)
    assert found.by_run == pytest.approx([np.mean([one.value for one in findings]) for findings in runs])
    folds = mean_over_folds([over_folds(folded(generator)), over_folds(folded(generator))])
    assert folds.mean.estimate.low < folds.mean.value < folds.mean.estimate.high
    assert len(folds.by_run) == 5
    with pytest.raises(ValueError, match="runs must be at least one"):
        over_seeds([])
