import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Hilum
from sklearn.metrics import roc_auc_score

from hilum.data.films import Films
from hilum.evaluation.inputs import read_predictions


@pytest.fixture
def scores(phantom_films: Films) -> pd.DataFrame:
    """Scores of the test films, under the manifest's names, in another order of films and findings."""
    test = phantom_films.select("test").table
    findings = list(phantom_films.findings)
    numbers = np.random.default_rng(0).random((len(test), 14)) + 0.5 * test[findings].to_numpy()
    table = pd.DataFrame(numbers, columns=findings).sample(frac=1, axis=1, random_state=1)
    return table.assign(film=test["film"].to_numpy()).sample(frac=1, random_state=2)


def write_theirs(scores: pd.DataFrame, names: dict[str, str], path: Path) -> None:
    """Scores as other programs write them: other names, other columns beside them, folders instead of suffixes."""
    theirs = scores.rename(columns=names).rename(columns={"film": "Image Index"})
    theirs["Image Index"] = "images/" + theirs["Image Index"].str.removesuffix(".png")
    theirs.insert(0, "age", 50)
    theirs["comment"] = "none, of course"
    theirs.to_csv(path, index=False)


def test_other_peoples_files_are_evaluated_as_scikit_learn_would(
    hilum: Hilum, scores: pd.DataFrame, phantom_films: Films, films_file: Path, tmp_path: Path
) -> None:
    tables = []
    for affix in ("{}", "prob_{}", "pred_{}", "{}_score", "{} probability"):  # the last of which is evaluated
        spaced = {name: affix.format(name.replace("_", " ")) for name in phantom_films.findings}
        write_theirs(scores, spaced, tmp_path / "theirs.csv")
        tables.append(read_predictions(tmp_path / "theirs.csv", phantom_films.findings))
        pd.testing.assert_frame_equal(tables[-1], tables[0])
    said = hilum(
        "evaluate", tmp_path / "theirs.csv", "--films", films_file, "--out", tmp_path / "out", "--draws", 100, "--json"
    )
    assert said.code == 0, said.err
    truth = phantom_films.table.set_index("film").loc[scores["film"]]
    evaluated = json.loads(said.out)["findings"]
    assert list(evaluated) == list(phantom_films.findings)
    for name, finding in evaluated.items():
        if finding["auroc"]["value"] is None:
            assert truth[name].nunique() == 1
        else:
            assert finding["auroc"]["value"] == pytest.approx(roc_auc_score(truth[name], scores[name]), abs=1e-12)


def test_a_misspelled_column_is_said(hilum: Hilum, scores: pd.DataFrame, films_file: Path, tmp_path: Path) -> None:
    scores.rename(columns={"Mass": "Masss"}).to_csv(tmp_path / "typo.csv", index=False)
    said = hilum("evaluate", tmp_path / "typo.csv", "--films", films_file, "--out", tmp_path / "out", "--draws", 100)
    assert said.code == 0
    assert "Not evaluated, because there are no scores: Mass." in said.err
    assert "Columns that are no scores were not used: Masss." in said.err


def test_files_of_other_formats_are_refused(hilum: Hilum, films_file: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.xlsx").write_bytes(b"PK")
    said = hilum("evaluate", tmp_path / "scores.xlsx", "--films", films_file, "--out", tmp_path / "out")
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert "predictions must be CSV or Parquet, got" in said.err
    assert not (tmp_path / "out").exists()


def test_a_manifest_is_no_table_of_scores(hilum: Hilum, phantom_films: Films, films_file: Path, tmp_path: Path) -> None:
    phantom_films.table.to_csv(tmp_path / "films.csv", index=False)
    for path in (films_file, tmp_path / "films.csv"):
        said = hilum("evaluate", path, "--films", films_file, "--out", tmp_path / "out")
        assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
        assert "predictions must hold scores, got a manifest of films with their labels in" in said.err
        assert not (tmp_path / "out").exists()


def test_a_second_opinion_stands_beside_the_labels(
    hilum: Hilum, scores: pd.DataFrame, phantom_films: Films, films_file: Path, tmp_path: Path
) -> None:
    scores.to_csv(tmp_path / "scores.csv", index=False)
    theirs = phantom_films.select("test").table[["film"]].assign(Effusion="YES", Mass="NO", Fracture="NO")
    theirs.loc[3:, "Effusion"] = "NO"
    theirs.to_csv(tmp_path / "readers.csv", index=False)
    arguments = ["evaluate", tmp_path / "scores.csv", "--films", films_file, "--out", tmp_path / "out", "--draws", 100]
    shown = hilum(*arguments, "--reference", tmp_path / "readers.csv")
    assert shown.code == 0, shown.err
    section = json.loads((tmp_path / "out" / "report.json").read_text())["reference"]
    assert section["findings"]["Effusion"]["positives"] == 3
    assert "a second opinion" in (tmp_path / "out" / "report.html").read_text()
    assert f"By readers.csv: {len(theirs)} of these films" in shown.out
    for missing in ("missing.csv", "scores.csv"):
        wrong = hilum(*arguments[:-3], tmp_path / "none", "--reference", tmp_path / missing)
        assert (wrong.code, wrong.out, len(wrong.err.splitlines())) == (2, "", 1)
        assert not (tmp_path / "none").exists()


def test_a_bundle_is_set_against_its_report_on_other_films(
    hilum: Hilum, tiny_run: Path, films_file: Path, tmp_path: Path
) -> None:
    arguments = ["evaluate", tiny_run, "--films", films_file, "--draws", 100]
    before = hilum(*arguments, "--split", "val", "--out", tmp_path / "val")
    assert before.code == 0, before.err
    shown = hilum(*arguments, "--out", tmp_path / "test", "--against", tmp_path / "val")
    assert shown.code == 0, shown.err
    report = json.loads((tmp_path / "test" / "report.json").read_text())
    section = report["shift"]
    assert section["same_model"] is True
    assert section["report"]["split"] == "val"
    own = report["operating_points"]
    assert set(section["operating_points"]) == {name for name, point in own.items() if point}
    assert "External validation" in (tmp_path / "test" / "report.html").read_text()
    assert f"AUROC against {tmp_path / 'val'}" in shown.out
    wrong = hilum(*arguments, "--out", tmp_path / "again", "--against", tmp_path / "test")
    assert (wrong.code, wrong.out, len(wrong.err.splitlines())) == (2, "", 1)  # before a film is scored
    assert "hilum compare REPORT REPORT" in wrong.err
    assert not (tmp_path / "again").exists()
