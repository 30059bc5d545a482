"""From a bundle or anyone's scores to a report in a folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hilum.data.films import Films
from hilum.errors import BundleError, FilmsError, PredictionsError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.model import training_history
from hilum.findings import SIMULATED


def test_a_bundle_becomes_a_report(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    report = evaluate_to_folder(tiny_run, phantom_films, tmp_path / "report", bootstrap_samples=100)
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == report
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.json", "report.html", "roc.png", "predictions.csv"} <= written
    assert not any(name.startswith(".") for name in written)
    assert report["system"] == "tiny (tiny)"
    assert (report["protocol"], report["split"]) == ("patient", "test")
    assert report["films"] == len(phantom_films.select("test"))
    assert not any("another manifest" in note for note in report["notes"])
    films = pd.read_csv(tmp_path / "report" / "predictions.csv")["film"].tolist()
    assert sorted(films) == sorted(phantom_films.select("test").table["film"])
    page = (tmp_path / "report" / "report.html").read_text()
    assert "medical device" in page
    assert "kept epoch" in page
    assert report["localization"]["films_with_findings"] > 0
    assert "Does the heatmap find the finding?" in page


def test_simulated_films_stand_beside_nothing_published(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    """The phantom is in NIH's layout and split as others are; its report speaks of no patients and no literature."""
    assert set(phantom_films.table["source"]) == {SIMULATED}
    report = evaluate_to_folder(tiny_run, phantom_films, tmp_path / "report", bootstrap_samples=20)
    assert report["simulated"]
    assert report["learned_from"].startswith("trained on simulated films only")
    assert report["published"] == report["published_elsewhere"] == []
    page = (tmp_path / "report" / "report.html").read_text()
    head = page[: page.index("<main>")]
    assert "trained on simulated films only" in head
    assert "The evaluated films are simulated" in head
    assert "films of patients: share" not in page
    assert "simulated films, of nobody" in page
    assert not [system for system in ("DNetLoc", "Wang 2017", "ChestNet") if system in page]
    real = replace(phantom_films, table=phantom_films.table.assign(source="nih"))
    report = evaluate_to_folder(tiny_run, real, tmp_path / "other", bootstrap_samples=20)
    assert not report["simulated"]
    assert report["published"] == []  # of a model that learned from simulated films
    assert "films of patients: share" in (tmp_path / "other" / "report.html").read_text()


def test_its_own_predictions_give_the_same_report(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    report = evaluate_to_folder(tiny_run, phantom_films, tmp_path / "one", bootstrap_samples=100)
    again = evaluate_to_folder(
        tmp_path / "one" / "predictions.csv", phantom_films, tmp_path / "two", bootstrap_samples=100
    )
    assert again["findings"] == report["findings"]
    assert again["mean"] == report["mean"]
    assert again["unfit_films"] is None  # nor pixels
    assert again["localization"] == {}  # a table of scores has no maps
    assert again["system"] == "predictions.csv"


def test_another_split_than_the_trainings_is_said(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    films = phantom_films.split("patient", seed=9)
    report = evaluate_to_folder(tiny_run, films, tmp_path / "report", bootstrap_samples=100)
    assert any("another manifest or split" in note for note in report["notes"])


def test_films_that_do_not_fit_the_model_are_judged_and_counted(
    tiny_run: Path, phantom_films: Films, tmp_path: Path
) -> None:
    root = tmp_path / "films"
    shutil.copytree(phantom_films.root, root)
    films = replace(phantom_films, root=root)
    upright = films.select("test")
    path = upright.path(0)
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    report = evaluate_to_folder(tiny_run, films, tmp_path / "report", bootstrap_samples=100)
    film = upright.table["film"].iloc[0]
    assert report["unfit_films"][film].startswith("inverted: ")
    assert report["films"] == len(upright)
    said = f"{len(report['unfit_films'])} of {len(upright)} evaluated films fail the input quality check"
    assert any(note.startswith(said) for note in report["notes"])


def test_other_splits_can_be_judged(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    report = evaluate_to_folder(tiny_run, phantom_films, tmp_path / "report", split="val", bootstrap_samples=100)
    assert (report["split"], report["films"]) == ("val", len(phantom_films.select("val")))


def test_what_cannot_be_judged_leaves_nothing(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    out = tmp_path / "report"
    unsplit = replace(phantom_films, table=phantom_films.table.assign(split=None))
    with pytest.raises(FilmsError, match="films must be split"):
        evaluate_to_folder(tiny_run, unsplit, out)
    with pytest.raises(BundleError, match=r"bundle must be a folder with bundle\.json"):
        evaluate_to_folder(tmp_path, phantom_films, out)
    with pytest.raises(PredictionsError):
        evaluate_to_folder(tmp_path / "missing.csv", phantom_films, out)
    tested = phantom_films.select("test").table["film"].tolist()
    pd.DataFrame({"film": tested[1:], "Mass": 0.5}).to_csv(tmp_path / "some.csv", index=False)
    with pytest.raises(PredictionsError, match=tested[0]):
        evaluate_to_folder(tmp_path / "some.csv", phantom_films, out)
    assert not out.exists()
    report = evaluate_to_folder(tmp_path / "some.csv", phantom_films, out, allow_missing=True, bootstrap_samples=100)
    assert report["films"] == len(tested) - 1


def test_history_has_a_row_per_epoch(tiny_run: Path, tmp_path: Path) -> None:
    history = training_history(tiny_run)
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert all(row.keys() == {"epoch", "train_loss", "val_loss", "val_auroc"} for row in history)
    assert all(np.isfinite(value) for row in history for value in row.values())
    assert training_history(tmp_path) == []


def test_history_takes_what_a_resumption_says_of_an_epoch(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.000.csv").write_text(
        "epoch,step,train_loss,train_loss_epoch\n0,3,0.7,\n0,3,,0.6\n1,4,0.5,\n1,7,,0.4\n"
    )
    (tmp_path / "logs" / "metrics.csv").write_text("epoch,step,train_loss_epoch\n1,7,0.3\n2,11,0.2\n")
    assert training_history(tmp_path) == [
        {"epoch": 0, "train_loss": 0.6},
        {"epoch": 1, "train_loss": 0.3},
        {"epoch": 2, "train_loss": 0.2},
    ]
