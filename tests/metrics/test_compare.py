import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.compare import compare_systems, holm, independent_difference
from hilum.metrics.ranking import auroc, auroc_per_finding, placements

NAN = float("nan")


def some_systems(
    films: int = 240, patients: int = 70, gains: tuple[float, ...] = (0.3, 1.5), seed: int = 0
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (generator.random((films, 3)) < 0.3).astype(float)
    shared = generator.normal(size=labels.shape)
    scores = [gain * labels + shared + 0.5 * generator.normal(size=labels.shape) for gain in gains]
    return scores, labels, generator.integers(0, patients, films)


def test_holm_by_hand() -> None:
    found = holm(np.array([0.01, 0.04, NAN, 0.03, 0.5]))
    np.testing.assert_allclose(found, [0.04, 0.09, NAN, 0.09, 0.5])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1, 1])
    assert np.isnan(holm(np.array([NAN]))).all()


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_its_definition(p_values: list[float]) -> None:
    given_values = np.array(p_values)
    found = holm(given_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        steps = [min(1.0, (len(order) - k) * p_values[j]) for k, j in enumerate(order[: rank + 1])]
        assert found[i] == pytest.approx(max(steps))


def test_mistakes_are_named() -> None:
    scores, labels, patients = some_systems()
    with pytest.raises(ValueError, match="at least one table of scores each, got none"):
        compare_systems([[scores[0]], []], labels, patients)
    with pytest.raises(ValueError, match=r"shape of labels, got \(240, 2\) and \(240, 3\)"):
        compare_systems([[scores[0]], [scores[1][:, :2]]], labels, patients)
    with pytest.raises(ValueError, match="of one length, got 3 and 2"):
        placements(np.zeros((3, 1)), [0, 1])
    with pytest.raises(ValueError, match="finite"):
        placements(np.full((2, 1), NAN), [0, 1])


def test_differences_of_independent_measures_come_from_their_intervals() -> None:
    first, second = Estimate(0.8, 0.7, 0.85, 1), Estimate(0.6, 0.55, 0.64, 2)
    difference, p = independent_difference(first, second)
    assert difference[:3] == pytest.approx((-0.2, -0.2 - np.hypot(0.05, 0.05), -0.2 + np.hypot(0.04, 0.1)))
    assert difference.undefined == 3
    assert p == pytest.approx(2 * norm.sf(norm.ppf(0.975) * 0.2 / np.hypot(0.04, 0.1)))
    turned, same = independent_difference(second, first)
    assert turned[:3] == pytest.approx((0.2, -difference.high, -difference.low))
    assert same == pytest.approx(p)
    assert independent_difference(first, first)[1] == 1
    touching = Estimate(0.7, 0.7, 0.7, 0), Estimate(0.8, 0.7, 0.85, 0)
    assert independent_difference(*touching)[1] == pytest.approx(0.05)  # as its interval, which begins at 0
    nowhere, p = independent_difference(first, Estimate(0.6, NAN, NAN, 5))
    assert nowhere.value == pytest.approx(-0.2)
    assert np.isnan([nowhere.low, nowhere.high, p]).all()


def test_pairs_of_systems_are_tested_finding_by_finding_and_the_rare_are_not() -> None:
    scores, labels, patients = some_systems(films=400, patients=200, gains=(0.4, 1.6))
    labels[:, 2] = 0
    labels[:5, 2] = 1
    result = compare_systems([[table] for table in scores], labels, patients)
    pair = result.pairs[0]
    for i in (0, 1):
        one, precision = pair.auroc[i], pair.average_precision[i]
        values = [auroc(table[:, i], labels[:, i]) for table in scores]
        assert one.estimate.value == pytest.approx(values[1] - values[0])
        assert 0 < one.estimate.low < one.estimate.value < one.estimate.high
        assert one.p_value <= one.p_value_holm <= 2 * one.p_value
        assert precision.estimate.low < precision.estimate.value < precision.estimate.high
    for rare in (pair.auroc[2], pair.average_precision[2]):
        assert rare.estimate.why == "too few patients with the finding: 5"
        assert np.isnan([rare.estimate.low, rare.p_value, rare.p_value_holm]).all()
    means = [auroc_per_finding(table, labels).mean() for table in scores]
    assert pair.mean_auroc.estimate.value == pytest.approx(means[1] - means[0])
    assert pair.mean_auroc.estimate.low < pair.mean_auroc.estimate.value
    back = compare_systems([[table] for table in scores[::-1]], labels, patients).pairs[0]
    for here, there in ((pair.auroc[0], back.auroc[0]), (pair.average_precision[0], back.average_precision[0])):
        assert here.estimate[:3] == pytest.approx(
            (-there.estimate.value, -there.estimate.high, -there.estimate.low), abs=1e-12
        )
        assert here.p_value == pytest.approx(there.p_value)
    same = compare_systems([[scores[0]], [scores[0]]], labels, patients).pairs[0]
    assert (same.auroc[0].estimate, same.auroc[0].p_value) == (Estimate(0.0, 0.0, 0.0, 0), 1.0)
    assert (same.average_precision[0].estimate, same.mean_auroc.p_value) == (Estimate(0.0, 0.0, 0.0, 0), 1.0)


def test_seeds_are_averaged_before_systems_are_compared() -> None:
    scores, labels, patients = some_systems(gains=(0.5, 0.5, 1.0))
    seeded = compare_systems([scores[:2], scores[2:]], labels, patients)
    values = [np.mean([auroc(table[:, 0], labels[:, 0]) for table in tables]) for tables in (scores[:2], scores[2:])]
    assert seeded.systems[0].auroc[0].value == pytest.approx(values[0])
    assert seeded.pairs[0].auroc[0].estimate.value == pytest.approx(values[1] - values[0])


def test_equal_systems_are_seldom_told_apart_after_correction() -> None:
    """Six findings of 12 to 80 patients, two readings of the same quality: seldom."""
    generator = np.random.default_rng(0)
    accused = means = 0
    for _ in range(60):
        labels = (generator.random((200, 6)) < np.linspace(0.08, 0.4, 6)).astype(np.float64)
        shared = generator.normal(size=labels.shape)
        scores = [[labels + shared + generator.normal(size=labels.shape)] for _ in range(2)]
        pair = compare_systems(scores, labels, np.arange(200)).pairs[0]
        accused += np.nanmin([one.p_value_holm for one in pair.auroc]) < 0.05
        means += pair.mean_auroc.p_value < 0.05
    assert accused <= 7
    assert means <= 7


def test_monotone_rescaling_of_a_system_and_the_order_of_films_change_nothing() -> None:
    scores, labels, patients = some_systems()
    result = compare_systems([[table] for table in scores], labels, patients).pairs[0]
    order = np.random.default_rng(1).permutation(len(labels))
    moved = [[np.exp(scores[0])[order]], [(5 * scores[1] - 2)[order]]]
    other = compare_systems(moved, labels[order], patients[order]).pairs[0]
    for one, same in zip((*result.auroc, result.mean_auroc), (*other.auroc, other.mean_auroc), strict=True):
        np.testing.assert_allclose(one.estimate[:3], same.estimate[:3], atol=1e-12)
        assert one.p_value == pytest.approx(same.p_value)


def test_pairing_narrows_the_interval() -> None:
    scores, labels, patients = some_systems(gains=(0.8, 0.9))
    result = compare_systems([[table] for table in scores], labels, patients)
    paired, alone = result.pairs[0].mean_auroc.estimate, result.systems[0].mean_auroc.estimate
    assert paired.high - paired.low < 0.75 * (alone.high - alone.low)


def test_pairs_are_all_or_those_asked_for() -> None:
    scores, labels, patients = some_systems(gains=(0.2, 0.5, 2.0))
    systems = [[table] for table in scores]
    every = compare_systems(systems, labels, patients)
    assert [(pair.first, pair.second) for pair in every.pairs] == [(0, 1), (0, 2), (1, 2)]
    [asked] = compare_systems(systems, labels, patients, pairs=[(2, 0)]).pairs
    assert (asked.first, asked.second) == (2, 0)
    assert asked.mean_auroc.estimate.value == pytest.approx(-every.pairs[1].mean_auroc.estimate.value)
    assert asked.mean_auroc.p_value == pytest.approx(every.pairs[1].mean_auroc.p_value)


def test_copies_of_films_are_no_news() -> None:
    scores, labels, _ = some_systems(films=400, gains=(0.8, 1.1))
    alone = compare_systems([[table] for table in scores], labels, np.arange(400)).pairs[0]
    copied = [[np.repeat(table, 9, axis=0)] for table in scores]
    crowd = compare_systems(copied, np.repeat(labels, 9, axis=0), np.repeat(np.arange(400), 9)).pairs[0]
    np.testing.assert_allclose(crowd.auroc[0].estimate[:3], alone.auroc[0].estimate[:3], atol=1e-12)


def test_one_patient_gives_no_interval_and_no_p_value() -> None:
    scores, labels, _ = some_systems()
    pair = compare_systems([[table] for table in scores], labels, np.zeros(len(labels))).pairs[0]
    assert pair.mean_auroc.estimate.value > 0
    assert np.isnan([pair.mean_auroc.estimate.low, pair.mean_auroc.p_value, pair.auroc[0].p_value]).all()
    assert pair.mean_auroc.estimate.why == "too few patients with any finding: 1"


def test_undefined_findings_are_in_no_mean_nor_correction() -> None:
    scores, labels, patients = some_systems()
    labels[:, 1] = 0
    pair = compare_systems([[table] for table in scores], labels, patients).pairs[0]
    undefined = pair.auroc[1]
    assert np.isnan([undefined.estimate.value, undefined.p_value, undefined.p_value_holm]).all()
    assert undefined.estimate.why == "no film with the finding"
    assert pair.mean_auroc.estimate.value == pytest.approx(np.mean([pair.auroc[i].estimate.value for i in (0, 2)]))
    p_values = sorted((pair.auroc[i].p_value, pair.auroc[i].p_value_holm) for i in (0, 2))
    assert p_values[0][1] == pytest.approx(min(1, 2 * p_values[0][0]))
