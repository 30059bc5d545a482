"""What a header says a film is: each field that speaks, and none that is silent, is heard."""

import pytest
from pydicom import Dataset, Sequence
from pydicom.config import disable_value_validation

from hilum.data.film_kind import (
    CHILD,
    DECUBITUS,
    DERIVED,
    FIELDS,
    LATERAL,
    LOCALIZER,
    NOT_CHEST,
    OBLIQUE,
    RAW,
    TURNED,
    Objection,
    objections,
)


def header(**fields: object) -> Dataset:
    """A header with these fields, of which some machines write ones that the standard does not allow."""
    made = Dataset()
    with disable_value_validation():
        for keyword, value in fields.items():
            setattr(made, keyword, value)
    return made


def coded(scheme: str, value: str, meaning: str) -> Sequence:
    return Sequence([header(CodingSchemeDesignator=scheme, CodeValue=value, CodeMeaning=meaning)])


FRONTAL = {
    "Modality": "DX",
    "PresentationIntentType": "FOR PRESENTATION",
    "ImageType": ["DERIVED", "PRIMARY"],
    "BodyPartExamined": "CHEST",
    "ViewPosition": "PA",
    "PatientOrientation": ["L", "F"],
    "PatientAge": "057Y",
    "StudyDescription": "Chest PA and lateral",
}


