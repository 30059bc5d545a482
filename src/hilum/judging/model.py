"""The section of a report on the model: what it is, and how it was trained."""

from pathlib import Path
from typing import Any

import pandas as pd

from hilum.bundle import Bundle, calibration_fact, weights_sha256


def model_section(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """What a reader must know of a bundle, in the form of report.json."""
    recipe = bundle.recipe
    return {
        "recipe": recipe.name,
        "about": recipe.about,
        "network": recipe.architecture.network,
        "parameters": bundle.parameters,
        "preprocessing": bundle.preprocessing.to_dict(),
        "loss": recipe.loss.name,
        "weights_before": recipe.weights,
        "protocol": recipe.protocol,
        "findings": list(bundle.findings),
        "films_fingerprint": bundle.films,
        "weights_sha256": weights_sha256(bundle),
        "calibration": calibration_fact(bundle),
        "training": bundle.training,
        "history": training_history(folder),
    }


def training_history(run: Path) -> list[dict[str, float]]:
    """Loss and validation figures, one row per epoch, from the logs of a run's beginning and of each resumption."""
    logs = [pd.read_csv(path) for path in sorted((run / "logs").glob("metrics*.csv"))]
    if not logs:
        return []
    log = pd.concat(logs)
    names = {"train_loss_epoch": "train_loss", "val_loss": "val_loss", "val_auroc": "val_auroc"}
    kept = log[["epoch", *(name for name in names if name in log)]].rename(columns=names)
    epochs = kept.groupby("epoch", as_index=False).last().dropna(axis=1, how="all").dropna()
    return [{str(name): float(value) for name, value in row.items()} for row in epochs.to_dict("records")]
