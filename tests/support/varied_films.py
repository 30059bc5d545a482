"""Films whose headers are as different as those of a hundred machines, archives and studies."""

import random
from pathlib import Path
from typing import Any

import numpy as np
from dicom_files import CR, header, written
from pydicom import Dataset

from hilum.messages import quiet_dicom

DX = "1.2.840.10008.5.1.4.1.1.1.1"
NAMES = (
    ("ISO_IR 100", "Müller^Jürgen^^Dr."),
    ("ISO_IR 192", "山田^太郎"),
    ("ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO_IR 144", "Иванов^Иван"),
    ("", "Smith^Jane"),
    ("", ""),
    ("ISO_IR 192", "Παπαδόπουλος^Νίκος"),
)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    one = Dataset()
    one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning = value, scheme, meaning
    return one


def varied_film(folder: Path, number: int) -> Path:
    """A film with a header of its number's own; every one is such as a machine or an archive could have written."""
    chance = random.Random(number)
    rows, columns = chance.choice([(40, 36), (64, 48), (48, 64), (90, 80)])
    pixels = np.random.default_rng(number).integers(0, 4096, (rows, columns)).astype(np.uint16)

    def maybe(*values: Any) -> Any:
        """One of these, or none at all."""
        return chance.choice([None, *values])

    characters, name = chance.choice(NAMES)
    elements: dict[str, Any] = {
        "SpecificCharacterSet": characters or None,
        "PatientName": name,
        "PatientID": chance.choice(["", "P-1", "0815/4711", "X" * 64]),
        "IssuerOfPatientID": maybe("HOSPITAL"),
        "PatientBirthDate": chance.choice(["", "19500102"]),
        "PatientSex": chance.choice(["", "F", "M", "O"]),
        "PatientAge": maybe("", "074Y", "006M", "012D", "62", "abc"),
        "StudyID": chance.choice(["", "S-1"]),
        "StudyDate": chance.choice(["", "20240203"]),
        "StudyTime": chance.choice(["", "101112", "101112.123456"]),
        "AccessionNumber": chance.choice(["", "A-77"]),
        "ReferringPhysicianName": chance.choice(["", "Doe^John"]),
        "StudyDescription": maybe("", "Thorax in 2 Ebenen", "CHEST PA/LAT"),
        "InstitutionName": maybe("", "St. Elsewhere"),
        "TimezoneOffsetFromUTC": maybe("+0100", "-0500", "0100"),
        "SeriesNumber": maybe("", 1, 0, 3001),
        "InstanceNumber": maybe("", 1, 2, 999),
        "BodyPartExamined": maybe("", "CHEST", "THORAX"),
        "ViewPosition": maybe("", "PA", "AP"),
        "Laterality": maybe("", "L"),
        "Manufacturer": maybe("", "Some & Sons"),
        "BurnedInAnnotation": maybe("NO", "YES"),
        "Modality": "CR",
        "SOPClassUID": CR,
        "SOPInstanceUID": f"1.2.826.0.1.{number}",
        "StudyInstanceUID": f"1.2.826.0.2.{number // 2}",
        "SeriesInstanceUID": f"1.2.826.0.3.{number}",
    }
    if chance.random() < 0.5:
        elements |= {"SOPClassUID": DX, "Modality": "DX", "PresentationIntentType": "FOR PRESENTATION"}
        elements["ImagerPixelSpacing"] = [0.143, 0.143]
    if chance.random() < 0.3:
        elements |= {"PatientIdentityRemoved": "YES", "DeidentificationMethod": chance.choice(["by hand", "Tool 1.2"])}
    if chance.random() < 0.2:
        elements["DeidentificationMethodCodeSequence"] = [
            code("113100", "DCM", "Basic Application Confidentiality Profile")
        ]
        elements["PatientIdentityRemoved"] = "YES"
    if chance.random() < 0.3:
        elements |= {"ClinicalTrialSponsorName": "Sponsor", "ClinicalTrialProtocolID": "T-1"}
        elements |= {"ClinicalTrialSubjectID": "S-9", "ClinicalTrialTimePointID": maybe("baseline")}
    if chance.random() < 0.4:
        asked = Dataset()
        asked.RequestedProcedureID = chance.choice(["R-1", ""])
        asked.ScheduledProcedureStepID = "SPS-1"
        if chance.random() < 0.5:
            asked.RequestedProcedureDescription = "Chest 2 views"
            asked.RequestedProcedureCodeSequence = [code("36643-5", "LN", "Chest X-ray 2 Views")]
        elements["RequestAttributesSequence"] = [asked]
    syntax = chance.choice(["explicit", "implicit", "rle", "jpeg-ls", "jpeg lossless", "jpeg 2000 lossless"])
    known = header(pixels)  # of these alone, None takes one away
    elements = {name: value for name, value in elements.items() if value is not None or name in known}
    with quiet_dicom():  # some ages and zones are wrong, as they are in archives
        return written(folder / f"{number}.dcm", pixels, syntax, bits=12, **elements)
