"""The section of a report on confusions: what is called falsely where which finding is true."""

from typing import Any

import numpy as np

from hilum.data.judged import Judged
from hilum.operating import OperatingPoints

POINT = "youden"
"""The operating point whose calls are looked at: the one that asks for no number of anybody."""


def confusions_section(judged: Judged, points: OperatingPoints) -> dict[str, Any]:
    """False calls of each finding among the films with another, as counts, in the form of report.json.

    `films` are those with the true finding (`none`: without any that was judged) and surely without the called one,
    so that findings which occur together are no confusion; `called` of them were called all the same. Where both
    are one finding, the films are those with it. Findings without a threshold are not called.
    """
    labels, thresholds = judged.labels, points.thresholds(POINT)
    called = {
        name: judged.numbers[:, k] >= threshold.value
        for k, name in enumerate(judged.findings)
        if (threshold := thresholds[name]) is not None
    }
    where = {name: labels[:, k] == 1 for k, name in enumerate(judged.findings)}
    rows: dict[str, dict[str, dict[str, int]]] = {}
    for true, present in {**where, "none": (labels == 0).all(axis=1)}.items():
        rows[true] = {}
        for name, calls in called.items():
            among = present if name == true else present & (labels[:, judged.findings.index(name)] == 0)
            rows[true][name] = {"films": int(np.sum(among)), "called": int(np.sum(among & calls))}
    return {"point": POINT, "true": rows}
