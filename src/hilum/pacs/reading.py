"""What a reader says of a film's findings, as a structured report (TID 1500) of a person beside the model's own."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from highdicom import sr
from highdicom.sr import CodedConcept, RelationshipTypeValues, ValueTypeValues
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

import hilum
from hilum.errors import HilumError, ImageError
from hilum.findings import PRIVATE
from hilum.messages import quiet_dicom
from hilum.model.thresholds import ABSENT, PRESENT
from hilum.pacs.results import (
    ANSWERS,
    CHEST,
    PRESENCE,
    ResultModel,
    blank_subject,
    concept_of,
    derived_uid,
    encoded,
    read_header,
    report_in_study,
)

SERIES_NUMBER = 9904
SERIES = "Reading of Hilum's findings: research, not for diagnostic use"
UNNAMED = "Unnamed reader"
_CALL = CodedConcept("ALGORITHM-CALL", PRIVATE, "Call of the algorithm that the reader saw")
_LONGEST_NAME = 64


class Opinion(NamedTuple):
    """What a reader says of one finding.

    Attributes:
        present: whether it is there; None if the reader left that open and only commented.
        call: the model's, as the reader saw it: present, absent or indeterminate; empty where there was none.
    """

    present: bool | None
    comment: str = ""
    call: str = ""


def reading_report(
    header: Dataset, reading: Mapping[str, Opinion], model: ResultModel, *, reader: str, now: datetime
) -> Dataset:
    """A reader's opinions on a film in its own study: for each finding its presence, the model's call, and a comment.

    Whoever reads the report can compare both: the observer is the person, and the model's call stands under a code of
    its own. The report is partial, preliminary and not verified.

    Args:
        header: of the film, with its identifiers.
        reading: opinions by finding.
        model: the model whose findings were read.
        reader: the reader's name, as DICOM writes names (Family^Given); empty for an unnamed reader.

    Raises:
        HilumError: if nothing was read, a finding is not the model's, or the name cannot be one.

    Source: DICOM PS3.16, TID 1500, 1501 and 1003 (person observer).
        https://dicom.nema.org/medical/dicom/current/output/html/part16.html
    """
    unknown = sorted(set(reading) - set(model.description.findings))
    if unknown:
        raise HilumError(f"reading must be of the model's findings, got {', '.join(unknown)}.")
    said = {name: one for name, one in reading.items() if one.present is not None or one.comment}
    if not said:
        raise HilumError("reading must say of at least one finding that it is present or absent, got none.")
    if len(reader) > _LONGEST_NAME or not reader.isprintable() or "\\" in reader or reader.count("=") > 2:
        raise HilumError(
            f"reader must be a name of at most {_LONGEST_NAME} characters without \\, got {reader[:65]!r}."
        )
    film = blank_subject(header)
    body = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_person_context=sr.ObserverContext(
                codes.DCM.Person, sr.PersonObserverIdentifyingAttributes(name=reader or UNNAMED)
            ),
        ),
        procedure_reported=CHEST,
        imaging_measurements=[_group(film, name, one, model) for name, one in said.items()],
        title=codes.DCM.ImagingMeasurementReport,
    )
    calls = f"Calls are those of {model.name} {', '.join(model.software)}" + (
        f" at {model.point}." if model.point else "."
    )
    for words in (calls, hilum.DISCLAIMER):
        body[0].ContentSequence.append(sr.TextContentItem(codes.DCM.Comment, words, RelationshipTypeValues.CONTAINS))
    return report_in_study(
        header,
        body[0],
        model,
        uid=generate_uid(prefix=None),  # the same reader may say something else later
        series=derived_uid("reading series", str(header.StudyInstanceUID), reader),
        number=SERIES_NUMBER,
        words=SERIES,
        now=now,
        did="Showed a chest film with automatic scores to a reader; research, not for diagnostic use",
    )


def reading_file(
    path: Path, reading: Mapping[str, Opinion], model: ResultModel, *, reader: str, now: datetime
) -> bytes:
    """The report of a reading as the content of a file. See reading_report.

    Raises:
        ImageError: if the film is no DICOM file with its identifiers, or its header holds what no report can.
        HilumError: see reading_report.
    """
    header = read_header(path)
    try:
        with quiet_dicom():
            report = reading_report(header, reading, model, reader=reader, now=now)
    except HilumError:
        raise
    except Exception as error:  # a header may hold anything
        raise ImageError(
            f"film must have a header that a report can take over, got {type(error).__name__} in {str(path)!r}. "
            "Ask whoever wrote the file for a right one."
        ) from error
    return encoded(report, path)


def reading_in(report: Dataset) -> dict[str, Opinion]:
    """The opinions in a reader's report, by finding."""
    words = {code.value: word for word, code in ANSWERS.items()}
    found = {}
    for measurements in report.ContentSequence:
        if measurements.ConceptNameCodeSequence[0].CodeValue != codes.DCM.ImagingMeasurements.value:
            continue
        for group in measurements.ContentSequence:
            texts: dict[str, str] = {}
            answers: dict[str, str] = {}
            for item in group.ContentSequence:
                name = item.ConceptNameCodeSequence[0].CodeValue
                if item.ValueType == ValueTypeValues.TEXT.value:
                    texts[name] = str(item.TextValue)
                elif item.ValueType == ValueTypeValues.CODE.value:
                    answers[name] = words.get(item.ConceptCodeSequence[0].CodeValue, "")
            present = answers.get(PRESENCE.value)
            found[texts[codes.DCM.TrackingIdentifier.value]] = Opinion(
                None if present is None else present == PRESENT,
                texts.get(codes.DCM.Comment.value, ""),
                answers.get(_CALL.value, ""),
            )
    return found


def _group(film: Dataset, finding: str, one: Opinion, model: ResultModel) -> sr.MeasurementsAndQualitativeEvaluations:
    evaluations = []
    if one.present is not None:
        evaluations.append(sr.QualitativeEvaluation(PRESENCE, ANSWERS[PRESENT if one.present else ABSENT]))
    if one.call in ANSWERS:
        evaluations.append(sr.QualitativeEvaluation(_CALL, ANSWERS[one.call]))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(prefix=None), identifier=finding),
        finding_type=concept_of(finding, model.description.findings),
        qualitative_evaluations=evaluations or None,
        source_images=[sr.SourceImageForMeasurementGroup(film.SOPClassUID, film.SOPInstanceUID)],
    )
    if one.comment:
        comment = sr.TextContentItem(codes.DCM.Comment, one.comment, RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(comment)
    return group
