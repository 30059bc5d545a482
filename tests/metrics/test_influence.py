from collections.abc import Sequence

import numpy as np
import pytest
from oracle import pairs_auroc
from scipy.stats import binomtest

from hilum.metrics.compare import placements
from hilum.metrics.subgroups import Measured, average, difference, measured_auroc, measured_mean, nothing


def redrawn_auroc(
    scores: Sequence[float],
    labels: Sequence[float],
    patients: Sequence[int],
    draws: int,
    generator: np.random.Generator,
) -> float:
    """The spread of AUROC over resamples of the patients, one after the other."""
    names, found = sorted(set(patients)), []
    for _ in range(draws):
        films = [i for name in generator.choice(names, len(names)) for i, one in enumerate(patients) if one == name]
        found.append(pairs_auroc([scores[i] for i in films], [labels[i] for i in films]))
    return float(np.nanstd(found))


def error(measured: Measured) -> float:
    return float(np.sqrt(np.sum(measured.parts**2)))


def test_films_of_separate_patients_have_delongs_error() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random(60) < 0.4).astype(np.float64)
    scores = generator.random(60).round(1) + 0.3 * labels
    labels[:3] = np.nan
    measured = measured_auroc(scores, labels, np.arange(60), 60)
    placed = placements(scores[:, np.newaxis], labels)
    assert measured.value == pytest.approx(pairs_auroc(scores.tolist(), labels.tolist()))
    assert error(measured) == pytest.approx(float(np.sqrt(placed.covariance[0, 0])))
    assert measured.patients == min((labels == 1).sum(), (labels == 0).sum())


def test_films_of_the_same_patients_have_the_error_of_drawing_patients() -> None:
    generator = np.random.default_rng(1)
    patients = generator.integers(0, 40, 160)
    ill = generator.random(40) < 0.5
    labels = (ill[patients] & (generator.random(160) < 0.8)).astype(np.float64)
    scores = generator.normal(size=40)[patients] + generator.normal(size=160) + labels
    measured = measured_auroc(scores, labels, patients, 40)
    slow = redrawn_auroc(scores.tolist(), labels.tolist(), patients.tolist(), 300, generator)
    assert error(measured) == pytest.approx(slow, rel=0.15)
    alone = measured_auroc(scores, labels, np.arange(160), 160)
    assert error(measured) > 1.2 * error(alone)  # as if films were independent, it would be bold


def test_a_mean_has_the_error_of_drawing_patients_and_stays_a_share() -> None:
    generator = np.random.default_rng(2)
    patients = generator.integers(0, 30, 120)
    values = (generator.random(30)[patients] < 0.3).astype(np.float64)
    measured = measured_mean(values, patients, 30, within=True)
    totals = [(values[patients == one].sum(), (patients == one).sum()) for one in range(30)]
    drawn = [np.sum([totals[i] for i in generator.integers(0, 30, 30)], axis=0) for _ in range(2000)]
    assert error(measured) == pytest.approx(np.std([part / whole for part, whole in drawn]), rel=0.1)
    assert 0 < measured.estimate.low < measured.value < measured.estimate.high < 1


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 12 patients with a finding and 40 without, with two films each: 95 of 100, give or take chance."""
    generator = np.random.default_rng(3)
    reference = generator.normal(size=(2, 4000))
    truth = float((reference[0][:, np.newaxis] + 1.4 > reference[1]).mean())
    held = []
    for _ in range(400):
        patients = np.repeat(np.arange(52), 2)
        labels = (patients < 12).astype(np.float64)
        shared, own = generator.normal(size=52)[patients], generator.normal(size=104)
        scores = (shared + own) / np.sqrt(2) + 1.4 * labels
        one = measured_auroc(scores, labels, patients, 52).estimate
        held.append(one.low <= truth <= one.high)
    assert 0.92 <= np.mean(held) <= 0.985


def test_where_all_agree_there_is_no_certainty() -> None:
    patients = np.repeat(np.arange(12), 2)
    none = measured_mean(np.zeros(24), patients, 12, within=True)
    exact = binomtest(0, 12).proportion_ci(0.95, "exact")
    assert (none.estimate.low, none.estimate.high) == pytest.approx((exact.low, exact.high))
    every = measured_mean(np.ones(24), patients, 12, within=True)
    gap = difference(every, none)
    assert gap.estimate.value == 1
    assert gap.estimate.low < 0.9
    assert 0 < gap.p_value < 0.001
    labels = (patients < 4).astype(np.float64)
    assert 0.3 < measured_auroc(labels, labels, patients, 12).estimate.low < 0.7
    score = measured_mean(np.full(24, 0.2), patients, 12, within=False)
    assert difference(score, score).p_value == 1


def test_differences_of_the_same_patients_are_paired() -> None:
    generator = np.random.default_rng(4)
    patients = np.arange(100)
    values = generator.normal(size=100)
    first = measured_mean(values, patients, 100, within=False)
    second = measured_mean(values + 0.1 * generator.normal(size=100), patients, 100, within=False)
    paired = difference(first, second).estimate
    assert paired.high - paired.low < 0.2 * (first.estimate.high - first.estimate.low)
    half = average([first, second])
    assert half.value == pytest.approx((first.value + second.value) / 2)


def test_what_does_not_exist_has_no_interval() -> None:
    one_class = measured_auroc(np.array([0.1, 0.2]), np.array([1.0, 1.0]), np.arange(2), 2)
    for empty in (
        nothing(3),
        one_class,
        average([]),
        measured_mean(np.empty(0), np.empty(0, int), 3, within=True),
    ):
        assert np.isnan(empty.estimate[:3]).all()
    single = measured_mean(np.array([0.2, 0.4]), np.zeros(2, int), 1, within=True)
    assert single.estimate.value == pytest.approx(0.3)
    assert np.isnan(single.estimate.low)
    assert np.isnan(difference(single, single).p_value)
