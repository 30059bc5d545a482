import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from hilum.evaluation.curves import curve_json
from hilum.metrics.ranking import roc_curve, thin


def test_precision_and_recall_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random(60) < 0.3).astype(np.float64)
    scores = generator.random(60).round(2)
    found = curve_json(roc_curve(scores, labels), 60, int(labels.sum()))
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    kept = len(found["threshold"]) - 1
    assert found["threshold"][0] is found["precision"][0] is None  # nothing is called
    np.testing.assert_allclose(found["threshold"][1:], thresholds[::-1][:kept], rtol=1e-6)
    np.testing.assert_allclose(found["precision"][1:], precision[:-1][::-1][:kept], atol=1e-6)
    np.testing.assert_allclose(found["true_positive_rate"][1:], recall[:-1][::-1][:kept], atol=1e-6)


def test_a_thinned_curve_keeps_its_counts() -> None:
    generator = np.random.default_rng(1)
    labels = (generator.random(500) < 0.1).astype(np.float64)
    scores = generator.random(500)
    found = curve_json(thin(roc_curve(scores, labels), 40), 500, int(labels.sum()))
    assert len(found["threshold"]) <= 40
    for rate, precision, threshold in list(
        zip(found["true_positive_rate"], found["precision"], found["threshold"], strict=True)
    )[1:]:
        called = scores >= threshold - 1e-6
        assert rate == pytest.approx(called[labels == 1].mean(), abs=1e-6)
        assert precision == pytest.approx(labels[called].mean(), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_has_no_curve(value: float) -> None:
    curve = roc_curve([0.1, 0.2], [value, value])
    assert all(column == [] for column in curve_json(curve, 2, 2 * int(value)).values())
