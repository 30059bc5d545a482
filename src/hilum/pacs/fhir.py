"""Scores as a FHIR bundle: a preliminary DiagnosticReport, an Observation for each finding, the device. Plain JSON."""

import json
import re
import uuid
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

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
_URIS = "urn:ietf:rfc:3986"
_PROBABILITY = Code("122157", "DCM", "Probability")
Release = Literal["R5", "R4B"]
_ANSWERS = {PRESENT: ("POS", "Positive"), ABSENT: ("NEG", "Negative"), INDETERMINATE: ("IND", "Indeterminate")}
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:hilum:fhir")


def fhir_bundle(
    scored: Scored, model: ResultModel, *, film: str, now: datetime, release: Release = "R5"
) -> dict[str, Any]:
    """The scores of a film as a transaction for a FHIR server; patient, study and order as a DICOM film names them.

    A server that is sent it twice has its parts once: each is put where its identifier is.

    Of a film that does not fit the model it says that it was not analysed, and why: report and observation are
    cancelled, and the observation's value is absent as it was not performed.

    Its parts have identifiers that the same film and model always give.

    Args:
        film: its name in the predictions.
        now: the time of the report, with its zone.
        release: of FHIR.

    Raises:
        ValueError: if the film fits and has no scores, or the time has no zone.
        ImageError: if it is a DICOM film without identifiers.
    """
    if (scored.scores is None and scored.analysed) or now.tzinfo is None:
        raise ValueError("scored must have scores and now a time zone")
    identity, subject, study = _identity(scored.path, film, release)
    scores = [] if scored.scores is None or not scored.analysed else scored.scores.tolist()
    about = (identity, model.identity, str(model.point), *variant(model, scored.forced))
    device = {
        "resourceType": "Device",
        **(
            {"displayName": model.name}
            if release == "R5"
            else {"deviceName": [{"name": model.name, "type": "model-name"}]}
        ),
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
        if model.description.calibration is not None:
            observation["component"] = [{"code": _concept(_PROBABILITY), "valueQuantity": _number(float(score))}]
        if forced:
            observation["note"] = [{"text": forced}]
        threshold, answer = model.threshold(finding), model.call(finding, float(score))
        if answer and threshold is not None:
            code, words = _ANSWERS[answer]
            coding = {"system": _INTERPRETATION, "code": code, "display": words}
            observation["interpretation"] = [{"coding": [coding]}]
            observation["referenceRange"] = [{"high": _number(threshold.value), "text": f"threshold at {model.point}"}]
            band = {
                name: _number(end) for name, end in (("low", threshold.low), ("high", threshold.high)) if isfinite(end)
            }
            if band:
                observation["referenceRange"].append({**band, "text": f"indeterminate at {model.point}"})
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
        "type": "transaction",
        "timestamp": now.isoformat(timespec="seconds"),
        "entry": [_entry(reference, resource) for reference, resource in parts],
    }


def _entry(reference: str, resource: dict[str, Any]) -> dict[str, Any]:
    """A part, put where its identifier is, or made if there is none."""
    kind, own = resource["resourceType"], {"system": _URIS, "value": reference}
    return {
        "fullUrl": reference,
        "resource": {**resource, "identifier": [own, *resource.get("identifier", [])]},
        "request": {"method": "PUT", "url": f"{kind}?identifier={_URIS}|{reference}"},
    }


def write_fhir(
    scored: Scored, model: ResultModel, folder: Path, *, film: str, now: datetime, release: Release = "R5"
) -> Path:
    """Write a film's bundle as FILM.fhir.json; return its path. See fhir_bundle."""
    place = place_of(folder, film)
    path = place.with_name(f"{place.name}.fhir.json")
    write_whole(path, json.dumps(fhir_bundle(scored, model, film=film, now=now, release=release), indent=2).encode())
    return path


def _identity(path: Path, film: str, release: Release) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """What makes the film itself; its patient and when it was taken; its study. The last two only of a DICOM film."""
    with path.open("rb") as file:
        is_dicom = file.read(132).endswith(b"DICM")
    if not is_dicom:
        return film, {}, {}
    from hilum.pacs.results import read_header

    header = read_header(path)
    about: dict[str, Any] = {}
    if patient := str(header.get("PatientID") or ""):
        issuer = str(header.get("IssuerOfPatientID") or "")
        system = {"system": f"urn:hilum:issuer:{quote(issuer, safe='')}"} if issuer else {}
        about["subject"] = {"type": "Patient", "identifier": {**system, "value": patient}}
    if re.fullmatch("[0-9]{8}", day := str(header.get("StudyDate") or "")):
        about["effectiveDateTime"] = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    uids = {
        name: f"urn:oid:{header[name].value}" for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    }
    own = [
        {"type": {"text": name}, "system": "urn:dicom:uid", "value": uid}
        for name, uid in uids.items()
        if "Study" not in name
    ]
    if accession := str(header.get("AccessionNumber") or ""):
        kind = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN", "display": "Accession ID"}
        own.append({"type": {"coding": [kind]}, "value": accession})
    study = {
        "type": "ImagingStudy",
        "identifier": {"system": "urn:dicom:uid", "value": uids["StudyInstanceUID"]},
    }
    return (
        str(header.SOPInstanceUID),
        about,
        {"study" if release == "R5" else "imagingStudy": [study], "identifier": own},
    )


def _reference(*parts: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, chr(0).join(parts))}"


def _concept(code: Code, *others: Code) -> dict[str, Any]:
    codings = [{"system": _SYSTEMS[one.scheme], "code": one.value, "display": one.meaning} for one in (code, *others)]
    return {"coding": codings, "text": code.meaning}


def _number(value: float) -> dict[str, Any]:
    return {"value": float(f"{value:.9g}"), "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
