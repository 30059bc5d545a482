"""Reader studies: a published analysis from its published numbers, and the jackknife by brute force."""

import numpy as np
import pytest
from jaxtyping import Float64
from oracle import pairs_auroc

from hilum.metrics.readers import compare_modalities, components, jackknife, read_study

AUROCS = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
VARIANCE, COV1, COV2, COV3 = 0.000802288, 0.000346614, 0.000344075, 0.000239028
"""Van Dyke et al. 1993, spin-echo and cine MRI for aortic dissection, as its analysis is published.

114 patients, of whom 45 have one, five readers, empirical AUROC, covariances by the jackknife.
"""


def structured(variance: float, cov1: float, cov2: float, cov3: float) -> Float64[np.ndarray, "m r m r"]:
    """Covariances that are equal within each kind."""
    same_modality, same_reader = np.eye(2)[:, None, :, None], np.eye(5)[None, :, None, :]
    return (
        variance * same_modality * same_reader
        + cov1 * (1 - same_modality) * same_reader
        + cov2 * same_modality * (1 - same_reader)
        + cov3 * (1 - same_modality) * (1 - same_reader)
    )


def test_van_dykes_study_has_its_published_values() -> None:
    found = compare_modalities(AUROCS, structured(VARIANCE, COV1, COV2, COV3))
    assert found.both.f == pytest.approx(4.456319, abs=2e-4)
    assert found.both.degrees == pytest.approx((1.0, 15.25967), abs=2e-3)
    assert found.both.p_value == pytest.approx(0.05166569, abs=1e-5)
    assert found.patients.f == pytest.approx(5.475953, abs=2e-4)
    assert found.patients.p_value == pytest.approx(0.01927984, abs=1e-5)
    assert found.readers.f == pytest.approx(8.704, abs=1e-4)
    assert found.readers.degrees == (1.0, 4.0)
    assert found.readers.p_value == pytest.approx(0.04195875, abs=1e-5)
    (pair,) = found.pairs
    assert pair.difference[:3] == pytest.approx((0.0438003, -0.000358854, 0.0879595), abs=1e-5)
    assert pair.p_value == pytest.approx(found.both.p_value)
    assert [one.value for one in found.modalities] == pytest.approx([0.897037, 0.940837], abs=1e-6)


def some_study(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, 30, 60)
    labels = (generator.random(60) < 0.5).astype(np.float64)
    scores = generator.normal(size=(2, 3, 60)) + generator.normal(size=60) + labels
    return scores.round(1), labels, patients


def test_the_jackknife_is_leaving_out_each_patient() -> None:
    scores, labels, patients = some_study()
    codes = np.unique(patients, return_inverse=True)[1]
    rows = []
    for person in np.unique(codes):
        kept = codes != person
        rows.append([pairs_auroc(one[kept].tolist(), labels[kept].tolist()) for one in scores.reshape(6, 60)])
    apart = np.array(rows) - np.mean(rows, axis=0)
    slow = (apart.T @ apart * (len(rows) - 1) / len(rows)).reshape(2, 3, 2, 3)
    np.testing.assert_allclose(jackknife(scores, labels == 1, codes), slow, atol=1e-12)


def test_components_are_means_over_their_kind_of_pair() -> None:
    scores, labels, patients = some_study()
    found = read_study(scores, labels, patients)
    covariances = jackknife(scores, labels == 1, np.unique(patients, return_inverse=True)[1])
    kinds: dict[tuple[bool, bool], list[float]] = {}
    for i in range(2):
        for j in range(3):
            for other in range(2):
                for another in range(3):
                    kinds.setdefault((i == other, j == another), []).append(covariances[i, j, other, another])
    parts = components(found.aurocs, covariances)
    assert parts[3:] == pytest.approx(
        [np.mean(kinds[kind]) for kind in ((True, True), (False, True), (True, False), (False, False))]
    )
    assert parts.interaction == pytest.approx(
        np.var((found.aurocs[1] - found.aurocs[0]), ddof=1) / 2  # two modalities: half the differences' variance
    )


def test_equal_modalities_are_told_apart_at_the_level() -> None:
    generator, rejected = np.random.default_rng(1), 0
    for _ in range(200):
        labels = (np.arange(60) < 25).astype(np.float64)
        film, reader = generator.normal(size=60), generator.normal(0.0, 0.3, (1, 4, 1))
        scores = film + reader * labels + labels + generator.normal(size=(2, 4, 60))
        rejected += read_study(scores, labels, np.arange(60)).both.p_value < 0.05
    assert rejected / 200 < 0.085


def test_few_patients_have_a_word_and_half_a_study_is_refused() -> None:
    scores, labels, patients = some_study()
    found = read_study(scores, np.where(np.cumsum(labels) <= 3, labels, 0.0), patients)
    assert found.why.startswith("too few patients with the finding")
    assert np.isnan([found.both.p_value, found.pairs[0].difference.low, found.modalities[0].low]).all()
    with pytest.raises(ValueError, match="two readers"):
        read_study(scores[:, :1], labels, patients)
    with pytest.raises(ValueError, match="one class"):
        read_study(scores, labels * 0, patients)
