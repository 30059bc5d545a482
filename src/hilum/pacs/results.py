"""Results of a film as DICOM objects in its study: a structured report (TID 1500) and a picture with heatmaps."""

import hashlib
import re
import uuid
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from highdicom import sr
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept, RelationshipTypeValues, ValueTypeValues
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from pydicom import DataElement, Dataset, dcmread
from pydicom.config import RAISE
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.uid import JPEGLSLossless
from pydicom.valuerep import validate_value

import hilum
from hilum.data.film_kind import RESULT
from hilum.data.images import image_kind
from hilum.errors import HilumError, ImageError
from hilum.files import write_whole
from hilum.findings import PRIVATE, Code, codes_of, drawn
from hilum.messages import quiet_dicom
from hilum.metrics.thresholds import Threshold
from hilum.model.engines import Engine, file_sha256, is_export, read_exported
from hilum.model.metadata import BUNDLE_JSON, ModelDescription, read_bundle_json, read_description
from hilum.model.thresholds import ABSENT, INDETERMINATE, NO_THRESHOLD, PRESENT, call
from hilum.predict.heatmaps import marked, place_of
from hilum.predict.scoring import Scored

IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName")
_IF_VALID = (
    *("PatientAge", "InstitutionName", "TimezoneOffsetFromUTC"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("LongitudinalTemporalInformationModified", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    *("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
_IF_THERE = ("IssuerOfPatientID", "StudyDescription", *_IF_VALID)
_REQUEST = ("RequestAttributesSequence", "SeriesNumber", "InstanceNumber")
_OTHERS = (
    *_REQUEST,
    "SOPClassUID",
    "Rows",
    "Columns",
    "Modality",
    "ViewPosition",
    "Manufacturer",
    "BurnedInAnnotation",
)
_BODY_PART = "BodyPartExamined"
TAKEN_OVER = (*IDENTIFIERS, *_PATIENT, *_STUDY, *_IF_THERE, *_OTHERS, _BODY_PART)
"""What results need of a film's header."""
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_LONGEST_UID = 64
UTF_8 = "ISO_IR 192"


def is_uid(text: str) -> bool:
    """Whether a text is a unique identifier: digits and dots, at most 64, so that it can stand in a path.

    Source: DICOM PS3.5, 9.1. https://dicom.nema.org/medical/dicom/current/output/html/part05.html
    """
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def read_header(path: Path) -> Dataset:
    """What results need of a film's header; what identifies study, series and film must be there.

    Raises:
        ImageError: if it cannot be read, or lacks one of the three identifiers.
    """
    names = [*TAKEN_OVER]
    if image_kind(path) in ("PNG", "JPEG"):
        raise ImageError(
            f"film must be a DICOM file to have a result in its study, got a {image_kind(path)} in {str(path)!r}, "
            "which has no study to put a report into."
        )
    try:
        with quiet_dicom():
            header = dcmread(path, stop_before_pixels=True, specific_tags=names)
            if not header.get("SpecificCharacterSet") and _is_utf_8(header, names):
                implicit, little = header.original_encoding
                header.set_original_encoding(implicit, little, "utf8")
            for name in names:
                header.get(name)  # pydicom reads a value when it is asked for
            uids = {name: str(header.get(name) or "") for name in IDENTIFIERS}
    except Exception as error:  # pydicom fails on hostile bytes with whatever exception comes handy
        raise ImageError(f"film must be a DICOM file, got {type(error).__name__} in {str(path)!r}.") from error
    wrong = {name: uid for name, uid in uids.items() if not is_uid(uid)}
    if wrong:
        got = ", ".join(repr(uid[: _LONGEST_UID + 1]) if uid else "none" for uid in wrong.values())
        raise ImageError(
            f"film must say its {', '.join(wrong)} as the standard writes it (digits and dots, at most {_LONGEST_UID}, "
            f"no part with a leading zero), got {got} in {str(path)!r}. "
            "A result would have to repeat it; whoever wrote the film, or the archive, must give it another."
        )
    return header


def _is_utf_8(header: Dataset, names: list[str]) -> bool:
    """Whether texts whose character set the header does not say are UTF-8; latin-1, which they else are, never is."""
    raw = [element.value for name in names if (element := header.get_item(name)) is not None]
    texts = [value for value in raw if isinstance(value, bytes) and not value.isascii()]
    try:
        return bool(texts) and bool([text.decode("utf-8") for text in texts])
    except UnicodeDecodeError:
        return False


def derived_uid(*parts: str) -> str:
    """An identifier that the same parts always give, so that a result made twice is one result.

    Source: DICOM PS3.5, B.2 (identifiers from UUIDs).
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def blank_subject(header: Dataset) -> Dataset:
    """What an object refers to: the identifiers, and empty words for patient and study; see take_over."""
    blank = Dataset()
    for name in (*_PATIENT, *_STUDY):
        setattr(blank, name, "")
    for name in (*IDENTIFIERS, "SOPClassUID", "Rows", "Columns", "Modality"):
        if name in header:
            setattr(blank, name, header[name].value)
    return blank


def take_over(result: Dataset, header: Dataset) -> None:
    """Give a result the film's patient and study, word for word: a PACS must find both in the same place."""
    result.SpecificCharacterSet = UTF_8
    for name in (*_PATIENT, *_STUDY, *_IF_THERE):
        if name in _IF_VALID and name in header and not _is_valid(header[name]):
            continue
        if name in header and header[name].VR == "SQ":
            setattr(result, name, deepcopy(header[name].value))
        elif name in header:
            value = header[name].value
            setattr(result, name, list(value) if isinstance(value, MultiValue) else str(value or ""))
        elif name not in _IF_THERE:
            setattr(result, name, "")
    if "ClinicalTrialProtocolID" in result:
        for name in ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"):
            setattr(result, name, result.get(name, ""))  # a trial's module must have them, though empty


def _is_valid(element: DataElement) -> bool:
    """Whether a value is as the standard writes it: others, such as an age of 62 without a unit, are left out."""
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        for value in values if element.VR != "SQ" else ():
            validate_value(element.VR, str(value or ""), RAISE)
    except ValueError:
        return False
    return element.keyword != "TimezoneOffsetFromUTC" or re.fullmatch("[+-][0-9]{4}", str(element.value)) is not None


SCORED_FILM = "Automatic scores of a chest film; research, not for diagnostic use"


def describe(result: Dataset, header: Dataset, model: "ResultModel", *, now: datetime, did: str = SCORED_FILM) -> None:
    """What all kinds of result say besides: their zone and number, the private codes' scheme, what made them, and how.

    Source: DICOM PS3.3, C.12.1 (SOP Common). https://dicom.nema.org/medical/dicom/current/output/html/part03.html
    """
    if not result.get("TimezoneOffsetFromUTC"):
        result.TimezoneOffsetFromUTC = now.astimezone().strftime("%z")
    result.InstanceNumber = _instance_number(header)
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = PRIVATE, "Hilum's own codes"
    scheme.CodingSchemeResponsibleOrganization = "The Hilum developers"
    result.CodingSchemeIdentificationSequence = [scheme]
    device = Dataset()
    device.Manufacturer, device.ManufacturerModelName = "Hilum", model.name
    device.SoftwareVersions, device.DeviceSerialNumber = [*model.software], model.bundle_sha256[:16]
    device.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    device.ContributionDescription = did
    device.PurposeOfReferenceCodeSequence = [CodedConcept(*_DEVICE)]
    result.ContributingEquipmentSequence = [device]


def _instance_number(header: Dataset) -> int:
    """A number within the results' series that rises as the films' do: 1,000 for each series, then the film's own."""
    try:
        series, instance = (int(header.get(name) or 0) for name in ("SeriesNumber", "InstanceNumber"))
    except (TypeError, ValueError):
        return 1
    number = 1000 * series + instance
    return number if 0 < number < 2**31 else 1


def _requests(header: Dataset) -> list[Dataset]:
    """The orders that a film was made for, as a report refers to them."""
    found = []
    for asked in header.get("RequestAttributesSequence") or []:
        one = Dataset()
        one.StudyInstanceUID = header.StudyInstanceUID
        one.ReferencedStudySequence, one.RequestedProcedureCodeSequence = [], []
        one.AccessionNumber = str(asked.get("AccessionNumber") or header.get("AccessionNumber") or "")
        for name in ("RequestedProcedureID", "RequestedProcedureDescription"):
            setattr(one, name, str(asked.get(name) or ""))
        for name in ("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"):
            setattr(one, name, "")
        if asked.get("RequestedProcedureCodeSequence"):
            one.RequestedProcedureCodeSequence = deepcopy(asked.RequestedProcedureCodeSequence)
        found.append(one)
    return found


@dataclass(frozen=True)
class ResultModel:
    """A model as results name it.

    Attributes:
        name: Hilum and the recipe.
        bundle_sha256: of bundle.json, which vouches for the weights.
        point: the operating point of the calls; none if None.
        bits: how many bits the films' values were said to have; None if nothing was said. See hilum.data.images.read.
        engine: what computes it, and in which precision, such as `openvino int8`; empty if nobody knows yet.
    """

    name: str
    bundle_sha256: str
    description: ModelDescription
    point: str | None
    bits: int | None = None
    engine: str = ""

    @property
    def version(self) -> str:
        """Hilum's version and the start of the bundle's hash."""
        return f"{hilum.__version__}+{self.bundle_sha256[:12]}"

    @property
    def software(self) -> tuple[str, ...]:
        """What a result's Software Versions say: the version, and the engine with its precision."""
        return (self.version, self.engine) if self.engine else (self.version,)

    @property
    def identity(self) -> str:
        """What all identifiers of results depend on: Hilum, bundle, engine and precision, whose numbers differ."""
        return "\0".join((hilum.__version__, self.bundle_sha256, self.engine))

    @property
    def parameters(self) -> list[str]:
        """What else must be known to repeat a result."""
        return [
            f"bundle.json SHA-256 {self.bundle_sha256}",
            *([f"engine and precision {self.engine}"] if self.engine else []),
            f"scores {'are not calibrated' if self.description.calibration is None else 'are calibrated'}",
            f"calls at {self.point}" if self.point else "no calls",
            *([f"films of {self.bits} bits, as was said"] if self.bits else []),
            *([self.description.learned_from] if self.description.learned_from else []),
        ]

    def threshold(self, finding: str) -> Threshold | None:
        """Where the call of a finding changes; None without calls, or where validation did not show a threshold."""
        points = self.description.thresholds
        return None if points is None or self.point is None else points.thresholds(self.point)[finding]

    def call(self, finding: str, score: float) -> str:
        """Present, indeterminate or absent; empty where there is no threshold."""
        word = call(score, self.threshold(finding))
        return "" if word == NO_THRESHOLD else word


def result_model(run: Path, point: str | None, *, bits: int | None = None, engine: Engine | None = None) -> ResultModel:
    """What results say of the model in a folder, a bundle or an exported model alone.

    Args:
        bits: see ResultModel.
        engine: what scores the films.

    Raises:
        BundleError: if the folder holds neither.
        HilumError: if the model has no such operating point.
    """
    if is_export(run):
        exported = read_exported(run)
        name, digest, description = "Hilum", exported.bundle_sha256, exported.description
    else:
        name, digest, description = _name(run), file_sha256(run / BUNDLE_JSON), read_description(run)
    if point is not None:
        if description.thresholds is None:
            raise HilumError(f"operating point must come from thresholds, and {run} has none. See: hilum calibrate")
        description.thresholds.thresholds(point)
    return ResultModel(name, digest, description, point, bits, f"{engine.name} {engine.precision}" if engine else "")


def _name(run: Path) -> str:
    recipe = read_bundle_json(run).get("recipe")
    return f"Hilum {recipe['name']}"[:64] if isinstance(recipe, dict) and "name" in recipe else "Hilum"


REPORT_SERIES_NUMBER = 9901
REPORT_SERIES = "Hilum scores: research, not for diagnostic use"

CHEST = CodedConcept("399208008", "SCT", "Plain chest X-ray")
_RADIOGRAPHY = CodedConcept("RG", "DCM", "Radiographic imaging")
_NOT_ANALYSED = CodedConcept("NOT-ANALYSED", PRIVATE, "Reason for no analysis")
_FIT = CodedConcept("INPUT-QUALITY", PRIVATE, "Input quality check")
PRESENCE = CodedConcept("121052", "DCM", "Presence of property")
_SCORE = CodedConcept("246262008", "SCT", "Score")
_PROBABILITY = CodedConcept(*codes.DCM.Probability[:3])
_DEVICE = codes.DCM.ProcessingEquipment[:3]
_THRESHOLD = CodedConcept("122411", "DCM", "Threshold Value")
ANSWERS = {
    PRESENT: CodedConcept("52101004", "SCT", "Present"),
    ABSENT: CodedConcept("272519000", "SCT", "Absent"),
    INDETERMINATE: CodedConcept("82334004", "SCT", "Indeterminate"),
}
_DIGITS = 9  # tell every float32, and fit into a decimal string


def structured_report(
    header: Dataset,
    scored: Scored,
    model: ResultModel,
    *,
    now: datetime,
    content: str = "",
    earlier: Sequence[tuple[str, str, str]] = (),
) -> Dataset:
    """The scores of a film in its own study: for each finding its code, score, threshold and call, and what made them.

    The report is partial, preliminary and not verified, and says that it is not for diagnostic use. Of a film that does
    not fit the model, and was not forced, it says that it was not analysed, and why, in a code and in words.

    Args:
        header: of the film, with its identifiers.
        scored: the film's scores, or why it does not fit.
        now: the time of the report; its identifiers do not depend on it.
        content: what tells the film from an earlier one of the same identifier; see hilum.pacs.queue.
        earlier: study, series and identifier of the reports that this one replaces.

    Raises:
        ValueError: if the film fits and has no scores.

    Source: DICOM PS3.16, TID 1500 and 1501; CID 6047 (status of results).
        https://dicom.nema.org/medical/dicom/current/output/html/part16.html
    """
    if scored.scores is None and scored.analysed:
        raise ValueError("scored must have scores, got none")
    film = blank_subject(header)
    instance = str(header.SOPInstanceUID)
    about = (instance, model.identity, model.point or "", *variant(model, scored.forced, content))
    if scored.scores is None or not scored.analysed:
        groups = [_not_analysed(film, scored.fit, model, about)]
        uid = not_analysed_uid(instance, model, content=content)
        said = [f"Not analysed: {scored.fit}. No finding was looked for."]
    else:
        groups = [
            _group(film, finding, float(score), model, about)
            for finding, score in zip(model.description.findings, scored.scores, strict=True)
        ]
        uid = report_uid(instance, model, forced=scored.forced, content=content)
        said = [_forced_words(scored)] if scored.forced else []
    if model.description.learned_from:
        said.append(f"The model was {model.description.learned_from}.")
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", model.identity),
        name=model.name,
        manufacturer_name="Hilum",
        model_name=model.name,
    )
    body = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, device),
        ),
        procedure_reported=CHEST if scored.fits else _RADIOGRAPHY,  # it may be a hand's
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    if not scored.fits:
        body[0].ContentSequence.append(sr.TextContentItem(_FIT, scored.fit, RelationshipTypeValues.CONTAINS))
    for words in (*said, hilum.DISCLAIMER):
        body[0].ContentSequence.append(sr.TextContentItem(codes.DCM.Comment, words, RelationshipTypeValues.CONTAINS))
    report = report_in_study(
        header,
        body[0],
        model,
        uid=uid,
        series=derived_uid("sr series", str(header.StudyInstanceUID), model.identity),
        number=REPORT_SERIES_NUMBER,
        words=REPORT_SERIES,
        now=now,
    )
    if earlier:
        report.PredecessorDocumentsSequence = [_predecessor(*one, report.SOPClassUID) for one in earlier]
    return report


def report_in_study(
    header: Dataset,
    content: Dataset,
    model: ResultModel,
    *,
    uid: str,
    series: str,
    number: int,
    words: str,
    now: datetime,
    did: str = SCORED_FILM,
) -> Dataset:
    """A report's content as an object in the film's own study: partial, preliminary and not verified.

    Args:
        uid, series: identifiers of the report and of its series.
        number, words: the series' number and description.
        did: what Hilum contributed; see describe.
    """
    report = sr.Comprehensive3DSR(
        evidence=[blank_subject(header)],
        content=content,
        series_instance_uid=series,
        series_number=number,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer="Hilum",
        is_complete=False,
        is_final=False,
        is_verified=False,
        series_description=words,
        manufacturer_model_name=model.name,
        software_versions=[*model.software],
        device_serial_number=model.bundle_sha256[:16],
        content_date=now.date(),
        content_time=now.time().replace(microsecond=0),
        series_date=now.date(),
        series_time=now.time().replace(microsecond=0),
    )
    take_over(report, header)
    describe(report, header, model, now=now, did=did)
    if requests := _requests(header):
        report.ReferencedRequestSequence = requests
    return report


def _predecessor(study: str, series: str, report: str, kind: str) -> Dataset:
    """A report that another one replaces, as it is referred to."""
    instance, of_series, of_study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = kind, report
    of_series.SeriesInstanceUID, of_series.ReferencedSOPSequence = series, [instance]
    of_study.StudyInstanceUID, of_study.ReferencedSeriesSequence = study, [of_series]
    return of_study


def report_uid(film: str, model: ResultModel, *, forced: bool = False, content: str = "") -> str:
    """The identifier of the report that a model makes of a film, by the film's own."""
    return derived_uid("sr", film, model.identity, model.point or "", *variant(model, forced, content))


def not_analysed_uid(film: str, model: ResultModel, *, content: str = "") -> str:
    """The identifier of the report that says that a film was not analysed, by the film's own."""
    return derived_uid("sr not analysed", film, model.identity, *variant(model, False, content))


def variant(model: ResultModel, forced: bool, content: str = "") -> list[str]:
    """What else makes a result another one; nothing for most."""
    return [
        *([f"bits {model.bits}"] if model.bits else []),
        *(["forced"] if forced else []),
        *([f"content {content}"] if content else []),
    ]


def _forced_words(scored: Scored) -> str:
    return f"Do not rely on these scores. The film does not fit the model ({scored.fit}); they were forced."


def reason_code(fit: str) -> Code:
    """Why a film was not analysed, in Hilum's own codes: the first words of `fit`, such as lateral."""
    reason = fit.partition(":")[0]
    return Code(re.sub(r"[^A-Z0-9]+", "-", reason.upper())[:16].strip("-"), PRIVATE, reason[:64])


def scores_of(report: Dataset) -> dict[str, tuple[float, float | None, str]]:
    """Score, threshold and call by finding, as a report says them; empty for a film that was not analysed."""
    groups = [
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == codes.DCM.ImagingMeasurements.value
    ]
    found = (_read_group(group) for measurements in groups for group in measurements.ContentSequence)
    return {finding: numbers for finding, numbers in found if numbers is not None}


def fit_in(report: Dataset) -> str:
    """Why a film does not fit the model, as its report says it; empty for one that fits. See Scored.fit."""
    names = ((item, item.ConceptNameCodeSequence[0]) for item in report.ContentSequence)
    return next((str(item.TextValue) for item, name in names if name.CodeValue == _FIT.value), "")


def _not_analysed(
    film: Dataset, fit: str, model: ResultModel, about: tuple[str, ...]
) -> sr.MeasurementsAndQualitativeEvaluations:
    """A group without a finding: that nothing was attempted, and why."""
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=derived_uid("not analysed", *about), identifier="not analysed"),
        algorithm_id=sr.AlgorithmIdentification(model.name, model.version, parameters=model.parameters),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(codes.DCM.SummaryOfAnalyses, codes.DCM.NotAttempted),
            sr.QualitativeEvaluation(_NOT_ANALYSED, CodedConcept(*reason_code(fit))),
        ],
        source_images=[sr.SourceImageForMeasurementGroup(film.SOPClassUID, film.SOPInstanceUID)],
    )


