from collections.abc import Sequence

import numpy as np
import pytest
from oracle import pairs_auroc, threshold_average_precision
from scipy.stats import binomtest, norm

from hilum.metrics.influence import (
    FEWEST_PATIENTS,
    Measured,
    against_zero,
    auroc_difference,
    average,
    difference,
    measured_auroc,
    measured_average_precision,
    measured_mean,
    measured_per_finding,
    measured_rate,
    nothing,
    paired_by_intervals,
)
from hilum.metrics.ranking import placements


def redrawn_auroc(
    scores: Sequence[float],
    labels: Sequence[float],
    patients: Sequence[int],
    bootstrap_samples: int,
    generator: np.random.Generator,
) -> float:
    """The spread of AUROC over resamples of the patients, one after the other."""
    names, found = sorted(set(patients)), []
    for _ in range(bootstrap_samples):
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
    assert error(measured) == pytest.approx(float(np.sqrt(placed.covariance[0, 0])), rel=0.03)
    other = (scores + generator.normal(size=60)).round(1)
    gained = auroc_difference([scores], [other], labels, np.arange(60), 60)
    delong = placements(np.stack([scores, other], axis=1), labels).test(0, 1)
    assert (gained.value, error(gained)) == pytest.approx((delong.difference, delong.standard_error))
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
    measured = measured_mean(values, patients, 30, scale="rate")
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
    none = measured_mean(np.zeros(24), patients, 12, scale="rate")
    exact = binomtest(0, 12).proportion_ci(0.95, "exact")
    assert (none.estimate.low, none.estimate.high) == pytest.approx((exact.low, exact.high))
    every = measured_mean(np.ones(24), patients, 12, scale="rate")
    gap = difference(every, none)
    assert gap.estimate.value == 1
    assert gap.estimate.low < 0.9
    assert 0 < gap.p_value < 0.001
    score = measured_mean(np.full(24, 0.2), patients, 12, scale="plain")
    assert difference(score, score).p_value == 1


def test_a_perfect_auroc_has_an_interval_that_is_not_a_point() -> None:
    labels = (np.arange(40) < 12).astype(np.float64)
    perfect = measured_auroc(labels, labels, np.arange(40), 40).estimate
    assert perfect.value == perfect.high == 1
    assert perfect.low == pytest.approx(binomtest(12, 12).proportion_ci(0.95, "exact").low)
    both = auroc_difference([labels], [2 * labels], labels, np.arange(40), 40)
    assert both.why == "both systems separate these films perfectly"
    assert np.isnan(against_zero(both).p_value)


def test_differences_of_the_same_patients_are_paired() -> None:
    generator = np.random.default_rng(4)
    patients = np.arange(100)
    values = generator.normal(size=100)
    first = measured_mean(values, patients, 100, scale="plain")
    second = measured_mean(values + 0.1 * generator.normal(size=100), patients, 100, scale="plain")
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
        measured_mean(np.empty(0), np.empty(0, int), 3, scale="rate"),
    ):
        assert np.isnan(empty.estimate[:3]).all()
    single = measured_mean(np.array([0.2, 0.4]), np.zeros(2, int), 1, scale="rate")
    assert single.estimate.value == pytest.approx(0.3)
    assert np.isnan(single.estimate.low)
    assert np.isnan(difference(single, single).p_value)


