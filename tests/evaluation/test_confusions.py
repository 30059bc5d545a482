import numpy as np
import pandas as pd

from hilum.evaluation.confusions import confusions_section
from hilum.evaluation.inputs import EvaluationSet
from hilum.metrics.thresholds import Threshold
from hilum.model.thresholds import OperatingPoints


def test_false_calls_are_counted_by_hand() -> None:
    """Films: Mass; Mass and Edema; Edema; none; none, of which Edema is unknown in the last."""
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [0, np.nan, 0]])
    scores = np.array([[0.9, 0.9, 0.9], [0.1, 0.9, 0], [0.7, 0.1, 0], [0.1, 0.6, 0], [0.9, 0.9, 0]])
    names, films = ["Mass", "Edema", "Hernia"], [f"{row}.png" for row in range(5)]
    truth = pd.DataFrame(labels, columns=names).assign(film=films, patient=films)
    evaluated = EvaluationSet(truth, pd.DataFrame(scores, columns=names).assign(film=films), tuple(names))
    at_half = Threshold(0.5, 0.4, 0.6)
    points = OperatingPoints("ab", {"youden": {"Mass": at_half, "Edema": at_half, "Hernia": None}})
    section = confusions_section(evaluated, points)
    assert section["point"] == "youden"
    assert section["true"] == {
        "Mass": {"Mass": {"films": 2, "called": 1}, "Edema": {"films": 1, "called": 1}},
        "Edema": {"Mass": {"films": 1, "called": 1}, "Edema": {"films": 2, "called": 1}},
        "Hernia": {"Mass": {"films": 0, "called": 0}, "Edema": {"films": 0, "called": 0}},
        "none": {"Mass": {"films": 1, "called": 0}, "Edema": {"films": 1, "called": 1}},
    }
