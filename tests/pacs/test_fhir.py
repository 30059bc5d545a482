"""FHIR bundles: valid by fhir.resources, and they say what was scored."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from fake_node import model_with_calls
from fhir.resources.bundle import Bundle
from PIL import Image

from hilum.findings import CHESTXRAY14
from hilum.pacs.fhir import fhir_bundle
from hilum.pacs.results import ResultModel
from hilum.predict.scoring import Scored

NOON = datetime(2026, 1, 2, 12, 30, tzinfo=UTC)


@pytest.fixture
def model() -> ResultModel:
    return model_with_calls()


def bundle(path: Path, model: ResultModel, *, now: datetime = NOON) -> dict[str, Any]:
    scored = Scored(path, "", scores=np.linspace(0.05, 0.95, 14, dtype=np.float32))
    content = fhir_bundle(scored, model, film=path.name, now=now)
    Bundle.model_validate_json(json.dumps(content))
    return content


def test_a_bundle_is_valid_and_says_what_was_scored(tmp_path: Path, model: ResultModel) -> None:
    content = bundle(written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8)), model)
    report, *rest = (entry["resource"] for entry in content["entry"])
    assert (report["resourceType"], report["status"]) == ("DiagnosticReport", "preliminary")
    assert "not a medical device" in report["conclusion"]
    assert report["subject"]["identifier"]["value"] == "P-0815"
    assert report["study"][0]["identifier"]["value"] == "urn:oid:1.2.3.4"
    observations = [one for one in rest if one["resourceType"] == "Observation"]
    assert [one["code"]["text"] for one in observations][:3] == ["Atelectasis", "Cardiomegaly", "Pleural effusion"]
    assert [coding["code"] for coding in observations[0]["code"]["coding"]] == ["46621007", "RID28493"]
    assert [round(one["valueQuantity"]["value"], 4) for one in observations] == [
        round(number, 4) for number in np.linspace(0.05, 0.95, 14).tolist()
    ]
    said = [one["interpretation"][0]["coding"][0]["code"] if "interpretation" in one else "" for one in observations]
    assert said == ["NEG"] * 6 + ["IND"] * 2 + ["POS"] * 5 + [""]
    assert [entry["fullUrl"] for entry in content["entry"][1:15]] == [one["reference"] for one in report["result"]]


def test_a_film_that_does_not_fit_is_not_analysed(tmp_path: Path, model: ResultModel) -> None:
    path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8))
    scored = Scored(path, "", fit="lateral: the header's View Position is LL")
    content = fhir_bundle(scored, model, film="a", now=NOON)
    Bundle.model_validate_json(json.dumps(content))
    report, observation, _ = (entry["resource"] for entry in content["entry"])
    assert report["status"] == observation["status"] == "cancelled"
    assert [coding["code"] for coding in observation["dataAbsentReason"]["coding"]] == ["not-performed", "LATERAL"]
    assert "Not analysed: lateral" in report["conclusion"]
    assert "valueQuantity" not in json.dumps(content)


def test_a_forced_film_says_so(tmp_path: Path, model: ResultModel) -> None:
    path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8))
    scores = np.linspace(0.05, 0.95, 14, dtype=np.float32)
    forced = Scored(path, "", scores=scores, fit="lateral: so it is", forced=True)
    content = fhir_bundle(forced, model, film="a", now=NOON)
    Bundle.model_validate_json(json.dumps(content))
    report, first, *_ = (entry["resource"] for entry in content["entry"])
    assert "scores were forced" in report["conclusion"]
    assert "scores were forced" in first["note"][0]["text"]


def test_a_repeat_has_the_same_identifiers(tmp_path: Path, model: ResultModel) -> None:
    path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8))
    first, again = bundle(path, model), bundle(path, model, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert [one["fullUrl"] for one in first["entry"]] == [one["fullUrl"] for one in again["entry"]]


def test_a_png_has_no_patient_and_a_bundle_all_the_same(tmp_path: Path, model: ResultModel) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    report = bundle(tmp_path / "a.png", model)["entry"][0]["resource"]
    assert "subject" not in report
    assert "study" not in report


def test_predict_writes_bundles(untrained_run: Path, tmp_path: Path, hilum: Any) -> None:
    film, out = tmp_path / "a.png", tmp_path / "out"
    Image.new("L", (64, 64), 90).save(film)
    said = hilum("predict", untrained_run, film, "--fhir", out, "--engine", "torch", "--json")
    assert said.code == 0
    content = json.loads((out / "a.png.fhir.json").read_text())
    Bundle.model_validate(content)
    scores = [one["resource"]["valueQuantity"]["value"] for one in content["entry"][1:15]]
    row = json.loads(said.out)[0]
    np.testing.assert_allclose(scores, [row[name] for name in CHESTXRAY14], atol=1e-7)
