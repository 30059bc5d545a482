"""Tables of one's own: every column, both layouts, every fault with its file, row and column."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dicom_files import written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hilum.data.films import Films, read_films, write_films
from hilum.data.sources import SOURCES
from hilum.data.sources.csv import index_csv, read_map
from hilum.data.sources.draft import write_draft
from hilum.data.sources.reading import Options
from hilum.errors import FilmsError, HilumError, MissingExtraError

BASE = """
source = "own"
table = "labels.csv"
film = { column = "file" }
patient = "pid"
"""
WIDE = """
[labels]
"肺结核" = "tb"
Mass = "mass"
"""
LISTS = """
[labels]
column = "found"
separator = "|"
normal = "No Finding"
"""


def picture(path: Path, width: int = 8, height: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


def index(folder: Path, table: str, mapping: str = BASE + WIDE) -> Films:
    for name in ("a.png", "deep/b.png"):
        picture(folder / name)
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    (folder / "map.toml").write_text(mapping, encoding="utf-8")
    films = index_csv(folder, Options())
    write_films(films, folder / "films.parquet")
    pd.testing.assert_frame_equal(read_films(folder / "films.parquet").table, films.table)
    return films


def test_a_wide_table_is_read(tmp_path: Path) -> None:
    films = index(tmp_path, "file,pid,tb,mass\na.png,7,1,no\nb.png,8,,1.0\ngone.png,9,0,0\n")
    assert films.findings == ("肺结核", "Mass")
    assert films.table["film"].tolist() == films.table["path"].tolist() == ["a.png", "deep/b.png"]
    assert films.table["patient"].tolist() == ["7", "8"]
    np.testing.assert_array_equal(films.all_labels, [[1, 0], [np.nan, 1]])
    named = {name: films for name, films in films.notes["problems"].items() if films}
    assert named == {"missing": ["gone.png"]}
    assert not films.notes["patients_are_films"]


def test_every_column_is_read(tmp_path: Path) -> None:
    mapping = (
        BASE
        + 'study = "acc"\nview = "proj"\nage = "years"\nsex = "sex"\nsplit = "fold"\n'
        + '[values]\npresent = [1, "P"]\nabsent = ["0"]\nuncertain = ["?", -1]\nempty = "absent"\n'
        + 'view = { "p.a." = "PA" }\nsplit = { "1" = "train" }\n'
        + WIDE
    )
    table = "file;pid;acc;proj;years;sex;fold;tb;mass\na;x1;s1;P.A.;058Y;Female;1;p;?\nb;x2;s2;lat;400;m;test;-1;\n"
    films = index(tmp_path, table, mapping.replace('"file" }', '"file", match = "stem" }'))
    row = films.table.drop(columns=["film", "path", *films.findings]).to_dict("list")
    assert np.isnan(row["age"][1])
    assert films.notes["problems"]["age"] == ["deep/b.png"]
    assert row | {"age": row["age"][:1]} == {
        "source": ["own"] * 2,
        "patient": ["x1", "x2"],
        "study": ["s1", "s2"],
        "view": ["PA", "LATERAL"],
        "age": [58.0],
        "sex": ["F", "M"],
        "split": ["train", "test"],
    }
    np.testing.assert_array_equal(films.all_labels, [[1, np.nan], [np.nan, 0]])
    assert films.notes["protocol"] == "patient"


@pytest.mark.parametrize(("others", "absent"), [("absent", 0.0), ("unknown", np.nan)])
def test_lists_are_read(tmp_path: Path, others: str, absent: float) -> None:
    table = "file,pid,found\na.png,1,Tuberculosis| Rib fracture\nb.png,2,no finding\n"
    films = index(tmp_path, table, BASE + LISTS + f'others = "{others}"\n')
    assert films.findings == ("Rib fracture", "Tuberculosis")
    np.testing.assert_array_equal(films.all_labels, [[1, 1], [0, 0]])
    films = index(tmp_path, "file,pid,found\na.png,1,Mass\nb.png,2,\n", BASE + LISTS + f'others = "{others}"\n')
    np.testing.assert_array_equal(films.all_labels, [[1], [np.nan]])
    films = index(tmp_path, "file,pid,found\na.png,1,Mass\nb.png,2,TB\n", BASE + LISTS + f'others = "{others}"\n')
    np.testing.assert_array_equal(films.all_labels, [[1, absent], [absent, 1]])


def test_words_of_lists_are_chosen_and_renamed(tmp_path: Path) -> None:
    chosen = LISTS + 'ignored = ["rotated"]\n[labels.findings]\nTuberculosis = ["tb", "active TB"]\nMass = []\n'
    films = index(tmp_path, "file,pid,found\na.png,1,TB|rotated\nb.png,2,mass|Active tb\n", BASE + chosen)
    assert films.findings == ("Tuberculosis", "Mass")
    np.testing.assert_array_equal(films.all_labels, [[1, 0], [1, 1]])
    with pytest.raises(FilmsError, match=r"'nodule' is none.*row 2, column 'found'.*labels\.findings"):
        index(tmp_path, "file,pid,found\na.png,1,Nodule\n", BASE + chosen)


def test_films_for_patients_are_said(tmp_path: Path, hilum: Any) -> None:
    mapping = BASE.replace('"pid"', '"film"') + 'split = "fold"\n' + WIDE
    films = index(tmp_path, "file,fold,tb,mass\na.png,train,1,0\nb.png,test,0,0\n", mapping)
    assert films.notes["patients_are_films"]
    assert films.table["patient"].tolist() == films.table["film"].tolist()
    assert films.notes["protocol"] == "image", "nobody knows whether patients are in two parts"
    said = hilum("index", "csv", tmp_path, "--out", tmp_path / "films.parquet")
    assert "every film was taken for a patient" in " ".join(said.err.split())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "file,pid,tb,mass\na.png,1,1,0\nb.png,2,maybe,0\n",
            r"tb must be one of .*, got 'maybe' in .*labels\.csv, row 3",
        ),
        ("file,pid,tb,mass\na.png,,1,0\n", r"pid must not be empty, got '' in .*row 2, column 'pid'"),
        ("file,pid,tb,mass\na.png,,1,0\nb.png,,1,0\n", r"row 2, column 'pid'.* 1 more rows have such cells"),
        ("file,pid,tb,mass\na.png,1,1,0\nA.PNG,2,1,0\n", "row 2 is the same film with another 'file, pid'"),
        ("file,pid,tb\na.png,1,1\n", "table must have one column 'mass', got no such column"),
        ("file,pid,tb,tb,mass\na.png,1,1,1,0\n", "table must have one column 'tb', got 2 of them"),
        ("file,pid,tb,mass\nz.png,1,1,0\n", r"table must list films of .*got none of its 2 such as 'a\.png'"),
        ("file,pid,tb,mass\n", "labels must hold at least one film"),
        ("file,pid,tb,mass\na.png,1,1\n", "rows must have 4 cells"),
    ],
)
def test_faults_of_the_table_are_named(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(FilmsError, match=message):
        index(tmp_path, table)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (BASE, "labels must be right in"),
        (BASE + "[labels]\n", "labels must name at least one finding"),
        (BASE.replace('patient = "pid"\n', "") + WIDE, "patient must be right in .*Field required"),
        (BASE.replace('"pid"', '"?"') + WIDE, "patient must be decided"),
        (BASE + "colour = 1\n" + WIDE, "colour must be right in"),
        (BASE + '[values]\npresent = ["x"]\nabsent = ["X"]\n' + WIDE, "each word in one list, got 'x' in two"),
        (BASE.replace('"file" }', '"file", match = "md5" }') + WIDE, r"film\.match must be right"),
        (BASE + '[labels]\n"a/b" = "tb"\n', "findings must be names that can stand in a file's name"),
        (BASE + '[labels]\n"Mass" = "tb"\nmass = "mass"\n', "findings must be distinct names"),
        (BASE + '[labels]\npatient = "tb"\n', "findings must be distinct from the columns"),
        (BASE + "labels = 3\n", "labels must be right in"),
        ("source = ", "map must be TOML"),
    ],
)
def test_faults_of_the_map_are_named(tmp_path: Path, mapping: str, message: str) -> None:
    with pytest.raises(FilmsError, match=message):
        index(tmp_path, "file,pid,tb,mass\na.png,1,1,0\n", mapping)


def test_films_are_found_by_path_stem_and_name(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a.png")
    by_path = BASE.replace('"file" }', '"file", match = "path" }') + WIDE
    with pytest.raises(FilmsError, match=r"name one film, but both a\.png and one/a\.png fit.*match = \"path\""):
        index(tmp_path, "file,pid,tb,mass\na.png,1,1,0\n")
    films = index(tmp_path, "file,pid,tb,mass\none\\a.png,1,1,0\n./a.png,2,0,0\n", by_path)
    assert films.table["film"].tolist() == ["one/a.png", "a.png"]
    assert films.notes["problems"]["unlisted"] == ["deep/b.png"]


def test_dicom_films_are_found_by_a_tag(tmp_path: Path) -> None:
    pixels = np.zeros((70, 90), np.uint8)
    for number in ("1", "2"):
        written(tmp_path / f"{number}.dcm", pixels, AccessionNumber=f"A-{number}")
    mapping = BASE.replace('"file" }', '"file", match = "dicom:AccessionNumber" }') + WIDE
    mapping += '[boxes]\ntable = "boxes.csv"\n'
    (tmp_path / "boxes.csv").write_text("film,finding,x,y,width,height\nA-2,MASS,9,7,45,35\n")
    films = index(tmp_path, "file,pid,tb,mass\nA-2,1,1,0\nA-1,2,0,1\n", mapping)
    assert films.table["film"].tolist() == ["2.dcm", "1.dcm"]
    box = {"film": "2.dcm", "finding": "Mass", "x": 0.1, "y": 0.1, "width": 0.5, "height": 0.5}
    assert films.notes["boxes"] == [pytest.approx(box)] or films.notes["boxes"] == [box]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,Hernia,0,0,1,1", "finding must be one of 肺结核, Mass, got 'Hernia'"),
        ("a.png,Mass,5,0,4,1", "width must be above 0 and end inside the film of 8 x 8 pixels"),
        ("a.png,Mass,0,0,1,0", "height must be above 0"),
        ("a.png,Mass,-1,0,1,1", "x must be a number of pixels from 0, got '-1' in .*row 2"),
    ],
)
def test_faults_of_boxes_are_named(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "boxes.csv").write_text(f"film,finding,x,y,width,height\n{row}\n")
    with pytest.raises(FilmsError, match=message):
        index(tmp_path, "file,pid,tb,mass\na.png,1,1,0\n", BASE + WIDE + '[boxes]\ntable = "boxes.csv"\n')


def test_other_encodings_and_formats(tmp_path: Path) -> None:
    films = index(tmp_path, "file,pid,tb,mass\na.png,1,1,0\nb.png,2,0,\n")
    table = pd.DataFrame({"file": ["a.png", "b.png"], "pid": [1, 2], "tb": [True, False], "mass": [0.0, np.nan]})
    table.to_parquet(tmp_path / "labels.parquet")
    other = index_csv(tmp_path, Options(labels=tmp_path / "labels.parquet"))
    pd.testing.assert_frame_equal(other.table, films.table)
    (tmp_path / "own.txt").write_bytes("file#pid#tb#mässe\na.png#1#1#0\n".encode("cp1252"))
    mapping = (BASE + 'separator = "#"\nencoding = "cp1252"\n' + WIDE).replace('"mass"', '"mässe"')
    (tmp_path / "map.toml").write_text(mapping.replace("labels.csv", "own.txt"))
    assert len(index_csv(tmp_path, Options())) == 1
    (tmp_path / "map.toml").write_text(mapping.replace("labels.csv", "own.txt").replace("cp1252", "utf-7x"))
    with pytest.raises(FilmsError, match="text must be in utf-7x"):
        index_csv(tmp_path, Options())


def test_xlsx_is_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    films = index(tmp_path, "file,pid,tb,mass\na.png,1,1,0\nb.png,2,0,\n")
    book = openpyxl.Workbook()
    for row in (["file", "pid", "tb", "mass"], ["a.png", 1, True, 0], [], ["b.png", 2, 0.0, None]):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    other = index_csv(tmp_path, Options(labels=tmp_path / "labels.xlsx"))
    pd.testing.assert_frame_equal(other.table, films.table)
    (tmp_path / "labels.xlsx").write_bytes(b"PK no workbook")
    with pytest.raises(FilmsError, match="table must be an intact XLSX file"):
        index_csv(tmp_path, Options(labels=tmp_path / "labels.xlsx"))


def test_without_openpyxl_the_pip_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index(tmp_path, "file,pid,tb,mass\na.png,1,1,0\n")
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hilum\[tables\]'"):
        index_csv(tmp_path, Options(labels=tmp_path / "labels.xlsx"))


def test_a_draft_is_a_map(tmp_path: Path, hilum: Any) -> None:
    for name in ("a.png", "deep/b.png"):
        picture(tmp_path / name)
    table = "image,Patient ID,Age,Sex,Projection,Lung Opacity,结核,remark\nA.PNG,7,58,F,p.a.,1,yes,x\n"
    table += "b.png,8,61,M,PA,-1,no,y\n"
    (tmp_path / "films.csv").write_text(table)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    said = hilum("index", "csv", tmp_path, "--draft", "--json")
    assert said.code == 0, said.err
    text = (tmp_path / "map.toml").read_text()
    assert all("# guess" in line for line in text.splitlines() if "=" in line and not line.startswith("#"))
    mapping = read_map(tmp_path / "map.toml")
    assert (mapping.patient, mapping.age, mapping.sex, mapping.view) == ("Patient ID", "Age", "Sex", "Projection")
    assert mapping.labels == {"Lung Opacity": "Lung Opacity", "结核": "结核"}
    films = index_csv(tmp_path, Options())
    np.testing.assert_array_equal(films.all_labels, [[1, 1], [np.nan, 0]])
    assert films.table["view"].tolist() == ["PA", "PA"]
    assert "# Not used: 'remark'" in text
    with pytest.raises(HilumError, match="map must be new"):
        write_draft(tmp_path)


def test_equal_rows_count_once_and_are_named(tmp_path: Path) -> None:
    films = index(tmp_path, "file,pid,tb,mass\na.png,1,1,0\nb.png,2,0,0\na.png,1,1,0\n")
    assert films.table["film"].tolist() == ["a.png", "deep/b.png"]
    assert films.notes["problems"]["repeated"] == ["a.png"]


def test_a_german_sheet_is_drafted(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    (tmp_path / "Befunde.csv").write_bytes(
        "Dateiname;Patientennummer;Untersuchungsdatum;Alter;Geschlecht;Aufnahme;Vorbefunde;Pleuraerguss;Größe;TB\n"
        "a.png;7;01.03.2021;58;männlich;p.a.;3;ja;nein;x\n"
        "b.png;8;01.03.2021;61;weiblich;a.p. liegend;1;nein;fraglich;\n"
        "c.png;8;02.03.2021;61;w;seitlich;0;nein;nein;\n".encode("cp1252")
    )
    mapping = read_map(write_draft(tmp_path))
    assert (mapping.patient, mapping.study, mapping.sex) == ("Patientennummer", None, "Geschlecht")
    assert set(mapping.labels) == {"Pleuraerguss", "Größe", "TB"}  # Vorbefunde counts
    assert mapping.values.uncertain == ("fraglich",)
    films = index_csv(tmp_path, Options())
    assert films.table["sex"].tolist() == ["M", "F", "F"]
    assert films.table["view"].tolist() == ["PA", "AP", "LATERAL"]


def test_a_draft_of_lists_without_patients_must_be_decided(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    (tmp_path / "films.csv").write_bytes("name;Befunde (labels)\na;Tuberculose|Größe\nb;Normal\n".encode("cp1252"))
    path = write_draft(tmp_path)
    with pytest.raises(FilmsError, match=r"patient must be decided, got '\?'"):
        index_csv(tmp_path, Options())
    path.write_text(path.read_text().replace('patient = "?"', 'patient = "film"'))
    films = index_csv(tmp_path, Options())
    assert films.findings == ("Größe", "Tuberculose")
    np.testing.assert_array_equal(films.all_labels, [[1, 1], [0, 0]])


def test_a_draft_without_a_table_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(FilmsError, match="folder must hold a table"):
        write_draft(tmp_path)
    (tmp_path / "t.csv").write_text("film,x\na.png,hello\n")
    text = write_draft(tmp_path).read_text().replace('patient = "?"', 'patient = "film"')
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(FilmsError, match="labels must name at least one finding"):
        index_csv(tmp_path, Options())


def test_map_and_draft_are_for_csv_alone(hilum: Any, tmp_path: Path) -> None:
    assert list(SOURCES)[:2] == ["nih", "csv"]
    assert "must be left out for nih" in hilum("index", "nih", tmp_path, "--draft").err
    assert "source must be one of auto, nih, csv" in hilum("index", "other", tmp_path).err


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=120)
    | st.text(max_size=120).map(lambda text: ("file,pid,tb,mass\n" + text).encode("utf-8", "replace")),
    st.sampled_from([WIDE, LISTS]),
)
def test_any_table_gives_films_or_a_hilum_error(tmp_path: Path, content: bytes, labels: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(content)
    (tmp_path / "map.toml").write_text(BASE + labels)
    try:
        films = index_csv(tmp_path, Options())
    except HilumError:
        return
    assert films.table["film"].tolist() == ["a.png"]


def test_names_of_files_are_found_however_accents_are_stored(tmp_path: Path) -> None:
    picture(tmp_path / "e\u0301.png")
    if os.listdir(tmp_path) != ["e\u0301.png"]:  # noqa: PTH208
        pytest.skip("this file system stores accents its own way")
    films = index(tmp_path, "file,pid,tb,mass\n\u00e9.png,1,1,0\n")
    assert len(films) == 1
