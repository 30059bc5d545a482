"""Estimates in the form of report.json."""

import math
from typing import Any

from hilum.metrics.bootstrap import Estimate


def estimate_json(result: Estimate) -> dict[str, Any]:
    """Value, low, high and undefined, with null for NaN."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in result._asdict().items()
    }


def number_json(value: float) -> float | None:
    """A number, with null for NaN."""
    return None if math.isnan(value) else value


def estimate_of(result: dict[str, Any]) -> Estimate:
    """The reverse of `estimate_json`."""
    value, low, high = (float("nan") if result[name] is None else result[name] for name in ("value", "low", "high"))
    return Estimate(value, low, high, result["undefined"])
