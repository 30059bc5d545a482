"""Results as DICOM objects: what stands in them, that validators take them, and that a repeat is the same object."""

import json
import os
import random
import shutil
import subprocess
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from fake_node import model_with_calls
from highdicom.sr import srread
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sr._concepts_dict import concepts

from hilum.data import film_kind, quality
from hilum.data.images import Preprocessing, read_grey
from hilum.errors import HilumError, ImageError, MissingExtraError
from hilum.findings import CHESTXRAY14, CODES, PRIVATE, RADLEX, SIMULATED, codes_of
from hilum.pacs.results import (
    ResultModel,
    derived_uid,
    encoded,
    fit_in,
    is_uid,
    read_header,
    reason_code,
    result_model,
    result_objects,
    result_picture,
    scores_of,
    write_results,
)
from hilum.pacs.segmentation import heat_segmentation
from hilum.pacs.writer import results_writer
from hilum.predict.scoring import Scored

NOON = datetime(2026, 1, 2, 12, 30)


@pytest.fixture(scope="module")
def model() -> ResultModel:
    return model_with_calls()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 4096, (90, 80)).astype(np.uint16)
    named = {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100", "StudyDescription": "Thorax"}
    return written(tmp_path_factory.mktemp("film") / "film.dcm", pixels, "jpeg-ls", bits=12, **named)


def scored(path: Path, *, fit: str = "ok") -> Scored:
    numbers = np.linspace(0.05, 0.95, 14, dtype=np.float32)
    maps = np.random.default_rng(1).random((14, 4, 4), dtype=np.float32)
    return Scored(path, "", Preprocessing(64).grey(read_grey(path)), numbers, maps, fit)


@pytest.fixture(scope="module")
def results(film: Path, model: ResultModel) -> list[Dataset]:
    """A report and a picture; read only."""
    return objects(film, model)


def objects(film: Path, model: ResultModel, **changes: Any) -> list[Dataset]:
    return result_objects(film, replace(scored(film), **changes), model, now=NOON)


def everything(dataset: Dataset) -> list[Dataset]:
    """A content tree, flat."""
    below = [everything(item) for item in dataset.get("ContentSequence", [])]
    return [dataset, *(item for items in below for item in items)]


def test_the_report_read_again_says_what_was_scored(film: Path, model: ResultModel, tmp_path: Path) -> None:
    paths = write_results(film, scored(film), model, tmp_path / "out", film="deep/film.dcm", now=NOON)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == [
        "deep/film.dcm.sr.dcm",
        "deep/film.dcm.sc.dcm",
    ]
    said = scores_of(dcmread(paths[0]))
    assert list(said) == list(CHESTXRAY14)
    expected = scored(film).scores
    assert expected is not None
    for name, number in zip(CHESTXRAY14, expected, strict=True):
        score, threshold, answer = said[name]
        assert np.float32(score) == number
        assert threshold == (None if name == "Hernia" else 0.5)
        sure = "present" if number > 0.5 else "absent"
        band = "" if name == "Hernia" else "indeterminate" if 0.4 <= number < 0.6 else sure
        assert answer == band


def test_the_report_is_coded_and_says_what_made_it(film: Path, results: list[Dataset]) -> None:
    report = results[0]
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "PARTIAL",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    items = everything(report)
    named = [item.ConceptCodeSequence[0].CodeMeaning for item in items if "ConceptCodeSequence" in item]
    assert {code.meaning for code, *_ in codes_of(CHESTXRAY14).values()} <= set(named)
    found = [item.ConceptCodeSequence[0] for item in items if "ConceptCodeSequence" in item]
    others = [code.EquivalentCodeSequence[0] for code in found if "EquivalentCodeSequence" in code]
    assert [(code.CodeValue, code.CodingSchemeDesignator) for code in others] == [
        (RADLEX[name].value, "RADLEX") for name in CHESTXRAY14 if name in RADLEX
    ]
    texts = " ".join(str(item.TextValue) for item in items if "TextValue" in item)
    for words in ("Hilum test", "abababababab", "ab" * 32, "not a medical device", "calls at youden"):
        assert words in texts
    sources = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items if "ReferencedSOPSequence" in item
    ]
    assert sources == [dcmread(film).SOPInstanceUID] * 14