def _group(
    film: Dataset, finding: str, score: float, model: ResultModel, about: tuple[str, ...]
) -> sr.MeasurementsAndQualitativeEvaluations:
    threshold, answer = model.threshold(finding), model.call(finding, score)
    numbers = [(_SCORE if model.description.calibration is None else _PROBABILITY, score)] + (
        [] if threshold is None else [(_THRESHOLD, threshold.value)]
    )
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=derived_uid("finding", finding, *about), identifier=finding),
        finding_type=concept_of(finding, model.description.findings),
        algorithm_id=sr.AlgorithmIdentification(model.name, model.version, parameters=model.parameters),
        measurements=[
            sr.Measurement(name, float(f"{number:.{_DIGITS}g}"), codes.UCUM.NoUnits) for name, number in numbers
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(PRESENCE, ANSWERS[answer])] if answer else None,
        source_images=[sr.SourceImageForMeasurementGroup(film.SOPClassUID, film.SOPInstanceUID)],
    )


def concept_of(finding: str, findings: tuple[str, ...]) -> CodedConcept:
    """A finding's code, and beside it that of RadLex: Equivalent Code Sequence, DICOM PS3.3, section 8.9."""
    code, *others = codes_of(findings)[finding]
    concept = CodedConcept(*code)
    if others:
        concept.EquivalentCodeSequence = [CodedConcept(*other) for other in others]
    return concept


