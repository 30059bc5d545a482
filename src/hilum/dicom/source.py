"""The film that results are about: its header, its identifiers, and what results take over from it."""

import hashlib
import re
import uuid
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue

from hilum.errors import ImageError

IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName")
_IF_THERE = ("IssuerOfPatientID", "StudyDescription")
_OTHERS = ("SOPClassUID", "Rows", "Columns", "Modality", "ViewPosition", "Manufacturer", "BurnedInAnnotation")
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
    names = [*IDENTIFIERS, *_PATIENT, *_STUDY, *_IF_THERE, *_OTHERS]
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=names)
        for name in names:
            header.get(name)  # pydicom reads a value when it is asked for
        wrong = [name for name in IDENTIFIERS if not is_uid(str(header.get(name, "")))]
    except Exception as error:  # pydicom fails on hostile bytes with whatever exception comes handy
        raise ImageError(f"film must be a DICOM file, got {type(error).__name__} in {str(path)!r}.") from error
    if wrong:
        raise ImageError(
            f"film must say its {', '.join(wrong)}, got none that is valid in {str(path)!r}. "
            "Results have their place beside it: send it through the PACS first."
        )
    return header


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
        if name in header:
            value = header[name].value
            setattr(result, name, list(value) if isinstance(value, MultiValue) else str(value or ""))
        elif name not in _IF_THERE:
            setattr(result, name, "")
