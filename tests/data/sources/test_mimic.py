from pathlib import Path

import pytest

from hilum.data.sources.mimic import index_mimic
from hilum.data.sources.reading import Options
from hilum.errors import FilmsError
from hilum.phantom.layouts import write_rows

LABELS = ("Atelectasis", "Cardiomegaly", "Lung Opacity", "No Finding")
METADATA = [
    ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "ViewCodeSequence_CodeMeaning"),
    ("a-1", "10000032", "50414267", "PA", "21800506", "postero-anterior"),
    ("a-2", "10000032", "50414267", "LATERAL", "21800506", "lateral"),
    ("b-1", "10000032", "53189527", "", "21820506", "antero-posterior"),
    ("c-1", "10000764", "57375967", "", "", ""),
    ("d-1", "10000764", "57375968", "AP", "", ""),
]
SAID = [
    ("subject_id", "study_id", *LABELS),
    ("10000032", "50414267", "", "-1.0", "1.0", ""),
    ("10000032", "53189527.0", "", "", "", "1.0"),
    ("10000764", "57375967", "", "", "", ""),
]
SPLIT = [
    ("dicom_id", "study_id", "subject_id", "split"),
    ("a-1", "50414267", "10000032", "train"),
    ("a-2", "50414267", "10000032", "train"),
    ("b-1", "53189527", "10000032", "validate"),
    ("c-1", "57375967", "10000764", "test"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for film, patient, study, *_ in METADATA[1:]:
        path = tmp_path / f"files/p10/p{patient}/s{study}/{film}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write_rows(tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA)
    write_rows(tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz", SAID)
    write_rows(tmp_path / "mimic-cxr-2.0.0-negbio.csv.gz", [SAID[0], (*SAID[1][:2], "1", "0", "", "")])
    write_rows(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", SPLIT)
    return tmp_path


def test_a_study_s_label_is_that_of_its_films(folder: Path) -> None:
    films = index_mimic(folder, Options())
    table = films.table
    assert table["film"][0] == "files/p10/p10000032/s50414267/a-1.jpg"
    assert table["view"].tolist() == ["PA", "LATERAL", "AP", "unknown", "AP"]
    assert table["Cardiomegaly"].tolist()[:3] == [-1, -1, 0]
    assert table["Lung Opacity"].tolist()[:3] == [1, 1, 0]
    assert table["Atelectasis"].isna().tolist() == [False, False, False, True, True]
    assert films.notes["problems"]["unlabelled"] == table["film"].tolist()[3:]  # without label, and without row
    assert table["age"].isna().all()
    assert [films.notes["official"].get(film) for film in table["film"]] == ["train", "train", "val", "test", None]


def test_the_other_labeller_is_chosen(folder: Path) -> None:
    table = index_mimic(folder, Options(labeller="negbio")).table
    assert table["Cardiomegaly"].tolist()[:2] == table["Edema"].fillna(0).tolist()[:2] == [0, 0]
    assert table["Atelectasis"].tolist()[:2] == [1, 1]
    with pytest.raises(FilmsError, match="labeller must be one of chexpert, negbio, got 'me'"):
        index_mimic(folder, Options(labeller="me"))


def test_radiologists_labels_replace_the_labeller_s_on_test_studies(folder: Path) -> None:
    header = ("study_id", "Atelectasis", "Airspace Opacity")
    write_rows(
        folder / "mimic-cxr-2.1.0-test-set-labeled.csv", [header, ("57375967", "1", "0"), ("50414267", "1", "0")]
    )
    films = index_mimic(folder, Options())
    assert films.table["Atelectasis"].tolist()[3] == 1
    assert films.table["Lung Opacity"].tolist()[3] == 0
    assert films.table["Atelectasis"].tolist()[0] == 0  # a training study keeps its own
    assert films.notes["test_studies_by_radiologists"] == 2


def test_ages_and_sexes_come_from_the_patients_table(folder: Path) -> None:
    rows = [("subject_id", "gender", "anchor_age", "anchor_year"), ("10000032", "F", "52", "2180")]
    write_rows(folder / "patients.csv.gz", rows)
    table = index_mimic(folder, Options()).table
    assert table["age"].tolist()[:3] == [52, 52, 54]
    assert table["sex"].tolist()[2:4] == ["F", "unknown"]


def test_what_is_missing_or_wrong_is_named(folder: Path) -> None:
    write_rows(folder / "mimic-cxr-2.0.0-metadata.csv.gz", [*METADATA, METADATA[1]])
    with pytest.raises(FilmsError, match=r"dicom_id must be unique, but row 2 is 'a-1' too, got 'a-1' in .*row 7"):
        index_mimic(folder, Options())
    write_rows(folder / "mimic-cxr-2.0.0-split.csv.gz", [SPLIT[0], ("a-1", "1", "1", "holdout")])
    write_rows(folder / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA)
    with pytest.raises(FilmsError, match=r"split must be train, validate or test, got 'holdout' in .*row 2"):
        index_mimic(folder, Options())
    (folder / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    with pytest.raises(FilmsError, match=r"folder must hold mimic-cxr-2.0.0-metadata.csv.gz, got none"):
        index_mimic(folder, Options())
