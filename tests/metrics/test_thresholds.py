import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import tried_threshold
from scipy.stats import norm
from sklearn.metrics import roc_curve

from hilum.metrics.operating_points import OPERATING_POINTS, Rule
from hilum.metrics.thresholds import Threshold, choose, predictive_values


def some_films(films: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (generator.random(films) < 0.2).astype(np.float64)
    return (generator.normal(labels, 1) / 10 + 0.5).round(2), labels, generator.integers(0, films // 2, films)


def chosen(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray, rule: Rule) -> Threshold:
    threshold = choose(scores, labels, patients, rule)
    assert threshold is not None
    return threshold


@pytest.mark.parametrize("rule", [point.rule for point in OPERATING_POINTS.values()], ids=[*OPERATING_POINTS])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_those_of_trying_all(rule: Rule, seed: int) -> None:
    scores, labels, patients = some_films(120, seed)
    found = chosen(scores, labels, patients, rule)
    assert found.value == tried_threshold(scores.tolist(), labels.tolist(), scores.tolist(), rule.name, rule.aim)


@pytest.mark.parametrize("patients_of", [1, 3])
def test_youdens_band_is_that_of_a_slow_count(patients_of: int) -> None:
    """Every threshold is set against the chosen one: what it loses, and the patients' errors of that, one by one."""
    scores, labels, _ = some_films(150)
    patients = np.arange(150) // patients_of
    found = chosen(scores, labels, patients, OPERATING_POINTS["youden"].rule)
    positives, negatives = labels.sum(), (1 - labels).sum()
    weight = np.where(labels == 1, 1 / positives, -1 / negatives)
    accepted = []
    for threshold in np.unique(scores):
        moved = np.where(scores >= threshold, weight, 0) - np.where(scores >= found.value, weight, 0)
        errors = [moved[patients == one].sum() ** 2 for one in np.unique(patients)]
        if -moved.sum() <= 1.4 * np.sqrt(np.sum(errors) + 1 / positives**2):
            accepted.append(threshold)
    below = scores[scores < min(accepted)]
    assert found.low == (below.max() if len(below) else -np.inf)
    assert found.high == max(accepted)


def test_bands_hold_the_threshold_of_all_patients() -> None:
    """Two films a patient, normal scores: sensitivity of 90 %, specificity of 90 %, largest sum at half the shift."""
    generator = np.random.default_rng(0)
    truths = {"youden": 0.7, "sensitivity-90": 1.4 + norm.ppf(0.1), "specificity-90": norm.ppf(0.9)}
    held: dict[str, list[bool]] = {name: [] for name in truths}
    for _ in range(150):
        patients, labels = np.repeat(np.arange(150), 2), (generator.random(300) < 0.25).astype(np.float64)
        shared, own = generator.normal(size=150)[patients], generator.normal(size=300)
        scores = (shared + own) / np.sqrt(2) + 1.4 * labels
        for name, truth in truths.items():
            band = chosen(scores, labels, patients, OPERATING_POINTS[name].rule)
            held[name].append(bool(band.low <= truth <= band.high))
    assert all(0.9 <= np.mean(inside) <= 0.99 for inside in held.values())


def test_too_few_patients_give_no_band_but_a_word() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.random(200), (np.arange(200) < 9).astype(np.float64)
    for name in ("youden", "sensitivity-90"):
        found = chosen(scores, labels, np.arange(200), OPERATING_POINTS[name].rule)
        assert (found.low, found.high) == (-np.inf, np.inf)
        assert found.why == "too few patients with the finding: 9"
    assert not chosen(scores, labels, np.arange(200), OPERATING_POINTS["specificity-90"].rule).why
    assert (
        chosen(scores, labels, np.arange(200) // 25, OPERATING_POINTS["alarms-10"].rule).why
        == "too few patients here: 8"
    )


def test_a_sensitivity_that_few_films_cannot_bound_has_an_open_end() -> None:
    generator = np.random.default_rng(0)
    labels = (np.arange(300) < 12).astype(np.float64)
    found = chosen(generator.normal(labels), labels, np.arange(300), OPERATING_POINTS["sensitivity-90"].rule)
    assert found.low == -np.inf
    assert np.isfinite(found.high)


def test_youden_is_scikit_learns() -> None:
    scores, labels, patients = some_films()
    false_rate, true_rate, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    assert (
        chosen(scores, labels, patients, OPERATING_POINTS["youden"].rule).value
        == thresholds[np.argmax(true_rate - false_rate)]
    )


def test_what_is_aimed_at_is_reached_and_a_step_further_would_miss_it() -> None:
    scores, labels, patients = some_films()
    present, absent = scores[labels == 1], scores[labels == 0]
    sensitive = chosen(scores, labels, patients, OPERATING_POINTS["sensitivity-90"].rule).value
    assert (present >= sensitive).mean() >= 0.9 > (present > sensitive).mean()
    specific = chosen(scores, labels, patients, OPERATING_POINTS["specificity-90"].rule).value
    below = scores[scores < specific].max()
    assert (absent < specific).mean() >= 0.9 > (absent < below).mean()
    quiet = chosen(scores, labels, patients, OPERATING_POINTS["alarms-10"].rule).value
    assert (scores >= quiet).mean() <= 0.1 < (scores >= scores[scores < quiet].max()).mean()


def test_a_band_holds_the_threshold_and_narrows_with_more_films() -> None:
    widths = []
    for films in (100, 6400):
        found = chosen(*some_films(films), OPERATING_POINTS["specificity-90"].rule)
        assert found.low <= found.value <= found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3


def test_nobody_may_be_called() -> None:
    scores, labels, patients = np.full(20, 0.5), np.repeat([0.0, 1.0], 10), np.arange(20)
    found = chosen(scores, labels, patients, OPERATING_POINTS["alarms-10"].rule)
    assert 0.5 < found.value < 0.500001
    assert np.float32(0.5) < found.value  # also for scores in 32 bits


@pytest.mark.parametrize(
    ("labels", "possible"),
    [
        ([1.0, 1.0, 1.0], {"sensitivity-90", "alarms-10"}),
        ([0.0, 0.0, np.nan], {"specificity-90", "alarms-10"}),
        ([np.nan, np.nan, np.nan], set()),
    ],
)
def test_what_films_do_not_show_has_no_threshold(labels: list[float], possible: set[str]) -> None:
    scores, patients = np.array([0.1, 0.2, 0.3]), np.arange(3)
    found = {name for name, point in OPERATING_POINTS.items() if choose(scores, np.array(labels), patients, point.rule)}
    assert found == possible


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30),
    st.sampled_from(list(OPERATING_POINTS)),
)
def test_unknown_labels_change_nothing(films: list[tuple[int, bool]], name: str) -> None:
    scores, labels = np.array([score / 5 for score, _ in films]), np.array([float(label) for _, label in films])
    plain = choose(scores, labels, np.arange(len(films)), OPERATING_POINTS[name].rule)
    more = choose(
        np.append(scores, 0.99), np.append(labels, np.nan), np.arange(len(films) + 1), OPERATING_POINTS[name].rule
    )
    assert (plain and plain.value) == (more and more.value)


def test_predictive_values_are_bayes() -> None:
    ppv, npv = predictive_values(np.array([0.8, 0.0, 1.0]), np.array([0.9, 1.0, 0.0]), 0.05)
    assert ppv[0] == pytest.approx(0.8 * 0.05 / (0.8 * 0.05 + 0.1 * 0.95))
    assert npv[0] == pytest.approx(0.9 * 0.95 / (0.9 * 0.95 + 0.2 * 0.05))
    assert np.isnan(ppv[1])
    assert np.isnan(npv[2])
    with pytest.raises(ValueError, match="prevalence must be in"):
        predictive_values(np.array([0.8]), np.array([0.9]), 1.0)
