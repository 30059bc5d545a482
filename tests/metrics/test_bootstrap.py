import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from hilum.metrics import bootstrap as module
from hilum.metrics.bootstrap import bootstrap, estimate, macro_mean, patient_counts
from hilum.metrics.ranking import auroc, average_precision

NAN = float("nan")


def some_films(films: int = 300, patients: int = 60, findings: int = 3, levels: int = 25, seed: int = 0):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(seed)
    labels = (generator.random((films, findings)) < 0.15).astype(float)
    scores = (generator.integers(0, levels, (films, findings)) + 4 * labels) / levels
    return scores, labels, generator.integers(0, patients, films)


@pytest.mark.parametrize("levels", [2, 25, 10**6])
def test_each_draw_equals_scikit_learn_on_the_repeated_films(levels: int) -> None:
    scores, labels, patients = some_films(levels=levels)
    drawn = bootstrap(scores, labels, patients, bootstrap_samples=40, seed=5)
    names, codes = np.unique(patients, return_inverse=True)
    counts = np.concatenate(list(patient_counts(len(names), bootstrap_samples=40, seed=5)), axis=1)
    for draw in range(40):
        films = np.repeat(np.arange(len(scores)), counts[codes, draw].astype(int))
        for finding in range(3):
            truth, seen = labels[films, finding], scores[films, finding]
            assert drawn.auroc[draw, finding] == pytest.approx(roc_auc_score(truth, seen), abs=1e-12, rel=0)
            expected = average_precision_score(truth, seen)
            assert drawn.average_precision[draw, finding] == pytest.approx(expected, abs=1e-12, rel=0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0, NAN]), st.integers(0, 5)), min_size=1, max_size=25
    ),
    st.integers(0, 10),
)
def test_each_draw_equals_the_plain_measure(rows: list[tuple[int, float, int]], seed: int) -> None:
    scores, labels, patients = (np.array([row[i] for row in rows], dtype=float) for i in range(3))
    drawn = bootstrap(scores[:, None], labels[:, None], patients, bootstrap_samples=12, seed=seed)
    names, codes = np.unique(patients, return_inverse=True)
    counts = next(patient_counts(len(names), bootstrap_samples=12, seed=seed))
    for draw in range(12):
        films = np.repeat(np.arange(len(rows)), counts[codes, draw].astype(int))
        expected = auroc(scores[films], labels[films])
        np.testing.assert_allclose(drawn.auroc[draw, 0], expected, rtol=0, atol=1e-14)
        expected = average_precision(scores[films], labels[films])
        np.testing.assert_allclose(drawn.average_precision[draw, 0], expected, rtol=0, atol=1e-14)


def test_same_seed_same_draws_whatever_the_order_of_films_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels, patients = some_films()
    first = bootstrap(scores, labels, patients, bootstrap_samples=100, seed=1)
    order = np.random.default_rng(9).permutation(len(scores))
    shuffled = bootstrap(
        scores[order], labels[order], patients[order], bootstrap_samples=100, seed=np.random.default_rng(1)
    )
    np.testing.assert_array_equal(shuffled.auroc, first.auroc)
    monkeypatch.setattr(module, "MEMORY_BYTES", 1)
    np.testing.assert_array_equal(bootstrap(scores, labels, patients, bootstrap_samples=100, seed=1).auroc, first.auroc)
    assert not np.array_equal(bootstrap(scores, labels, patients, bootstrap_samples=100, seed=2).auroc, first.auroc)


def test_global_random_state_is_not_touched() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    bootstrap(*some_films(), bootstrap_samples=3, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]


def test_patients_are_drawn_with_replacement_and_all_their_films_together() -> None:
    counts = np.concatenate(list(patient_counts(50, bootstrap_samples=1000, seed=0, chunk=64)), axis=1)
    assert counts.shape == (50, 1000)
    np.testing.assert_array_equal(counts.sum(axis=0), 50)
    assert np.abs(counts.mean(axis=1) - 1).max() < 0.2
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.03)


