"""Controls that see no pixel, judged on the same films as a system."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hilum.metrics.bootstrap import Estimate, estimate, estimate_json, macro_mean
from hilum.metrics.controls import Control, Records
from hilum.metrics.ranking import PerFinding, Table


@dataclass(frozen=True)
class ControlReport:
    """What a predictor without pixels reaches on the same films, and how far the system's mean lies above it."""

    mean_auroc: Estimate
    mean_difference: Estimate  # system minus control, paired, over the findings that both define
    findings: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """The form of report.json."""
        return {
            "mean": {"auroc": estimate_json(self.mean_auroc), "difference": estimate_json(self.mean_difference)},
            "findings": {name: {"auroc": estimate_json(auroc)} for name, auroc in self.findings.items()},
            "undefined_findings": [name for name, auroc in self.findings.items() if math.isnan(auroc.value)],
        }


def control_report(control: Control, judged: Sequence[str], values: PerFinding, drawn: Table) -> ControlReport:
    """A control beside the system that is judged in the same resamples.

    Args:
        judged: names of the findings.
        values: the system's AUROC per finding.
        drawn: the same in each resample.
    """
    auroc, per_draw = control
    return ControlReport(
        mean_auroc=estimate(*macro_mean(auroc, per_draw)),
        mean_difference=estimate(*macro_mean(values - auroc, drawn - per_draw)),
        findings={name: estimate(float(auroc[i]), per_draw[:, i]) for i, name in enumerate(judged)},
    )


def records(table: pd.DataFrame, findings: Sequence[str]) -> Records:
    """What a manifest's rows say about their films, for the controls."""
    texts = (table[name].to_numpy(dtype=str) for name in ("patient", "view", "sex"))
    patients, views, sexes = texts
    return Records(
        table[list(findings)].to_numpy(dtype=np.float64), patients, views, table["age"].to_numpy(np.float64), sexes
    )
