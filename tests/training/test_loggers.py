"""Where figures go beside CSV, and that a resumed run goes on in the same run there."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hilum.errors import MissingExtraError
from hilum.messages import quiet_lightning
from hilum.recipe import load_recipe
from hilum.training.loggers import check_loggers, close_loggers, open_loggers


def figures(out: Path, recipe: Any, steps: range) -> None:
    with quiet_lightning():
        loggers = open_loggers(recipe, out)
        for step in steps:
            for logger in loggers:
                logger.log_metrics({"train_loss": 1 / (step + 1)}, step)
        for logger in loggers:
            logger.save()
            logger.finalize("success")
        close_loggers(loggers)


def test_csv_is_always_written_and_kept_when_a_run_is_resumed(tiny: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny, ["training.logger=[]"])
    figures(tmp_path, recipe, range(2))
    figures(tmp_path, recipe, range(2, 3))
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["metrics.000.csv", "metrics.csv"]
    assert len(pd.read_csv(tmp_path / "logs" / "metrics.000.csv")) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, by MLflow's own code
def test_mlflow_keeps_a_run_in_the_runs_folder(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    recipe = load_recipe(tiny, ['training.logger=["mlflow"]'])
    figures(tmp_path, recipe, range(2))
    figures(tmp_path, recipe, range(2, 4))
    client = MlflowClient(f"sqlite:///{tmp_path}/logs/mlflow.db")
    experiment = client.get_experiment_by_name("hilum")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(one.step, one.value) for one in losses] == [(step, 1 / (step + 1)) for step in range(4)]
    assert run.data.params["optimizer/lr"] == str(recipe.optimizer.lr)


@pytest.mark.slow
def test_wandb_writes_a_run_offline(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    out = tmp_path / "run"
    figures(out, load_recipe(tiny, ['training.logger=["wandb"]']), range(2))
    name = json.loads((out / "logs" / "run_ids.json").read_text())["wandb"]
    (written,) = (out / "logs" / "wandb").glob("offline-run-*/*.wandb")
    assert written.name == f"run-{name}.wandb"
    assert b"train_loss" in written.read_bytes()


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_extra_is_named_before_anything_begins(
    tiny: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    recipe = load_recipe(tiny, [f'training.logger=["{name}"]'])
    with pytest.raises(MissingExtraError, match=rf"hilum\[{name}\]"):
        check_loggers(recipe)
