"""Seed means: equal to what compare gives for one seed, by hand for two, and paired."""

import numpy as np
import pytest

from hilum.metrics.bootstrap import bootstrap
from hilum.metrics.compare import compare, seeded_systems
from hilum.metrics.ranking import auroc_per_finding

FILMS, FINDINGS, DRAWS = 60, 3, 150


@pytest.fixture
def labels() -> np.ndarray:
    return (np.random.default_rng(0).random((FILMS, FINDINGS)) < 0.4).astype(np.float64)


@pytest.fixture
def patients() -> np.ndarray:
    return np.array([f"p{i // 2}" for i in range(FILMS)])


def scores_of(labels: np.ndarray, seed: int, strength: float) -> np.ndarray:
    scores: np.ndarray = strength * labels + np.random.default_rng(seed).normal(size=labels.shape)
    return scores


def test_one_seed_is_what_compare_gives(labels: np.ndarray, patients: np.ndarray) -> None:
    tables = [scores_of(labels, 1, 0.5), scores_of(labels, 2, 1.0)]
    other = compare(tables, labels, patients, draws=DRAWS, seed=3)
    first, second = seeded_systems([[table] for table in tables], labels, patients, draws=DRAWS, seed=3)
    findings, mean = second.minus(first)
    assert (first.mean(), second.mean()) == other.mean
    assert first.findings() == other.auroc[0]
    [pair] = other.pairs
    assert (mean.auroc, mean.p_value) == pair.mean
    for ours, theirs in zip(findings, pair.findings, strict=True):
        assert (ours.auroc, ours.p_value, ours.p_value_holm) == theirs[:3]
    assert mean.seeds == pytest.approx([second.mean().value - first.mean().value])


def test_each_draw_is_averaged_over_the_seeds(labels: np.ndarray, patients: np.ndarray) -> None:
    tables = [scores_of(labels, seed, 0.7) for seed in (1, 2)]
    [system] = seeded_systems([tables], labels, patients, draws=DRAWS, seed=3)
    drawn = [bootstrap(table, labels, patients, draws=DRAWS, seed=3).auroc for table in tables]
    expected = (drawn[0] + drawn[1]) / 2
    assert np.allclose(system.per_draw, expected, equal_nan=True)
    values = [auroc_per_finding(table, labels) for table in tables]
    assert np.allclose(system.auroc, (values[0] + values[1]) / 2)
    assert system.seed_means == pytest.approx([values[0].mean(), values[1].mean()])
    [narrow] = seeded_systems([[tables[0]]], labels, patients, draws=DRAWS, seed=3)
    assert system.mean().high - system.mean().low < narrow.mean().high - narrow.mean().low


def test_a_system_with_more_seeds_is_paired_as_far_as_both_go(labels: np.ndarray, patients: np.ndarray) -> None:
    three = [scores_of(labels, seed, 1.0) for seed in (1, 2, 3)]
    one = [scores_of(labels, 4, 0.2)]
    first, second = seeded_systems([three, one], labels, patients, draws=DRAWS, seed=0)
    _, mean = second.minus(first)
    assert len(mean.seeds) == 1
    assert mean.auroc.value == pytest.approx(second.mean().value - first.mean().value)
    assert np.isnan(mean.p_value_holm)


def test_an_undefined_finding_stays_undefined(labels: np.ndarray, patients: np.ndarray) -> None:
    labels[:, 1] = 0
    tables = [[scores_of(labels, seed, 1.0)] for seed in (1, 2)]
    first, second = seeded_systems(tables, labels, patients, draws=DRAWS, seed=0)
    findings, mean = second.minus(first)
    assert np.isnan(findings[1].auroc.value)
    assert np.isnan(findings[1].p_value_holm)
    assert np.isfinite(mean.auroc.value)
    assert np.isfinite(first.seed_means).all()


def test_one_patient_gives_no_interval(labels: np.ndarray) -> None:
    [system] = seeded_systems([[scores_of(labels, 1, 1.0)]], labels, np.full(FILMS, "p"), draws=DRAWS, seed=0)
    assert np.isnan(system.mean().low)
    assert np.isfinite(system.mean().value)


def test_what_is_refused(labels: np.ndarray, patients: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        seeded_systems([[]], labels, patients, draws=DRAWS, seed=0)
    with pytest.raises(ValueError, match="shape of labels"):
        seeded_systems([[labels[:, :2]]], labels, patients, draws=DRAWS, seed=0)
