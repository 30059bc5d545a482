import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.data.films import Films, read_films, write_films
from hilum.data.sources.nih import index_nih
from hilum.errors import FilmsError, HilumError
from hilum.findings import CHESTXRAY14

HEADER_2020 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
HEADER_2017 = HEADER_2020 + ","
ROWS = (
    "00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143",
    "00000002_000.png,No Finding,0,2,80,F,AP,2500,2048,0.168,0.168",
)


def folder_with(
    folder: Path, *rows: str, header: str = HEADER_2020, name: str = "Data_Entry_2017_v2020.csv", newline: str = "\n"
) -> Path:
    """A source folder with (empty) images for ROWS, and a label file with `rows`."""
    (folder / "images").mkdir(parents=True)
    for row in ROWS:
        (folder / "images" / row.split(",")[0]).touch()
    (folder / name).write_bytes(newline.join([header, *rows, ""]).encode())
    return folder


def index_of(folder: Path, *rows: str, header: str = HEADER_2020) -> Films:
    return index_nih(folder_with(folder / "nih", *rows, header=header))


def test_golden_rows(tmp_path: Path) -> None:
    films = index_of(tmp_path, *ROWS)
    row = films.table.iloc[1]
    assert row[["film", "path", "source", "patient", "study", "view", "age", "sex"]].tolist() == [
        "00000001_001.png", "images/00000001_001.png", "nih", "1", "1_1", "PA", 58.0, "M",
    ]  # fmt: skip
    present = [[finding for finding in CHESTXRAY14 if films.table[finding][index] == 1] for index in range(3)]
    assert present == [["Cardiomegaly"], ["Cardiomegaly", "Emphysema"], []]
    assert films.findings == CHESTXRAY14
    assert films.all_labels.sum() == 3
    assert films.table["split"].isna().all()
    assert films.notes["problems"] == {"missing": [], "unlisted": [], "same_name": [], "age": []}
    write_films(films, tmp_path / "films.parquet")
    assert read_films(tmp_path / "films.parquet").fingerprint() == films.fingerprint()


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_both_versions_all_newlines_and_a_byte_order_mark_read_the_same(
    tmp_path: Path, newline: str, start: str
) -> None:
    one = index_nih(folder_with(tmp_path / "a", *ROWS))
    rows = [row + "," for row in ROWS]
    folder = folder_with(
        tmp_path / "b", *rows, "", ",,,,", header=start + HEADER_2017, name="Data_Entry_2017.csv", newline=newline
    )
    assert index_nih(folder).fingerprint() == one.fingerprint()


@pytest.mark.parametrize("start", ["sep=;\n", '"sep=;"\r\n', "SEP=;\n", ""])
def test_semicolons_and_excel_s_line_about_them(tmp_path: Path, start: str) -> None:
    one = index_nih(folder_with(tmp_path / "a", *ROWS))
    header, rows = HEADER_2020.replace(",", ";"), [row.replace(",", ";") for row in ROWS]
    again = index_nih(folder_with(tmp_path / "b", *rows, header=start + header))
    assert again.fingerprint() == one.fingerprint()
    (tmp_path / "b" / "Data_Entry_2017_v2020.csv").rename(tmp_path / "b" / "labels.csv")
    assert index_nih(tmp_path / "b").fingerprint() == one.fingerprint()


@pytest.mark.parametrize("form", ["images\\{}", "C:\\nih\\images\\{}", "images/{}", '"{}"', "{},", " {} "])
def test_lists_that_were_written_anew_name_the_same_films(tmp_path: Path, form: str) -> None:
    folder = folder_with(tmp_path, *ROWS)
    films = index_nih(folder).table["film"].tolist()
    (folder / "train_val_list.txt").write_text("\r\n".join(form.format(film) for film in films[1:]))
    (folder / "test_list.txt").write_text(form.format(films[0]))
    notes = index_nih(folder).notes
    assert notes["official"] == {films[0]: "test", **dict.fromkeys(films[1:], "train_val")}


def test_lists_of_other_films_are_no_lists(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, *ROWS)
    for name in ("train_val_list.txt", "test_list.txt"):
        (folder / name).write_text(f"other_{name}.png")
    with pytest.raises(FilmsError, match="lists must name films of the label file, got none"):
        index_nih(folder)


def test_what_macos_adds_is_no_film(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, *ROWS)
    for name in ("._00000001_000.png", "__MACOSX/00000001_000.png", "._Data_Entry_2017_v2020.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")
    notes = index_nih(folder).notes
    assert notes["problems"]["unlisted"] == notes["problems"]["same_name"] == []
    assert notes["system_files"] == 3


