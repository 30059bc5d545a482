import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from hilum.data.films import Films
from hilum.errors import FilmsError, PredictionsError
from hilum.evaluation.evaluate import evaluate_scores
from hilum.evaluation.inputs import read_predictions
from hilum.evaluation.page import render_page, write_report
from hilum.findings import CHESTXRAY14
from hilum.metrics.influence import average, measured_per_finding


def some_films(number: int = 200, *, protocol: str | None = "patient", seed: int = 0) -> Films:
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, number // 3, number)
    table = pd.DataFrame(
        {
            "film": [f"{patient:08d}_{i:03d}.png" for i, patient in enumerate(patients)],
            "path": "x.png",
            "source": "nih",
            "patient": [f"p{patient}" for patient in patients],
            "study": "s",
            "view": "PA",
            "age": 50.0,
            "sex": "F",
            "split": np.where(patients % 2 == 0, "test", "train"),
        }
    )
    labels = (generator.random((number, 14)) < 0.25).astype(np.float32)
    table[list(CHESTXRAY14)] = labels
    return Films(table, Path(), CHESTXRAY14, {"protocol": protocol})


def some_scores(films: Films, seed: int = 1) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    numbers = generator.random((len(films), 14)) + 0.3 * films.all_labels
    scores = pd.DataFrame(numbers.round(3), columns=list(CHESTXRAY14))
    scores.insert(0, "film", films.table["film"])
    return scores


FILMS = some_films()
SCORES = some_scores(FILMS)
TEST = FILMS.table["split"] == "test"


def test_values_equal_scikit_learn() -> None:
    report = evaluate_scores(FILMS, SCORES, bootstrap_samples=50)
    for finding in CHESTXRAY14:
        labels, numbers = FILMS.table[finding][TEST], SCORES[finding][TEST]
        ours = report.findings[finding]
        assert ours.auroc.value == pytest.approx(roc_auc_score(labels, numbers), abs=1e-12)
        assert ours.average_precision.value == pytest.approx(average_precision_score(labels, numbers), abs=1e-12)
        assert (ours.films, ours.positives) == (TEST.sum(), labels.sum())
        assert ours.auroc.low <= ours.auroc.value <= ours.auroc.high
    mean = np.mean([report.findings[finding].auroc.value for finding in CHESTXRAY14])
    assert report.mean_auroc.value == pytest.approx(mean)
    assert report.content["patients"] == FILMS.table["patient"][TEST].nunique()
    assert report.content["shared_patients"] == report.content["films_with_siblings_in_training"] == 0


def test_report_is_plain_json_and_the_same_for_the_same_seed() -> None:
    report = evaluate_scores(FILMS, SCORES, bootstrap_samples=30, seed=4, system="AM_DenseNet").to_dict()
    again = evaluate_scores(
        FILMS, SCORES.sample(frac=1, random_state=0), bootstrap_samples=30, seed=4, system="AM_DenseNet"
    ).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report == again
    assert (
        evaluate_scores(FILMS, SCORES, bootstrap_samples=40, seed=5).to_dict()["mean"] == report["mean"]
    )  # nothing is drawn
    assert set(report["mean"]["auroc"]) == {"value", "low", "high", "undefined"}
    assert (report["protocol"], report["split"], report["draws"], report["seed"]) == ("patient", "test", 30, 4)
    assert report["films_fingerprint"] == FILMS.fingerprint()
    for finding in report["findings"].values():
        curve = finding["curve"]
        assert 2 <= len(curve["false_positive_rate"]) == len(curve["true_positive_rate"]) <= 200


NO_FILM = {"why": "no film with the finding"}


def test_numbers_are_those_of_the_functions_and_rare_findings_get_the_word() -> None:
    films = some_films()
    present = films.table.index[TEST & (films.table["Hernia"] == 1)]
    films.table.loc[present[3:], "Hernia"] = np.float32(0)
    report = evaluate_scores(films, SCORES)
    evaluated = report.evaluated
    aurocs, precisions = measured_per_finding(evaluated.numbers, evaluated.labels, evaluated.patients)
    for name, one in zip(CHESTXRAY14, aurocs, strict=True):
        np.testing.assert_equal(report.auroc[name], one.estimate)
    assert report.average_precision["Mass"] == precisions[CHESTXRAY14.index("Mass")].estimate
    assert report.mean_auroc == average(aurocs).estimate
    assert report.mean_average_precision == average(precisions).estimate
    hernia = report.findings["Hernia"]
    word = f"too few patients with the finding: {hernia.positive_patients}"
    assert hernia.positive_patients <= 3
    assert np.isfinite(hernia.auroc.value)
    assert np.isnan([hernia.auroc.low, hernia.average_precision.high]).all()
    assert hernia.auroc.why == hernia.average_precision.why == word
    page = render_page(report.to_dict())
    assert page.count(word) >= 2
    assert "nan to nan" not in page


