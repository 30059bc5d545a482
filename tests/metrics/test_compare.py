import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hilum.metrics.bootstrap import Estimate, patient_counts
from hilum.metrics.compare import (
    Comparison,
    compare,
    compare_systems,
    holm,
    independent_difference,
    p_value,
)
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


def test_every_draw_has_the_same_patients_for_all_systems() -> None:
    scores, labels, patients = some_systems()
    result = compare(scores, labels, patients, draws=60, seed=3)
    names, codes = np.unique(patients, return_inverse=True)
    counts = np.concatenate(list(patient_counts(len(names), draws=60, seed=3)), axis=1)
    expected = []
    for draw in range(60):
        films = np.repeat(np.arange(len(labels)), counts[codes, draw].astype(int))
        values = [[auroc(table[films, i], labels[films, i]) for i in range(3)] for table in scores]
        expected.append(np.subtract(values[1], values[0]))
    for i, one in enumerate(result.pairs[0].findings):
        low, high = np.quantile([row[i] for row in expected], [0.025, 0.975])
        assert one.auroc.value == pytest.approx(auroc(scores[1][:, i], labels[:, i]) - result.auroc[0][i].value)
        np.testing.assert_allclose(one.auroc[1:3], [low, high], atol=1e-14)
    means = [row.mean() for row in expected]
    assert result.pairs[0].mean.auroc.low == pytest.approx(np.quantile(means, 0.025))
    assert result.pairs[0].mean.auroc.value == pytest.approx(result.mean[1].value - result.mean[0].value)


def plain(result: Comparison) -> list[float]:
    return [value for pair in result.pairs for one in pair.findings for value in (*one.auroc[:4], *pair.mean.auroc[:4])]


def test_the_order_of_systems_only_turns_the_sign() -> None:
    scores, labels, patients = some_systems()
    forth = compare(scores, labels, patients, draws=50, seed=0).pairs[0]
    back = compare(scores[::-1], labels, patients, draws=50, seed=0).pairs[0]
    for one, other in zip(forth.findings, back.findings, strict=True):
        assert one.auroc.value == -other.auroc.value
        assert (one.auroc.low, one.auroc.high) == pytest.approx((-other.auroc.high, -other.auroc.low))
        assert (one.p_value, one.p_value_holm) == (other.p_value, other.p_value_holm)
        assert one.delong.p_value == other.delong.p_value


def test_monotone_rescaling_of_a_system_and_the_order_of_films_change_nothing() -> None:
    scores, labels, patients = some_systems()
    result = compare(scores, labels, patients, draws=40, seed=0)
    order = np.random.default_rng(1).permutation(len(labels))
    moved = [np.exp(scores[0])[order], (5 * scores[1] - 2)[order]]
    other = compare(moved, labels[order], patients[order], draws=40, seed=0)
    np.testing.assert_allclose(plain(other), plain(result), atol=1e-14)


def test_pairing_narrows_the_interval() -> None:
    scores, labels, patients = some_systems(gains=(0.8, 0.9))
    result = compare(scores, labels, patients, draws=400, seed=0)
    paired = result.pairs[0].mean.auroc
    alone = result.mean[0]
    assert paired.high - paired.low < 0.75 * (alone.high - alone.low)


def test_three_systems_make_three_pairs() -> None:
    scores, labels, patients = some_systems(gains=(0.2, 0.5, 2.0))
    result = compare(scores, labels, patients, draws=200, seed=0)
    assert [(pair.first, pair.second) for pair in result.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert result.pairs[1].mean.p_value == pytest.approx(2 / 201)
    assert all(one.p_value <= one.p_value_holm <= 1 for pair in result.pairs for one in pair.findings)


def test_equal_systems_do_not_differ() -> None:
    scores, labels, patients = some_systems()
    pair = compare([scores[0], scores[0]], labels, patients, draws=30, seed=0).pairs[0]
    assert pair.mean == (Estimate(0.0, 0.0, 0.0, 0), 1.0)
    assert {one.p_value_holm for one in pair.findings} == {1.0}


def test_undefined_findings_are_nan_and_in_no_mean_nor_correction() -> None:
    scores, labels, patients = some_systems()
    labels[:, 1] = 0
    result = compare(scores, labels, patients, draws=30, seed=0)
    pair = result.pairs[0]
    undefined = pair.findings[1]
    assert np.isnan([undefined.auroc.value, undefined.p_value, undefined.p_value_holm, undefined.delong.p_value]).all()
    assert undefined.auroc.undefined == 30
    both = [pair.findings[i].auroc.value for i in (0, 2)]
    assert pair.mean.auroc.value == pytest.approx(np.mean(both))
    p_values = sorted((pair.findings[i].p_value, pair.findings[i].p_value_holm) for i in (0, 2))
    assert p_values[0][1] == pytest.approx(min(1, 2 * p_values[0][0]))


def test_one_patient_gives_no_interval_and_no_p_value() -> None:
    scores, labels, _ = some_systems()
    pair = compare(scores, labels, np.zeros(len(labels)), draws=20, seed=0).pairs[0]
    assert pair.mean.auroc.value > 0
    assert np.isnan([pair.mean.auroc.low, pair.mean.p_value, pair.findings[0].p_value]).all()
    assert pair.mean.auroc.undefined == 20


def test_p_values_are_uniform_where_systems_are_equally_good() -> None:
    """Two noisy readings of one signal: a p-value below 0.1 must come about one time in ten."""
    below = 0
    for seed in range(100):
        scores, labels, patients = some_systems(films=150, patients=150, gains=(1.0, 1.0), seed=seed)
        result = compare([table[:, :1] for table in scores], labels[:, :1], patients, draws=199, seed=seed)
        below += result.pairs[0].findings[0].p_value <= 0.1
    assert 3 <= below <= 20


def test_bootstrap_and_delong_agree_where_every_patient_has_one_film_and_part_where_not() -> None:
    scores, labels, _ = some_systems(films=400, gains=(0.8, 1.1))
    alone = compare(scores, labels, np.arange(400), draws=800, seed=0).pairs[0].findings[0]
    width = 2 * norm.ppf(0.975) * alone.delong.standard_error
    assert alone.auroc.high - alone.auroc.low == pytest.approx(width, rel=0.12)
    copied = [np.repeat(table, 9, axis=0) for table in scores]
    crowd = compare(copied, np.repeat(labels, 9, axis=0), np.repeat(np.arange(400), 9), draws=800, seed=0)
    clustered = crowd.pairs[0].findings[0]
    np.testing.assert_allclose(clustered.auroc[:4], alone.auroc[:4], atol=1e-12)  # copies are no news
    assert clustered.delong.standard_error == pytest.approx(alone.delong.standard_error / 3, rel=0.01)  # fooled


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


def test_p_value_by_hand() -> None:
    per_draw = np.array([0.1] * 17 + [-0.1, NAN, 0.0])
    assert p_value(0.1, per_draw) == pytest.approx(2 * 3 / 20)
    assert p_value(0.1, np.full(99, 0.1)) == pytest.approx(0.02)
    assert p_value(0.0, np.zeros(9)) == 1
    assert np.isnan([p_value(NAN, per_draw), p_value(0.1, np.full(3, NAN))]).all()


def test_mistakes_are_named() -> None:
    scores, labels, patients = some_systems()
    with pytest.raises(ValueError, match="at least two systems, got 1"):
        compare(scores[:1], labels, patients, draws=5, seed=0)
    with pytest.raises(ValueError, match=r"shape of labels, got \(240, 2\) and \(240, 3\)"):
        compare([scores[0], scores[1][:, :2]], labels, patients, draws=5, seed=0)
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
