from pathlib import Path

import numpy as np
import pytest

from hilum.data.sources.brax import index_brax
from hilum.data.sources.reading import Options
from hilum.errors import FilmsError
from hilum.phantom.layouts import CHEXPERT_HEADER, write_rows

HEADER = (
    *("DicomPath", "PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber"),
    *(*CHEXPERT_HEADER, "ViewPosition", "Rows", "Columns"),
)


def row(number: int, age: str, view: str, *, size: tuple[int, int] = (2000, 2400), **said: str) -> list[object]:
    place = f"id_{number}/Study_1/Series_1/image-{number}"
    labels = [said.get(name.replace(" ", "_"), "") for name in CHEXPERT_HEADER]
    described = [f"Anonymized_DICOMs/{place}.dcm", f"images/{place}.png", f"id_{number}", "F", age, f"{number}00"]
    return [*described, *labels, view, *size]


def folder_of(folder: Path, rows: list[list[object]], *, below: str = "images", name: str = "") -> Path:
    for cells in rows:
        path = folder / below / str(cells[1]).removeprefix("images/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write_rows(folder / (name or "master_spreadsheet_update.csv"), [HEADER, *rows])
    return folder


ROWS = [row(1, "85 or more", "PA", Edema="-1.0"), row(2, "55", "RL", Cardiomegaly="1.0"), row(3, "", "")]


def test_golden_rows(tmp_path: Path) -> None:
    films = index_brax(folder_of(tmp_path, ROWS), Options())
    table = films.table
    assert table["film"][0] == "images/id_1/Study_1/Series_1/image-1.png"
    np.testing.assert_array_equal(table["age"], [85, 55, np.nan])
    assert table["view"].tolist() == ["PA", "LATERAL", "unknown"]
    assert table["Edema"].tolist()[:2] == [-1, 0]
    assert films.notes["problems"]["unlabelled"] == ["images/id_3/Study_1/Series_1/image-3.png"]


def test_strips_are_named_and_left_out(tmp_path: Path) -> None:
    films = index_brax(folder_of(tmp_path, [*ROWS, row(4, "40", "AP", size=(200, 2400))]), Options())
    assert films.notes["problems"]["strip"] == ["images/id_4/Study_1/Series_1/image-4.png"]
    assert len(films) == 3


def test_the_folder_of_images_and_the_older_table_will_do(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "brax", ROWS, below="", name="master_spreadsheet.csv")
    assert index_brax(folder, Options()).table["film"][0] == "id_1/Study_1/Series_1/image-1.png"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (2, "", "PatientID must not be empty, got '' in .*row 3"),
        (4, "old", "PatientAge must be years such as 55 or '85 or more', or empty, got 'old' in .*row 3"),
        (1, ROWS[0][1], "PngPath must be unique, but row 2 is the same film"),
        (8, "2", "Cardiomegaly must be 1, 0, -1 or empty, got '2'"),
        (-1, "-7", "Columns must be a number of pixels, got '-7'"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path: Path, place: int, value: object, message: str) -> None:
    folder_of(tmp_path, ROWS)
    rows = [list(cells) for cells in ROWS]
    rows[1][place] = value
    write_rows(tmp_path / "master_spreadsheet_update.csv", [HEADER, *rows])
    with pytest.raises(FilmsError, match=message):
        index_brax(tmp_path, Options())
