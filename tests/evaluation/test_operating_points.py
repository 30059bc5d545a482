import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_score, recall_score

from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.operating_points import operating_section
from hilum.evaluation.operating_points import view as operating_view
from hilum.metrics.bootstrap import estimate_json
from hilum.metrics.influence import measured_rate, patient_codes
from hilum.metrics.thresholds import Threshold
from hilum.model.thresholds import OperatingPoints

MEASURES = ("sensitivity", "specificity", "ppv", "npv", "alarms_per_100", "unsure")
POINTS = OperatingPoints(
    "ab", {"youden": {"Mass": Threshold(0.6, 0.5, 0.7), "Edema": None}, "alarms-10": {"Mass": None, "Edema": None}}
)


def some_evaluation_set(films: int = 200) -> EvaluationSet:
    generator = np.random.default_rng(0)
    labels = (generator.random((films, 2)) < 0.3).astype(np.float64)
    labels[:5] = np.nan
    names = [f"{film}.png" for film in range(films)]
    scores = pd.DataFrame(generator.random((films, 2)) * 0.8 + 0.2 * np.nan_to_num(labels), columns=["Mass", "Edema"])
    truth = pd.DataFrame(labels, columns=["Mass", "Edema"]).assign(film=names, patient=np.arange(films) // 3)
    return EvaluationSet(truth, scores.assign(film=names), ("Mass", "Edema"))


def test_rates_are_scikit_learns_and_every_one_has_its_interval() -> None:
    evaluated = some_evaluation_set()
    section = operating_section(evaluated, POINTS, prevalence={"Mass": 0.02})
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    assert set(section) == {"youden", "alarms-10"}
    assert section["alarms-10"] == {}
    mass = section["youden"]["Mass"]
    truth, called = evaluated.labels[5:, 0], (evaluated.numbers[5:, 0] >= 0.6).astype(float)
    assert mass["sensitivity"]["value"] == pytest.approx(recall_score(truth, called))
    assert mass["specificity"]["value"] == pytest.approx(recall_score(1 - truth, 1 - called))
    assert mass["ppv"]["value"] == pytest.approx(precision_score(truth, called))
    assert mass["npv"]["value"] == pytest.approx(precision_score(1 - truth, 1 - called))
    assert mass["alarms_per_100"]["value"] == pytest.approx(100 * called.mean())
    assert mass["true_positives"] + mass["false_negatives"] == truth.sum()
    inside = (evaluated.numbers[5:, 0] >= 0.5) & (evaluated.numbers[5:, 0] < 0.7)
    assert mass["unsure"]["value"] == pytest.approx(inside.mean())
    assert mass["unsure_films"] == inside.sum()
    assert mass["positive_patients"] == len(set(evaluated.patients[5:][truth == 1]))
    for name in MEASURES:
        assert mass[name]["low"] <= mass[name]["value"] <= mass[name]["high"]
    stated, sensitivity, specificity = mass["at_prevalence"], mass["sensitivity"]["value"], mass["specificity"]["value"]
    ppv = sensitivity * 0.02 / (sensitivity * 0.02 + (1 - specificity) * 0.98)
    assert stated["ppv"]["value"] == pytest.approx(ppv)
    assert stated["ppv"]["low"] < ppv < stated["ppv"]["high"]
    assert stated["npv"]["value"] > mass["npv"]["value"]


def test_unanimous_films_are_no_certainty_at_another_prevalence_either() -> None:
    evaluated = some_evaluation_set()
    evaluated.scores.loc[evaluated.truth["Mass"] == 0, "Mass"] = 0.1
    mass = operating_section(evaluated, POINTS, prevalence={"Mass": 0.02})["youden"]["Mass"]
    assert mass["specificity"]["value"] == 1
    assert mass["specificity"]["low"] < 1
    assert mass["at_prevalence"]["ppv"]["value"] == 1
    assert mass["at_prevalence"]["ppv"]["low"] < 0.6


def test_the_page_shows_points_that_exist_and_says_when_there_are_none() -> None:
    section = operating_section(some_evaluation_set(), POINTS, prevalence={})
    view = operating_view({"operating_points": section, "findings": {}})
    assert [table.title for table in view.tables] == ["Largest sensitivity + specificity (Youden)"]
    assert len(view.tables[0].header) == len(view.tables[0].rows[0]) == 9
    stated = operating_section(some_evaluation_set(), POINTS, prevalence={"Mass": 0.1})
    table = operating_view({"operating_points": stated, "findings": {}}).tables[0]
    assert len(table.header) == len(table.rows[0]) == 12
    assert (
        operating_view({"operating_points": None, "findings": {}})
        .sentences[0]
        .startswith("No thresholds came with these scores")
    )


def test_intervals_are_those_of_the_functions() -> None:
    evaluated = some_evaluation_set()
    mass = operating_section(evaluated, POINTS, prevalence={})["youden"]["Mass"]
    codes, _ = patient_codes(evaluated.patients)
    called, present = evaluated.numbers[:, 0] >= 0.6, evaluated.labels[:, 0] == 1
    known = ~np.isnan(evaluated.labels[:, 0])
    sensitivity = measured_rate(called.astype(float), present, codes, "with the finding").estimate
    assert mass["sensitivity"] == estimate_json(sensitivity)
    calls = measured_rate(called.astype(float), known, codes, "").estimate
    assert mass["alarms_per_100"]["high"] == pytest.approx(100 * calls.high)


def test_too_few_patients_get_the_word_and_a_threshold_without_a_band_says_why() -> None:
    evaluated = some_evaluation_set()
    evaluated.truth.loc[12:, "Mass"] = 0.0
    why = "too few patients with the finding: 3"
    points = OperatingPoints("ab", {"youden": {"Mass": Threshold(0.6, 0.0, 1.0, why), "Edema": None}})
    section = operating_section(evaluated, points, prevalence={"Mass": 0.02})
    mass = section["youden"]["Mass"]
    assert mass["sensitivity"]["low"] is None
    assert mass["sensitivity"]["why"].startswith("too few patients with the finding:")
    assert mass["at_prevalence"]["ppv"]["why"] == mass["sensitivity"]["why"]
    assert (mass["unsure"]["value"], mass["unsure_why"]) == (1.0, why)
    row = operating_view({"operating_points": section, "findings": {}}).tables[0].rows[0]
    assert row[1].small == why
    assert row[2].small == mass["sensitivity"]["why"]
