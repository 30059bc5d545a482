import csv
import gzip
import shutil
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.data.films import Films, read_films, write_films
from hilum.data.sources import detect, read_source
from hilum.data.sources.chexpert import LABELS, index_chexpert, said_of
from hilum.data.sources.reading import Options
from hilum.data.tables import read_table
from hilum.data.vocabulary import CHEXPERT13
from hilum.errors import FilmsError, HilumError

HEADER = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
FRONTAL = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
LATERAL = "CheXpert-v1.0-small/train/patient00001/study1/view2_lateral.jpg"


def row(path: str, *described: str, **labels: str) -> list[str]:
    names = {name.replace(" ", "_"): name for name in LABELS}
    said = {names[name]: value for name, value in labels.items()}
    return [path, *described, *(said.get(name, "") for name in LABELS)]


ROWS = [
    row(FRONTAL, "Female", "68", "Frontal", "AP", No_Finding="1.0", Support_Devices="1.0"),
    row(LATERAL, "Female", "68", "Lateral", "", Cardiomegaly="-1.0", Lung_Lesion="0.0"),
    row(FRONTAL.replace("01/s", "02/s"), "Unknown", "0", "Frontal", "LL"),
    row(FRONTAL.replace("01/s", "03/s"), "Male", "90", "Frontal", "PA", Lung_Lesion="1.0", Edema="0.0"),
]


def folder_of(folder: Path, rows: list[list[str]], *, name: str = "train.csv", images: bool = True) -> Path:
    for described in rows if images else ():
        image = folder / described[0].partition("/")[2]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return folder


def test_golden_rows(tmp_path: Path) -> None:
    films = index_chexpert(folder_of(tmp_path / "CheXpert-v1.0", ROWS), Options())
    assert films.findings == CHEXPERT13
    table = films.table.set_index("film")
    assert table.index[0] == "train/patient00001/study1/view1_frontal.jpg"
    assert table["patient"].tolist() == ["patient00001", "patient00001", "patient00002", "patient00003"]
    assert table["study"].tolist()[0] == "patient00001/study1"
    assert table["view"].tolist() == ["AP", "LATERAL", "LATERAL", "PA"]
    assert table["sex"].tolist() == ["F", "F", "unknown", "M"]
    np.testing.assert_array_equal(table["age"], [68, 68, np.nan, 90])
    assert table["Support Devices"].tolist()[:2] == [1, 0]
    assert table["Cardiomegaly"].tolist()[:2] == [0, -1]
    assert table.iloc[2][list(CHEXPERT13)].isna().all()  # a row that is blank throughout
    assert films.notes["problems"]["unlabelled"] == ["train/patient00002/study1/view1_frontal.jpg"]
    assert films.notes["problems"]["missing"] == []


def test_a_lesion_is_a_nodule_or_a_mass(tmp_path: Path) -> None:
    films = index_chexpert(folder_of(tmp_path / "c", ROWS), Options(vocabulary="nih"))
    np.testing.assert_array_equal(films.table["Nodule"], [0, 0, np.nan, np.nan])
    assert films.table["Emphysema"].tolist()[0] == 0  # No Finding
    assert np.isnan(films.table["Emphysema"][3])


