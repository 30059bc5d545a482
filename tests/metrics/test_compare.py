import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import pairs_placements
from scipy.stats import norm

from hilum.metrics.bootstrap import patient_counts
from hilum.metrics.compare import Comparison, compare, holm, p_value, placements
from hilum.metrics.ranking import auroc

NAN = float("nan")

OVARIAN = """
3.0 5.8 10 0  3.2 6.3  5 1  3.9 6.8  3 1  2.8 4.8  6 0  3.2 5.8  3 1  0.9 4.0  5 0  2.5 5.7  8 0  1.6 5.6  5 1
3.8 5.7  5 1  3.7 6.7  6 1  3.2 5.4  4 1  3.8 6.6  6 1  4.1 6.6  5 1  3.6 5.7  5 1  4.3 7.0  4 1  3.6 6.7  4 0
2.3 4.4  6 1  4.2 7.6  4 0  4.0 6.6  6 0  3.5 5.8  6 1  3.8 6.8  7 1  3.0 4.7  8 0  4.5 7.4  5 1  3.7 7.4  5 1
3.1 6.6  6 1  4.1 8.2  6 1  4.3 7.0  5 1  4.3 6.5  4 1  3.2 5.1  5 1  2.6 4.7  6 1  3.3 6.8  6 0  1.7 4.0  7 0
3.7 6.1  5 1  3.3 6.3  7 1  4.2 7.7  6 1  3.5 6.2  5 1  2.9 5.7  9 0  2.1 4.8  7 1  2.8 6.2  8 0  4.0 7.0  7 1
3.3 5.7  6 1  3.7 6.9  5 1  3.6 6.6  5 1
"""
"""DeLong's own example: albumin, total protein, K-G score (low is good) and outcome of 43 patients with ovarian cancer.

Source of the data: SAS/STAT 14.1, PROC LOGISTIC, example "Comparing Receiver Operating Characteristic Curves".
https://support.sas.com/documentation/cdl/en/statug/68162/HTML/default/statug_logistic_examples08.htm
The page's printed results could not be read; the values below were computed over all pairs, apart from Hilum.
"""


def ovarian() -> tuple[np.ndarray, np.ndarray]:
    table = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4)
    return np.stack([table[:, 0], table[:, 1], 10 - table[:, 2]], axis=1), table[:, 3]


def some_systems(
    films: int = 240, patients: int = 70, gains: tuple[float, ...] = (0.3, 1.5), seed: int = 0
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (generator.random((films, 3)) < 0.3).astype(float)
    shared = generator.normal(size=labels.shape)
    scores = [gain * labels + shared + 0.5 * generator.normal(size=labels.shape) for gain in gains]
    return scores, labels, generator.integers(0, patients, films)


def test_delong_on_delongs_own_example() -> None:
    scores, labels = ovarian()
    found = placements(scores, labels)
    assert (len(found.present), len(found.absent)) == (31, 12)
    np.testing.assert_allclose(found.auroc, [0.7366, 0.6478, 0.7258], atol=5e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), [0.0927, 0.1000, 0.1028], atol=5e-5)
    albumin, protein = found.test(2, 0), found.test(2, 1)
    np.testing.assert_allclose(albumin, [0.0108, 0.0953, 0.9102], atol=5e-5)
    np.testing.assert_allclose(protein, [-0.0780, 0.1046, 0.4561], atol=5e-5)
    contrast = np.array([[1, 0, -1], [0, 1, -1]])
    differences = contrast @ found.auroc
    chi_square = differences @ np.linalg.solve(contrast @ found.covariance @ contrast.T, differences)
    assert chi_square == pytest.approx(2.5340, abs=5e-5)


def test_delong_by_hand() -> None:
    """Present 3, 1, absent 2, 1: placements 1 and 1/4, and 1/2 and 3/4. Variances 0.28125 / 2 and 0.03125 / 2."""
    found = placements(np.array([[3.0], [1.0], [2.0], [1.0]]), [1, 1, 0, 0])
    np.testing.assert_allclose(found.present[:, 0], [1, 0.25])
    np.testing.assert_allclose(found.absent[:, 0], [0.5, 0.75])
    assert found.auroc[0] == 0.625
    assert found.covariance[0, 0] == pytest.approx(0.15625)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 1.0, NAN])), min_size=1, max_size=20)
)
def test_delong_equals_the_oracle_over_all_pairs(rows: list[tuple[int, int, float]]) -> None:
    table = np.array(rows, dtype=float)
    found = placements(table[:, :2], table[:, 2])
    for system in range(2):
        present, absent = pairs_placements(table[:, system].tolist(), table[:, 2].tolist())
        if not present or not absent:
            assert np.isnan(found.auroc[system])
            continue
        np.testing.assert_allclose(found.present[:, system], present, atol=1e-14)
        np.testing.assert_allclose(found.absent[:, system], absent, atol=1e-14)
        assert found.auroc[system] == pytest.approx(auroc(table[:, system], table[:, 2]), abs=1e-14)
    enough = min((table[:, 2] == 1).sum(), (table[:, 2] == 0).sum()) >= 2
    assert np.isnan(found.covariance).all() != enough
    if enough:
        variance = found.covariance[0, 0] + found.covariance[1, 1] - 2 * found.covariance[0, 1]
        assert found.test(0, 1).standard_error ** 2 == pytest.approx(variance, abs=1e-14)


def test_delong_of_equal_systems_is_exactly_nothing() -> None:
    scores, labels = ovarian()
    assert placements(scores[:, [0, 0]], labels).test(0, 1) == (0.0, 0.0, 1.0)


def test_delong_gives_no_p_value_where_the_difference_cannot_vary() -> None:
    scores = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    test = placements(scores, [1, 1, 0, 0]).test(0, 1)
    assert (test.difference, test.standard_error) == (-0.5, 0.0)
    assert np.isnan(test.p_value)


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
    return [value for pair in result.pairs for one in pair.findings for value in (*one.auroc, *pair.mean.auroc)]


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
    assert pair.mean == ((0.0, 0.0, 0.0, 0), 1.0)
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
    np.testing.assert_allclose(clustered.auroc, alone.auroc, atol=1e-12)  # copies are no news
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