def _read_group(group: Dataset) -> tuple[str, tuple[float, float | None, str] | None]:
    numbers: dict[str, float] = {}
    finding, answer = "", ""
    words = {code.value: word for word, code in ANSWERS.items()}
    for item in group.ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeValue
        if item.ValueType == ValueTypeValues.NUM.value:
            numbers[name] = float(item.MeasuredValueSequence[0].NumericValue)
        elif name == codes.DCM.TrackingIdentifier.value:
            finding = str(item.TextValue)
        elif name == PRESENCE.value:
            answer = words[item.ConceptCodeSequence[0].CodeValue]
    score = numbers.get(_PROBABILITY.value, numbers.get(_SCORE.value))
    return finding, None if score is None else (score, numbers.get(_THRESHOLD.value), answer)


Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
Picture = UInt8[np.ndarray, "height width 3"]

CAPTURE_SERIES_NUMBER = 9902
CAPTURE_SERIES = "Hilum heatmaps: research, not for diagnostic use"

_SIDE = 512
_MARGIN = 16
_LINE = 26
_COLUMNS = (0, 300, 470, 640)


def secondary_capture(
    header: Dataset, scored: Scored, model: ResultModel, *, now: datetime, top: int = 3, content: str = ""
) -> Dataset:
    """The picture of a result in the film's own study.

    Args:
        header: of the film, with its identifiers.
        scored: the film's scores and class maps.
        now: the time of the picture; its identifiers do not depend on it.
        top: for how many findings a heatmap is shown at most, see result_picture.
        content: see structured_report.

    Raises:
        ValueError: if the film has no scores.
    """
    picture = result_picture(scored, model, top=top)
    capture = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=str(header.StudyInstanceUID),
        series_instance_uid=derived_uid("sc series", str(header.StudyInstanceUID), model.identity),
        series_number=CAPTURE_SERIES_NUMBER,
        sop_instance_uid=capture_uid(str(header.SOPInstanceUID), model, top, forced=scored.forced, content=content),
        instance_number=1,
        manufacturer="Hilum",
        patient_orientation=("L", "F"),  # the constructor asks for one; a page has none, see below
        series_description=CAPTURE_SERIES,
        manufacturer_model_name=model.name,
        software_versions=[*model.software],
        content_date=now.date(),
        content_time=now.time().replace(microsecond=0),
    )
    take_over(capture, header)
    describe(capture, header, model, now=now)
    capture["PatientOrientation"].value = None
    if header.get(_BODY_PART):
        capture.BodyPartExamined = header.BodyPartExamined
    if header.get(_BODY_PART) != "CHEST":
        capture.Laterality = ""  # must be there, though empty, where the body part may be one of a pair
    capture.Modality = "OT"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    learned = f" Model {model.description.learned_from}." if model.description.learned_from else ""
    forced = f" {_forced_words(scored)}" if scored.forced else ""
    capture.DerivationDescription = f"{model.name} {', '.join(model.software)}.{learned}{forced} {hilum.DISCLAIMER}"[
        :1024
    ]
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    capture.SourceImageSequence = [source]
    spelled = {drawn(name): name for name in model.description.findings if drawn(name) != name.replace("_", " ")}
    if spelled:
        capture.ImageComments = "; ".join(f"{code} = {name}" for code, name in spelled.items())
    if "BurnedInAnnotation" in header:
        capture.BurnedInAnnotation = header.BurnedInAnnotation
    return capture


