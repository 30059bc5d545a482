"""A reader's opinions as a DICOM report: what stands in it, that validators take it, and what is refused."""

import shutil
import subprocess
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from fake_node import model_with_calls
from highdicom.sr import srread
from pydicom import Dataset, dcmread

from hilum.errors import HilumError, ImageError
from hilum.pacs.reading import SERIES_NUMBER, UNNAMED, Opinion, reading_file, reading_in

NOON = datetime(2026, 1, 2, 12, 30)
MODEL = model_with_calls()
READING = {
    "Effusion": Opinion(True, "small, left; Erguß", "present"),
    "Mass": Opinion(False, "", "present"),
    "Nodule": Opinion(None, "look again", "indeterminate"),
    "Hernia": Opinion(True),
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 4096, (90, 80)).astype(np.uint16)
    return written(tmp_path_factory.mktemp("film") / "film.dcm", pixels, bits=12)


@pytest.fixture(scope="module")
def report(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reading") / "reading.dcm"
    path.write_bytes(reading_file(film, READING, MODEL, reader="Röntgen^Wilhelm", now=NOON))
    return path


def test_it_says_who_saw_what_in_the_film_s_study(film: Path, report: Path) -> None:
    source, made = dcmread(film), dcmread(report)
    assert reading_in(made) == READING
    for name in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber"):
        assert made[name].value == source[name].value
    assert made.SeriesNumber == SERIES_NUMBER
    assert (made.VerificationFlag, made.CompletionFlag, made.PreliminaryFlag) == (
        "UNVERIFIED",
        "PARTIAL",
        "PRELIMINARY",
    )
    text = str(made)
    assert "Röntgen^Wilhelm" in text
    assert any("not a medical device" in one.get("TextValue", "") for one in made.ContentSequence)
    evidence = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert evidence.ReferencedSOPInstanceUID == source.SOPInstanceUID
    content: Any = srread(report).content
    assert len(content.get_observer_contexts()) == 1


def test_a_reader_says_something_else_later(film: Path) -> None:
    first, second = (
        dcmread(BytesIO(reading_file(film, {"Mass": Opinion(said)}, MODEL, reader="", now=NOON)))
        for said in (True, False)
    )
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert UNNAMED in str(first)


@pytest.mark.skipif(
    not (shutil.which("dciodvfy") and shutil.which("dsrdump")), reason="apt-get install dicom3tools dcmtk"
)
def test_validators_find_no_error(report: Path) -> None:
    for tool in ("dciodvfy", "dsrdump"):
        said = subprocess.run([tool, report], capture_output=True, text=True, check=False)
        assert said.returncode == 0
        assert "Error" not in said.stderr + said.stdout
        assert "E: " not in said.stderr


@pytest.mark.parametrize(
    ("reading", "reader", "words"),
    [
        ({"Fracture": Opinion(True)}, "", "the model's findings, got Fracture"),
        ({}, "", "at least one finding"),
        ({"Mass": Opinion(None, "", "present")}, "", "at least one finding"),
        ({"Mass": Opinion(True)}, "a\\b", "reader must be a name"),
        ({"Mass": Opinion(True)}, "x" * 65, "reader must be a name"),
    ],
)
def test_what_cannot_be_reported_is_refused(film: Path, reading: dict[str, Opinion], reader: str, words: str) -> None:
    with pytest.raises(HilumError, match=words.replace("\\", "\\\\")):
        reading_file(film, reading, MODEL, reader=reader, now=NOON)


def test_a_film_that_is_none_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "notes.dcm"
    Dataset().save_as(other, implicit_vr=True, little_endian=True)
    with pytest.raises(ImageError):
        reading_file(other, READING, MODEL, reader="", now=NOON)
