import numpy as np
import pytest
from scipy.stats import binomtest

from hilum.metrics.bootstrap import patient_counts, quotient, resampled_sums, share


def test_sums_are_those_of_the_films_that_were_drawn() -> None:
    generator = np.random.default_rng(0)
    per_film, patients = generator.random((50, 3)), generator.integers(0, 12, 50)
    sums = resampled_sums(per_film, patients, bootstrap_samples=300, seed=4)
    names = np.unique(patients)
    counts = np.hstack(list(patient_counts(len(names), bootstrap_samples=300, seed=4)))
    for draw in (0, 17, 299):
        drawn = [film for film in range(50) for _ in range(int(counts[list(names).index(patients[film]), draw]))]
        assert sums[draw] == pytest.approx(per_film[drawn].sum(axis=0))


def test_the_order_of_films_does_not_matter_and_one_patient_tells_nothing() -> None:
    per_film = np.arange(8.0).reshape(4, 2)
    patients = np.array(["b", "a", "b", "c"])
    order = np.array([3, 1, 0, 2])
    sums = resampled_sums(per_film, patients, bootstrap_samples=20, seed=0)
    assert np.array_equal(sums, resampled_sums(per_film[order], patients[order], bootstrap_samples=20, seed=0))
    assert np.isnan(resampled_sums(per_film, np.full(4, "a"), bootstrap_samples=20, seed=0)).all()
    with pytest.raises(ValueError, match="one length"):
        resampled_sums(per_film, patients[:3], bootstrap_samples=20, seed=0)


def test_a_share_of_none_or_all_has_the_exact_interval_of_its_patients() -> None:
    drawn = np.full(10, 7.0)
    for hits in (0.0, 7.0):
        result = share(hits, 7.0, drawn * hits / 7, drawn, patients=5)
        exact = binomtest(5 if hits else 0, 5).proportion_ci(0.95, "exact")
        assert (result.low, result.high) == pytest.approx((exact.low, exact.high))
    nothing = share(0.0, 0.0, np.zeros(10), np.zeros(10), patients=0)
    assert np.isnan(nothing[:3]).all()
    assert nothing.undefined == 10


def test_a_share_between_has_the_quantiles_of_the_draws() -> None:
    part, whole = np.array([1.0, 2.0, 3.0, 0.0]), np.array([4.0, 4.0, 4.0, 0.0])
    result = share(2.0, 4.0, part, whole, patients=4)
    assert result.value == 0.5
    assert (result.low, result.high) == pytest.approx(np.quantile([0.25, 0.5, 0.75], [0.025, 0.975]))
    assert result.undefined == 1
    assert np.isnan(quotient(part, whole)[3])
