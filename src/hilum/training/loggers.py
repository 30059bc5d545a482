"""Where the figures of a training go: CSV always; TensorBoard, MLflow and W&B where the recipe names them."""

import json
import uuid
from collections.abc import Iterable
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from hilum.errors import extras_named
from hilum.files import write_whole
from hilum.messages import messages
from hilum.recipe import Recipe

PROJECT = "hilum"
"""MLflow's experiment and W&B's project."""
_IDS = "logs/run_ids.json"


def check_loggers(recipe: Recipe) -> None:
    """Import what the recipe's loggers need.

    Raises:
        MissingExtraError: if it is not installed.
    """
    with extras_named():
        if "mlflow" in recipe.training.logger:
            import mlflow  # noqa: F401
        if "wandb" in recipe.training.logger:
            import wandb  # noqa: F401


def open_loggers(recipe: Recipe, out: Path) -> list[Logger]:
    """The loggers of a run, in its folder. None speaks to a server; a resumed run goes on in the same run of each.

    MLflow's store is logs/mlflow.db (`mlflow ui --backend-store-uri sqlite:///.../logs/mlflow.db`); W&B writes
    logs/wandb/offline-run-..., which `wandb sync` sends if you want it sent.
    """
    log = out / "logs" / "metrics.csv"
    if log.is_file():  # of the run that is resumed: Lightning would delete it
        log.rename(log.with_name(f"metrics.{len(list(log.parent.glob('metrics.*.csv'))):03d}.csv"))
    found: list[Logger] = [CSVLogger(out, name="logs", version="", flush_logs_every_n_steps=1)]
    folder, ids = (out / "logs").resolve(), _ids(out)
    for name in recipe.training.logger:
        match name:
            case "tensorboard":
                try:
                    found.append(TensorBoardLogger(out, name="logs", version=""))
                except ModuleNotFoundError:
                    messages().print("tensorboard is not installed: the run is logged without it")
            case "mlflow":
                folder.mkdir(parents=True, exist_ok=True)
                mlflow = MLFlowLogger(
                    PROJECT,
                    run_name=out.name,
                    tracking_uri=f"sqlite:///{folder}/mlflow.db",
                    artifact_location=str(folder / "mlflow"),
                    run_id=ids.get(name),
                )
                ids[name] = str(mlflow.run_id)
                found.append(mlflow)
            case "wandb":
                import wandb

                folder.mkdir(parents=True, exist_ok=True)
                ids.setdefault(name, uuid.uuid4().hex[:8])
                settings = wandb.Settings(console="off", silent=True, save_code=False, disable_git=True)
                found.append(
                    WandbLogger(
                        out.name, folder, project=PROJECT, offline=True, id=ids[name], resume="allow", settings=settings
                    )
                )
    if ids:
        write_whole(out / _IDS, json.dumps(ids).encode())
    for logger in found[1:]:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(recipe.to_dict())
    return found


def close_loggers(loggers: Iterable[Logger]) -> None:
    """Let W&B write what it still holds."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _ids(out: Path) -> dict[str, str]:
    """The names of this run in the stores, if it was begun before."""
    try:
        return dict(json.loads((out / _IDS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
