"""The section on the model: what it is, and how it was trained."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from hilum.data.images import Preprocessing
from hilum.evaluation.case import Case
from hilum.evaluation.views import Block, FigureView, LineView, View, axis, scaled, svg_path, words

key = "model"

IMPORTED = "not by this recipe: see its origin"
"""Stands where how a model was trained is not known."""


def measure(case: Case) -> dict[str, Any] | None:
    """What a reader must know of a bundle, in the form of report.json; None for a table of scores."""
    if case.model is None:
        return None
    from hilum.model.bundle import calibration_fact, weights_sha256

    bundle = case.model.bundle
    recipe = bundle.recipe
    return {
        "recipe": recipe.name,
        "learned_from": bundle.description.learned_from,
        "about": recipe.about,
        "network": recipe.architecture.network,
        "parameters": bundle.parameters,
        "preprocessing": bundle.preprocessing.to_dict(),
        "loss": IMPORTED if bundle.origin else recipe.loss.name,
        "weights_before": IMPORTED if bundle.origin else recipe.weights,
        "protocol": IMPORTED if bundle.origin else recipe.protocol,
        **({"origin": asdict(bundle.origin)} if bundle.origin else {}),
        "findings": list(bundle.findings),
        "films_fingerprint": bundle.films,
        "weights_sha256": weights_sha256(bundle),
        "calibration": calibration_fact(bundle),
        "training": bundle.training,
        "history": training_history(case.model.folder),
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


def view(report: dict[str, Any]) -> View | None:
    """The facts, and a chart of each number of the training; the model card has them at its beginning."""
    model = report["model"]
    if not model:
        return None
    return View(
        "training",
        "The model, and how it was trained",
        blocks=(Block("model.html", {"facts": model_facts(model), "charts": training_charts(model["history"])}),),
        contents="The model",
        on_card=False,
    )


def model_facts(model: dict[str, Any]) -> dict[str, str]:
    """What the model is and how it was trained, as names and values."""
    preprocessing = model["preprocessing"]
    origin = model.get("origin")
    return {
        "recipe": f"{model['recipe']}: {model['about']}",
        "network": f"{model['network']}, {model['parameters']:,} parameters",
        "input": Preprocessing.from_dict(preprocessing).words,
        **({"origin": ". ".join([f"{origin['model']}, {origin['file']}", *origin["notes"]])} if origin else {}),
        **({"learned from": learned} if (learned := model.get("learned_from")) else {}),
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
                "path": (path := svg_path(across, scaled(ups, min(ups), max(ups)))),
                "figure": FigureView(
                    words(name),
                    f"{ups[-1]:.4g}",
                    "",
                    f"{words(name)} over {len(history)} epochs, from {min(ups):.4g} to {max(ups):.4g}",
                    axis("epoch", 1, len(history), steps=1),
                    axis(words(name), min(ups), max(ups), upright=True),
                    lines=(LineView(path),),
                ),
                "low": min(ups),
                "high": max(ups),
                "last": ups[-1],
                "epochs": len(history),
            }
        )
    return charts
