"""The calibration section of a report."""

from typing import Any

import numpy as np

from hilum.data.judged import Judged
from hilum.judging.estimates import estimate_json
from hilum.metrics.bootstrap import estimate, macro_mean
from hilum.metrics.calibration import BINS, Bin, Calibration, Measured, calibration

_MEANS = ("ece", "brier")
_MEASURES = ("ece", "brier", "brier_skill", "excess", "slope")


def calibration_section(judged: Judged, *, draws: int, seed: int) -> dict[str, Any]:
    """Calibration error, Brier score and reliability table per finding, in the form of report.json.

    `undefined` says why there is none; it is empty if there is. `how` the scores were calibrated, if they were, is for
    the caller to add.
    """
    numbers, labels, patients = judged.numbers, judged.labels, judged.patients
    if (numbers < 0).any() or (numbers > 1).any():
        nothing = estimate_json(estimate(float("nan"), np.full(draws, np.nan)))
        return {
            "undefined": "Scores outside [0, 1] are no probabilities, so their calibration cannot be judged.",
            "how": "",
            "bins": BINS,
            "mean": dict.fromkeys(_MEANS, nothing),
            "findings": {},
        }
    found = {
        name: calibration(numbers[:, k], labels[:, k], patients, draws=draws, seed=seed)
        for k, name in enumerate(judged.findings)
    }
    return {
        "undefined": "",
        "how": "",
        "bins": BINS,
        "mean": {name: _mean([getattr(one, name) for one in found.values()]) for name in _MEANS},
        "findings": {name: _finding(one) for name, one in found.items()},
    }


def _mean(measured: list[Measured]) -> dict[str, Any]:
    values = np.array([one.value for one in measured])
    return estimate_json(estimate(*macro_mean(values, np.stack([one.per_draw for one in measured], axis=1))))


def _finding(found: Calibration) -> dict[str, Any]:
    return {
        **{name: estimate_json(getattr(found, name).estimate) for name in _MEASURES},
        "ece_by_chance": estimate_json(found.ece_by_chance),
        "reliability": [_row(one) for one in found.bins],
    }


def _row(one: Bin) -> dict[str, Any]:
    return {**one._asdict(), "present": estimate_json(one.present)}