def test_results_lie_in_the_patient_s_own_study(film: Path, results: list[Dataset]) -> None:
    header = dcmread(film)
    series = {header.SeriesInstanceUID}
    for result in results:
        for name in ("StudyInstanceUID", "PatientID", "AccessionNumber", "StudyDate", "PatientSex", "StudyDescription"):
            assert result[name].value == header[name].value
        assert str(result.PatientName) == "Müller^Jürgen"
        series.add(result.SeriesInstanceUID)
        assert is_uid(result.SOPInstanceUID)
    assert len(series) == 3


def test_a_repeat_is_the_same_object_and_another_model_s_is_not(
    film: Path, model: ResultModel, results: list[Dataset]
) -> None:
    first = [result.SOPInstanceUID for result in results]
    again = result_objects(film, scored(film), model, now=datetime(2027, 5, 5))
    assert [result.SOPInstanceUID for result in again] == first
    other = [result.SOPInstanceUID for result in objects(film, replace(model, bundle_sha256="cd" * 32))]
    assert not set(other) & set(first)
    assert derived_uid("a", "b") == derived_uid("a", "b") != derived_uid("ab", "")


def test_the_picture_holds_heatmaps_table_and_disclaimer(
    film: Path, model: ResultModel, results: list[Dataset]
) -> None:
    capture = results[1]
    pixels = capture.pixel_array
    np.testing.assert_array_equal(pixels, result_picture(scored(film), model))
    assert pixels.shape[1] == 1536
    assert (pixels[-60:] == [255, 255, 0]).all(axis=2).sum() > 500  # the disclaimer, in yellow
    assert capture.Modality == "OT"
    assert "not a medical device" in capture.DerivationDescription
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == dcmread(film).SOPInstanceUID


LATERAL = "lateral: the header's View Position is LL"


def codes_in(report: Dataset) -> dict[str, tuple[str, str, str]]:
    """The coded answers of a report by the meaning of their question."""
    coded = [item for item in everything(report) if "ConceptCodeSequence" in item]
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)
        for item in coded
        for code in item.ConceptCodeSequence
    }


def texts_in(report: Dataset) -> str:
    return " ".join(str(item.TextValue) for item in everything(report) if "TextValue" in item)


@pytest.mark.parametrize("scores", [True, False])
def test_a_film_that_does_not_fit_has_a_report_that_says_why_and_no_finding(
    film: Path, model: ResultModel, scores: bool
) -> None:
    (report,) = objects(film, model, fit=LATERAL, **({} if scores else {"scores": None, "maps": None}))
    assert scores_of(report) == {}
    assert fit_in(report) == LATERAL
    codes = codes_in(report)
    assert codes["Summary of Analyses"] == ("111225", "DCM", "Not Attempted")
    assert codes["Reason for no analysis"] == ("LATERAL", PRIVATE, "lateral")
    assert codes["Procedure reported"][2] == "Radiographic imaging"
    assert not {code.value for code, *_ in codes_of(CHESTXRAY14).values()} & {one[0] for one in codes.values()}
    assert "Not analysed: lateral" in texts_in(report)
    again = objects(film, model, fit=LATERAL)
    assert again[0].SOPInstanceUID == report.SOPInstanceUID != objects(film, model)[0].SOPInstanceUID


def test_reasons_have_codes_of_their_own() -> None:
    reasons = [*(value for name, value in vars(film_kind).items() if name.isupper() and isinstance(value, str))]
    codes = [reason_code(f"{reason}: because").value for reason in {*reasons, *quality._WHY}]
    assert len(set(codes)) == len(codes) > 15
    assert all(0 < len(code) <= 16 for code in codes)


def test_a_forced_film_says_so_in_report_and_picture(film: Path, model: ResultModel, results: list[Dataset]) -> None:
    report, capture = objects(film, model, fit=LATERAL, forced=True)
    assert len(scores_of(report)) == 14
    assert fit_in(report) == LATERAL
    assert fit_in(results[0]) == ""
    assert "they were forced" in texts_in(report)
    assert "they were forced" in capture.DerivationDescription
    assert capture.pixel_array.shape[0] > results[1].pixel_array.shape[0]  # a line more
    uids = {result.SOPInstanceUID for result in (*results, report, capture)}
    assert len(uids) == 4


