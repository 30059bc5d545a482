import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_reports import shown

from hilum.evaluation import subgroups
from hilum.evaluation.inputs import EvaluationSet
from hilum.evaluation.subgroups import subgroups_section
from hilum.metrics.thresholds import Threshold
from hilum.model.thresholds import OperatingPoints

THRESHOLD = Threshold(0.3, 0.25, 0.35)
POINTS = OperatingPoints("ab", {"specificity-90": {"Mass": THRESHOLD, "Edema": THRESHOLD}})


def some_evaluation_set(people: int = 240, *, worse_for: str = "") -> EvaluationSet:
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(people), np.where(np.arange(people) % 4 == 0, 3, 1))
    sexes = np.where(patients % 2 == 0, "F", "M")
    risk = generator.beta(1, 2, (len(patients), 2))
    labels = (generator.random(risk.shape) < risk).astype(np.float64)
    shuffled = np.where((sexes == worse_for)[:, np.newaxis], generator.permuted(risk, axis=0), risk)
    names = [f"{film}.png" for film in range(len(patients))]
    truth = pd.DataFrame(labels, columns=["Mass", "Edema"]).assign(
        film=names,
        patient=patients.astype(str),
        source="nih",
        view=np.where(patients == 7, "unknown", "PA"),
        age=np.where(patients == 5, np.nan, 20.0 + patients % 60),
        sex=sexes,
    )
    return EvaluationSet(truth, pd.DataFrame(shuffled, columns=["Mass", "Edema"]).assign(film=names), ("Mass", "Edema"))


def by_name(section: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(group["attribute"], group["name"]): group for group in section["groups"]}


def test_every_film_is_in_one_group_of_each_attribute() -> None:
    evaluated = some_evaluation_set()
    section = subgroups_section(evaluated, POINTS)
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    groups = by_name(section)
    assert list(groups) == [
        ("sex", "F"),
        ("sex", "M"),
        ("age", "20 to 39 years"),
        ("age", "40 to 59 years"),
        ("age", "60 to 79 years"),
        ("age", "unknown"),
        ("view", "PA"),
        ("view", "unknown"),
        ("films_per_patient", "1 film"),
        ("films_per_patient", "2 to 4 films"),
    ]
    assert section["single"] == {"source": "nih"}
    for attribute in ("sex", "age", "view", "films_per_patient"):
        assert sum(one["films"] for key, one in groups.items() if key[0] == attribute) == len(evaluated.truth)
    men = evaluated.truth["sex"] == "M"
    mass = groups["sex", "M"]["findings"]["Mass"]
    assert mass["positives"] == evaluated.truth["Mass"][men].sum()
    assert mass["patients"] == groups["sex", "M"]["patients"] == evaluated.truth["patient"][men].nunique()
    assert (
        groups["films_per_patient", "2 to 4 films"]["films"]
        == 3 * groups["films_per_patient", "2 to 4 films"]["patients"]
    )


def test_a_planted_bias_is_named_on_the_page_and_equality_is_not_claimed() -> None:
    found = {"subgroups": subgroups_section(some_evaluation_set(worse_for="M"), POINTS)}
    view = shown(subgroups, found)
    assert "sex M: AUROC -0." in view.sentences[0]
    assert [table.title for table in view.tables][1] == "Single findings in which a subgroup differs"
    equal = shown(subgroups, {"subgroups": subgroups_section(some_evaluation_set(), POINTS)})
    assert equal.sentences[0].startswith("Of the subgroups that are large enough to be tested, none differs")
    assert "Not tested, because the rest of the films is too small: view PA." in equal.sentences
    assert len(equal.tables) == 1


def test_too_small_groups_say_so_instead_of_a_number() -> None:
    section = subgroups_section(some_evaluation_set(), POINTS)
    unknown = by_name(section)["view", "unknown"]
    assert unknown["auroc"]["too_small"] == "the group is too small"
    assert unknown["auroc"]["group"] == {"value": None, "low": None, "high": None, "undefined": 0}
    seen = by_name(section)["view", "PA"]["auroc"]
    assert seen["too_small"] == "the rest is too small"
    assert seen["group"]["value"] > 0.5
    view = shown(subgroups, {"subgroups": section})
    row = next(row for row in view.tables[0].rows if row[0].text == "unknown" and row[0].small == "view")
    assert [cell.text for cell in row[2:]] == ["too small", ""] * 5
    assert "Too small to be evaluated: age unknown and view unknown." in view.sentences
    assert all(len(row) == len(table.header) for table in view.tables for row in table.rows)


def test_what_cannot_be_measured_has_no_column() -> None:
    evaluated = some_evaluation_set()
    logits = replace(evaluated, scores=evaluated.scores.assign(Mass=evaluated.scores["Mass"] * 9))
    section = subgroups_section(logits, None)
    assert set(section["not_measured"]) == {"excess", "missed", "needless", "undiagnosed"}
    assert section["operating_point"] is None
    view = shown(subgroups, {"subgroups": section})
    assert view.tables[0].header == ("Subgroup", "Films", "AUROC", "minus the rest")
    assert "No thresholds came with these scores, so missed findings cannot be counted." in view.sentences


@pytest.mark.parametrize("missing", ["Mass", "Edema"])
def test_a_finding_without_threshold_is_not_counted_as_missed(missing: str) -> None:
    points = OperatingPoints("ab", {"specificity-90": {"Mass": THRESHOLD, "Edema": THRESHOLD} | {missing: None}})
    women = by_name(subgroups_section(some_evaluation_set(), points))["sex", "F"]
    assert women["missed"]["findings"] == 1
    assert women["findings"][missing]["missed"]["group"]["value"] is None


def test_intersections_are_the_films_of_both_and_only_where_they_are_many() -> None:
    evaluated = some_evaluation_set(people=600, worse_for="F")
    section = subgroups_section(evaluated, POINTS)
    truth = evaluated.truth
    found = {(one["attribute"], one["name"]): one for one in section["intersections"]}
    assert set(found) == {
        ("sex+age", f"{sex}, {age}") for sex in "FM" for age in ("20 to 39 years", "40 to 59 years", "60 to 79 years")
    }  # nearly all films are PA, so that a sex in this view is that sex
    one = found["sex+age", "F, 40 to 59 years"]
    films = (truth["sex"] == "F") & truth["age"].between(40, 59.9)
    assert one["films"] == films.sum()
    scores, labels = evaluated.numbers[films, 0], evaluated.labels[films, 0]
    assert one["findings"]["Mass"]["needless"]["group"]["value"] == pytest.approx((scores >= 0.3)[labels == 0].mean())
    assert one["findings"]["Mass"]["missed"]["group"]["value"] == pytest.approx((scores < 0.3)[labels == 1].mean())
    view = shown(subgroups, {"subgroups": section})
    assert any(table.title.startswith("Intersections of two subgroups") for table in view.tables)
    assert any("these differ from the rest by more than chance: sex and age F" in text for text in view.sentences)
    older = {**section}
    del older["intersections"]
    assert shown(subgroups, {"subgroups": older}).tables