def test_undefined_findings_are_named_and_not_averaged(tmp_path: Path) -> None:
    films = some_films()
    films.table["Hernia"] = np.float32(0)
    films.table["Edema"] = np.float32("nan")
    report = evaluate_scores(films, SCORES, bootstrap_samples=20)
    assert report.content["undefined_findings"] == ["Edema", "Hernia"]
    defined = [
        report.findings[name].auroc.value for name in CHESTXRAY14 if name not in report.content["undefined_findings"]
    ]
    assert report.mean_auroc.value == pytest.approx(np.mean(defined))
    content = report.to_dict()
    assert content["findings"]["Hernia"]["auroc"] == {
        "value": None,
        "low": None,
        "high": None,
        "undefined": 0,
        **NO_FILM,
    }
    assert content["findings"]["Hernia"]["curve"]["false_positive_rate"] == []
    assert content["findings"]["Edema"]["films"] == 0
    write_report(content, tmp_path)


def test_unknown_labels_are_left_out_of_that_finding_only() -> None:
    films = some_films()
    unknown = films.table.index[TEST][:10]
    films.table.loc[unknown, "Mass"] = np.float32("nan")
    report = evaluate_scores(films, SCORES, bootstrap_samples=20)
    assert report.findings["Mass"].films == TEST.sum() - 10
    assert report.findings["Nodule"].films == TEST.sum()


def test_image_split_counts_patient_leakage() -> None:
    films = some_films(protocol="image")
    films.table["split"] = np.where(np.arange(len(films)) % 3 == 0, "test", "train")
    report = evaluate_scores(films, SCORES, bootstrap_samples=5)
    training = set(films.table["patient"][films.table["split"] == "train"])
    test = films.table[films.table["split"] == "test"]
    assert report.content["films_with_siblings_in_training"] == test["patient"].isin(training).sum() > 0
    assert report.content["shared_patients"] == len(training & set(test["patient"]))


def image_split(number: int = 200) -> Films:
    films = some_films(number, protocol="image")
    films.table["split"] = np.where(np.arange(number) % 3 == 0, "test", "train")
    return films


def test_controls_stand_in_reports_of_splits_that_leak_and_in_no_other() -> None:
    films = image_split()
    report = evaluate_scores(films, SCORES, bootstrap_samples=40, seed=2)
    content = report.to_dict()
    assert set(content["controls"]) == {"identity", "view_age_sex"}
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    identity = content["controls"]["identity"]
    assert set(identity["findings"]) == set(CHESTXRAY14)
    difference, expected = identity["mean"]["difference"], report.mean_auroc.value - identity["mean"]["auroc"]["value"]
    assert difference["value"] == pytest.approx(expected)
    assert difference["low"] < expected < difference["high"]
    undeclared = replace(films, notes={"protocol": None})
    assert evaluate_scores(undeclared, SCORES, bootstrap_samples=5).content["controls"]  # the films tell that it leaks
    assert evaluate_scores(FILMS, SCORES, bootstrap_samples=5).to_dict()["controls"] == {}
    assert evaluate_scores(films, SCORES, bootstrap_samples=5, split="train").content["controls"] == {}


def test_a_finding_that_no_control_can_learn_is_undefined_and_counted() -> None:
    films = image_split(20)
    films.table.loc[films.table["split"] == "train", "Mass"] = np.float32("nan")
    films.table["age"] = np.nan
    films.table.loc[0:9, ["Mass", "Edema"]] = np.float32(1)
    films.table.loc[10:, ["Mass", "Edema"]] = np.float32(0)
    films.table.loc[films.table["split"] == "train", "Mass"] = np.float32("nan")
    report = evaluate_scores(films, SCORES[:20].assign(film=films.table["film"]), bootstrap_samples=12)
    for control in report.to_dict()["controls"].values():
        assert control["findings"]["Mass"]["auroc"] == {"value": None, "low": None, "high": None, "undefined": 0}
        assert "Mass" in control["undefined_findings"]
        assert "Edema" not in control["undefined_findings"]
    assert "Mass" not in report.content["undefined_findings"]


