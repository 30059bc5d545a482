"""The section of a report on the model: what it is, and how it was trained.

The page's section on the model and its training.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hilum.evaluation.figures import scaled, svg_path
from hilum.evaluation.views import words

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle


def model_section(bundle: "Bundle", folder: Path) -> dict[str, Any]:
    """What a reader must know of a bundle, in the form of report.json."""
    from hilum.model.bundle import calibration_fact, weights_sha256  # with torch

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


def model_facts(model: dict[str, Any]) -> dict[str, str]:
    """What the model is and how it was trained, as names and values."""
    preprocessing = model["preprocessing"]
    size = preprocessing["size"]
    return {
        "recipe": f"{model['recipe']}: {model['about']}",
        "network": f"{model['network']}, {model['parameters']:,} parameters",
        "input": f"{size} x {size} px, {preprocessing['interpolation']}",
        "loss": model["loss"],
        "weights before training": model["weights_before"],
        "split by": model["protocol"],
        "calibration": model["calibration"],
        **{words(name): str(value) for name, value in model["training"].items() if name != "protocol"},
    }


def training_charts(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A small chart for each number that the epochs of a training have."""
    names = list(dict.fromkeys(name for epoch in history for name in epoch if name != "epoch"))
    charts = []
    for name in names:
        points = [(i, epoch.get(name)) for i, epoch in enumerate(history)]
        known = [(i, float(y)) for i, y in points if isinstance(y, int | float) and math.isfinite(y)]
        if len(known) < 2:
            continue
        ups = [y for _, y in known]
        across = scaled([float(i) for i, _ in known], 0.0, float(len(history) - 1))
        charts.append(
            {
                "name": words(name),
                "path": svg_path(across, scaled(ups, min(ups), max(ups))),
                "low": min(ups),
                "high": max(ups),
                "last": ups[-1],
                "epochs": len(history),
            }
        )
    return charts