def shown_findings(scored: Scored, model: ResultModel, *, top: int) -> list[int]:
    """The findings whose heat is shown: those called present, from the highest score on; without calls, the highest.

    Raises:
        ValueError: if the film has no scores.
    """
    if scored.scores is None:
        raise ValueError("scored must have scores, got none")
    findings, order = model.description.findings, np.argsort(-scored.scores, kind="stable").tolist()
    return [k for k in order if not model.point or model.call(findings[k], float(scored.scores[k])) == PRESENT][:top]


def capture_uid(film: str, model: ResultModel, top: int, *, forced: bool = False, content: str = "") -> str:
    """The identifier of the picture that a model makes of a film, by the film's own."""
    return derived_uid("sc", film, model.identity, model.point or "", str(top), *variant(model, forced, content))


def result_picture(scored: Scored, model: ResultModel, *, top: int = 3) -> Picture:
    """Heatmaps beside each other, then the table, what the model learned from, and the disclaimer, on black.

    Heat is shown of findings that are called present, from the highest score on; without calls, of the highest scores.
    Above the disclaimer it says of a forced film that it does not fit.

    Raises:
        ValueError: if the film has no scores.
    """
    if scored.image is None or scored.scores is None or scored.maps is None:
        raise ValueError("scored must have scores and maps, got none")
    findings, order = model.description.findings, np.argsort(-scored.scores, kind="stable")
    shown = shown_findings(scored, model, top=top)
    called = {k: model.call(findings[k], float(scored.scores[k])) for k in order}
    rows = max(1, -(-len(shown) // 3))
    learned, forced = model.description.learned_from, _forced_words(scored) if scored.forced else ""
    notes = [words for words in (learned and f"The model was {learned}.", forced) if words]
    height = rows * (_SIDE + 2 * _LINE) + (len(findings) + 4 + len(notes)) * _LINE + 2 * _MARGIN
    page = Image.new("RGB", (3 * _SIDE, height), "black")
    draw, font, large = ImageDraw.Draw(page), ImageFont.load_default(size=20), ImageFont.load_default(size=32)
    film = Image.fromarray(scored.image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    grey = np.clip(np.asarray(film), 0, 1)
    for place, k in enumerate(shown):
        left, top_edge = place % 3 * _SIDE, place // 3 * (_SIDE + 2 * _LINE)
        score = float(scored.scores[k])
        picture, words = marked(grey, scored.maps[k], model.description, findings[k], score, point=model.point)
        page.paste(Image.fromarray(picture), (left, top_edge))
        words = _cut(f"{words}{', ' if called[k] else ''}{called[k]}", draw, font, _SIDE)
        draw.text((left + _MARGIN, top_edge + _SIDE + 4), words, fill="white", font=font)
    if not shown:
        page.paste(Image.fromarray((grey * 255).astype(np.uint8)), (0, 0))
        draw.text((_MARGIN, _SIDE + 4), f"No finding is called present at {model.point}", fill="white", font=font)
    y = rows * (_SIDE + 2 * _LINE) + _MARGIN
    table = [("Finding", "Score", "Threshold", f"Call at {model.point}" if model.point else "")]
    for k in order:
        threshold = model.threshold(findings[k])
        limit = "" if threshold is None else f"{threshold.value:.3f}"
        answer = called[k]
        table.append((_cut(drawn(findings[k]), draw, font), f"{scored.scores[k]:.3f}", limit, answer))
    software = ", ".join(model.software)
    made_by = f"{model.name} {software}. Heatmaps show where the network's evidence lies, not where a finding is."
    for line in [*table, (made_by,)]:
        for x, words in zip(_COLUMNS, line, strict=False):
            draw.text((_MARGIN + x, y), words, fill="white", font=font)
        y += _LINE
    for words in notes:
        draw.text((_MARGIN, y), _cut(words, draw, font, 3 * _SIDE), fill="yellow", font=font)
        y += _LINE
    draw.text((_MARGIN, y + _LINE), hilum.DISCLAIMER, fill="yellow", font=large)
    return np.asarray(page)


def _cut(words: str, draw: ImageDraw.ImageDraw, font: Font, width: int = _COLUMNS[1]) -> str:
    """Words that end before the next column."""
    while draw.textlength(words, font=font) > width - 2 * _MARGIN:
        words = words.removesuffix("...")[:-1] + "..."
    return words


def result_objects(
    path: Path,
    scored: Scored,
    model: ResultModel,
    *,
    now: datetime,
    top: int = 3,
    content: str = "",
    earlier: Sequence[tuple[str, str, str]] = (),
) -> list[Dataset]:
    """A structured report and a picture for a film; for one that does not fit the model, a report that says so.

    A result of Hilum's own that comes back as a film has none.

    Args:
        content, earlier: see structured_report.

    Raises:
        ValueError: if the film fits and has no scores.
        ImageError: if the film is no DICOM file with its identifiers, or its header holds what no result can.
    """
    if not scored.analysed and scored.fit.startswith(RESULT):
        return []
    if scored.analysed and (scored.scores is None or scored.maps is None):
        raise ValueError("scored must have scores and maps, got none")
    header = read_header(path)
    try:
        with quiet_dicom():
            report = structured_report(header, scored, model, now=now, content=content, earlier=earlier)
            if not scored.analysed:
                return [report]
            return [report, secondary_capture(header, scored, model, now=now, top=top, content=content)]
    except Exception as error:  # a header may hold anything
        raise _unfit_header(path, error) from error


def encoded(result: Dataset, path: Path, *, compress: bool = False) -> bytes:
    """A result of a film as the content of a file.

    Args:
        compress: a picture by JPEG-LS, without loss, to a fraction of its size; most receivers know it, but not all.

    Raises:
        ImageError: if it holds a value of the film's header that cannot be written.
    """
    content = BytesIO()
    try:
        with quiet_dicom():
            if compress and "PixelData" in result:
                result.compress(JPEGLSLossless, generate_instance_uid=False)
            result.save_as(content, enforce_file_format=True)
    except Exception as error:
        raise _unfit_header(path, error) from error
    return content.getvalue()


def _unfit_header(path: Path, error: Exception) -> ImageError:
    return ImageError(
        f"film must have a header that a result can take over, got {type(error).__name__} in {str(path)!r}. "
        "Ask whoever wrote the file for a right one."
    )


def write_results(
    path: Path, scored: Scored, model: ResultModel, folder: Path, *, film: str, now: datetime, top: int = 3
) -> list[Path]:
    """Write a film's objects as FILM.sr.dcm and FILM.sc.dcm; return their paths. See result_objects.

    Raises:
        ImageError: if the film is no DICOM file with its identifiers.
    """
    place, written = place_of(folder, film), []
    for kind, result in zip(("sr", "sc"), result_objects(path, scored, model, now=now, top=top), strict=False):
        file = place.with_name(f"{place.name}.{kind}.dcm")
        write_whole(file, encoded(result, path))
        written.append(file)
    return written
