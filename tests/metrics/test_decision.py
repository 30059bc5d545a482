"""Net benefit against its definition, film by film and patient by patient."""

import numpy as np
import pytest

from hilum.metrics.decision import STEPS, decision_curve, gains_on_both, thresholds


def slow_net_benefit(scores: list[float], labels: list[float], threshold: float) -> float:
    """Vickers and Elkin 2006: true positives / n - false positives / n x odds."""
    hits = sum(1 for score, label in zip(scores, labels, strict=True) if score >= threshold and label == 1)
    needless = sum(1 for score, label in zip(scores, labels, strict=True) if score >= threshold and label == 0)
    films = sum(label in (0, 1) for label in labels)
    return hits / films - needless / films * threshold / (1 - threshold)


def some_films(seed: int = 0, films: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, films // 3, films)
    logits = generator.normal(-2, 1.2, films) + generator.normal(0, 0.7, films // 3)[patients]
    scores = 1 / (1 + np.exp(-logits))
    labels = (generator.random(films) < scores).astype(np.float64)
    labels[:7] = np.nan
    return scores, labels, patients


def test_every_point_is_the_definitions() -> None:
    scores, labels, patients = some_films()
    curve = decision_curve(scores, labels, patients)
    assert len(curve) == STEPS
    for one in curve:
        own = slow_net_benefit(scores.tolist(), labels.tolist(), one.threshold)
        everyone = slow_net_benefit([1.0] * len(scores), labels.tolist(), one.threshold)
        assert one.net_benefit.value == pytest.approx(own, abs=1e-12)
        assert one.treat_all.value == pytest.approx(everyone, abs=1e-12)
        assert one.gain.value == pytest.approx(own - max(everyone, 0.0), abs=1e-12)


def test_the_interval_is_as_wide_as_resampled_patients_make_it() -> None:
    scores, labels, patients = some_films()
    one = decision_curve(scores, labels, patients)[10]
    generator, values = np.random.default_rng(1), []
    rows = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    for _ in range(400):
        drawn = np.concatenate([rows[i] for i in generator.integers(0, len(rows), len(rows))])
        values.append(slow_net_benefit(scores[drawn].tolist(), labels[drawn].tolist(), one.threshold))
    error = (one.net_benefit.estimate.high - one.net_benefit.estimate.low) / 2 / 1.97
    assert error == pytest.approx(np.std(values), rel=0.15)


def test_good_scores_beat_both_defaults_and_noise_does_not() -> None:
    scores, labels, patients = some_films(films=3000)
    assert any(map(gains_on_both, decision_curve(scores, labels, patients)))
    noise = np.random.default_rng(5).permutation(scores)
    assert not any(map(gains_on_both, decision_curve(noise, labels, patients)))


def test_few_patients_have_a_word_and_one_class_has_no_curve() -> None:
    scores, labels, patients = some_films()
    rare = np.where(np.cumsum(np.nan_to_num(labels)) <= 3, labels, np.where(labels == 1, 0.0, labels))
    curve = decision_curve(scores, rare, patients)
    assert curve[0].net_benefit.estimate.why == curve[0].gain.estimate.why == "too few patients with the finding: 3"
    assert not gains_on_both(curve[0])
    assert decision_curve(scores, labels * 0, patients) == ()


@pytest.mark.parametrize(("prevalence", "limit"), [(0.001, 0.1), (0.05, 0.2), (0.5, 0.95)])
def test_thresholds_end_where_calling_none_is_hard_to_beat(prevalence: float, limit: float) -> None:
    found = thresholds(prevalence)
    assert len(found) == STEPS
    assert found[0] > 0
    assert found[-1] == pytest.approx(limit)