def test_published_values_stand_beside_the_same_protocol_only() -> None:
    content = evaluate_scores(FILMS, SCORES, bootstrap_samples=5).to_dict()
    assert [system["system"] for system in content["published"]] == ["DNetLoc"]
    assert content["published"][0]["mean"] == 0.841
    assert len(content["published"][0]["findings"]) == 14
    assert "112,120 films" in content["published_incomparable"]  # 200 films are not ChestX-ray14
    assert {system["protocol"] for system in content["published_elsewhere"]} == {"official", "image"}
    assert evaluate_scores(some_films(protocol=None), SCORES, bootstrap_samples=5).to_dict()["published"] == []


def test_findings_without_scores_are_not_judged() -> None:
    report = evaluate_scores(FILMS, SCORES.drop(columns=["Mass", "Hernia"]), bootstrap_samples=5)
    assert report.content["not_judged"] == ["Mass", "Hernia"]
    assert "Mass" not in report.findings


def test_one_patient_has_no_interval() -> None:
    films = some_films()
    films.table["patient"] = "the only one"
    report = evaluate_scores(films, SCORES, bootstrap_samples=5)
    assert report.mean_auroc.value > 0.5
    assert np.isnan([report.mean_auroc.low, report.mean_auroc.high]).all()
    assert report.mean_auroc.why == "too few patients with any finding: 1"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda scores: scores.assign(Mass=0.5), "All scores are equal, .* Mass."),
        (lambda scores: scores.assign(Mass=(scores["Mass"] > 0.6).astype(float)), "only 0 and 1, .*: Mass."),
        (lambda scores: scores.assign(Mass=scores["Mass"] * 9 - 5), "outside \\[0, 1\\]"),
        (lambda scores: scores.assign(Mass=-FILMS.table["Mass"]), "worse than chance; .* Mass."),
        (lambda scores: scores.assign(remark="x"), "not used: remark"),
    ],
)
def test_unusual_scores_are_noted(change: Any, note: str) -> None:
    report = evaluate_scores(FILMS, change(SCORES.copy()), bootstrap_samples=50)
    assert any(re.search(note, sentence) for sentence in report.notes), report.notes


def test_other_splits_say_so() -> None:
    assert "flatter" in evaluate_scores(FILMS, SCORES, split="train", bootstrap_samples=5).notes[0]


def test_films_without_scores_are_refused_or_counted() -> None:
    first = FILMS.table["film"][TEST].iloc[0]
    scores = SCORES[SCORES["film"] != first]
    with pytest.raises(PredictionsError, match=f"got none for 1 of {TEST.sum()}, the first of which is '{first}'"):
        evaluate_scores(FILMS, scores)
    report = evaluate_scores(FILMS, scores, bootstrap_samples=5, allow_missing=True)
    assert report.content["missing_films"] == [first]
    assert report.content["films"] == TEST.sum() - 1
    with pytest.raises(PredictionsError, match="Check the column 'film'"):
        evaluate_scores(FILMS, SCORES[~TEST], allow_missing=True)


def test_unknown_films_are_refused_or_counted() -> None:
    extra = pd.concat([SCORES, SCORES.iloc[:1].assign(film="stranger.png")], ignore_index=True)
    with pytest.raises(PredictionsError, match=r"got 'stranger\.png' in the table of scores, row 200, column 'film'"):
        evaluate_scores(FILMS, extra)
    report = evaluate_scores(FILMS, extra, bootstrap_samples=5, allow_unknown=True)
    assert "1 films are not in the manifest and were left out, the first is stranger.png." in report.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores: scores.drop(columns="film"), "columns must include 'film'"),
        (lambda scores: scores[["film"]], "at least one finding of the manifest"),
        (lambda scores: pd.concat([scores, scores.iloc[[3]]]), "film must be there once"),
        (lambda scores: scores.assign(Mass="high"), "scores must be numbers, .* column 'Mass'"),
        (lambda scores: scores.assign(Mass=np.inf), "finite numbers, got inf in .* row 0, column 'Mass', film '0"),
        (lambda scores: scores.assign(Mass=np.nan), "finite numbers, got nan"),
        (lambda scores: scores.rename(columns={"Mass": "Nodule"}), "columns must be unique"),
    ],
)
def test_tables_that_cannot_be_judged_are_named(change: Any, message: str) -> None:
    with pytest.raises(PredictionsError, match=message):
        evaluate_scores(FILMS, change(SCORES.copy()))


