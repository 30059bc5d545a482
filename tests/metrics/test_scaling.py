import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression

from hilum.metrics.calibration import (
    fit_logistic,
    logit,
    measured_calibration,
    platt_lines,
    smoothed,
    temperature_lines,
)


def some_logits(films: int, *, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of three findings whose true logit is slope x logit + intercept."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1, 1.5, (films, 3))
    truth = 1 / (1 + np.exp(-(slope * logits + intercept)))
    return logits, (generator.random((films, 3)) < truth).astype(np.float64)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.3, -1.0), (3.0, 1.0)])
def test_a_deliberately_miscalibrated_model_comes_back(slope: float, intercept: float) -> None:
    logits, labels = some_logits(8000, slope=slope, intercept=intercept)
    lines = platt_lines(logits, labels)
    for line in lines:
        assert line.slope == pytest.approx(slope, abs=0.06 + 0.06 * slope)  # three standard errors
        assert line.intercept == pytest.approx(intercept, abs=0.15)
        assert line.how == "its own slope and intercept"
    unseen, truth = some_logits(8000, slope=slope, intercept=intercept, seed=1)
    patients = np.arange(8000)
    for k, line in enumerate(lines):
        scores = 1 / (1 + np.exp(-(line.slope * unseen[:, k] + line.intercept)))
        after = measured_calibration(scores, truth[:, k], patients, seed=0)
        before = measured_calibration(1 / (1 + np.exp(-unseen[:, k])), truth[:, k], patients, seed=0)
        assert after.ece.value <= 1.5 * after.ece_by_chance.high
        assert after.slope.value == pytest.approx(1, abs=0.1)
        if (slope, intercept) != (1.0, 0.0):
            assert after.ece.value < before.ece.value / 3
            assert after.brier.value < before.brier.value


def test_a_temperature_comes_back_from_all_findings_together() -> None:
    logits, labels = some_logits(3000, slope=1 / 2.5, intercept=0.0)
    labels[::7, 0] = np.nan
    lines = temperature_lines(logits, labels)
    assert len(set(lines)) == 1
    assert 1 / lines[0].slope == pytest.approx(2.5, rel=0.08)
    assert lines[0].intercept == 0
    assert temperature_lines(-logits, labels)[0].slope == 1


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_scikit_learns(seed: int) -> None:
    generator = np.random.default_rng(seed)
    features = np.hstack([generator.normal(2, 5, (80, 2)), np.ones((80, 1))])
    targets = generator.random(80)
    both, weights = np.tile([1, 0], (80, 1)).T.ravel(), np.concatenate([targets, 1 - targets])
    theirs = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(
        np.vstack([features[:, :2]] * 2), both, sample_weight=weights
    )
    expected = [*theirs.coef_[0], theirs.intercept_[0]]
    np.testing.assert_allclose(fit_logistic(features, targets), expected, atol=2e-4)


def test_rare_findings_share_a_slope_and_say_so() -> None:
    logits, labels = some_logits(2000, slope=0.5, intercept=-1.0)
    rare = np.flatnonzero(labels[:, 2] == 1)[:4]
    labels[:, 2] = 0
    labels[rare, 2] = 1
    lines = platt_lines(logits, labels)
    assert lines[2].slope == pytest.approx(0.5, rel=0.15)
    assert lines[2].how == (
        "the slope of all findings and its own intercept: "
        "4 films with and 1,996 without it are too few for its own slope"
    )
    expected = 1 / (1 + np.exp(-(lines[2].slope * logits[:, 2] + lines[2].intercept)))
    assert expected.mean() == pytest.approx(smoothed(labels[:, 2]).mean())


def test_a_finding_never_seen_gets_about_one_in_as_many_films() -> None:
    logits, labels = some_logits(100, slope=1, intercept=0)
    labels[:, 1] = 0
    labels[:, 2] = np.nan
    lines = platt_lines(logits, labels)
    scores = 1 / (1 + np.exp(-(lines[1].slope * logits[:, 1] + lines[1].intercept)))
    assert scores.mean() == pytest.approx(1 / 102)
    assert lines[2].intercept == 0
    assert lines[2].how == "the slope of all findings: no label is known"


def test_scores_that_fall_with_a_finding_are_not_turned_over() -> None:
    logits, labels = some_logits(1000, slope=1, intercept=0)
    logits[:, 0] *= -1
    line = platt_lines(logits, labels)[0]
    assert line.slope > 0
    assert line.how == "the slope of all findings and its own intercept: its scores do not rise with it"
    line = platt_lines(-logits[:, 1:], labels[:, 1:])[0]
    assert line.slope == 1
    assert line.how.startswith("slope 1 and its own intercept")


def test_a_perfect_separation_stays_finite() -> None:
    labels = np.repeat([[0.0], [1.0]], 30, axis=0)
    line = platt_lines(labels * 2 - 1, labels)[0]
    assert np.isfinite(line.slope)
    assert line.slope == pytest.approx(np.log(31), rel=1e-6)  # both targets are met exactly: 31/32 and 1/32
    assert np.isfinite(temperature_lines(labels * 2 - 1, labels)[0].slope)


@settings(max_examples=25)
@given(
    arrays(np.float64, (25, 2), elements=st.floats(-80, 80)),
    arrays(np.float64, (25, 2), elements=st.sampled_from([0.0, 1.0, np.nan])),
)
def test_whatever_comes_lines_are_finite_and_rise(logits: np.ndarray, labels: np.ndarray) -> None:
    for line in (*platt_lines(logits, labels), *temperature_lines(logits, labels)):
        assert np.isfinite([line.slope, line.intercept]).all()
        assert line.slope > 0


def test_shapes_must_agree_and_logit_is_the_reverse() -> None:
    for lines in (platt_lines, temperature_lines):
        with pytest.raises(ValueError, match="one shape"):
            lines(np.zeros((3, 2)), np.zeros((3, 1)))
    assert logit(np.array([0.5, 0.9])) == pytest.approx([0, np.log(9)])