def test_a_result_that_comes_back_has_none(film: Path, model: ResultModel) -> None:
    assert objects(film, model, fit="a result of Hilum: the header's Manufacturer is Hilum", scores=None) == []


def test_results_name_the_film_s_own_part_of_the_body(tmp_path: Path, model: ResultModel) -> None:
    for part in ("HAND", None):
        path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8), BodyPartExamined=part)
        _, capture = objects(path, model, forced=True, fit="not a chest film: so it is")
        assert capture.get("BodyPartExamined") == part


def test_bits_that_were_said_and_simulated_films_are_recorded(film: Path, model: ResultModel) -> None:
    learned = replace(model, description=replace(model.description, sources=(SIMULATED,)))
    report, capture = objects(film, replace(learned, bits=12))
    assert "films of 12 bits, as was said" in texts_in(report)
    for words in (texts_in(report), capture.DerivationDescription):
        assert "trained on simulated films only" in words
    assert report.SOPInstanceUID != objects(film, learned)[0].SOPInstanceUID == objects(film, model)[0].SOPInstanceUID


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_name_whose_character_set_is_not_said(tmp_path: Path, model: ResultModel, encoding: str) -> None:
    path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8), PatientName="M__ster^J__rg ")
    name = "Müster^Jörg".encode(encoding)
    content = path.read_bytes()
    assert content.count(b"M__ster^J__rg ") == 1
    path.write_bytes(content.replace(b"M__ster^J__rg ", name.ljust(14)))
    for result in objects(path, model):
        assert str(result.PatientName).rstrip() == "Müster^Jörg"


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_film_without_identifiers_is_refused(tmp_path: Path, model: ResultModel, name: str) -> None:
    path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8), "explicit", **{name: None})
    with pytest.raises(ImageError, match=f"film must say its {name}"):
        objects(path, model)


@pytest.mark.parametrize("element", [b"\x10\0\x30\0DA", b"\x10\0\x10\0PN", b"\x18\0\x01\x51CS", b"\x08\0\x60\0CS"])
def test_a_header_that_cannot_be_read_is_refused(tmp_path: Path, model: ResultModel, element: bytes) -> None:
    """Birth date, name, view and modality of a kind that there is not, which pydicom sees when it is asked for them."""
    path = written(tmp_path / "a.dcm", np.zeros((70, 70), np.uint8))
    content = path.read_bytes()
    assert content.count(element) == 1
    path.write_bytes(content.replace(element, element[:4] + b"\x43\x0b"))
    with pytest.raises(ImageError, match="film must be a DICOM file, got NotImplementedError"):
        objects(path, model)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_value_that_no_result_can_hold_is_refused(film: Path) -> None:
    result = Dataset()
    result.SOPClassUID, result.SOPInstanceUID, result.Rows = "1.2", "1.3", "many"
    with pytest.raises(ImageError, match="film must have a header that a result can take over, got"):
        encoded(result, film)


def test_what_is_a_uid() -> None:
    good, bad = (
        ["1.2.3", "2.25.0", "1.0.10"],
        ["", "1", "1..2", "1.02", "../1.2", "1.2/3", "1.2\n", ".1", "1." + "2" * 63],
    )
    assert [is_uid(text) for text in good + bad] == [True] * 3 + [False] * len(bad)


def test_codes_of_dicom_s_own_tables_mean_there_what_they_mean_here() -> None:
    assert set(CODES) == set(CHESTXRAY14)
    tables: Any = concepts
    known = {
        code: words[0] for scheme in ("SCT", "DCM") for one in tables[scheme].values() for code, words in one.items()
    }
    for name in ("Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax", "Edema"):
        assert known[CODES[name].value].lower().startswith(CODES[name].meaning.lower())
    assert codes_of(("Fracture",))["Fracture"] == (("Fracture", PRIVATE, "Fracture"),)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is not here: apt-get install dicom3tools")