def test_ages(tmp_path: Path) -> None:
    row = "0000000{}_000.png,No Finding,0,{},{},F,AP,2500,2048,0.168,0.168"
    ages = ["058Y", "018M", "412", "", "060D"]
    for index in range(5):
        (tmp_path / f"0000000{index}_000.png").touch()
    lines = [HEADER_2017, *(row.format(index, index, age) for index, age in enumerate(ages))]
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join(lines))
    films = index_nih(tmp_path)
    np.testing.assert_allclose(films.table["age"], [58, 1.5, np.nan, np.nan, 60 / 365.25])
    assert films.notes["problems"]["age"] == ["00000002_000.png"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Cardiomegaly|Emphysema", "Cardiomegaly|Rickets", "Finding Labels must be .*'Rickets' is none.*row 3"),
        ("Cardiomegaly|Emphysema", "No Finding|Mass", "Finding Labels must be 'No Finding' alone"),
        ("Cardiomegaly|Emphysema", "", "Finding Labels must be .*, got '' in .*row 3"),
        ("Cardiomegaly|Emphysema", "Mass|", "Finding Labels must be .*got 'Mass|'"),
        ("00000001_001.png", "00000001_000.png", "Image Index must be unique, but row 2 is the same film, .*row 3"),
        ("00000001_001.png", "images/00000001_001.png", "Image Index must be a file name without a folder"),
        ("00000001_001.png", "", "Image Index must be a file name"),
        (",1,1,58", ",1,1.2E+07,58", r"Patient ID must be an id as it was, .*got '1.2E\+07' in .*row 3"),
        (",1,1,58", ",1,1.2E+07,58".lower(), "rounded, got '1.2e"),
        (",1,1,58", ",1,,58", "Patient ID must not be empty, got '' in .*row 3"),
        (",1,1,58", ",one,1,58", "Follow-up # must be a whole number, got 'one' in .*row 3"),
        (",58,", ",young,", "Patient Age must be years such as 58 or 058Y, or empty, got 'young' in .*row 3"),
        (",58,", ",-5,", "Patient Age must be years"),
        ("58,M", "58,X", "Patient Gender must be M, F or empty, got 'X' in .*row 3"),
        ("M,PA,2894", "M,oblique,2894", "View Position must be PA, AP, LATERAL or empty, got 'oblique'"),
        (",1,1,58,M,PA,2894,2729,0.143,0.143", "", "row must have 11 fields .*got 2 in .*row 3"),
        ("0.143,0.143\n00000002", "0.143,0.143,7\n00000002", "row must have 11 fields .*got 12 in .*row 3"),
        ("58,M", '"58,M', "row must be comma-separated values"),
        ("58,M", "58,\0M", "free of NUL characters, got one in .*row 3"),
        ("Patient ID", "Patient", "header must have one column 'Patient ID', got no such column .*row 1"),
        ("Patient Age", "Patient ID", "header must have one column 'Patient ID', got 2 of them"),
        ("Image Index", "", "header must have one column 'Image Index'"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = folder_with(tmp_path / "nih", *ROWS)
    file = folder / "Data_Entry_2017_v2020.csv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(FilmsError, match=message) as caught:
        index_nih(folder)
    assert "Data_Entry_2017_v2020.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must have a header row, got an empty file"),
        (HEADER_2020.encode(), "must list at least one film"),
        (HEADER_2020.encode("utf-16"), "must be UTF-8, got UTF-16"),
        (f"{HEADER_2020}\n{ROWS[0]}\ncafé".encode("latin-1"), "must be UTF-8, got byte 0xe9 in .*row 3"),
        (HEADER_2020.replace(",", "|").encode(), r"got no such column among 'Image Index\|Finding Labels"),
        (b"x" * 200_000, "row must be comma-separated values"),
    ],
)
def test_files_that_are_no_label_file(tmp_path: Path, content: bytes, message: str) -> None:
    folder = folder_with(tmp_path / "nih")
    (folder / "Data_Entry_2017_v2020.csv").write_bytes(content)
    with pytest.raises(FilmsError, match=message):
        index_nih(folder)


def test_spreadsheets_and_other_spellings(tmp_path: Path) -> None:
    rows = ["00000001_000.PNG , infiltrate | pleural thickening,0,00000001.0,57,m,pa,1,1,1,1", *ROWS[1:]]
    films = index_of(tmp_path, *rows, header=HEADER_2020.replace("Gender", "Sex").replace("Image", "image"))
    assert films.table["patient"].tolist() == ["1", "1", "2"]
    assert films.labels(0).sum() == films.table["Infiltration"][0] + films.table["Pleural_Thickening"][0] == 2


