"""FHIR bundles: valid by fhir.resources, and they say what was scored."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from fake_node import model_with_calls
from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as BundleR4B
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


def test_a_server_is_told_where_each_part_goes_and_whose_it_is(tmp_path: Path, model: ResultModel) -> None:
    lines = dict.fromkeys(CHESTXRAY14, (1.0, 0.0))
    calibrated = replace(model, description=replace(model.description, calibration=lines))
    path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8), IssuerOfPatientID="St. Elsewhere")
    content = bundle(path, calibrated)
    assert content["type"] == "transaction"
    for entry in content["entry"]:
        (own, *_) = entry["resource"]["identifier"]
        assert entry["request"]["method"] == "PUT"
        assert (
            entry["request"]["url"] == f"{entry['resource']['resourceType']}?identifier={own['system']}|{own['value']}"
        )
        assert own["value"] == entry["fullUrl"]
    report, first = (entry["resource"] for entry in content["entry"][:2])
    assert report["effectiveDateTime"] == first["effectiveDateTime"] == "2024-02-03"
    assert report["subject"]["identifier"]["system"] == "urn:hilum:issuer:St.%20Elsewhere"
    values = [one["value"] for one in report["identifier"]]
    assert [*values[1:2], *values[3:]] == ["urn:oid:1.2.3.4.5", "A-77"]
    (component,) = first["component"]
    assert component["code"]["coding"][0]["code"] == "122157"
    assert component["valueQuantity"]["system"] == "http://unitsofmeasure.org"
    assert first["referenceRange"][1]["text"] == "indeterminate at youden"
    assert (first["referenceRange"][1]["low"]["value"], first["referenceRange"][1]["high"]["value"]) == (0.4, 0.6)


def test_r4b_is_valid_too(tmp_path: Path, model: ResultModel) -> None:
    path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8))
    for scored in (Scored(path, "", scores=np.zeros(14, np.float32)), Scored(path, "", fit="lateral: so it is")):
        content = fhir_bundle(scored, model, film="a", now=NOON, release="R4B")
        BundleR4B.model_validate_json(json.dumps(content))
        assert content["entry"][0]["resource"]["imagingStudy"]


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