def test_a_validator_finds_no_error(film: Path, model: ResultModel, tmp_path: Path) -> None:
    unfit = scored(film, fit=LATERAL)
    cases = [(scored(film), model), (scored(film), replace(model, point=None, bits=12))]
    cases += [(unfit, model), (replace(unfit, forced=True), model)]
    for one, chosen in cases:
        for path in write_results(film, one, chosen, tmp_path, film="a", now=NOON):
            said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
            assert "Error" not in said.stderr + said.stdout, said.stderr


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="dsrdump is not here: apt-get install dcmtk")
def test_dcmtk_reads_the_report_whole(film: Path, model: ResultModel, tmp_path: Path) -> None:
    """It checks every item and relation against the standard's tables for a Comprehensive 3D SR."""
    report, _ = write_results(film, scored(film), model, tmp_path, film="a", now=NOON)
    said = subprocess.run(["dsrdump", report], capture_output=True, text=True, check=True)
    assert "E: " not in said.stderr
    assert said.stdout.count('"Measurement Group"') == 14
    assert said.stdout.count('"Presence of property"') == 13  # Hernia has no threshold
    (report,) = write_results(film, scored(film, fit=LATERAL), model, tmp_path, film="b", now=NOON)
    said = subprocess.run(["dsrdump", report], capture_output=True, text=True, check=True)
    assert "E: " not in said.stderr
    assert "Not Attempted" in said.stdout


