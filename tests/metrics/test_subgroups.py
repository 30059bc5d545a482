from typing import NamedTuple

import numpy as np
import pytest
from jaxtyping import Bool, Float64, Int
from oracle import pairs_auroc

from hilum.metrics.subgroups import FEWEST_PATIENTS, Group, subgroups


class Some(NamedTuple):
    scores: Float64[np.ndarray, "films findings"]
    labels: Float64[np.ndarray, "films findings"]
    patients: Int[np.ndarray, " films"]
    members: Bool[np.ndarray, " films"]


def some(seed: int = 0, *, people: int = 300, worse: float = 0.0, higher: float = 0.0) -> Some:
    """Calibrated scores of three findings; for a third of the patients blunter by `worse`, higher by `higher`."""
    generator = np.random.default_rng(seed)
    patients = np.repeat(np.arange(people), generator.integers(1, 4, people))
    members = (np.arange(people) % 3 == 0)[patients]
    risk = generator.beta(1, 2, (len(patients), 3))
    labels = (generator.random(risk.shape) < risk).astype(np.float64)
    lifted = np.clip(risk + higher, 0, 1)
    blunt = (1 - worse) * lifted + worse * generator.permuted(lifted, axis=0)
    return Some(np.where(members[:, np.newaxis], blunt, risk), labels, patients, members)


def measured(films: Some, threshold: float | None = 0.3) -> Group:
    called = None if threshold is None else (films.scores >= threshold).astype(np.float64)
    groups = {"group": films.members}
    return subgroups(films.scores, films.labels, films.patients, called, groups, probabilities=True)["group"]


def test_every_number_is_that_of_a_slow_count() -> None:
    films = some()
    films.labels[::11, 1] = np.nan
    group = measured(films)
    aurocs, excesses = [], []
    for k in range(3):
        rows = [i for i in range(len(films.patients)) if films.members[i] and not np.isnan(films.labels[i, k])]
        scores, labels = ([float(table[i, k]) for i in rows] for table in (films.scores, films.labels))
        aurocs.append(pairs_auroc(scores, labels))
        excesses.append(sum(scores) / len(rows) - sum(labels) / len(rows))
        ill = [score for score, label in zip(scores, labels, strict=True) if label == 1]
        assert group.findings[k]["auroc"].group.value == pytest.approx(aurocs[-1])
        assert group.findings[k]["excess"].group.value == pytest.approx(excesses[-1])
        assert group.findings[k]["missed"].group.value == pytest.approx(sum(s < 0.3 for s in ill) / len(ill))
        well = [score for score, label in zip(scores, labels, strict=True) if label == 0]
        assert group.findings[k]["needless"].group.value == pytest.approx(sum(s >= 0.3 for s in well) / len(well))
    assert group.overall["auroc"].group.value == pytest.approx(np.mean(aurocs))
    assert group.overall["excess"].group.value == pytest.approx(np.mean(excesses))
    ill_films = [i for i in np.flatnonzero(films.members) if 1 in films.labels[i]]
    missed = [all(score < 0.3 for score in films.scores[i]) for i in ill_films]
    assert group.overall["undiagnosed"].group.value == pytest.approx(sum(missed) / len(missed))
    of_each = [group.findings[k]["missed"].group.value for k in range(3)]
    assert group.overall["missed"].group.value == pytest.approx(np.mean(of_each))


def test_a_group_minus_its_rest_is_the_rest_minus_the_group_turned() -> None:
    films = some()
    found = subgroups(
        films.scores, films.labels, films.patients, None, {"a": films.members, "b": ~films.members}, probabilities=True
    )
    for measure in ("auroc", "excess"):
        one, other = (found[name].overall[measure] for name in "ab")
        assert one.gap.estimate.value == pytest.approx(-other.gap.estimate.value)
        assert one.gap.estimate.low == pytest.approx(-other.gap.estimate.high)
        assert one.gap.p_value == pytest.approx(other.gap.p_value)
        assert one.p_value_holm == pytest.approx(min(1.0, 2 * one.gap.p_value))
    assert np.isnan(found["a"].overall["missed"].group.value)
    assert np.isnan(found["a"].overall["undiagnosed"].group.value)


def test_a_planted_bias_is_found_in_the_measure_that_it_was_planted_in() -> None:
    worse = measured(some(worse=0.6)).overall
    assert worse["auroc"].p_value_holm < 0.001
    assert worse["auroc"].gap.estimate.high < 0
    assert worse["excess"].p_value_holm > 0.05
    higher = measured(some(higher=0.15)).overall
    assert higher["excess"].gap.estimate.low > 0.05
    assert higher["excess"].p_value_holm < 0.001
    assert higher["auroc"].p_value_holm > 0.05
    assert higher["missed"].gap.estimate.high < 0  # higher scores are called more often
    assert higher["undiagnosed"].gap.estimate.value < 0


def test_an_equal_system_is_seldom_accused() -> None:
    """Of 30 equal systems one or two have a p-value below 0.05 in a measure, before correction."""
    p_values = np.array(
        [
            [
                measured(some(seed)).overall[measure].gap.p_value
                for measure in ("auroc", "excess", "missed", "undiagnosed")
            ]
            for seed in range(100, 130)
        ]
    )
    assert ((p_values < 0.05).mean(axis=0) < 0.2).all()
    assert 0.3 < p_values.mean() < 0.7


def test_small_groups_have_no_number() -> None:
    films = some()
    few = np.isin(films.patients, np.unique(films.patients)[: FEWEST_PATIENTS - 1])
    called = np.zeros_like(films.labels)
    found = subgroups(films.scores, films.labels, films.patients, called, {"few": few}, probabilities=True)["few"]
    for contrasts in (found.overall, *found.findings):
        for contrast in contrasts.values():
            assert np.isnan(contrast.group.value)
            assert np.isnan(contrast.gap.estimate[:3]).all()
            assert np.isnan(contrast.p_value_holm)
    assert found.overall["auroc"].findings == 0


def test_groups_are_compared_on_the_findings_that_their_rest_defines() -> None:
    films = some()
    films.labels[~films.members, 2] = 0.0
    found = measured(films).overall["auroc"]
    two = [measured(films).findings[k]["auroc"].group.value for k in (0, 1)]
    assert found.findings == 2
    assert found.group.value == pytest.approx(np.mean(two))
    films.labels[~films.members] = 0.0
    alone = measured(films).overall["auroc"]
    assert alone.findings == 3
    assert np.isnan(alone.gap.estimate.value)


def test_findings_without_threshold_are_not_missed() -> None:
    films = some()
    called = np.zeros_like(films.labels)
    called[:, 0] = np.nan
    group = subgroups(films.scores, films.labels, films.patients, called, {"g": films.members}, probabilities=False)[
        "g"
    ]
    assert np.isnan(group.findings[0]["missed"].group.value)
    for measure in ("missed", "undiagnosed"):
        assert group.overall[measure].group.value == 1
        assert group.overall[measure].findings == 2
        assert group.overall[measure].gap.estimate.value == 0
    assert np.isnan(group.overall["excess"].group.value)
