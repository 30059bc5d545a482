import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_reports import shown

from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.evaluation import external
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.external import shift_section, shift_table
from hilum.evaluation.inputs import EvaluationSet, StoredReport, read_report
from hilum.evaluation.operating_points import operating_section
from hilum.metrics.ranking import auroc
from hilum.metrics.thresholds import Threshold
from hilum.model.thresholds import OperatingPoints

FINDINGS = ("Mass", "Edema", "Effusion")
THRESHOLD = Threshold(0.4, 0.35, 0.45)
POINTS = OperatingPoints("ab", {"youden": dict.fromkeys(FINDINGS, THRESHOLD)})


def hospital(
    folder: Path, name: str, seed: int, *, people: int = 250, blunter: float = 0.0, rarer: float = 0.0
) -> StoredReport:
    """A report on films of a hospital whose patients and films are numbered as everywhere."""
    generator = np.random.default_rng(seed)
    patients = np.repeat(np.arange(people), 2)
    risk = generator.beta(1, 2, (len(patients), 3))
    labels = (generator.random(risk.shape) < risk * (1 - rarer)).astype(np.float32)
    scores = np.where(generator.random(risk.shape) < blunter, generator.permuted(risk, axis=0), risk)
    films = [f"{film:08d}_000.png" for film in range(len(patients))]
    table = pd.DataFrame({"film": films, "path": "x.png", "source": name, "patient": patients.astype(str)})
    table = table.assign(study="s", view="PA", age=50.0, sex="F", split="test")
    table[list(FINDINGS)] = labels
    pd.DataFrame(scores, columns=list(FINDINGS)).assign(film=films).to_csv(folder / f"{name}.csv", index=False)
    evaluate_to_folder(
        folder / f"{name}.csv",
        Films(table, Path(), FINDINGS, {"protocol": "patient"}),
        folder / name,
        bootstrap_samples=200,
    )
    return read_report(folder / name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> StoredReport:
    return hospital(tmp_path_factory.mktemp("home"), "home", 0)


def shift(here: dict[str, Any], evaluated: EvaluationSet, there: StoredReport) -> dict[str, Any]:
    """The section for the model that `here` names."""
    return shift_section(here, evaluated, there, weights=(here.get("model") or {}).get("weights_sha256"))


def shifted(now: StoredReport, there: StoredReport) -> dict[str, Any]:
    section = shift(now.content, now.evaluated, there)
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    view = shown(external, {"shift": section})
    for table in view.tables:
        assert table.header[-1] == "With the finding"
        counted = section["with_finding"]["Mass"]
        assert (
            table.rows[0][-1].text == f"{counted['positives_there']} \N{RIGHTWARDS ARROW} {counted['positives_here']}"
        )
        assert table.rows[0][-1].small.endswith(f"{counted['positive_patients_here']} patients")
    assert all(len(row) == len(table.header) for table in view.tables for row in table.rows)
    return section


def test_a_model_that_ranks_worse_on_sicker_films_is_told_from_chance(home: StoredReport, tmp_path: Path) -> None:
    now = hospital(tmp_path, "away", 1, blunter=0.7, rarer=0.5)
    section = shifted(now, home)
    assert section["same_model"] is None
    assert any("cannot be seen" in note for note in section["notes"])
    assert section["mean"]["findings"] == list(FINDINGS)
    assert section["mean"]["auroc"]["difference"]["high"] < -0.1
    for k, one in enumerate(section["findings"].values()):
        was, is_now = (auroc(report.evaluated.numbers[:, k], report.evaluated.labels[:, k]) for report in (home, now))
        assert one["auroc"]["difference"]["value"] == pytest.approx(is_now - was)
        share = [report.evaluated.labels[:, k].mean() for report in (home, now)]
        assert one["prevalence"]["difference"]["value"] == pytest.approx(share[1] - share[0])
        for measure in ("auroc", "prevalence", "excess"):
            assert one[measure]["p_value"] <= one[measure]["p_value_holm"] < 0.01
            assert one[measure]["there"]["low"] < one[measure]["there"]["value"] < one[measure]["there"]["high"]
        assert one["excess"]["difference"]["low"] > 0.05  # scores of a hospital with more of it are too high
        assert one["slope"]["here"]["value"] < one["slope"]["there"]["value"]
    view = shown(external, {"shift": section})
    assert "Changes of the AUROC that chance does not explain: Mass, Edema and Effusion." in view.sentences
    title, header, rows = shift_table(section)
    assert str(home.folder) in title
    assert all(len(row) == len(header) for row in rows)
    assert rows[-1][0] == "mean"


def test_another_draw_of_the_same_patients_is_no_shift(home: StoredReport, tmp_path: Path) -> None:
    section = shifted(hospital(tmp_path, "again", 2), home)
    view = shown(external, {"shift": section})
    assert "No finding's AUROC changed by more than chance explains." in view.sentences
    difference = section["mean"]["auroc"]["difference"]
    assert difference["low"] < 0 < difference["high"]
    width = difference["high"] - difference["low"]
    own = [section["mean"]["auroc"][side] for side in ("there", "here")]
    assert width == pytest.approx(np.hypot(*(one["high"] - one["low"] for one in own)), rel=0.1)


def test_the_thresholds_of_the_other_report_are_used_as_they_were(home: StoredReport, tmp_path: Path) -> None:
    now = hospital(tmp_path, "away", 3, rarer=0.5)
    section = shifted(now, home)
    assert section["operating_points"] == {}
    assert "The other report has no thresholds, so no calls are compared." in section["notes"]
    points = operating_section(home.evaluated, POINTS, prevalence={})
    there = home._replace(content={**home.content, "operating_points": points})
    mass = shifted(now, there)["operating_points"]["youden"]["Mass"]
    truth, called = now.evaluated.labels[:, 0] == 1, now.evaluated.numbers[:, 0] >= 0.4
    assert mass["threshold"] == 0.4
    assert mass["sensitivity"]["here"]["value"] == pytest.approx((truth & called).sum() / truth.sum())
    assert mass["ppv"]["difference"]["high"] < 0  # rarer findings, more false alarms among the calls
    assert mass["ppv"]["p_value_holm"] < 0.01
    moved = OperatingPoints("cd", {"youden": dict.fromkeys(FINDINGS, Threshold(0.5, 0.4, 0.6))})
    own = operating_section(now.evaluated, moved, prevalence={})
    section = shifted(now._replace(content={**now.content, "operating_points": own}), there)
    assert section["operating_points"] == {}
    assert "Thresholds were chosen anew since the other report, so calls at them are not compared." in section["notes"]


def test_means_are_over_the_findings_that_both_define(home: StoredReport, tmp_path: Path) -> None:
    now = hospital(tmp_path, "away", 4)
    now.evaluated.truth["Edema"] = 0.0
    now.content["findings"]["Edema"]["auroc"] = {"value": None, "low": None, "high": None, "undefined": 200}
    now.content["mean"]["auroc"] = {"value": 0.1, "low": 0.1, "high": 0.1, "undefined": 0}
    section = shifted(now, home)
    assert section["mean"]["findings"] == ["Mass", "Effusion"]
    values = [home.content["findings"][name]["auroc"]["value"] for name in ("Mass", "Effusion")]
    assert section["mean"]["auroc"]["there"]["value"] == pytest.approx(np.mean(values))
    assert section["findings"]["Edema"]["auroc"]["difference"]["value"] is None


def test_reports_that_cannot_be_set_against_each_other_are_refused(home: StoredReport, tmp_path: Path) -> None:
    now = hospital(tmp_path, "away", 5)

    def refused(there: StoredReport, match: str, here: StoredReport = now) -> None:
        with pytest.raises(HilumError, match=match):
            shift(here.content, here.evaluated, there)

    refused(now, "of different films, got the same split of the same manifest in .* hilum compare REPORT REPORT")
    elsewhere = now._replace(content={**now.content, "films_fingerprint": "another manifest with the same films"})
    refused(elsewhere, "of different films, got 500 films of both evaluation sets in .* hilum compare REPORT REPORT")
    models = [{**home.content, "model": {"weights_sha256": sha}} for sha in ("a", "b")]
    refused(home._replace(content=models[0]), "one model, got weights of another one", now._replace(content=models[1]))
    of_one = {**now.content, "model": {"weights_sha256": "a"}}
    same = shift(of_one, now.evaluated, home._replace(content=models[0]))
    assert same["same_model"] is True
    only = home._replace(content={**home.content, "findings": {"Hernia": home.content["findings"]["Mass"]}})
    refused(only, "a finding in common, got Mass, Edema, Effusion here and Hernia in")
    old = {name: value for name, value in home.content.items() if name != "calibration"}
    refused(home._replace(content=old), "must have 'calibration', got none")


def test_scores_that_are_no_probabilities_have_no_calibration_to_compare(home: StoredReport, tmp_path: Path) -> None:
    now = hospital(tmp_path, "away", 6)
    now.content["calibration"] = {"undefined": "Scores outside [0, 1].", "findings": {}}
    section = shifted(now, home)
    assert section["calibration"] == {}
    assert set(section["findings"]["Mass"]) == {"auroc", "prevalence"}
    assert [table.title for table in shown(external, {"shift": section}).tables] == ["Ranking"]
