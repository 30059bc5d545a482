"""ROC and precision-recall curve of a finding in one list of thresholds, in the form of report.json."""

from typing import Any

import numpy as np

from hilum.metrics.ranking import RocCurve


def curve_json(curve: RocCurve, films: int, positives: int) -> dict[str, Any]:
    """The rates, the precision and the threshold of each point, from no film called to all.

    The true positive rate is the recall, so this is the precision-recall curve too; with the counts of films and
    positives, everything that a threshold does follows. Where no film is called, threshold and precision are null.
    All lists are empty where the films are of one class.

    Args:
        films: with a known label.
        positives: of these, with the finding.
    """
    names = ("false_positive_rate", "true_positive_rate", "precision", "threshold")
    if not 0 < positives < films:
        return {name: [] for name in names}
    hits = curve.true_positive_rate * positives
    called = hits + curve.false_positive_rate * (films - positives)
    precision = np.divide(hits, called, out=np.full(len(called), np.nan), where=called > 0)
    with np.errstate(over="ignore"):
        single = curve.thresholds.astype(np.float32)
    columns = (
        curve.false_positive_rate.round(6),
        curve.true_positive_rate.round(6),
        precision.round(6),
        [float(str(threshold)) for threshold in single],  # as short as a table of scores has it
    )
    return {
        name: [float(number) if np.isfinite(number) else None for number in column]
        for name, column in zip(names, columns, strict=True)
    }
