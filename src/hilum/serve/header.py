"""What a DICOM film's header says of patient, study and view: for the page's lists and overlays, and kept nowhere."""

from importlib.util import find_spec
from io import BytesIO

from hilum.messages import quiet_dicom
from hilum.serve.schemas import FilmHeader

_DICOM_AT, _DICOM = 128, b"DICM"
_KEYWORDS = ["PatientID", "StudyInstanceUID", "StudyDate", "ViewPosition", "PatientSex", "PatientAge"]
_CALIBRATED = "PixelSpacingCalibrationType"
_LATERAL = {"LL", "RL", "LAT", "LLAT", "RLAT"}
_LONGEST = 64


def read_header(content: bytes) -> FilmHeader | None:
    """The header of a DICOM film; None of any other file, or if it cannot be read."""
    if content[_DICOM_AT : _DICOM_AT + 4] != _DICOM or find_spec("pydicom") is None:
        return None
    from pydicom import dcmread

    with quiet_dicom():
        try:
            header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=[*_KEYWORDS, _CALIBRATED])
            patient, study, date, view, sex, age = (_text(header.get(keyword)) for keyword in _KEYWORDS)
            calibrated = bool(header.get(_CALIBRATED))
        except Exception:  # a header may hold anything, and the film is shown without it
            return None
    view = "LATERAL" if view.upper() in _LATERAL else view.upper()
    return FilmHeader(
        patient=patient, study=study, date=_date(date), view=view, sex=sex, age=_age(age), detector=not calibrated
    )


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return "".join(letter for letter in text if letter.isprintable())[:_LONGEST].strip()


def _date(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else ""


def _age(age: str) -> str:
    """DICOM's 045Y as 45 y."""
    number, unit = age[:-1], age[-1:]
    return f"{int(number)} {unit.lower()}" if number.isdigit() and unit in "YMWD" else ""
