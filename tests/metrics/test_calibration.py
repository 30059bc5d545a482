from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import bins_calibration_error
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from hilum.metrics.calibration import Calibration, equal_bins, logit, mean_error, measured_calibration


def some_films(
    films: int = 3000, *, slope: float = 1.0, intercept: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and patients; the true logit is slope x logit of the score + intercept."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1, 1.5, films)
    truth = 1 / (1 + np.exp(-(slope * logits + intercept)))
    labels = (generator.random(films) < truth).astype(np.float64)
    return 1 / (1 + np.exp(-logits)), labels, generator.integers(0, films // 3, films)


def measure(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> Calibration:
    return measured_calibration(scores, labels, patients, seed=0)


@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_the_oracle_and_scikit_learn(seed: int) -> None:
    scores, labels, patients = some_films(400, slope=0.5, seed=seed)
    scores = scores.round(2).clip(0.01, 0.99)  # ties
    labels[:30] = np.nan
    found = measure(scores, labels, patients)
    known = ~np.isnan(labels)
    assert found.ece.value == pytest.approx(bins_calibration_error(scores[known], labels[known], 10))
    assert found.brier.value == pytest.approx(brier_score_loss(labels[known], scores[known]))
    prevalence = labels[known].mean()
    assert found.brier_skill.value == pytest.approx(1 - found.brier.value / (prevalence * (1 - prevalence)))
    assert found.excess.value == pytest.approx(scores[known].mean() - prevalence)
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(scores[known])[:, None], labels[known])
    assert found.slope.value == pytest.approx(theirs.coef_[0, 0], abs=1e-6)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, 0.0), (1.0, -1.5), (2.0, 1.0)])
def test_a_known_miscalibration_is_found(slope: float, intercept: float) -> None:
    found = measure(*some_films(20_000, slope=slope, intercept=intercept))
    assert found.slope.estimate.low <= slope <= found.slope.estimate.high
    calibrated = (slope, intercept) == (1.0, 0.0)
    assert (found.ece.value <= found.ece_by_chance.high) == calibrated
    assert (found.excess.low <= 0 <= found.excess.high) == calibrated


def test_intervals_of_the_table_cover_the_truth() -> None:
    """Of calibrated scores, about 95 in 100 bins hold their mean score; 10 bins x 20 data sets."""
    covered = []
    for seed in range(20):
        found = measure(*some_films(1500, seed=seed))
        ends = [(one.present.estimate, one.mean_score) for one in found.bins]
        covered += [present.low <= score <= present.high for present, score in ends]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_error_by_chance_is_that_of_calibrated_scores() -> None:
    by_simulation = [measure(*some_films(500, seed=seed)).ece.value for seed in range(60)]
    by_chance = measure(*some_films(500)).ece_by_chance
    assert by_chance.value == pytest.approx(np.mean(by_simulation), abs=0.004)


def test_bins_hold_the_films_between_them() -> None:
    scores, labels, patients = some_films(500)
    labels[:7] = np.nan
    found = measure(scores, labels, patients)
    assert sum(found_bin.films for found_bin in found.bins) == 493
    assert sum(found_bin.positives for found_bin in found.bins) == np.nansum(labels)
    assert {found_bin.films for found_bin in found.bins} <= {49, 50}
    assert all(low.highest <= high.lowest for low, high in zip(found.bins, found.bins[1:], strict=False))


def test_what_cannot_be_told_is_nan() -> None:
    scores, labels, patients = some_films(60)
    nothing = measure(scores, np.full(60, np.nan), patients)
    assert np.isnan([nothing.ece.value, nothing.brier.value, nothing.ece_by_chance.value, nothing.slope.value]).all()
    assert nothing.bins == ()
    absent = measure(scores, np.zeros(60), patients)
    assert absent.ece.value == pytest.approx(scores.mean())
    assert np.isnan([absent.slope.value, absent.brier_skill.value]).all()
    assert absent.bins[0].present.value == 0
    extreme = measure(np.where(labels == 1, 1.0, scores), labels, patients)
    assert np.isnan(extreme.slope.value)
    assert np.isfinite(extreme.ece.value)
    alone = measure(scores, labels, np.zeros(60))
    assert np.isnan([alone.ece.low, alone.slope.estimate.low, alone.brier.estimate.low]).all()
    assert alone.ece.why == "too few patients with the finding: 1"


