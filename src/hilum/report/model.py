"""The page's section on the model and its training."""

import math
from typing import Any

from hilum.report.figures import scaled, svg_path
from hilum.report.words import words


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
