"""Operating points for anyone's table of scores: chosen on validation films, or stated."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jaxtyping import Float64
from oracle import tried_threshold

from hilum.data.films import Films
from hilum.errors import HilumError, PredictionsError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.page import render_page
from hilum.metrics.operating_points import OPERATING_POINTS

FINDINGS = ["Mass", "Edema"]


def some_films(films: int = 900) -> tuple[Films, Float64[np.ndarray, "films findings"]]:
    generator = np.random.default_rng(0)
    patients = generator.integers(0, films // 3, films)
    logits = generator.normal(-1, 1.5, (films, 2))
    labels = (generator.random((films, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    split = np.where(patients % 2 == 0, "val", "test")
    frame = pd.DataFrame(labels, columns=FINDINGS).assign(
        film=[f"{i}.png" for i in range(films)], patient=patients.astype(str), split=split
    )
    frame["path"] = frame["film"]
    return Films.from_frame(frame, root=".", findings=FINDINGS, check_files=False), logits


def write(films: Films, scores: Float64[np.ndarray, "films findings"], split: str, path: Path) -> Path:
    rows = (films.table["split"] == split).to_numpy()
    table = pd.DataFrame(scores[rows], columns=FINDINGS).assign(film=films.table["film"][rows].to_numpy())
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("probabilities", [True, False])
def test_thresholds_are_those_that_trying_every_one_finds(tmp_path: Path, probabilities: bool) -> None:
    films, logits = some_films()
    scores = 1 / (1 + np.exp(-logits)) if probabilities else logits
    test, val = (write(films, scores, split, tmp_path / f"{split}.csv") for split in ("test", "val"))
    report = evaluate_to_folder(test, films, tmp_path / "report", validation=val)
    rows = (films.table["split"] == "val").to_numpy()
    for name, point in OPERATING_POINTS.items():
        for k, finding in enumerate(FINDINGS):
            own, labels = scores[rows, k], films.table[finding][rows].to_numpy()
            tried = tried_threshold(own.tolist(), labels.tolist(), own.tolist(), point.rule.name, point.rule.aim)
            found = report["operating_points"][name][finding]
            assert ((own >= found["threshold"]) == (own >= tried)).all()
            assert found["unsure_from"] <= found["threshold"] <= found["unsure_to"]
    assert report["thresholds_from"] == (
        f"They were chosen on {rows.sum():,} validation films of {films.table['patient'][rows].nunique()} patients "
        "(val.csv)."
    )
    assert report["thresholds_from"] in render_page(report)
    assert report["subgroups"]["operating_point"] == "specificity-90"


def test_stated_thresholds_are_used_as_they_are(tmp_path: Path) -> None:
    films, logits = some_films()
    test = write(films, logits, "test", tmp_path / "test.csv")
    report = evaluate_to_folder(test, films, tmp_path / "report", thresholds=["0.5", "Mass=-0.25"])
    rows = (films.table["split"] == "test").to_numpy()
    for k, (finding, threshold) in enumerate({"Mass": -0.25, "Edema": 0.5}.items()):
        present = films.table[finding][rows].to_numpy() == 1
        found = report["operating_points"]["stated"][finding]
        assert found["threshold"] == threshold
        assert found["sensitivity"]["value"] == pytest.approx((logits[rows, k] >= threshold)[present].mean())
        assert found["unsure_films"] == 0
    page = render_page(report)
    assert "Calls: what the stated thresholds do here" in page
    assert "stated, so without an interval" in page
    assert report["confusions"]["point"] == report["subgroups"]["operating_point"] == "stated"


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    films, logits = some_films()
    test, val = (write(films, logits, split, tmp_path / f"{split}.csv") for split in ("test", "val"))
    with pytest.raises(PredictionsError, match="must be of other films than are evaluated, got none"):
        evaluate_to_folder(test, films, tmp_path / "report", validation=test)
    with pytest.raises(PredictionsError, match="of the split val, which is evaluated"):
        evaluate_to_folder(val, films, tmp_path / "report", split="val", validation=val)
    pd.read_csv(val)[["film", "Mass"]].to_csv(val, index=False)
    with pytest.raises(PredictionsError, match="got none for Edema"):
        evaluate_to_folder(test, films, tmp_path / "report", validation=val)
    with pytest.raises(HilumError, match="Leave one out"):
        evaluate_to_folder(test, films, tmp_path / "report", validation=val, thresholds=["0.5"])
    for wrong in ("much", "Lung=0.5", "nan"):
        with pytest.raises(HilumError, match="threshold must be a number such as"):
            evaluate_to_folder(test, films, tmp_path / "report", thresholds=[wrong])
    assert not (tmp_path / "report").exists()