def test_kaggle_s_twelve_folders_and_endings_of_any_case(tmp_path: Path) -> None:
    rows = []
    for number in range(1, 13):
        folder = tmp_path / f"images_{number:03d}" / "images"
        folder.mkdir(parents=True)
        (folder / f"{number:08d}_000.{'PNG' if number % 2 else 'jpeg'}").touch()
        rows.append(f"{number:08d}_000.png,No Finding,0,{number},57,M,PA,2682,2749,0.143,0.143")
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join([HEADER_2017, *rows]))
    films = index_nih(tmp_path)
    assert len(films) == 12
    assert films.table["path"][0] == "images_001/images/00000001_000.PNG"
    assert films.path(11) == tmp_path.resolve() / "images_012/images/00000012_000.jpeg"


def test_missing_unlisted_and_same_name_are_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "nih", *ROWS)
    (folder / "images" / "00000002_000.png").unlink()
    for name in ("other/00000001_000.png", "a/deep/00000001_001.png", "images/00000009_000.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    films = index_nih(folder)
    assert films.table["path"].tolist() == ["images/00000001_000.png", "images/00000001_001.png"]
    assert films.notes["problems"] == {
        "missing": ["00000002_000.png"],
        "unlisted": ["images/00000009_000.png"],
        "same_name": ["other/00000001_000.png", "a/deep/00000001_001.png"],
        "age": [],
    }
    assert films.notes["rows"] == 3


def test_links_that_go_round_end(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "nih", *ROWS)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    films = index_nih(folder)
    assert len(films) == 3
    assert films.notes["problems"]["same_name"] == []


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(FilmsError, match="source must be a folder"):
        index_nih(tmp_path / "nothing")
    with pytest.raises(FilmsError, match="must hold PNG or JPEG images, got none"):
        index_nih(tmp_path)
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih" / "x.png").touch()
    with pytest.raises(FilmsError, match="Name it with --labels"):
        index_nih(tmp_path / "nih")
    (tmp_path / "nih" / "Data_Entry_2017.csv").write_text(f"{HEADER_2017}\n{ROWS[0]}")
    with pytest.raises(FilmsError, match=r"must hold images that .* lists, got 1 others in .*, for example 'x\.png'"):
        index_nih(tmp_path / "nih")
    with pytest.raises(FilmsError, match=r"must be a file, got .* which is none"):
        index_nih(tmp_path / "nih", labels=tmp_path / "labels.csv")


def test_the_label_file_is_found(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "nih", *ROWS, name="Data_Entry_2017.csv")
    assert index_nih(folder / "images").notes["labels"] == str(folder / "Data_Entry_2017.csv")  # the folder's parent
    (folder / "Data_Entry_2017_v2020.csv").write_text((folder / "Data_Entry_2017.csv").read_text())
    assert index_nih(folder).notes["labels"] == str(folder / "Data_Entry_2017_v2020.csv")


def test_any_single_label_file_is_found_but_not_one_of_two(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "nih", *ROWS, name="mine.csv")
    (folder / "google2019_adjudicated.csv").write_text(f"{HEADER_2020},Fracture\n")
    (folder / "predictions.csv").write_text("film,Mass\n")
    assert index_nih(folder).notes["labels"] == str(folder / "mine.csv")
    (folder / "second.csv").write_text((folder / "mine.csv").read_text())
    with pytest.raises(FilmsError, match=r"must be one, got 2: .*mine\.csv, .*second\.csv\. Choose one with --labels"):
        index_nih(folder)
    assert len(index_nih(folder, labels=folder / "second.csv")) == 3


BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def test_boxes_become_fractions(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "nih", *ROWS)
    (folder / "BBox_List_2017.csv").write_text(
        f"{BOXES}00000001_001.png,Infiltrate,256,512,128.0,64,,,\n00000077_000.png,Mass,1,1,1,1,,,\n"
    )
    notes = index_nih(folder).notes
    box = {"film": "00000001_001.png", "finding": "Infiltration", "x": 0.25, "y": 0.5, "width": 0.125, "height": 0.0625}
    assert notes["boxes"] == [box]
    assert notes["boxes_listed"] == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("00000001_001.png,Rickets,1,1,1,1", "Finding Label must be a finding, got 'Rickets' in .*row 2"),
        ("00000001_001.png,Mass,nan,1,1,1", r"Bbox \[x must be a number of pixels from 0 to 1024, got 'nan'"),
        ("00000001_001.png,Mass,1,wide,1,1", "y must be a number of pixels"),
        ("00000001_001.png,Mass,1000,1,100,1", "w must be above 0 and end inside the film, got '100' in .*row 2"),
        ("00000001_001.png,Mass,1,1,1,0", r"h\] must be above 0"),
        (",Mass,1,1,1,1", "Image Index must not be empty"),
    ],
)
def test_wrong_boxes_are_named(tmp_path: Path, row: str, message: str) -> None:
    folder = folder_with(tmp_path / "nih", *ROWS)
    (folder / "BBox_List_2017.csv").write_text(f"{BOXES}{row}\n")
    with pytest.raises(FilmsError, match=message):
        index_nih(folder)


