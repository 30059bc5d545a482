"""Several trainings in one report: seeds by their mean score, each beside the others."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_reports import shown
from sklearn.metrics import roc_auc_score

from hilum.data.films import Films
from hilum.errors import HilumError, PredictionsError
from hilum.evaluation import runs
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.page import render_page

FINDINGS = ["Mass", "Edema"]


def some_films() -> Films:
    generator = np.random.default_rng(0)
    labels = (generator.random((500, 2)) < 0.3).astype(np.float64)
    frame = pd.DataFrame(labels, columns=FINDINGS).assign(film=[f"{i}.png" for i in range(500)], split="test")
    frame = frame.assign(path=frame["film"], patient=[str(i // 2) for i in range(500)])
    return Films.from_frame(frame, root=".", findings=FINDINGS, check_files=False)


def seeds(films: Films, folder: Path, number: int = 3) -> list[Path]:
    generator = np.random.default_rng(1)
    common = generator.normal(size=(500, 2)) + films.all_labels
    made = []
    for seed in range(number):
        scores = 1 / (1 + np.exp(-(common + 0.8 * generator.normal(size=(500, 2)))))
        table = pd.DataFrame(scores, columns=FINDINGS).assign(film=films.table["film"])
        table.to_csv(folder / f"seed{seed}.csv", index=False)
        made.append(folder / f"seed{seed}.csv")
    return made


def test_seeds_have_their_mean_and_each_its_place(tmp_path: Path) -> None:
    films = some_films()
    paths = seeds(films, tmp_path)
    report = evaluate_to_folder(paths, films, tmp_path / "report")
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    section, labels = report["runs"], films.all_labels
    assert section["kind"] == "seeds"
    tables = [pd.read_csv(path)[FINDINGS].to_numpy() for path in paths]
    for k, finding in enumerate(FINDINGS):
        own = [roc_auc_score(labels[:, k], table[:, k]) for table in tables]
        assert section["findings"][finding]["auroc"]["by_run"] == pytest.approx(own)
        assert section["findings"][finding]["auroc"]["value"] == pytest.approx(np.mean(own))
        together = roc_auc_score(labels[:, k], np.mean(tables, axis=0)[:, k])
        assert report["findings"][finding]["auroc"]["value"] == pytest.approx(together)
    view = shown(runs, report)
    assert len(view.forests[0].rows) == 3
    assert view.forests[0].first == "Run"
    assert "All other sections are of the mean of the runs" in render_page(report)
    assert evaluate_to_folder(paths[0], films, tmp_path / "one")["runs"] is None


def test_runs_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    films = some_films()
    one, other, _ = seeds(films, tmp_path)
    with pytest.raises(PredictionsError, match="runs must be different"):
        evaluate_to_folder([one, one], films, tmp_path / "report")
    pd.read_csv(other).iloc[1:].to_csv(other, index=False)
    with pytest.raises(PredictionsError, match="same findings of the same films"):
        evaluate_to_folder([one, other], films, tmp_path / "report")
    with pytest.raises(PredictionsError, match="which is none"):
        evaluate_to_folder([one, tmp_path / "nowhere"], films, tmp_path / "report")
    with pytest.raises(HilumError, match="must go with one run"):
        evaluate_to_folder([one, other], films, tmp_path / "report", against=tmp_path)
