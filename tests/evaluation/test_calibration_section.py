import json

import numpy as np
import pandas as pd
import pytest

from hilum.evaluation.calibration import calibration_section
from hilum.evaluation.calibration import view as calibration_view
from hilum.evaluation.inputs import EvaluationSet
from hilum.metrics.bootstrap import estimate_json
from hilum.metrics.calibration import mean_error, measured_calibration
from hilum.metrics.influence import average

FINDINGS = ("Mass", "Edema")
COUNTS = {name: {"positives": 12, "positive_patients": 9} for name in FINDINGS}


def some_evaluation_set(films: int = 300, *, slope: float = 1.0) -> EvaluationSet:
    generator = np.random.default_rng(0)
    logits = generator.normal(-1, 1.5, (films, 2))
    labels = (generator.random((films, 2)) < 1 / (1 + np.exp(-slope * logits))).astype(np.float64)
    names = [f"{film}.png" for film in range(films)]
    scores = pd.DataFrame(1 / (1 + np.exp(-logits)), columns=list(FINDINGS)).assign(film=names)
    truth = pd.DataFrame(labels, columns=list(FINDINGS)).assign(film=names, patient=np.arange(films) // 3)
    return EvaluationSet(truth, scores, FINDINGS)


def test_every_number_has_its_interval_and_counts() -> None:
    section = calibration_section(some_evaluation_set(), seed=0)
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    assert set(section["findings"]) == set(FINDINGS)
    for finding in section["findings"].values():
        for name in ("ece", "ece_by_chance", "brier", "brier_skill", "excess", "slope"):
            assert set(finding[name]) == {"value", "low", "high", "undefined"}
            assert finding[name]["low"] <= finding[name]["value"] <= finding[name]["high"]
        assert sum(row["films"] for row in finding["reliability"]) == 300
        assert all(row["patients"] <= row["films"] for row in finding["reliability"])
    for name in ("ece", "brier"):
        values = [finding[name]["value"] for finding in section["findings"].values()]
        assert section["mean"][name]["value"] == pytest.approx(np.mean(values))
        assert section["mean"][name]["low"] < section["mean"][name]["high"]


def test_scores_that_are_no_probabilities_have_no_calibration_and_a_reason() -> None:
    evaluated = some_evaluation_set()
    evaluated.scores["Mass"] *= 5
    section = calibration_section(evaluated, seed=0)
    assert section["undefined"].startswith("Scores outside [0, 1]")
    assert section["mean"]["ece"] == {"value": None, "low": None, "high": None, "undefined": 0}
    assert section["findings"] == {}
    assert calibration_view({"calibration": section}).sentences == (section["undefined"],)


def test_the_page_names_what_is_off_and_draws_each_finding() -> None:
    view = calibration_view(
        {"calibration": calibration_section(some_evaluation_set(2000, slope=0.3), seed=0), "findings": COUNTS}
    )
    assert "Further off than chance explains: Mass and Edema." in view.sentences
    assert [figure.title for figure in view.figures] == list(FINDINGS)
    assert all(0 <= number <= 100 for figure in view.figures for point in figure.points for number in point)
    assert len(view.tables[0].rows[0]) == len(view.tables[0].header)
    evaluated = some_evaluation_set(60)
    evaluated.truth["Mass"] = np.nan
    section = calibration_section(evaluated, seed=0)
    assert section["findings"]["Mass"]["ece"]["value"] is None
    assert section["mean"]["ece"]["value"] == section["findings"]["Edema"]["ece"]["value"]
    view = calibration_view({"calibration": section, "findings": COUNTS})
    assert "Too few patients to say that of: Mass." in view.sentences
    assert view.tables[0].rows[0][1].text == "undefined"
    assert [figure.title for figure in view.figures] == ["Edema"]


def test_numbers_are_those_of_the_functions_and_rare_findings_get_the_word() -> None:
    evaluated = some_evaluation_set()
    evaluated.truth.loc[evaluated.truth["patient"] >= 5, "Edema"] = 0.0
    section = calibration_section(evaluated, seed=3)
    mass, edema = section["findings"]["Mass"], section["findings"]["Edema"]
    direct = [
        measured_calibration(evaluated.numbers[:, k], evaluated.labels[:, k], evaluated.patients, seed=3)
        for k in range(2)
    ]
    assert mass["ece"] == estimate_json(direct[0].ece)
    assert mass["slope"] == estimate_json(direct[0].slope.estimate)
    for name in ("ece", "brier", "excess", "slope"):
        assert edema[name]["low"] is None
        assert edema[name]["why"].startswith("too few patients with the finding:")
    assert section["mean"]["ece"] == estimate_json(mean_error(direct, seed=3))
    assert section["mean"]["brier"] == estimate_json(average([one.brier for one in direct]).estimate)