def test_official_lists(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "nih", *ROWS)
    assert "official" not in index_nih(folder).notes
    (folder / "test_list.txt").write_bytes(b"00000002_000.png\r\n\r\n00000055_000.png")
    (folder / "train_val_list.txt").write_text("00000001_000.png\n")
    notes = index_nih(folder).notes
    assert notes["official"] == {"00000001_000.png": "train_val", "00000002_000.png": "test"}
    (folder / "train_val_list.txt").write_text("00000001_000.png\n00000002_000.png\n")
    with pytest.raises(
        FilmsError, match=r"got '00000002_000' in test_list\.txt, row 1 and in train_val_list\.txt, row 2"
    ):
        index_nih(folder)


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_but_hilum_error_comes_out_of_any_file(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "nih"
    if not folder.exists():
        folder_with(folder, *ROWS)
    good = {
        "Data_Entry_2017_v2020.csv": "\n".join([HEADER_2020, *ROWS]).encode(),
        "BBox_List_2017.csv": f"{BOXES}00000001_001.png,Infiltrate,256,512,128,64".encode(),
        "test_list.txt": b"00000002_000.png\n",
        "train_val_list.txt": b"00000001_000.png\n",
    }
    broken = data.draw(st.sampled_from(sorted(good)))
    for name, content in good.items():
        changed = bytearray(content)
        if name == broken and data.draw(st.booleans()):
            changed = bytearray(data.draw(st.binary(max_size=200)))
        elif name == broken:
            for _ in range(data.draw(st.integers(1, 4))):
                start = data.draw(st.integers(0, len(changed)))
                end = start + data.draw(st.integers(0, 6))
                changed[start:end] = data.draw(
                    st.sampled_from([b"", b",", b'"', b"\n", b"|", b"\0", b"9", b"-"])
                ) or data.draw(st.binary(max_size=4))
        (folder / name).write_bytes(changed)
    with contextlib.suppress(HilumError):
        films = index_nih(folder)
        films.fingerprint()
        write_films(films, tmp_path / "films.parquet")
        assert read_films(tmp_path / "films.parquet").notes == films.notes


@pytest.mark.slow
def test_all_112120_rows_in_seconds(tmp_path: Path) -> None:
    names = [f"{patient:08d}_{number:03d}" for patient in range(28_030) for number in range(4)]
    rows = [f"{name}.png,Mass|Nodule,{name[-3:]},{name[:8]},58,M,PA,2682,2749,0.1,0.1" for name in names]
    assert len(rows) == 112_120
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"{names[0]}.png").touch()
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEADER_2020, *rows]))
    start = time.process_time()
    films = index_nih(tmp_path)
    assert time.process_time() - start < 10  # about 1; of the processor, whatever else the machine does
    assert len(films.notes["problems"]["missing"]) == 112_119


# real films


@pytest.mark.slow
@pytest.mark.real
def test_the_real_folder(real_data: Path) -> None:
    films = index_nih(real_data / "nih")
    assert len(films) == 1753
    assert films.table["patient"].nunique() == 1374
    problems = films.notes["problems"]
    assert {name: len(names) for name, names in problems.items()} == {
        "missing": 110_367,
        "unlisted": 0,
        "same_name": 90,
        "age": 0,
    }
    assert all(path.startswith("films/") for path in films.table["path"])
    assert all(path.startswith("originals/") for path in problems["same_name"])
    assert len({box["film"] for box in films.notes["boxes"]}) == 618
    assert (films.notes["boxes_listed"], films.table["Hernia"].sum(), films.table["Infiltration"].sum()) == (
        984,
        20,
        413,
    )


@pytest.mark.slow
@pytest.mark.real
def test_the_real_folder_with_its_own_rows(real_data: Path) -> None:
    films = index_nih(real_data / "nih", labels=real_data / "nih" / "films.csv")
    assert len(films) == 1753
    assert films.notes["problems"]["missing"] == []
    assert films.fingerprint() == index_nih(real_data / "nih").fingerprint()
