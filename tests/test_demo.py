"""The demo: what it leaves, what it refuses, and that its network learns what is on the films and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from hilum import DISCLAIMER
from hilum.data.films import Films, read_films
from hilum.data.splits import shared_patients
from hilum.demo import run_demo
from hilum.errors import HilumError

pytestmark = pytest.mark.slow  # they train

SMALL = (
    "architecture.block_layers=[1,1,1,1]",
    "architecture.stem=16",
    "preprocessing.size=32",
    "training.epochs=1",
    "training.precision=fp32",
)


def test_a_small_demo(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = run_demo(out, seed=2, changes=SMALL, phantom_films=60)
    assert result.on_phantom
    assert result.films == 60
    for name in (
        "films.parquet",
        "run/bundle.json",
        "run/MODEL_CARD.md",
        "report/report.html",
        "report/roc.png",
        "predictions.csv",
        "README.txt",
    ):
        assert (out / name).is_file(), name
    films = read_films(out / "films.parquet")
    assert set(shared_patients(films).values()) == {0}
    assert films.notes["split_seed"] == 2
    predicted = pd.read_csv(out / "predictions.csv")["film"].tolist()
    assert len(predicted) == 3
    assert set(predicted) <= set(films.select("test").table["film"])
    assert len(list((out / "heatmaps").iterdir())) == 9
    report = json.loads((out / "report" / "report.json").read_text())
    assert report["mean"]["auroc"]["value"] == result.mean_auroc
    told = result.to_text()
    assert (out / "README.txt").read_text() == told
    assert DISCLAIMER in told
    assert all(text in told for text in ("report.html", "heatmaps", "hilum index nih DIR", "hilum split films.parquet"))
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["films"] == 60


def test_real_films_are_taken_instead(phantom_folder: Path, tmp_path: Path) -> None:
    result = run_demo(tmp_path / "demo", data=phantom_folder, changes=SMALL)
    assert not result.on_phantom
    assert not (tmp_path / "demo" / "phantom").exists()
    assert "real films" in result.to_text()


def test_of_many_films_whole_patients_are_taken(phantom_films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    from hilum import demo

    monkeypatch.setattr(demo, "MOST_FILMS", 25)
    some = demo._some(phantom_films, 0)
    assert 15 < len(some) <= 25
    count = phantom_films.table.groupby("patient").size().to_dict()
    for patient, films in some.table.groupby("patient").size().to_dict().items():
        assert films == count[patient]
    assert demo._some(phantom_films, 0).fingerprint() == some.fingerprint()
    assert demo._some(phantom_films, 1).fingerprint() != some.fingerprint()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(HilumError, match="out must be a new or empty folder"):
            run_demo(out)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_without_films_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(HilumError):
        run_demo(tmp_path / "demo", data=tmp_path / "empty")
    assert not (tmp_path / "demo").exists()


Demo = Callable[..., float]


@pytest.fixture
def mean_auroc(tmp_path: Path) -> Demo:
    def run(*changes: str, shuffle_labels: bool = False) -> float:
        value = run_demo(tmp_path / "demo", changes=changes, shuffle_labels=shuffle_labels).mean_auroc
        assert value is not None
        return value

    return run


def test_the_demo_learns(mean_auroc: Demo) -> None:
    assert mean_auroc() >= 0.80


def test_nothing_is_learned_from_shuffled_labels(mean_auroc: Demo) -> None:
    assert mean_auroc("training.epochs=6", shuffle_labels=True) == pytest.approx(0.5, abs=0.06)