def test_blank_may_be_unknown(tmp_path: Path) -> None:
    films = index_chexpert(folder_of(tmp_path / "c", ROWS), Options(blank="unknown"))
    np.testing.assert_array_equal(films.table["Edema"], [0, np.nan, np.nan, 0])
    np.testing.assert_array_equal(films.table["Support Devices"], [1, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("inner", ["", "CheXpert-v1.0", "CheXpert-v1.0-small"])
def test_wherever_the_folder_lies_films_have_their_paths_below_it(tmp_path: Path, inner: str) -> None:
    (tmp_path / "data").mkdir()
    folder_of(tmp_path / "data" / inner if inner else tmp_path / "data", ROWS)
    films = index_chexpert(tmp_path / "data", Options())
    assert len(films) == 4
    assert films.table["film"][0] == f"{inner}/train/patient00001/study1/view1_frontal.jpg".removeprefix("/")
    assert films.path(0).is_file()


def test_validation_films_may_lie_in_val_and_are_the_test_set_where_there_is_no_other(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "c", ROWS)
    valid = [row(FRONTAL.replace("train/patient00001", "valid/patient64541"), "Male", "73", "Frontal", "AP", Edema="1")]
    folder_of(folder, valid, name="valid.csv")
    (folder / "valid").rename(folder / "val")
    films = index_chexpert(folder, Options())
    assert films.notes["official"]["val/patient64541/study1/view1_frontal.jpg"] == "test"
    assert set(films.notes["official"].values()) == {"train_val", "test"}
    assert "validation set is the test set" in films.notes["official_note"]


def test_test_studies_have_their_radiologists_labels_on_every_view(tmp_path: Path, real_data: Path) -> None:
    folder = folder_of(tmp_path / "c", ROWS)
    shutil.copy(real_data / "tables" / "chexpert_test_groundtruth.csv", folder / "groundtruth.csv")
    for name in ("view1_frontal.jpg", "view2_lateral.jpg"):
        image = folder / "test" / "patient64741" / "study1" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    films = index_chexpert(folder, Options())
    tested = films.table[films.table["patient"] == "patient64741"]
    assert tested["view"].tolist() == ["unknown", "LATERAL"]
    assert tested["Cardiomegaly"].tolist() == [1, 1]
    assert tested["Effusion"].tolist() == [0, 0]
    assert len(films.notes["problems"]["missing"]) == 499
    assert films.notes["official"][tested["film"].iloc[0]] == "test"
    labelled = said_of(read_table(folder / "groundtruth.csv", LABELS), LABELS)
    by_labeller = said_of(read_table(real_data / "tables" / "chexpert_test_labeler.csv", LABELS), LABELS)
    assert len(labelled) == len(by_labeller) == 500
    agreed = [
        (one or {}).get("Cardiomegaly", 0) == (other or {}).get("Cardiomegaly", 0)
        for one, other in zip(labelled, by_labeller, strict=True)
    ]
    assert 0.6 < np.mean(agreed) < 1


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, "train/patient1.jpg", "Path must be a path such as train/patient00001/study1/view1_frontal.jpg, .* row 3"),
        (0, FRONTAL, "Path must be unique, but row 2 is the same film, .* row 3"),
        (2, "old", "Age must be years or empty, got 'old' in .*train.csv, row 3"),
        (7, "0.5", "Cardiomegaly must be 1, 0, -1 or empty, got '0.5' in .*train.csv, row 3"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path: Path, place: int, value: str, message: str) -> None:
    rows = [list(cells) for cells in ROWS]
    folder_of(tmp_path / "c", rows)
    rows[1][place] = value
    with pytest.raises(FilmsError, match=message):
        index_chexpert(folder_of(tmp_path / "c", rows, images=False), Options())


def test_a_folder_of_nothing_it_knows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "film.png").touch()
    with pytest.raises(FilmsError, match=r"label file must be train.csv, valid.csv"):
        index_chexpert(tmp_path, Options())
    with pytest.raises(FilmsError, match="layout of one source, got none"):
        read_source("auto", tmp_path, Options())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text(max_size=12) | st.sampled_from(["", "1.0", "-1", FRONTAL]), max_size=20), max_size=4))
def test_any_table_is_read_or_refused(tmp_path: Path, rows: list[list[str]]) -> None:
    folder = folder_of(tmp_path / "c", ROWS)
    folder_of(folder, rows, images=False)
    try:
        films = index_chexpert(folder, Options())
    except HilumError:
        return
    assert set(films.table["film"]) <= {cells[0].partition("/")[2] for cells in ROWS}


def end_to_end(source: str, folder: Path, tmp_path: Path) -> Films:
    assert set(detect(folder)) == {source}
    name, films = read_source("auto", folder, Options())
    assert name == source
    assert set(films.table["source"]) == {f"phantom-{source}"}
    assert not films.notes["problems"]["missing"] + films.notes["problems"]["unlisted"]
    write_films(films, tmp_path / f"{source}.parquet")
    again = read_films(tmp_path / f"{source}.parquet")
    assert all(again.path(index).is_file() for index in range(len(again)))
    counts = {finding: int((films.table[finding] == 1).sum()) for finding in films.findings}
    assert counts["Lung Opacity"] >= counts["Edema"] > 0
    assert (films.table == -1).sum().sum() > 0
    return again


@pytest.mark.parametrize("source", ["chexpert", "mimic", "brax"])
def test_phantom_films_end_to_end(source: str, phantom_layout: Callable[[str], Path], tmp_path: Path) -> None:
    films = end_to_end(source, phantom_layout(source), tmp_path)
    assert len(films) == 60
    if source != "brax":
        split = films.split("official")
        assert set(split.table["split"]) == {"train", "val", "test"}
    if source == "mimic":
        assert films.table["age"].notna().all()
        assert set(films.table["sex"]) == {"M", "F"}


def test_the_whole_real_table(tmp_path: Path) -> None:
    found = find_spec("torchxrayvision")
    if found is None or found.origin is None:
        pytest.skip("torchxrayvision is not installed: its wheel holds CheXpert's table")
    with gzip.open(Path(found.origin).parent / "data" / "chexpert_train.csv.gz", "rb") as file:
        (tmp_path / "train.csv").write_bytes(file.read())
    table = read_table(tmp_path / "train.csv", ["Path", *LABELS])
    said = said_of(table, LABELS)
    assert len(said) == 223_414
    assert sum(one is None for one in said) == 12
    count = Counter((word, value) for one in said if one for word, value in one.items())
    assert count["Atelectasis", -1] == 33_739
    assert count["Atelectasis", 1] == 33_376
    assert count["Consolidation", -1] == 27_742
    assert (count["Pneumonia", -1], count["Pneumonia", 1]) == (18_770, 6_039)
    both = sum(one.get("No Finding") == 1 == one.get("Support Devices") for one in said if one)
    assert both == 8_808