@pytest.mark.real
@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is not here: apt-get install dicom3tools")
@pytest.mark.parametrize("name", ["RG1_J2KI", "rsna_jpegbaseline_mono2"])
def test_a_validator_finds_no_error_beside_real_films(
    real_data: Path, model: ResultModel, tmp_path: Path, name: str
) -> None:
    path = real_data / "dicom" / f"{name}.dcm"
    for result in write_results(path, scored(path), model, tmp_path, film="a", now=NOON):
        said = subprocess.run(["dciodvfy", result], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr


def test_a_bundle_s_own_name_and_hash(untrained_run: Path) -> None:
    model = result_model(untrained_run, None)
    assert model.name == "Hilum tiny"
    assert len(model.bundle_sha256) == 64


def test_predict_writes_results_and_says_which_film_can_have_none(
    untrained_run: Path, tmp_path: Path, hilum: Any
) -> None:
    films, out = tmp_path / "films", tmp_path / "results"
    films.mkdir()
    ramp = np.add.outer(np.arange(90) * 20, np.arange(80) * 20).astype(np.uint16)
    written(films / "a.dcm", ramp, bits=12)
    Image.fromarray((ramp >> 4).astype(np.uint8)).save(films / "b.png")
    said = hilum("predict", untrained_run, films, "--dicom-out", out, "--engine", "torch", "--json")
    rows = {row["film"]: row for row in json.loads(said.out)}
    assert sorted(path.name for path in out.rglob("*.dcm")) == ["a.dcm.sc.dcm", "a.dcm.sr.dcm"]
    assert (rows["a.dcm"]["error"], said.code) == ("", 1)
    assert "film must be a DICOM file" in rows["b.png"]["error"]
    scores = scores_of(dcmread(out / "a.dcm.sr.dcm"))
    assert all(abs(scores[name][0] - rows["a.dcm"][name]) < 1e-6 for name in CHESTXRAY14)


def test_a_png_keeps_its_scores_and_says_why_it_has_no_result(untrained_run: Path, tmp_path: Path) -> None:
    write = results_writer(untrained_run, None, dicom=tmp_path, fhir=None, top=3)
    path = tmp_path / "b.png"
    Image.new("L", (64, 64), 9).save(path)
    noted = write(scored(path), "b.png")
    assert "film must be a DICOM file" in noted.error
    assert noted.scores is not None
    with pytest.raises(HilumError, match="operating point must come from thresholds"):
        results_writer(untrained_run, "best", dicom=tmp_path, fhir=None, top=3)


def test_without_the_extra_a_sentence_names_it(
    untrained_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hilum.pacs.writer._MODULES", ("json", "no_such_module"))
    with pytest.raises(MissingExtraError, match=r"no_such_module must be installed .* 'hilum\[dicom\]'"):
        results_writer(untrained_run, None, dicom=tmp_path, fhir=None, top=3)


def test_what_a_study_says_of_itself_goes_with_it(model: ResultModel, tmp_path: Path) -> None:
    request = Dataset()
    request.RequestedProcedureID, request.RequestedProcedureDescription = "RP-1", "Thorax 2E"
    said: dict[str, Any] = {
        **{"PatientAge": "051Y", "InstitutionName": "St. Elsewhere", "TimezoneOffsetFromUTC": "+0200"},
        **{"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand", "ClinicalTrialSubjectID": "S-9"},
        **{"RequestAttributesSequence": [request], "SeriesNumber": 2, "InstanceNumber": 3},
        **{"ClinicalTrialSponsorName": "Sponsor", "ClinicalTrialProtocolID": "P-1"},
    }
    pixels = np.random.default_rng(0).integers(0, 255, (60, 50)).astype(np.uint8)
    path = written(tmp_path / "film.dcm", pixels, **said)
    for result in objects(path, model):
        for name, value in said.items():
            if name not in ("RequestAttributesSequence", "SeriesNumber", "InstanceNumber"):
                assert result[name].value == value
        assert result.InstanceNumber == 2003
        assert result.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == PRIVATE
        assert result.ContributingEquipmentSequence[0].Manufacturer == "Hilum"
        content = tmp_path / f"{result.Modality}.dcm"
        content.write_bytes(encoded(result, path))
        if shutil.which("dciodvfy"):
            done = subprocess.run(["dciodvfy", content], capture_output=True, text=True, check=False)
            assert "Error" not in done.stderr, done.stderr
    report = dcmread(tmp_path / "SR.dcm")
    assert report.ReferencedRequestSequence[0].RequestedProcedureID == "RP-1"
    assert report.ReferencedRequestSequence[0].StudyInstanceUID == report.StudyInstanceUID


def test_the_report_and_its_identifiers_name_engine_and_precision(film: Path, model: ResultModel) -> None:
    identifiers: set[str] = set()
    for engine in ("openvino int8", "openvino fp32", "torch fp32"):
        report, capture = objects(film, replace(model, engine=engine))
        assert report.SoftwareVersions[1] == capture.SoftwareVersions[1] == engine
        assert any(f"engine and precision {engine}" in str(one.get("TextValue")) for one in everything(report))
        identifiers |= {one.SOPInstanceUID for one in (report, capture)}
        identifiers |= {one.SeriesInstanceUID for one in (report, capture)}
    assert len(identifiers) == 12


def test_a_calibrated_score_is_coded_as_a_probability(film: Path, model: ResultModel) -> None:
    lines = dict.fromkeys(CHESTXRAY14, (1.0, 0.0))
    calibrated = replace(model, description=replace(model.description, calibration=lines))
    for one, meaning in ((model, "Score"), (calibrated, "Probability")):
        report = objects(film, one)[0]
        names = {
            item.ConceptNameCodeSequence[0].CodeMeaning
            for item in everything(report)
            if "MeasuredValueSequence" in item
        }
        assert names == {meaning, "Threshold Value"}
        assert len(scores_of(report)) == 14


def test_heat_is_of_called_findings_alone(film: Path, model: ResultModel) -> None:
    none = np.full(14, 0.1, np.float32)
    called = none.copy()
    called[3] = 0.9
    pictures = [result_picture(replace(scored(film), scores=numbers), model) for numbers in (none, called)]
    for picture, coloured in zip(pictures, (False, True), strict=True):
        heat = picture[:512].astype(int)
        assert bool((heat.max(axis=2) - heat.min(axis=2) > 20).any()) == coloured
        assert not (heat[:, 512:].any())


def test_heat_lies_over_the_film_as_a_segmentation(film: Path, model: ResultModel, tmp_path: Path) -> None:
    header = read_header(film)
    heat = heat_segmentation(header, scored(film), model, now=NOON)
    assert heat is not None
    assert [one.SegmentLabel for one in heat.SegmentSequence] == ["Pleural_Thickening", "Fibrosis", "Emphysema"]
    assert heat.pixel_array.shape == (3, header.Rows, header.Columns)
    assert heat.pixel_array.max() > 100
    assert heat.StudyInstanceUID == header.StudyInstanceUID
    content = encoded(deepcopy(heat), film, compress=True)
    np.testing.assert_array_equal(dcmread(BytesIO(content)).pixel_array, heat.pixel_array)
    (tmp_path / "heat.dcm").write_bytes(encoded(heat, film))
    if shutil.which("dciodvfy"):
        done = subprocess.run(["dciodvfy", tmp_path / "heat.dcm"], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, done.stderr
    none = replace(scored(film), scores=np.full(14, 0.1, np.float32))
    assert heat_segmentation(header, none, model, now=NOON) is None


SOURCES = int(os.environ.get("HILUM_SOURCES", "4"))


def varied(folder: Path, number: int) -> Path:
    """A film with a header as some system or other writes it."""
    chance = random.Random(number)
    request = Dataset()
    request.RequestedProcedureID = chance.choice(["RP-1", ""])
    request.ScheduledProcedureStepID = "SPS-1"
    names = [
        "Muster^Erika",
        "Müller^Jürgen^^Dr.",
        "",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "ONE NAME",
        "Иванов^Иван",
    ]
    elements: dict[str, Any] = {
        "SOPClassUID": f"1.2.840.10008.5.1.4.1.1.{chance.choice(['1', '1.1', '7'])}",
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": chance.choice(names),
        "PatientID": chance.choice(["1", "P-0815", ""]),
        "PatientSex": chance.choice(["F", "M", "O", ""]),
        "PatientBirthDate": chance.choice(["19500102", ""]),
        "PatientAge": chance.choice(["062Y", "62", "", "006M", None]),
        "IssuerOfPatientID": chance.choice(["St. Elsewhere", None]),
        "AccessionNumber": chance.choice(["", "A-77"]),
        "StudyTime": chance.choice(["", "1200", "120000.123456"]),
        "StudyDescription": chance.choice(["Rx Thorax 2 E", None]),
        "InstitutionName": chance.choice(["Hôpital", "x" * 70, None]),
        "TimezoneOffsetFromUTC": chance.choice(["+0200", "-0330", "CET", "", None]),
        "RequestAttributesSequence": chance.choice([[request], [request, request], [], None]),
        "SeriesNumber": chance.choice([1, 0, 99999, None]),
        "InstanceNumber": chance.choice([1, 0, 7, None]),
        "BodyPartExamined": chance.choice(["CHEST", None]),
    }
    if chance.random() < 0.3:
        elements |= {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand"}
    if chance.random() < 0.3:
        elements |= {
            "ClinicalTrialSponsorName": "Sponsor",
            "ClinicalTrialProtocolID": "P-1",
            "ClinicalTrialSubjectID": "S",
        }
    there = ("SeriesNumber", "InstanceNumber", "BodyPartExamined")
    elements = {name: value for name, value in elements.items() if value is not None or name in there}
    pixels = np.random.default_rng(number).integers(0, 255, (64 + number % 9, 60)).astype(np.uint8)
    return written(folder / f"{number}.dcm", pixels, **elements)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.skipif(
    not shutil.which("dciodvfy") or not shutil.which("dsrdump"), reason="dciodvfy and dsrdump are not here"
)
def test_validators_are_clean_whatever_system_wrote_the_film(model: ResultModel, tmp_path: Path) -> None:
    """The whole run: HILUM_SOURCES=200."""
    wrong: dict[str, list[str]] = {}
    for number in range(SOURCES):
        path = varied(tmp_path, number)
        made = [*objects(path, model), heat_segmentation(read_header(path), scored(path), model, now=NOON)]
        made += objects(path, model, fit="lateral: so it is", scores=None)
        for one in made:
            assert one is not None
            content = tmp_path / "one.dcm"
            content.write_bytes(encoded(one, path))
            said = subprocess.run(["dciodvfy", content], capture_output=True, text=True, check=False).stderr
            if one.Modality == "SR":
                read = subprocess.run(["dsrdump", content], capture_output=True, text=True, check=False)
                said += "" if read.returncode == 0 else f"Error - dsrdump: {read.stderr}"
                srread(content)
            for line in said.splitlines():
                if line.strip().startswith("Error"):
                    wrong.setdefault(f"{one.Modality} {line.strip()}", []).append(str(number))
    assert wrong == {}


def test_a_picture_is_compressed_without_loss(film: Path, results: list[Dataset]) -> None:
    whole, small = encoded(results[1], film), encoded(deepcopy(results[1]), film, compress=True)
    assert len(small) < len(whole) / 4
    read = dcmread(BytesIO(small))
    assert read.file_meta.TransferSyntaxUID.name.startswith("JPEG-LS Lossless")
    assert read.SOPInstanceUID == results[1].SOPInstanceUID
    np.testing.assert_array_equal(read.pixel_array, results[1].pixel_array)