def test_what_is_no_probability_is_refused() -> None:
    scores, labels, patients = some_films(60)
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        measure(scores * 3, labels, patients)
    with pytest.raises(ValueError, match="bins must be at least 1"):
        measured_calibration(scores, labels, patients, seed=0, bins=0)


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 12))
def test_equal_scores_share_a_bin_and_order_is_kept(numbers: list[int], bins: int) -> None:
    scores = np.array(numbers, dtype=np.float64)
    places = equal_bins(scores, bins)
    assert sorted(set(places.tolist())) == list(range(int(places.max(initial=-1)) + 1))
    assert len(set(places.tolist())) <= bins
    for one, first in zip(scores, places, strict=True):
        for other, second in zip(scores, places, strict=True):
            assert one != other or first == second
            assert one <= other or first >= second


def test_the_mean_error_has_an_interval_of_its_own() -> None:
    """Of eight equal findings with errors of their own it is narrower than of one; of one it is that one's."""
    found = [measure(*some_films(1500, slope=0.6, seed=seed)) for seed in range(8)]
    people = max(len(one.gaps.parts) for one in found)
    padded = [
        replace(one, gaps=replace(one.gaps, parts=np.pad(one.gaps.parts, ((0, people - len(one.gaps.parts)), (0, 0)))))
        for one in found
    ]
    assert mean_error(padded[:1], seed=0) == found[0].ece
    mean = mean_error(padded, seed=0)
    assert mean.value == pytest.approx(np.mean([one.ece.value for one in found]))
    assert mean.low < mean.value < mean.high
    assert mean.high - mean.low < 0.6 * (found[0].ece.high - found[0].ece.low)
    assert mean_error([], seed=0).why == "no finding whose labels are known"


def test_measured_slope_moves_as_without_each_patient() -> None:
    scores, labels, patients = some_films(300, slope=0.6)
    patients = patients // 2
    found = measured_calibration(scores, labels, patients, seed=0).slope
    changes = []
    for one in np.unique(patients):
        rest = patients != one
        fit = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(scores[rest])[:, None], labels[rest])
        changes.append(found.value - fit.coef_[0, 0])
    np.testing.assert_allclose(found.parts, changes, atol=0.1 * np.std(changes))


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, 1.5)])
def test_measured_calibration_holds_the_truth(slope: float, intercept: float) -> None:
    """The same scores for an unlimited number of films are the truth; 25 sets of 800 films."""
    everyone = measured_calibration(*some_films(100_000, slope=slope, intercept=intercept, seed=99), seed=0)
    held: dict[str, list[bool]] = {}
    for seed in range(25):
        found = measured_calibration(*some_films(800, slope=slope, intercept=intercept, seed=seed), seed=0)
        for name in ("ece", "excess", "brier", "brier_skill", "slope"):
            one, truth = getattr(found, name), getattr(everyone, name).value
            low, high = (one if name in ("ece", "excess") else one.estimate)[1:3]
            held.setdefault(name, []).append(bool(low <= truth <= high))
    assert all(np.mean(inside) >= 0.88 for inside in held.values()), held


def test_what_measured_calibration_cannot_tell_is_said() -> None:
    scores, labels, patients = some_films(60)
    few = np.where(np.arange(60) < 3, 1.0, 0.0)
    rare = measured_calibration(scores, few, np.arange(60), seed=0)
    for one in (rare.ece, rare.excess, rare.brier.estimate, rare.slope.estimate, rare.brier_skill.estimate):
        assert one.why == "too few patients with the finding: 3"
        assert np.isnan(one.low)
        assert np.isfinite(one.value)
    parted = measured_calibration(np.where(labels == 1, 0.8, 0.2), labels, np.arange(60), seed=0)
    assert parted.slope.estimate.why == "not estimable: the scores separate the films perfectly"
    extreme = measured_calibration(np.where(labels == 1, 1.0, scores), labels, np.arange(60), seed=0)
    assert extreme.slope.estimate.why == "not estimable: a score is exactly 0 or 1"
    nothing = measured_calibration(scores, np.full(60, np.nan), patients, seed=0)
    assert np.isnan([nothing.ece.value, nothing.brier.value, nothing.slope.value, nothing.excess.value]).all()
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        measured_calibration(scores * 3, labels, patients, seed=0)
