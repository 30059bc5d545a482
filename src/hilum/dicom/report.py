"""Scores as a DICOM structured report: Comprehensive 3D SR after TID 1500, a measurement group for each finding."""

from datetime import datetime

from highdicom import sr
from highdicom.sr import CodedConcept, RelationshipTypeValues, ValueTypeValues
from pydicom import Dataset
from pydicom.sr.codedict import codes

import hilum
from hilum.dicom.model import ResultModel
from hilum.dicom.source import blank_subject, derived_uid, take_over
from hilum.findings import RADLEX, code_of
from hilum.operating import ABSENT, PRESENT, UNSURE
from hilum.predict.scoring import Scored

SERIES_NUMBER = 9901
SERIES = "Hilum scores: research, not for diagnostic use"

_CHEST = CodedConcept("399208008", "SCT", "Plain chest X-ray")
_PRESENCE = CodedConcept("121052", "DCM", "Presence of property")
_SCORE = CodedConcept("246262008", "SCT", "Score")
_THRESHOLD = CodedConcept("122411", "DCM", "Threshold Value")
_ANSWERS = {
    PRESENT: CodedConcept("52101004", "SCT", "Present"),
    ABSENT: CodedConcept("272519000", "SCT", "Absent"),
    UNSURE: CodedConcept("82334004", "SCT", "Indeterminate"),
}
_DIGITS = 9  # tell every float32, and fit into a decimal string


def structured_report(header: Dataset, scored: Scored, model: ResultModel, *, now: datetime) -> Dataset:
    """The scores of a film in its own study: for each finding its code, score, threshold and call, and what made them.

    The report is partial, preliminary and not verified, and says that it is not for diagnostic use.

    Args:
        header: of the film, with its identifiers.
        scored: the film's scores.
        now: the time of the report; its identifiers do not depend on it.

    Raises:
        ValueError: if the film has no scores.

    Source: DICOM PS3.16, TID 1500 and 1501. https://dicom.nema.org/medical/dicom/current/output/html/part16.html
    """
    if scored.scores is None:
        raise ValueError("scored must have scores, got none")
    film = blank_subject(header)
    about = (str(header.SOPInstanceUID), model.bundle_sha256, model.point or "")
    groups = [
        _group(film, finding, float(score), model, about)
        for finding, score in zip(model.description.findings, scored.scores, strict=True)
    ]
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", model.bundle_sha256),
        name=model.name,
        manufacturer_name="Hilum",
        model_name=model.name,
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, device),
        ),
        procedure_reported=_CHEST,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    content[0].ContentSequence.append(
        sr.TextContentItem(codes.DCM.Comment, hilum.DISCLAIMER, RelationshipTypeValues.CONTAINS)
    )
    report = sr.Comprehensive3DSR(
        evidence=[film],
        content=content[0],
        series_instance_uid=derived_uid("sr series", str(header.StudyInstanceUID), model.bundle_sha256),
        series_number=SERIES_NUMBER,
        sop_instance_uid=report_uid(str(header.SOPInstanceUID), model),
        instance_number=1,
        manufacturer="Hilum",
        is_complete=False,
        is_final=False,
        is_verified=False,
        series_description=SERIES,
        manufacturer_model_name=model.name,
        software_versions=model.version,
        device_serial_number=model.bundle_sha256[:16],
        content_date=now.date(),
        content_time=now.time().replace(microsecond=0),
        series_date=now.date(),
        series_time=now.time().replace(microsecond=0),
    )
    take_over(report, header)
    return report


def report_uid(film: str, model: ResultModel) -> str:
    """The identifier of the report that a model makes of a film, by the film's own."""
    return derived_uid("sr", film, model.bundle_sha256, model.point or "")


def scores_of(report: Dataset) -> dict[str, tuple[float, float | None, str]]:
    """Score, threshold and call by finding, as a report says them: what its reader would see."""
    groups = [
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == codes.DCM.ImagingMeasurements.value
    ]
    return dict(_read_group(group) for measurements in groups for group in measurements.ContentSequence)


def _group(
    film: Dataset, finding: str, score: float, model: ResultModel, about: tuple[str, ...]
) -> sr.MeasurementsAndQualitativeEvaluations:
    threshold, answer = model.threshold(finding), model.call(finding, score)
    numbers = [(_SCORE, score)] + ([] if threshold is None else [(_THRESHOLD, threshold.value)])
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=derived_uid("finding", finding, *about), identifier=finding),
        finding_type=_concept(finding),
        algorithm_id=sr.AlgorithmIdentification(model.name, model.version, parameters=model.parameters),
        measurements=[
            sr.Measurement(name, float(f"{number:.{_DIGITS}g}"), codes.UCUM.NoUnits) for name, number in numbers
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(_PRESENCE, _ANSWERS[answer])] if answer else None,
        source_images=[sr.SourceImageForMeasurementGroup(film.SOPClassUID, film.SOPInstanceUID)],
    )


def _concept(finding: str) -> CodedConcept:
    """A finding's code, and beside it that of RadLex: Equivalent Code Sequence, DICOM PS3.3, section 8.9."""
    concept = CodedConcept(*code_of(finding))
    if finding in RADLEX:
        concept.EquivalentCodeSequence = [CodedConcept(*RADLEX[finding])]
    return concept


def _read_group(group: Dataset) -> tuple[str, tuple[float, float | None, str]]:
    numbers: dict[str, float] = {}
    finding, answer = "", ""
    words = {code.value: word for word, code in _ANSWERS.items()}
    for item in group.ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeValue
        if item.ValueType == ValueTypeValues.NUM.value:
            numbers[name] = float(item.MeasuredValueSequence[0].NumericValue)
        elif name == codes.DCM.TrackingIdentifier.value:
            finding = str(item.TextValue)
        elif name == _PRESENCE.value:
            answer = words[item.ConceptCodeSequence[0].CodeValue]
    return finding, (numbers[_SCORE.value], numbers.get(_THRESHOLD.value), answer)
