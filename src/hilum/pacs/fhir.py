"""Scores as a FHIR bundle: a preliminary DiagnosticReport, an Observation for each finding, the device. Plain JSON."""

import json
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import hilum
from hilum.files import write_whole
from hilum.findings import PRIVATE, Code, codes_of
from hilum.model.thresholds import ABSENT, INDETERMINATE, PRESENT
from hilum.pacs.results import ResultModel, reason_code, variant
from hilum.predict.heatmaps import place_of
from hilum.predict.scoring import Scored

_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "RADLEX": "http://radlex.org",
    PRIVATE: "urn:hilum:findings",
}
_CHEST = Code("399208008", "SCT", "Plain chest X-ray")
_RADIOGRAPHY = Code("RG", "DCM", "Radiographic imaging")
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_ANSWERS = {PRESENT: ("POS", "Positive"), ABSENT: ("NEG", "Negative"), INDETERMINATE: ("IND", "Indeterminate")}
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:hilum:fhir")


def fhir_bundle(scored: Scored, model: ResultModel, *, film: str, now: datetime) -> dict[str, Any]:
    """The scores of a film as a FHIR R5 Bundle; patient and study as a DICOM film names them.

    Of a film that does not fit the model it says that it was not analysed, and why: report and observation are
    cancelled, and the observation's value is absent as it was not performed.

    Its parts have identifiers that the same film and model always give.

    Args:
        film: its name in the predictions.
        now: the time of the report, with its zone.

    Raises:
        ValueError: if the film fits and has no scores, or the time has no zone.
        ImageError: if it is a DICOM film without identifiers.
    """
    if (scored.scores is None and scored.analysed) or now.tzinfo is None:
        raise ValueError("scored must have scores and now a time zone")
    identity, subject, study = _identity(scored.path, film)
    scores = [] if scored.scores is None or not scored.analysed else scored.scores.tolist()
    about = (identity, model.identity, str(model.point), *variant(model, scored.forced))
    device = {
        "resourceType": "Device",
        "displayName": model.name,
        "manufacturer": "Hilum",
        "version": [{"value": one} for one in model.software],
        "note": [{"text": f"{'; '.join(model.parameters)}. {hilum.DISCLAIMER}"}],
    }
    made_by = _reference("device", model.identity)
    common = {"status": "preliminary" if scores else "cancelled", **subject}
    forced = f"The film does not fit the model ({scored.fit}); its scores were forced." if scored.forced else ""
    observations = []
    if not scores:
        not_analysed = {
            "resourceType": "Observation",
            **common,
            "code": _concept(Code("NOT-ANALYSED", PRIVATE, "Analysis of a film")),
            "device": {"reference": made_by},
            "dataAbsentReason": {
                "coding": [
                    {"system": _ABSENT, "code": "not-performed", "display": "Not Performed"},
                    *_concept(reason_code(scored.fit))["coding"],
                ],
                "text": scored.fit,
            },
        }
        observations.append((_reference("not analysed", *about), not_analysed))
    for finding, score in zip(model.description.findings if scores else (), scores, strict=True):
        observation: dict[str, Any] = {
            "resourceType": "Observation",
            **common,
            "code": _concept(*codes_of(model.description.findings)[finding]),
            "device": {"reference": made_by},
            "valueQuantity": _number(float(score)),
        }
        if forced:
            observation["note"] = [{"text": forced}]
        threshold, answer = model.threshold(finding), model.call(finding, float(score))
        if answer and threshold is not None:
            code, words = _ANSWERS[answer]
            coding = {"system": _INTERPRETATION, "code": code, "display": words}
            observation["interpretation"] = [{"coding": [coding]}]
            observation["referenceRange"] = [{"high": _number(threshold.value), "text": f"threshold at {model.point}"}]
        observations.append((_reference("observation", finding, *about), observation))
    learned = model.description.learned_from
    report = {
        "resourceType": "DiagnosticReport",
        **common,
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
        "code": _concept(_CHEST if scored.fits else _RADIOGRAPHY),
        **study,
        "issued": now.isoformat(timespec="seconds"),
        "result": [{"reference": reference} for reference, _ in observations],
        "conclusion": " ".join(
            filter(
                None,
                (
                    f"Scores of {model.name} {model.version}." if scores else f"Not analysed: {scored.fit}.",
                    forced,
                    learned and f"The model was {learned}.",
                    hilum.DISCLAIMER,
                ),
            )
        ),
    }
    parts = [(_reference("report", *about), report), *observations, (made_by, device)]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": now.isoformat(timespec="seconds"),
        "entry": [{"fullUrl": reference, "resource": resource} for reference, resource in parts],
    }


def write_fhir(scored: Scored, model: ResultModel, folder: Path, *, film: str, now: datetime) -> Path:
    """Write a film's bundle as FILM.fhir.json; return its path. See fhir_bundle."""
    place = place_of(folder, film)
    path = place.with_name(f"{place.name}.fhir.json")
    write_whole(path, json.dumps(fhir_bundle(scored, model, film=film, now=now), indent=2).encode())
    return path


def _identity(path: Path, film: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """What makes the film itself, its patient and its study; the last two only of a DICOM film."""
    with path.open("rb") as file:
        is_dicom = file.read(132).endswith(b"DICM")
    if not is_dicom:
        return film, {}, {}
    from hilum.pacs.results import read_header

    header = read_header(path)
    patient, study = str(header.get("PatientID", "")), f"urn:oid:{header.StudyInstanceUID}"
    subject = {"subject": {"type": "Patient", "identifier": {"value": patient}}} if patient else {}
    identifier = {"system": "urn:dicom:uid", "value": study}
    return str(header.SOPInstanceUID), subject, {"study": [{"type": "ImagingStudy", "identifier": identifier}]}


def _reference(*parts: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, chr(0).join(parts))}"


def _concept(code: Code, *others: Code) -> dict[str, Any]:
    codings = [{"system": _SYSTEMS[one.scheme], "code": one.value, "display": one.meaning} for one in (code, *others)]
    return {"coding": codings, "text": code.meaning}


def _number(value: float) -> dict[str, Any]:
    return {"value": float(f"{value:.9g}"), "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