def test_films_never_split_are_refused() -> None:
    films = some_films()
    films.table["split"] = None
    with pytest.raises(FilmsError, match="split"):
        evaluate_scores(films, SCORES)


@pytest.mark.parametrize(
    "form", ["plain", "prefix", "suffix", "spaces", "folders", "stems", "bom", "semicolons", "parquet"]
)
def test_other_peoples_files_give_the_same_values(tmp_path: Path, form: str) -> None:
    table = SCORES.sample(frac=1, axis=1, random_state=1).sample(frac=1, random_state=2)
    path = tmp_path / "scores.csv"
    if form in {"prefix", "folders"}:
        table = table.rename(columns={finding: f"prob_{finding}" for finding in CHESTXRAY14})
        table = table.join(FILMS.table[list(CHESTXRAY14)].add_prefix("label_")).assign(note="x")
    if form == "suffix":
        table = table.rename(columns={finding: f"{finding}_score" for finding in CHESTXRAY14})
    if form == "spaces":
        table = table.rename(columns=lambda name: name.replace("_", " ").upper())
    if form == "folders":
        table["film"] = "C:\\images_003\\" + table["film"]
        table = table.rename(columns={"film": "Image Index"})
    if form == "stems":
        table["film"] = table["film"].str.removesuffix(".png")
    if form == "parquet":
        path = tmp_path / "scores.parquet"
        table.to_parquet(path)
    else:
        table.to_csv(
            path,
            index=False,
            sep=";" if form == "semicolons" else ",",
            encoding="utf-8-sig" if form == "bom" else "utf-8",
        )
    read = read_predictions(path, CHESTXRAY14)
    report = evaluate_scores(FILMS, read, bootstrap_samples=2)
    assert set(read.columns) == {"film", *CHESTXRAY14}
    for finding in CHESTXRAY14:
        expected = roc_auc_score(FILMS.table[finding][TEST], SCORES[finding][TEST])
        assert report.findings[finding].auroc.value == pytest.approx(expected, abs=1e-12)
    if form == "prefix":
        assert read.attrs["affix"] == "prob_*"
        assert {"note", "label_Mass"} < set(read.attrs["ignored_columns"])
        assert any("label_Mass" in note for note in report.notes)


def test_the_same_film_under_two_names_is_named(tmp_path: Path) -> None:
    film = SCORES["film"].iloc[0]
    text = f"film,Mass\n{film},0.1\nfolder/{film},0.2\n"
    (tmp_path / "scores.csv").write_text(text)
    read = read_predictions(tmp_path / "scores.csv", CHESTXRAY14)
    with pytest.raises(PredictionsError, match=r"again in .*scores\.csv, row 3, column 'film' \(first in row 2\)"):
        evaluate_scores(FILMS, read)


def test_a_name_that_fits_two_films_is_named() -> None:
    films = some_films()
    films.table.loc[0, "film"], films.table.loc[1, "film"] = "a/1.png", "b/1.png"
    scores = some_scores(films).assign(film=["1", *films.table["film"][1:]])
    with pytest.raises(PredictionsError, match=r"fits a/1\.png and b/1\.png"):
        evaluate_scores(films, scores)


@pytest.mark.real
def test_a_wide_file_of_the_real_films_is_judged_as_scikit_learn_does(real_data: Path, tmp_path: Path) -> None:
    with (real_data / "nih" / "films.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    films = some_films(len(rows))
    films.table["film"] = [row["Image Index"] for row in rows]
    films.table["patient"] = [row["Patient ID"] for row in rows]
    for finding in CHESTXRAY14:
        films.table[finding] = np.array([finding in row["Finding Labels"].split("|") for row in rows], np.float32)
    films.table["split"] = "test"
    scores = some_scores(films)
    scores.add_prefix("prob_").rename(columns={"prob_film": "path"}).to_csv(tmp_path / "wide.csv", index=False)
    report = evaluate_scores(films, read_predictions(tmp_path / "wide.csv", CHESTXRAY14), bootstrap_samples=20)
    for finding in CHESTXRAY14:
        expected = roc_auc_score(films.table[finding], scores[finding])
        assert report.findings[finding].auroc.value == pytest.approx(expected, abs=1e-12)
