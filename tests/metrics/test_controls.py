from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from hilum.data.films import Films
from hilum.findings import CHESTXRAY14
from hilum.metrics.controls import (
    Records,
    _design,
    _logistic_regression,
    identity_scores,
    run_controls,
    view_age_sex_scores,
)
from hilum.metrics.influence import against_zero
from hilum.metrics.ranking import auroc, auroc_per_finding

NAN = float("nan")


def some_records(films: int = 400, *, patients: int = 80, findings: int = 3, seed: int = 0) -> Records:
    """Old patients and AP views have the first finding more often; the others are by chance."""
    generator = np.random.default_rng(seed)
    ages, views = generator.integers(5, 95, films).astype(float), generator.choice(["PA", "AP"], films)
    labels = (generator.random((films, findings)) < 0.2).astype(float)
    labels[:, 0] = generator.random(films) < np.where(views == "AP", 0.4, 0.1) + 0.4 * (ages > 60)
    names = np.array([f"p{number}" for number in generator.integers(0, patients, films)])
    return Records(labels, names, views, ages, generator.choice(["M", "F", "unknown"], films))


def rows(records: Records, which: np.ndarray) -> Records:
    parts = (records.labels, records.patients, records.views, records.ages, records.sexes)
    return Records(*(part[which] for part in parts))


def halves(records: Records) -> tuple[Records, Records]:
    even = np.arange(len(records.labels)) % 2 == 0
    return rows(records, even), rows(records, ~even)


def of_patients(patients: list[str], labels: list[list[float]]) -> Records:
    texts = np.full(len(patients), "PA")
    return Records(np.array(labels, dtype=float), np.array(patients), texts, np.full(len(patients), 50.0), texts)


def test_identity_by_hand() -> None:
    """Prevalence 2/4. Anna has 2 of 2 films present, Bo 0 of 1, Cy 0 of 1; Di none. One pseudo-film of 0.5 each."""
    training = of_patients(["anna", "anna", "bo", "cy"], [[1], [1], [0], [0]])
    judged = of_patients(["di", "bo", "anna", "zed"], [[0], [0], [1], [1]])
    np.testing.assert_allclose(identity_scores(training, judged)[:, 0], [0.5, 0.25, 2.5 / 3, 0.5])
    np.testing.assert_allclose(identity_scores(training, judged, pseudo_films=3.0)[2, 0], 3.5 / 5)


def test_identity_leaves_unknown_labels_out_and_counts_what_it_cannot_know() -> None:
    training = of_patients(["anna", "anna", "bo"], [[1, NAN], [NAN, NAN], [0, NAN]])
    scores = identity_scores(training, of_patients(["anna", "bo"], [[1, 1], [0, 0]]))
    np.testing.assert_allclose(scores, [[0.75, NAN], [0.25, NAN]])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0.0, 1.0, NAN])), min_size=1, max_size=20),
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8),
)
def test_identity_equals_a_loop(training: list[tuple[str, float]], judged: list[str]) -> None:
    known = [label for _, label in training if label == label]
    prevalence = sum(known) / len(known) if known else NAN
    found = identity_scores(
        of_patients([name for name, _ in training], [[label] for _, label in training]),
        of_patients(judged, [[0]] * len(judged)),
    )
    for name, score in zip(judged, found[:, 0], strict=True):
        own = [label for patient, label in training if patient == name and label == label]
        np.testing.assert_allclose(score, (sum(own) + prevalence) / (len(own) + 1))


def test_identity_knows_nothing_of_new_patients() -> None:
    training, judged = halves(some_records())
    strangers = replace(judged, patients=np.char.add("new ", judged.patients))
    scores = identity_scores(training, strangers)
    assert (scores == scores[0]).all()
    np.testing.assert_array_equal(auroc_per_finding(scores, judged.labels), 0.5)


def test_view_age_sex_finds_what_depends_on_them_and_nothing_else() -> None:
    training, judged = halves(some_records(4000))
    found = auroc_per_finding(view_age_sex_scores(training, judged), judged.labels)
    assert found[0] > 0.65
    assert np.abs(found[1:] - 0.5).max() < 0.06


def test_view_age_sex_equals_a_fit_to_every_single_film() -> None:
    training, judged = halves(some_records(300))
    training.labels[::7, 1] = NAN
    scores = view_age_sex_scores(training, judged)
    for finding in range(3):
        known = ~np.isnan(training.labels[:, finding])
        model = LogisticRegression(max_iter=2000, tol=1e-8)
        model.fit(_design(training)[known], training.labels[known, finding])
        np.testing.assert_allclose(scores[:, finding], model.decision_function(_design(judged)), atol=5e-3)