def clustered(seed: int, patients: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and patients of one to five films, some scores equal."""
    generator = np.random.default_rng(seed)
    codes = np.repeat(np.arange(patients), generator.integers(1, 6, patients))
    labels = (generator.normal(size=patients)[codes] + generator.normal(size=len(codes)) > 0.8).astype(np.float64)
    scores = generator.normal(size=patients)[codes] + generator.normal(size=len(codes)) + 1.5 * labels
    return scores.round(1), labels, codes


@pytest.mark.parametrize(
    ("measure", "slow"),
    [(measured_auroc, pairs_auroc), (measured_average_precision, threshold_average_precision)],
)
def test_influence_is_the_change_without_each_patient(measure, slow) -> None:  # type: ignore[no-untyped-def]
    """The jackknife: every patient left out in turn, and the measure computed anew from its definition."""
    scores, labels, codes = clustered(0)
    found = measure(scores, labels, codes, 60)
    value = slow(scores.tolist(), labels.tolist())
    assert found.value == pytest.approx(value)
    changes = [value - slow(scores[codes != one].tolist(), labels[codes != one].tolist()) for one in range(60)]
    np.testing.assert_allclose(found.parts, changes, atol=0.15 * np.std(changes))
    assert error(found) == pytest.approx(float(np.sqrt(59 / 60 * np.sum(np.square(changes)))), rel=0.06)


def test_too_few_patients_give_no_interval_and_no_test_but_a_word() -> None:
    scores, labels, codes = clustered(1)
    few = np.where(codes < 30, labels, 0.0)
    keep = np.unique(codes[few == 1])[: FEWEST_PATIENTS - 1]
    few = np.where(np.isin(codes, keep), few, 0.0)
    for measure in (measured_auroc, measured_average_precision):
        one = measure(scores, few, codes, 60)
        assert one.value > 0
        assert one.estimate.why == "too few patients with the finding: 9"
        assert np.isnan(one.estimate[1:3]).all()
        assert paired_by_intervals(one, one).estimate.why == one.why
    assert measured_auroc(scores, 1 - few, codes, 60).estimate.why == "too few patients without the finding: 9"
    assert measured_auroc(scores, np.zeros(len(codes)), codes, 60).estimate.why == "no film with the finding"
    rate = measured_rate(labels, codes < 3, codes, "called")
    assert rate.estimate.why == "too few patients called: 3"


def test_a_mean_keeps_rare_findings_and_takes_their_spread_from_the_others() -> None:
    scores, labels, codes = clustered(2, patients=300)
    other, more, _ = clustered(3, patients=300)
    size = min(len(scores), len(other))
    rare = np.zeros(size)
    rare[np.flatnonzero(labels[:size])[0]] = 1
    table = np.stack([scores[:size], other[:size], scores[:size]], axis=1)
    truth = np.stack([labels[:size], more[:size], rare], axis=1)
    aurocs, _ = measured_per_finding(table, truth, codes[:size])
    assert aurocs[2].patients == 1
    both, three = average(aurocs[:2]), average(aurocs)
    assert three.value == pytest.approx(np.mean([one.value for one in aurocs]))
    width = [one.estimate.high - one.estimate.low for one in (both, three)]
    assert width[1] > 2 * width[0]  # one patient with the finding is hardly known
    assert average([aurocs[2]]).estimate.why == "too few patients with any finding: 1"
    assert average([nothing(4)]).estimate.why == "no finding with films of both kinds"


def test_intervals_and_tests_hold_for_rare_findings() -> None:
    """Of 12 to 20 patients with the finding, two films each: AUROC, average precision and both paired differences."""
    generator = np.random.default_rng(0)
    patients, people = np.repeat(np.arange(320), 2), 320
    shift = 1.4
    reference = generator.normal(size=400_000)
    absent = np.sort(generator.normal(size=400_000))
    above = 1 - np.searchsorted(absent, reference + shift) / len(absent)
    of_present = 1 - np.searchsorted(np.sort(reference + shift), reference + shift) / len(reference)
    prevalence = 0.05
    precision = float(np.mean(prevalence * of_present / (prevalence * of_present + (1 - prevalence) * above + 1e-12)))
    truths = {"auroc": norm.cdf(shift / np.sqrt(2)), "precision": precision, "gain": 0.0, "precision_gain": 0.0}
    held: dict[str, list[bool]] = {name: [] for name in truths}
    for _ in range(250):
        ill = (generator.random(people) < prevalence)[patients].astype(np.float64)
        if ill.sum() < 2 * FEWEST_PATIENTS:
            continue
        shared, own = generator.normal(size=people)[patients], generator.normal(size=(2, len(patients)))
        systems = [(shared + one) / np.sqrt(2) + shift * ill for one in own]
        one, other = (measured_average_precision(scores, ill, patients, people) for scores in systems)
        gained = auroc_difference(systems[:1], systems[1:], ill, patients, people)
        estimates = {
            "auroc": measured_auroc(systems[0], ill, patients, people).estimate,
            "precision": one.estimate,
            "gain": against_zero(gained).estimate,
            "precision_gain": paired_by_intervals(one, other).estimate,
        }
        for name, estimate in estimates.items():
            held[name].append(bool(estimate.low <= truths[name] <= estimate.high))
    assert all(0.92 <= np.mean(inside) <= 0.985 for inside in held.values()), {
        name: np.mean(inside) for name, inside in held.items()
    }


def test_a_proportion_that_all_patients_share_has_an_interval_of_as_many_as_they_are() -> None:
    codes, calls = np.repeat(np.arange(12), 2), np.tile([1.0, 0.0], 12)  # each patient: one film called, one not
    found = measured_rate(calls, np.ones(24, dtype=bool), codes, "here").estimate
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.243, 0.757), abs=1e-3)  # Jeffreys of 6 in 12