@pytest.mark.parametrize(
    ("fields", "reason", "field", "value"),
    [
        ({"BodyPartExamined": "HIP"}, NOT_CHEST, "Body Part Examined", "HIP"),
        ({"BodyPartExamined": "hand"}, NOT_CHEST, "Body Part Examined", "HAND"),
        ({"BodyPartExamined": "KNEE"}, NOT_CHEST, "Body Part Examined", "KNEE"),
        ({"BodyPartExamined": "TSPINE"}, NOT_CHEST, "Body Part Examined", "TSPINE"),
        ({"BodyPartExamined": "THORACIC SPINE"}, NOT_CHEST, "Body Part Examined", "THORACIC SPINE"),
        ({"BodyPartExamined": "CHESTABDOMEN"}, NOT_CHEST, "Body Part Examined", "CHESTABDOMEN"),
        (
            {"AnatomicRegionSequence": coded("SCT", "29836001", "Hip region")},
            NOT_CHEST,
            "Anatomic Region Sequence",
            "Hip region",
        ),
        ({"ViewPosition": "LL"}, LATERAL, "View Position", "LL"),
        ({"ViewPosition": "RL"}, LATERAL, "View Position", "RL"),
        ({"ViewPosition": "LATERAL"}, LATERAL, "View Position", "LATERAL"),
        ({"ViewPosition": "LEFT LATERAL"}, LATERAL, "View Position", "LEFT LATERAL"),
        ({"ViewPosition": "LLD"}, DECUBITUS, "View Position", "LLD"),
        ({"ViewPosition": "RAO"}, OBLIQUE, "View Position", "RAO"),
        (
            {"ViewCodeSequence": coded("SCT", "399173006", "left lateral")},
            LATERAL,
            "View Code Sequence",
            "left lateral",
        ),
        ({"ViewCodeSequence": coded("SRT", "R-10232", "")}, LATERAL, "View Code Sequence", "R-10232"),
        ({"PatientOrientation": ["P", "F"]}, LATERAL, "Patient Orientation", "P\\F"),
        ({"PatientOrientation": ["AL", "F"]}, LATERAL, "Patient Orientation", "AL\\F"),
        ({"PatientOrientation": ["F", "R"]}, TURNED, "Patient Orientation", "F\\R"),
        ({"PatientOrientation": ["R", "H"]}, TURNED, "Patient Orientation", "R\\H"),
        ({"PatientAge": "003M"}, CHILD, "Patient's Age", "3 months"),
        ({"PatientAge": "001D"}, CHILD, "Patient's Age", "1 day"),
        ({"PatientAge": "017Y"}, CHILD, "Patient's Age", "17 years"),
        (
            {"PatientAge": "", "PatientBirthDate": "20200301", "StudyDate": "20230228"},
            CHILD,
            "Patient's Birth Date",
            "2 years before the Study Date",
        ),
        ({"Modality": "CT"}, NOT_CHEST, "Modality", "CT (computed tomography)"),
        ({"PresentationIntentType": "FOR PROCESSING"}, RAW, "Presentation Intent Type", "FOR PROCESSING"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, LOCALIZER, "Image Type", "ORIGINAL\\PRIMARY\\LOCALIZER"),
        (
            {"ImageType": ["DERIVED", "SECONDARY", "BONE_SUPPRESSED"]},
            DERIVED,
            "Image Type",
            "DERIVED\\SECONDARY\\BONE_SUPPRESSED",
        ),
        (
            {"BodyPartExamined": "", "SeriesDescription": "Left knee"},
            NOT_CHEST,
            "Series Description",
            "LEFT KNEE",
        ),
        (
            {"ViewPosition": "", "SeriesDescription": "W033 Chest lat."},
            LATERAL,
            "Series Description",
            "W033 CHEST LAT.",
        ),
        ({"ViewPosition": "", "SeriesDescription": "Thorax seitl."}, LATERAL, "Series Description", "THORAX SEITL."),
        ({"BodyPartExamined": "", "StudyDescription": "Knie a.p."}, NOT_CHEST, "Study Description", "KNIE A.P."),
        ({"BodyPartExamined": "", "StudyDescription": "Genou droit"}, NOT_CHEST, "Study Description", "GENOU DROIT"),
        ({"BodyPartExamined": "RODILLA"}, NOT_CHEST, "Body Part Examined", "RODILLA"),
    ],
)
def test_each_field_is_heard_and_named(fields: dict[str, object], reason: str, field: str, value: str) -> None:
    assert objections(header(**FRONTAL | fields)) == (Objection(reason, field, value),)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"BodyPartExamined": "PORT CHEST"},
        {"BodyPartExamined": "KINGKONG"},
        {"BodyPartExamined": "", "StudyDescription": "XR CHEST 2 VIEWS"},
        {"BodyPartExamined": "", "StudyDescription": "Thorax a.p. im Liegen, Schulter"},
        {"ViewPosition": "", "StudyDescription": "Chest PA and lateral"},
        {"ViewPosition": "AP SUPINE"},
        {"ViewCodeSequence": coded("SCT", "272479007", "postero-anterior")},
        {"AnatomicRegionSequence": coded("SCT", "51185008", "Chest")},
        {"AnatomicRegionSequence": coded("SRT", "T-D3000", "")},
        {"ImageType": ["DERIVED", "SECONDARY"]},
        {"ImageType": "ORIGINAL"},
        {"PatientAge": "018Y"},
        {"PatientAge": "62"},
        {"PatientAge": "000Y"},
        {"PatientAge": "", "PatientBirthDate": "19600101", "StudyDate": "20230228"},
        {"PatientAge": "", "PatientBirthDate": "20230228", "StudyDate": "20230228"},
        {"PatientOrientation": ["R", "F"]},
        {"PatientOrientation": ""},
        {"Modality": "OT"},
    ],
)
def test_what_is_frontal_or_unknown_is_no_objection(fields: dict[str, object]) -> None:
    assert objections(header(**FRONTAL | fields)) == ()


def test_an_empty_header_is_no_objection() -> None:
    assert objections(Dataset()) == ()


def test_the_weightiest_comes_first_and_reads_as_a_sentence() -> None:
    found = objections(header(**FRONTAL | {"PatientAge": "003M", "ViewPosition": "LL", "BodyPartExamined": "HIP"}))
    assert [one.reason for one in found] == [NOT_CHEST, LATERAL, CHILD]
    assert str(found[1]) == "lateral: the header's View Position is LL"


def test_fields_are_all_that_is_read() -> None:
    class Recorder(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            asked.add(key)
            return default

    asked: set[str] = set()
    objections(Recorder())  # type: ignore[arg-type]
    assert asked <= set(FIELDS)