def test_copies_of_one_film_widen_nothing_but_do_not_narrow_either() -> None:
    """Ten copies of each patient's film carry no news: the interval must stay what it was."""
    scores, labels, _ = some_films(films=80)
    patients = np.arange(80)
    once = bootstrap(scores, labels, patients, bootstrap_samples=200, seed=0)
    copied = (np.repeat(array, 10, axis=0) for array in (scores, labels, patients))
    np.testing.assert_allclose(bootstrap(*copied, bootstrap_samples=200, seed=0).auroc, once.auroc, atol=1e-14)


def test_one_positive_patient_is_missed_by_a_third_of_the_draws() -> None:
    labels = np.zeros((50, 1))
    labels[7] = 1
    drawn = bootstrap(np.arange(50.0)[:, None], labels, np.arange(50), bootstrap_samples=2000, seed=0)
    result = estimate(auroc(np.arange(50.0), labels[:, 0]), drawn.auroc[:, 0])
    assert result.undefined == np.isnan(drawn.auroc).sum()
    assert result.undefined / 2000 == pytest.approx((1 - 1 / 50) ** 50, abs=0.04)
    assert result.low < result.value < result.high


@pytest.mark.parametrize("label", [0.0, 1.0, NAN])
def test_one_class_is_undefined_in_every_draw(label: float) -> None:
    drawn = bootstrap(np.arange(9.0)[:, None], np.full((9, 1), label), np.arange(9), bootstrap_samples=20, seed=0)
    result = estimate(NAN, drawn.auroc[:, 0])
    assert np.isnan([result.value, result.low, result.high]).all()
    assert result.undefined == 20
    assert np.isnan(drawn.average_precision).all()


def test_the_mean_leaves_out_what_is_undefined_on_all_films_and_no_more() -> None:
    per_draw = np.array([[0.5, NAN, 0.7], [NAN, NAN, 0.9], [0.6, 0.4, 0.8]])
    value, mean = macro_mean(np.array([0.6, NAN, 0.8]), per_draw)
    assert value == pytest.approx(0.7)
    np.testing.assert_allclose(mean, [0.6, NAN, 0.7])
    result = estimate(value, mean)
    assert result.undefined == 1
    nothing, none = macro_mean(np.array([NAN, NAN]), np.full((3, 2), NAN))
    assert np.isnan(nothing)
    assert estimate(nothing, none).undefined == 3


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Normal scores one standard deviation apart: the true AUROC is Phi(1 / sqrt 2) = 0.7602."""
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        labels = np.repeat([0.0, 1.0], 60)[:, None]
        scores = generator.normal(labels)
        drawn = bootstrap(scores, labels, np.arange(120), bootstrap_samples=300, seed=generator).auroc[:, 0]
        interval = estimate(auroc(scores[:, 0], labels[:, 0]), drawn)
        inside += interval.low <= 0.7602 <= interval.high
    assert 88 <= inside <= 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bootstrap_samples": 0}, "bootstrap_samples must be at least 1, got 0"),
        ({"scores": np.full((300, 3), NAN)}, "scores must be finite"),
        ({"labels": np.full((300, 3), 2.0)}, "labels must be 0, 1 or NaN"),
        ({"patients": np.zeros(4)}, "must have the same films"),
        ({"scores": np.zeros((0, 1)), "labels": np.zeros((0, 1)), "patients": np.zeros(0)}, "at least one film"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    scores, labels, patients = some_films()
    arguments = {"scores": scores, "labels": labels, "patients": patients, "bootstrap_samples": 5, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        bootstrap(**arguments)


def test_estimate_refuses_an_impossible_level() -> None:
    with pytest.raises(ValueError, match="level must be in"):
        estimate(0.5, np.zeros(3), level=95.0)


def test_more_films_than_single_precision_counts_give_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    films = some_films()
    few = bootstrap(*films, bootstrap_samples=20, seed=1)
    monkeypatch.setattr(module, "EXACT_FILMS", 1)
    many = bootstrap(*films, bootstrap_samples=20, seed=1)
    np.testing.assert_array_equal(few.auroc, many.auroc)
    np.testing.assert_array_equal(few.average_precision, many.average_precision)
