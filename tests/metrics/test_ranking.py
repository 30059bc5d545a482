import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import pairs_auroc, threshold_average_precision
from sklearn import metrics as sklearn_metrics

from hilum.metrics.ranking import (
    auroc,
    auroc_per_finding,
    average_precision,
    average_precision_per_finding,
    roc_curve,
    thin,
)

NAN = float("nan")
film = st.tuples(st.sampled_from([-3.0, -1.0, 0.0, 0.25, 0.5, 1.0, 7.0]), st.sampled_from([0.0, 1.0, NAN]))
films = st.lists(film, max_size=30)


def test_golden_values_by_hand() -> None:
    scores, labels = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    assert auroc(scores, labels) == 0.75  # 3 of the 4 pairs
    assert average_precision(scores, labels) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    curve = roc_curve(scores, labels)
    assert curve.false_positive_rate.tolist() == [0, 0, 0.5, 0.5, 1]
    assert curve.true_positive_rate.tolist() == [0, 0.5, 0.5, 1, 1]
    assert curve.thresholds.tolist() == [np.inf, 0.8, 0.4, 0.35, 0.1]


def test_constant_scores_are_a_coin() -> None:
    labels = np.array([1, 0, 0, 1, 0])
    assert auroc(np.zeros(5), labels) == 0.5
    assert average_precision(np.zeros(5), labels) == 0.4  # the prevalence
    assert roc_curve(np.zeros(5), labels).true_positive_rate.tolist() == [0, 1]


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 0], [NAN, NAN], [1, NAN], [0, NAN]])
def test_one_class_is_undefined(labels: list[float]) -> None:
    scores = np.arange(len(labels), dtype=float)
    assert np.isnan(auroc(scores, labels))
    assert np.isnan(average_precision(scores, labels))
    curve = roc_curve(scores, labels)
    assert np.isnan(curve.true_positive_rate).all() or np.isnan(curve.false_positive_rate).all()


@given(films)
def test_equals_the_quadratic_oracle(rows: list[tuple[float, float]]) -> None:
    scores, labels = [row[0] for row in rows], [row[1] for row in rows]
    np.testing.assert_allclose(auroc(scores, labels), pairs_auroc(scores, labels), rtol=0, atol=1e-14)
    expected = threshold_average_precision(scores, labels)
    np.testing.assert_allclose(average_precision(scores, labels), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("levels", [2, 7, 100_000])
@pytest.mark.parametrize("prevalence", [0.003, 0.5, 0.99])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scikit_learn(levels: int, prevalence: float, dtype: type) -> None:
    generator = np.random.default_rng(levels)
    labels = (generator.random(3000) < prevalence).astype(int)
    scores = ((generator.integers(0, levels, 3000) + labels) / levels).astype(dtype)
    assert auroc(scores, labels) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12, rel=0)
    theirs = sklearn_metrics.average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(theirs, abs=1e-12, rel=0)
    curve = roc_curve(scores, labels)
    for our_part, their_part in zip(
        curve, sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(our_part, their_part, rtol=0, atol=1e-12)


def test_extreme_scores_keep_their_order() -> None:
    scores = np.array([-1e308, -5e-324, 0.0, 5e-324, 1e308])
    assert auroc(scores, np.array([0, 0, 1, 1, 1])) == 1.0
    assert auroc(np.array([-0.0, 0.0]), np.array([0, 1])) == 0.5


@given(films, st.randoms())
def test_order_of_films_and_scale_of_scores_do_not_matter(rows: list[tuple[float, float]], random: object) -> None:
    scores, labels = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    shuffled = np.random.default_rng(len(rows)).permutation(len(rows))
    for measure in (auroc, average_precision):
        value = measure(scores, labels)
        np.testing.assert_equal(measure(scores[shuffled], labels[shuffled]), value)
        np.testing.assert_equal(measure(np.exp(scores), labels), value)
    np.testing.assert_allclose(auroc(-scores, labels), 1 - auroc(scores, labels), atol=1e-15)


def test_labels_may_be_truth_values_and_scores_whole_numbers() -> None:
    assert auroc(np.array([1, 2, 3]), np.array([False, True, True])) == 1.0


def test_per_finding_matches_each_column() -> None:
    generator = np.random.default_rng(3)
    scores, labels = generator.random((40, 3)), (generator.random((40, 3)) < 0.4).astype(float)
    labels[:, 1] = 0
    ours = auroc_per_finding(scores, labels)
    assert np.isnan(ours[1])
    assert ours[2] == auroc(scores[:, 2], labels[:, 2])
    assert average_precision_per_finding(scores, labels)[0] == average_precision(scores[:, 0], labels[:, 0])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, NAN], [0, 1], "scores must be finite, got nan at index 1"),
        ([0.1, np.inf], [0, 1], "scores must be finite, got inf at index 1"),
        ([0.1, 0.2], [0, 2], "labels must be 0, 1 or NaN, got 2.0 at index 1"),
        ([0.1, 0.2], [0], "scores and labels must be of one length"),
    ],
)
def test_mistakes_are_named(scores: list[float], labels: list[float], message: str) -> None:
    for measure in (auroc, average_precision, roc_curve):
        with pytest.raises(ValueError, match=message):
            measure(scores, labels)


def test_per_finding_refuses_unequal_shapes() -> None:
    with pytest.raises(ValueError, match="one shape"):
        auroc_per_finding(np.zeros((3, 2)), np.zeros((3, 1)))


@pytest.mark.parametrize("points", [2, 3, 50, 200])
def test_thin_keeps_the_ends_and_the_area(points: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.random(5000) < 0.1
    curve = roc_curve(generator.random(5000) + 0.5 * labels, labels)
    thinned = thin(curve, points)
    assert len(thinned.thresholds) <= points
    assert (thinned.false_positive_rate[0], thinned.true_positive_rate[0]) == (0, 0)
    assert (thinned.false_positive_rate[-1], thinned.true_positive_rate[-1]) == (1, 1)
    assert (np.diff(thinned.true_positive_rate) >= 0).all()
    if points == 200:
        area = np.trapezoid(thinned.true_positive_rate, thinned.false_positive_rate)
        assert area == pytest.approx(np.trapezoid(curve.true_positive_rate, curve.false_positive_rate), abs=2e-3)


def test_thin_leaves_short_curves_alone_and_refuses_one_point() -> None:
    curve = roc_curve([0.1, 0.2, 0.3], [0, 1, 1])
    assert thin(curve, 200) is curve
    with pytest.raises(ValueError, match="points must be at least 2"):
        thin(curve, 1)
