import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_reports import shown
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from hilum.errors import PredictionsError
from hilum.evaluation import reference
from hilum.evaluation.inputs import EvaluationSet, Reference, read_reference
from hilum.evaluation.reference import reference_section, reference_table
from hilum.findings import CHESTXRAY14

FINDINGS = ("Mass", "Nodule", "Pneumothorax")


def some_evaluation_set(films: int = 300, findings: Sequence[str] = FINDINGS) -> EvaluationSet:
    generator = np.random.default_rng(0)
    labels = (generator.random((films, len(findings))) < 0.3).astype(np.float64)
    names = [f"{film}.png" for film in range(films)]
    scores = pd.DataFrame(0.8 * generator.random(labels.shape) + 0.2 * labels, columns=list(findings))
    truth = pd.DataFrame(labels, columns=list(findings)).assign(film=names, patient=np.arange(films) // 2)
    return EvaluationSet(truth, scores.assign(film=names), tuple(findings))


def second_opinion(evaluated: EvaluationSet) -> Reference:
    """Of the last 200 films, and of strangers: others' labels in a fifth of them."""
    generator = np.random.default_rng(1)
    films = [*evaluated.truth["film"][100:], "stranger.png"]
    mass, nodule, air = (evaluated.truth[name].to_numpy() for name in FINDINGS)
    theirs = {"Pneumothorax": air, "Nodule or mass": np.maximum(mass, nodule), "Airspace opacity": air}
    labels = {
        name: np.append(np.where(generator.random(200) < 0.2, 1 - column[100:], column[100:]), 1.0)
        for name, column in theirs.items()
    }
    labels["Pneumothorax"][:20] = np.nan
    return Reference(Path("readers.csv"), tuple(films), labels, ("Fracture",))


def test_numbers_are_scikit_learns_on_the_same_films() -> None:
    evaluated = some_evaluation_set()
    opinion = second_opinion(evaluated)
    section = reference_section(evaluated, opinion)
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    assert (section["file"], section["films"], section["patients"]) == ("readers.csv", 200, 100)
    assert set(section["findings"]) == {"Pneumothorax", "Nodule or mass"}
    expected = {
        "Pneumothorax": (slice(120, 300), ["Pneumothorax"]),
        "Nodule or mass": (slice(100, 300), ["Nodule", "Mass"]),
    }
    for name, (films, parts) in expected.items():
        found, theirs = section["findings"][name], opinion.labels[name][:-1]
        theirs = theirs[~np.isnan(theirs)]
        mined = evaluated.truth[parts].max(axis=1)[films]
        scores = evaluated.scores[parts].max(axis=1)[films]
        assert found["made_of"] == parts
        assert (found["films"], found["positives"]) == (len(theirs), theirs.sum())
        assert found["manifest_positives"] == mined.sum()
        assert found["auroc"]["value"] == pytest.approx(roc_auc_score(theirs, scores))
        assert found["manifest_auroc"]["value"] == pytest.approx(roc_auc_score(mined, scores))
        assert found["difference"]["value"] == pytest.approx(found["auroc"]["value"] - found["manifest_auroc"]["value"])
        labels = found["labels"]
        assert labels["sensitivity"]["value"] == pytest.approx(recall_score(theirs, mined))
        assert labels["specificity"]["value"] == pytest.approx(recall_score(1 - theirs, 1 - mined))
        assert labels["ppv"]["value"] == pytest.approx(precision_score(theirs, mined))
        assert labels["npv"]["value"] == pytest.approx(precision_score(1 - theirs, 1 - mined))
        assert labels["auroc"]["value"] == pytest.approx(roc_auc_score(theirs, mined))
        for one in (found["auroc"], found["manifest_auroc"], labels["auroc"], labels["ppv"], labels["sensitivity"]):
            assert one["low"] < one["value"] < one["high"]
    values = [found["auroc"]["value"] for found in section["findings"].values()]
    assert section["mean"]["auroc"]["value"] == pytest.approx(np.mean(values))


def test_what_cannot_be_compared_is_said() -> None:
    evaluated = some_evaluation_set()
    section = reference_section(evaluated, second_opinion(evaluated))
    assert section["not_compared"]["Fracture"] == "no finding of the manifest stands for it"
    assert section["not_compared"]["Airspace opacity"].startswith("no scores or labels of Atelectasis, ")
    view = shown(reference, {"reference": section})
    assert any(sentence.startswith("Not compared: Airspace opacity") for sentence in view.sentences)
    assert all(len(row) == len(table.header) for table in view.tables for row in table.rows)
    assert "Nodule or mass is any of Nodule and Mass" in view.legend
    _, header, rows = reference_table(section)
    assert all(len(row) == len(header) for row in rows)
    only = Reference(Path("r.csv"), ("1.png",), {"Edema": np.array([1.0])}, ())
    with pytest.raises(PredictionsError, match=r"findings that were scored, got only others in r\.csv \(Edema: "):
        reference_section(evaluated, only)
    unknown = Reference(Path("r.csv"), ("1.png",), {"Mass": np.array([np.nan])}, ())
    with pytest.raises(PredictionsError, match="got only unknown ones"):
        reference_section(evaluated, unknown)


def test_labels_of_one_class_are_undefined_and_of_one_patient_without_interval() -> None:
    evaluated = some_evaluation_set()
    one_class = Reference(Path("r.csv"), ("1.png", "2.png"), {"Mass": np.zeros(2)}, ())
    section = reference_section(evaluated, one_class)
    assert section["findings"]["Mass"]["auroc"]["value"] is None
    assert section["mean"]["auroc"]["value"] is None
    assert shown(reference, {"reference": section}).tables[0].rows[0][4].text == "undefined"
    of_one = Reference(Path("r.csv"), ("0.png", "1.png"), {"Mass": np.array([0.0, 1.0])}, ())
    found = reference_section(evaluated, of_one)["findings"]["Mass"]
    assert found["auroc"]["value"] is not None
    assert found["auroc"]["low"] is None
    assert found["auroc"]["why"] == "too few patients with the finding: 1"


@pytest.mark.real
def test_nihs_labels_reach_what_is_known_of_them(real_data: Path) -> None:
    reference = read_reference(real_data / "nih" / "google2019_adjudicated.csv", CHESTXRAY14)
    listed = (real_data / "nih" / "test_list.txt").read_text().split()
    table = pd.read_csv(real_data / "nih" / "Data_Entry_2017_v2020.csv").set_index("Image Index").loc[listed]
    truth = pd.DataFrame(
        {name: [float(name in text.split("|")) for text in table["Finding Labels"]] for name in CHESTXRAY14}
    ).assign(film=listed, patient=table["Patient ID"].astype(str).to_numpy())
    evaluated = EvaluationSet(truth, truth[["film", *CHESTXRAY14]], CHESTXRAY14)
    section = reference_section(evaluated, reference)
    assert (len(reference.films), section["films"]) == (4376, 1962)
    assert set(section["findings"]) == {"Pneumothorax", "Nodule or mass", "Airspace opacity"}
    for name, sensitivity, ppv in (("Pneumothorax", 0.50, 0.49), ("Nodule or mass", 0.45, 0.57)):
        labels = section["findings"][name]["labels"]
        assert labels["sensitivity"]["value"] == pytest.approx(sensitivity, abs=0.006)
        assert labels["ppv"]["value"] == pytest.approx(ppv, abs=0.006)
