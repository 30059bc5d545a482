"""What a DICOM header says a film is: a frontal chest film of an adult, or what else, and which field says so."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydicom import Dataset

NOT_CHEST, LATERAL, TURNED = "not a chest film", "lateral", "turned"
"""Reasons that the input quality check gives too, which looks at the pixels."""
CHILD, OBLIQUE, DECUBITUS = "child", "oblique", "decubitus"
LOCALIZER, DERIVED, RAW, RESULT = "localizer", "derived image", "raw image", "a result of Hilum"
ADULT_YEARS = 18

FIELDS = (
    *("Modality", "PresentationIntentType", "ImageType", "BodyPartExamined", "AnatomicRegionSequence"),
    *("ViewPosition", "ViewCodeSequence", "PatientOrientation", "PatientAge", "PatientBirthDate", "StudyDate"),
    *("StudyDescription", "SeriesDescription", "Manufacturer"),
)
"""What `objections` reads of a header."""

_OTHER_MODALITIES = {
    **{"BMD": "bone densitometry", "CT": "computed tomography", "ES": "endoscopy", "IO": "dental film"},
    **{"MG": "mammography", "MR": "magnetic resonance", "NM": "nuclear medicine", "OP": "ophthalmic photography"},
    **{"PT": "positron emission tomography", "PX": "panoramic film", "RF": "fluoroscopy", "SM": "slide microscopy"},
    **{"US": "ultrasound", "XA": "angiography", "XC": "photography"},
}
_PROCESSED = re.compile(
    r"SUBTRACT|BONE|SOFT.?TISSUE|ENERGY|CAD|ANNOTAT|OVERLAY|SCREEN|REFORMAT|MPR|STITCH|DRR|COMPOSED"
)
_CHEST_WORD = re.compile(r"CHEST|THORA[XC]|TORAX|TORACE|TÓRAX|LUNG|PULM|CXR|HEART|CARDIAC|MEDIASTIN|TRACHEA|BRONCH")
_ELSEWHERE = re.compile(
    r"\b(ABDOMEN|ABDOMENPELVIS|CHESTABDOMEN|ANKLE|ARM|BREAST|CALCANEUS|CALF|CLAVICLE|COCCYX|ELBOW|EXTREMITY|FEMUR|FINGER|"
    r"FOOT|FOREARM|HAND|HEAD|HIP|HUMERUS|JAW|KIDNEY|KNEE|LEG|MANDIBLE|MAXILLA|NECK|NOSE|ORBIT|PATELLA|PELVIS|RADIUS|RIBS?|"
    r"SACRUM|SCAPULA|SHOULDER|SINUS|SKULL|[CLST]?SPINE|LSSPINE|TLSPINE|STERNUM|THIGH|THUMB|TIBIA|FIBULA|TOE|ULNA|"
    r"WHOLEBODY|WRIST|ZYGOMA|(CERVICAL|LUMBAR|THORACIC)\s*SPINE|UPPER LIMB|LOWER LIMB|"
    r"BECKEN|DAUMEN|ELLENBOGEN|FUSS|HALS|HANDGELENK|HÜFTE?|HUEFTE|KNIE|OBERARM|OBERSCHENKEL|RIPPEN|SCHÄDEL|SCHAEDEL|"
    r"SCHULTER|SPRUNGGELENK|UNTERARM|UNTERSCHENKEL|WIRBELSÄULE|WIRBELSAEULE|[BHL]WS|"  # German
    r"BASSIN|CHEVILLE|COUDE|CRÂNE|CRANE|[EÉ]PAULE|GENOU|HANCHE|PIED|POIGNET|RACHIS|"  # French
    r"BACIA|CADERA|CODO|COTOVELO|CR[AÁ]NEO|HOMBRO|JOELHO|MANO|MUÑECA|OMBRO|QUADRIL|RODILLA|TOBILLO|TORNOZELO|"
    r"ANCA|BACINO|CAVIGLIA|GINOCCHIO|SPALLA)S?\b"  # Spanish and Portuguese; Italian
)
_CHEST_CODES = {"51185008", "816094009", "43799004", "302551006", "39607008", "T-D3000", "T-28000"}
_CODE_SCHEMES = {"SCT", "SRT", "SNM3", "99SDM"}

_VIEW_CODES = {
    **dict.fromkeys(("399067008", "399173006", "399198007", "30730003"), LATERAL),  # SNOMED CT, CID 4010
    **dict.fromkeys(("R-10236", "R-10232", "R-10220"), LATERAL),  # SNOMED RT, as older machines write it
    **dict.fromkeys(("399312000", "399160007", "399132005", "260427002", "399135007", "399184004"), OBLIQUE),
    **dict.fromkeys(("399006002", "399182000", "399059000", "399356000", "399236003", "399038007"), OBLIQUE),
}
_VIEWS = {
    **dict.fromkeys(("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "LTLAT", "RTLAT", "LATL", "LATR"), LATERAL),
    **dict.fromkeys(("LLO", "RLO", "RAO", "LAO", "RPO", "LPO", "OBL"), OBLIQUE),
    **dict.fromkeys(("LLD", "RLD"), DECUBITUS),
    **dict.fromkeys(("CC", "MLO", "ML", "LM", "LMO", "XCCL", "XCC"), NOT_CHEST),  # mammography's
}
_LATERAL_WORD = re.compile(r"\b(LAT|LATERAL|LATERALE|LATÉRALE?|SEITL|SEITLICHE?|PERFIL|PROFIL|LL|SAGITTAL)\b")
_FRONTAL_WORD = re.compile(r"\b(PA|AP|P\.A\.|A\.P\.|FRONTAL|FRONT|[23] ?V|(TWO|2|THREE|3) VIEWS?|VIEWS|2 ?EBENEN)\b")


class Objection(NamedTuple):
    """Why a film is none to score.

    Attributes:
        reason: what it is instead, a word or two: lateral, child, not a chest film ...
        field: the header's field that says so, in words.
        value: what stands there.
    """

    reason: str
    field: str
    value: str

    def __str__(self) -> str:
        return f"{self.reason}: the header's {self.field} is {self.value}"


def objections(header: "Dataset") -> tuple[Objection, ...]:
    """Everything in a header that says that a film is no frontal chest film of an adult, the weightiest first.

    A field that is absent, empty, unreadable or unknown to this module is no objection. DERIVED alone is none either:
    processed and compressed films bear it. Descriptions are read only where the fields for body part or view are
    silent.

    Source: DICOM PS3.3, C.7.3.1, C.7.6.1 and C.8.11; PS3.16, annex L and CID 4010.
        https://dicom.nema.org/medical/dicom/current/output/html/part03.html
    """
    found = [*_kind_of_image(header), *_body_part(header), *_view(header), *_age(header)]
    return tuple(found)


def _kind_of_image(header: "Dataset") -> Iterator[Objection]:
    if _text(header, "Manufacturer") == "HILUM":
        yield Objection(RESULT, "Manufacturer", "Hilum")
    modality = _text(header, "Modality")
    if modality in _OTHER_MODALITIES:
        yield Objection(NOT_CHEST, "Modality", f"{modality} ({_OTHER_MODALITIES[modality]})")
    if _text(header, "PresentationIntentType") == "FOR PROCESSING":
        yield Objection(RAW, "Presentation Intent Type", "FOR PROCESSING")
    kinds = [str(value).strip().upper() for value in _values(header, "ImageType")]
    written = "\\".join(kinds)
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        yield Objection(LOCALIZER, "Image Type", written)
    elif kinds[:1] == ["DERIVED"] and any(_PROCESSED.search(kind) for kind in kinds[2:]):
        yield Objection(DERIVED, "Image Type", written)


def _body_part(header: "Dataset") -> Iterator[Objection]:
    named = _text(header, "BodyPartExamined")
    if named and _is_elsewhere(named):
        yield Objection(NOT_CHEST, "Body Part Examined", named)
    regions = _codes(header, "AnatomicRegionSequence")
    for scheme, value, meaning in regions:
        known = value in _CHEST_CODES or bool(_CHEST_WORD.search(meaning.upper()))
        if not known and (scheme in _CODE_SCHEMES or _is_elsewhere(meaning)) and (value or meaning):
            yield Objection(NOT_CHEST, "Anatomic Region Sequence", meaning or value)
    if not named and not regions:
        for keyword, field in (("SeriesDescription", "Series Description"), ("StudyDescription", "Study Description")):
            if _is_elsewhere(described := _text(header, keyword)):
                yield Objection(NOT_CHEST, field, described)
                return


def _view(header: "Dataset") -> Iterator[Objection]:
    position = _text(header, "ViewPosition")
    if position and (reason := _VIEWS.get(re.sub(r"[^A-Z]", "", position)) or _view_in_words(position)):
        yield Objection(reason, "View Position", position)
    codes = _codes(header, "ViewCodeSequence")
    for _, value, meaning in codes:
        if reason := _VIEW_CODES.get(value) or _view_in_words(meaning):
            yield Objection(reason, "View Code Sequence", meaning or value)
    turned = [str(value).strip().upper() for value in _values(header, "PatientOrientation")]
    if len(turned) == 2 and all(turned):
        (row, column), written = turned, "\\".join(turned)
        if {row[0], column[0]} & {"A", "P"}:
            yield Objection(LATERAL, "Patient Orientation", written)
        elif row[0] in "HF" or column[0] == "H":
            yield Objection(TURNED, "Patient Orientation", written)
    if not position and not codes:
        for keyword, field in (("SeriesDescription", "Series Description"), ("StudyDescription", "Study Description")):
            described = _text(header, keyword)
            if _FRONTAL_WORD.search(described):
                return
            if reason := _view_in_words(described):
                yield Objection(reason, field, described)
                return


def _age(header: "Dataset") -> Iterator[Objection]:
    age = _text(header, "PatientAge")
    told = re.fullmatch(r"(\d{1,3})([DWMY])", age)
    if told:
        number, unit = int(told[1]), told[2]
        years = number / {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[unit]
        word = {"D": "day", "W": "week", "M": "month", "Y": "year"}[unit]
        if years < ADULT_YEARS and (number or unit != "Y"):  # 000Y is what many write for unknown
            yield Objection(CHILD, "Patient's Age", f"{number} {word}{'s' * (number != 1)}")
        return
    born, taken = (_text(header, keyword) for keyword in ("PatientBirthDate", "StudyDate"))
    if not age and re.fullmatch(r"\d{8}", born) and re.fullmatch(r"\d{8}", taken):
        years = (int(taken) - int(born)) // 10_000
        if 0 <= years < ADULT_YEARS and born != taken:
            yield Objection(CHILD, "Patient's Birth Date", f"{years} year{'s' * (years != 1)} before the Study Date")


def _is_elsewhere(text: str) -> bool:
    """Whether a text names a part of the body, and not the chest."""
    upper = re.sub(r"[_^/,;.()\-]+", " ", text.upper())
    if re.search(r"\bCHESTABDOMEN\b|\bTHORACIC\s*SPINE\b", upper):
        return True
    return not _CHEST_WORD.search(upper) and bool(_ELSEWHERE.search(upper))


def _view_in_words(text: str) -> str:
    words = re.sub(r"[_^/,;()\-]+", " ", text.upper())
    if re.search(r"DECUB", words):
        return DECUBITUS
    if re.search(r"\bOBLIQUE\b|\bOBL\b", words):
        return OBLIQUE
    return LATERAL if _LATERAL_WORD.search(words) else ""


def _text(header: "Dataset", keyword: str) -> str:
    value = _value(header, keyword)
    return "" if value is None else str(value).strip().upper()


def _values(header: "Dataset", keyword: str) -> list[Any]:
    value = _value(header, keyword)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)


def _value(header: "Dataset", keyword: str) -> Any:
    try:
        return header.get(keyword)
    except Exception:  # pydicom fails on hostile bytes with whatever exception comes handy
        return None


def _codes(header: "Dataset", keyword: str) -> list[tuple[str, str, str]]:
    """The coded entries of a sequence."""
    return [_code(item) for item in _values(header, keyword) if hasattr(item, "get")]


def _code(item: "Dataset") -> tuple[str, str, str]:
    """Scheme, value and meaning of a coded entry."""
    scheme, value, meaning = (
        str(item.get(keyword) or "").strip() for keyword in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
    )
    return scheme.upper(), value, meaning