def test_the_order_of_films_changes_nothing() -> None:
    training, judged = halves(some_records())
    moved = rows(training, np.random.default_rng(0).permutation(len(training.labels)))
    for control in (identity_scores, view_age_sex_scores):
        np.testing.assert_allclose(control(moved, judged), control(training, judged), atol=1e-6)


@pytest.mark.parametrize("ages", ["some", "none"])
def test_twenty_films_with_missing_ages_and_one_class_findings(ages: str) -> None:
    records = some_records(20, patients=6)
    records.labels[:, 1] = 0
    records.labels[::2, 2] = NAN  # the training half
    records.ages[: 10 if ages == "some" else 20] = NAN
    training, judged = halves(records)
    scores = view_age_sex_scores(training, judged)
    assert np.isfinite(scores[:, 0]).all()
    assert np.isnan(scores[:, 1:]).all()
    controls = run_controls(training, judged, np.random.default_rng(0).random(judged.labels.shape))
    assert set(controls) == {"identity", "view_age_sex"}
    for control in controls.values():
        assert np.isnan([one.value for one in (*control.auroc[1:], *control.ahead[1:])]).all()


def test_unseen_views_and_sexes_are_no_fault() -> None:
    training, judged = halves(some_records(60))
    other = replace(judged, views=np.full(len(judged.views), "LATERAL"), sexes=np.full(len(judged.sexes), "unknown"))
    assert np.isfinite(view_age_sex_scores(training, other)).all()


def test_no_training_film_is_no_control() -> None:
    training, judged = halves(some_records(40))
    nothing = rows(training, np.zeros(len(training.labels), dtype=bool))
    for control in run_controls(nothing, judged, judged.labels).values():
        assert np.isnan([one.value for one in control.auroc]).all()


def test_controls_stand_beside_the_system_on_the_same_films() -> None:
    training, judged = halves(some_records())
    system = np.random.default_rng(1).random(judged.labels.shape) + 0.5 * judged.labels
    control = run_controls(training, judged, system)["identity"]
    scores = identity_scores(training, judged)
    for k in range(3):
        reached = auroc(scores[:, k], judged.labels[:, k])
        assert control.auroc[k].value == pytest.approx(reached)
        assert control.ahead[k].value == pytest.approx(auroc(system[:, k], judged.labels[:, k]) - reached)
        estimate = against_zero(control.ahead[k]).estimate
        assert estimate.low < estimate.value < estimate.high


def nih_records(csv: Path) -> Films:
    """The rows of the label file as films; there are no images here, and none is needed."""
    listed = pd.read_csv(csv, usecols=["Image Index", "Finding Labels", "Patient ID"])
    table = pd.DataFrame({"film": listed["Image Index"], "patient": listed["Patient ID"].astype(str)})
    for finding in CHESTXRAY14:
        table[finding] = listed["Finding Labels"].str.contains(finding, regex=False).astype(np.float32)
    table["split"] = pd.Series([None] * len(table), dtype="str")
    return Films(table, csv.parent, CHESTXRAY14, {})


def identity_mean(films: Films, protocol: str, seed: int) -> float:
    """The identity control's mean AUROC of 14 findings on 30 % of the images or patients, learned from the others."""
    table = films.split(protocol, seed=seed, fractions=(0.7, 0.0, 0.3)).table
    parts = []
    for split in ("train", "test"):
        part = table[table["split"] == split]
        texts = part["patient"].to_numpy(dtype=str)
        parts.append(Records(part[list(CHESTXRAY14)].to_numpy(float), texts, texts, np.zeros(len(texts)), texts))
    return float(auroc_per_finding(identity_scores(*parts), parts[1].labels).mean())


@pytest.mark.real
def test_patient_identity_alone_reaches_three_quarters_under_the_paper_s_split(real_data: Path) -> None:
    films = nih_records(real_data / "nih" / "Data_Entry_2017_v2020.csv")
    assert len(films) == 112_120
    means = [identity_mean(films, "image", seed) for seed in range(3)]
    assert np.mean(means) == pytest.approx(0.746, abs=0.006)
    assert identity_mean(films, "patient", 0) == 0.5


def test_the_fit_is_that_of_scikit_learn() -> None:
    rows, generator = np.random.default_rng(0).normal(size=(200, 3)), np.random.default_rng(1)
    truth, weights = (generator.random(200) < 0.3).astype(float), generator.integers(1, 5, 200)
    theirs = LogisticRegression(max_iter=2000).fit(rows, truth, sample_weight=weights)
    ours = _logistic_regression(rows, truth, weights)
    np.testing.assert_allclose(ours, [*theirs.coef_[0], *theirs.intercept_], rtol=1e-8)
