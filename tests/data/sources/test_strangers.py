"""Folders as strangers bring them, each with a spreadsheet of another shape: draft, at most one decision, films."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from PIL import Image

from hilum.data.films import Films
from hilum.data.sources.csv import index_csv, read_any, read_book
from hilum.data.sources.draft import write_draft
from hilum.data.sources.reading import Options
from hilum.errors import FilmsError

FILMS = [("a1", "P1", 1, 0), ("a2", "P1", 1, 1), ("b1", "P2", 0, 0), ("c1", "P3", 0, 1), ("d1", "P4", 0, 0)]
"""Name, patient, effusion, mass."""
TRUTH = np.array([film[2:] for film in FILMS], dtype=np.float32)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path)


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        picture(folder / name)


def written_csv(path: Path, rows: Iterable[Sequence[object]], separator: str = ",", encoding: str = "utf-8") -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))


def written_xlsx(path: Path, *sheets: list[list[Any]], merged: Sequence[str] = ()) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl (hilum[tables]) is not installed")
    book = openpyxl.Workbook()
    for place, rows in enumerate(sheets):
        sheet = book.active if place == 0 else book.create_sheet(f"Sheet {place}")
        for row in rows:
            sheet.append(row)
        for cells in merged:
            sheet.merge_cells(cells)
    book.save(path)


def drafted(folder: Path, **decisions: str) -> Films:
    path = write_draft(folder)
    text = path.read_text(encoding="utf-8")
    for before, after in decisions.items():
        assert before in text
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")
    return index_csv(folder, Options())


def judge(films: Films, names: Sequence[str], *, patients: int = 4) -> None:
    assert films.findings == tuple(names)
    by_film = {Path(path).parts: row for path, row in zip(films.table["path"], films.all_labels, strict=True)}
    found = np.array([next(row for parts, row in by_film.items() if name in "/".join(parts)) for name, *_ in FILMS])
    np.testing.assert_array_equal(found, TRUTH)
    assert films.table["patient"].nunique() == patients


def test_german_semicolons_decimals_and_code_page(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [
        ["Bildname", "Patientennummer", "Alter", "Geschlecht", "Erguss", "Rundherd", "Größe"]
    ]
    for name, patient, effusion, mass in FILMS:
        picture(tmp_path / f"{name}.png")
        severity = ["kein", "mäßig"][effusion]
        rows.append([f"{name}.png", patient, "45,5", "weiblich", severity, ["nein", "ja"][mass], "1,75"])
    written_csv(tmp_path / "Befunde.csv", rows, ";", "cp1252")
    films = drafted(tmp_path)
    judge(films, ["Erguss", "Rundherd"])
    assert films.table["age"].tolist() == [45.5] * 5
    assert films.table["sex"].tolist() == ["F"] * 5


def test_a_long_table_with_a_value_in_each_row(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["image", "patient_id", "finding", "value"]]
    for name, patient, effusion, mass in FILMS:
        picture(tmp_path / f"{name}.png")
        rows += [[f"{name}.png", patient, "Effusion", effusion], [f"{name}.png", patient, "Mass", mass]]
    written_csv(tmp_path / "labels.csv", rows)
    judge(drafted(tmp_path), ["Effusion", "Mass"])
    written_csv(tmp_path / "labels.csv", [*rows, ["a1.png", "P1", "Mass", 1]])
    with pytest.raises(FilmsError, match=r"value must say the same of a finding in all rows.*row 12, column 'value'"):
        index_csv(tmp_path, Options())
    written_csv(tmp_path / "labels.csv", [*rows, ["a1.png", "P9", "Mass", 0]])
    with pytest.raises(FilmsError, match=r"row 2 is the same film with another 'patient_id'.*row 12, column 'image'"):
        index_csv(tmp_path, Options())


def test_a_long_table_of_what_is_present(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["filename", "subject", "diagnosis"]]
    for name, patient, effusion, mass in FILMS:
        picture(tmp_path / f"{name}.png")
        found = ["effusion"] * effusion + ["mass"] * mass
        rows += [[name, patient, word] for word in found or ["Normal"]]
    written_csv(tmp_path / "labels.csv", rows)
    judge(drafted(tmp_path), ["effusion", "mass"])
    written_csv(tmp_path / "labels.csv", [*rows, ["a1", "P1", "Normal"]])
    with pytest.raises(FilmsError, match="must be 'Normal' alone"):
        index_csv(tmp_path, Options())


def test_a_title_above_the_header_floats_dates_and_a_column_of_normal(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["St Mary's, chest films 2023"],
        [],
        ["File", "Pat. ID", "Date", "Effusion", "Mass", "No finding"],
    ]
    for place, (name, patient, effusion, mass) in enumerate(FILMS):
        picture(tmp_path / "2023" / f"{name}.png")
        day = date(2023, 1, 1) + timedelta(days=place)
        rows.append([f"2023/{name}.png", patient, day, float(effusion), float(mass), float(not effusion and not mass)])
    written_xlsx(tmp_path / "register.xlsx", rows, merged=["A1:F1"])
    judge(drafted(tmp_path), ["Effusion", "Mass"])
    assert "header = 3" in (tmp_path / "map.toml").read_text()
    written_csv(tmp_path / "register.csv", rows)
    (tmp_path / "register.xlsx").unlink()
    (tmp_path / "map.toml").unlink()
    judge(drafted(tmp_path), ["Effusion", "Mass"])


def test_titles_of_another_length_in_csv(tmp_path: Path) -> None:
    lines = ["St Mary's, chest films", "made by me", "file;pat;Effusion;Mass"]
    for name, patient, effusion, mass in FILMS:
        picture(tmp_path / f"{name}.png")
        lines.append(f"{name}.png;{patient};{effusion};{mass}")
    (tmp_path / "films.csv").write_text("\n".join(lines))
    judge(drafted(tmp_path), ["Effusion", "Mass"])
    lines[5] = lines[5].replace("P2;0", "P2;9")
    (tmp_path / "films.csv").write_text("\n".join(lines))
    with pytest.raises(FilmsError, match=r"Effusion must be .*got '9' in .*films.csv, row 6, column 'Effusion'"):
        index_csv(tmp_path, Options())


def test_merged_cells_of_patients(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["Patient", "Image", "Diagnosis"]]
    for place, (name, patient, effusion, mass) in enumerate(FILMS):
        picture(tmp_path / f"{name}.png")
        said = ", ".join(["effusion"] * effusion + ["mass"] * mass) or "no finding"
        rows.append([patient if place != 1 else None, name, said])
    written_xlsx(tmp_path / "list.xlsx", rows, merged=["A2:A3"])
    judge(drafted(tmp_path), ["effusion", "mass"])


def test_dates_as_ids_and_crosses(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["exam", "pid", "Effusion", "Mass"]]
    for place, (name, patient, effusion, mass) in enumerate(FILMS):
        day = date(2024, 1, 1) + timedelta(days=place)
        picture(tmp_path / name / f"{day:%Y%m%d}.png")
        rows.append([day, patient, "X" if effusion else None, "x" if mass else None])
    written_xlsx(tmp_path / "films.xlsx", rows)
    judge(drafted(tmp_path), ["Effusion", "Mass"])
    assert 'empty = "absent"' in (tmp_path / "map.toml").read_text()


def test_equal_names_in_folders_that_the_table_names(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["study", "patient", "Effusion", "Mass"]]
    for name, patient, effusion, mass in FILMS:
        picture(tmp_path / "films" / name / "frontal.png")
        rows.append([name, patient, effusion, mass])
    written_csv(tmp_path / "cases.csv", rows)
    judge(drafted(tmp_path), ["Effusion", "Mass"])


@pytest.mark.parametrize("form", ["C:\\Users\\anna\\xray\\{}\\frontal.png", "{}/frontal.png", "./all/{}/frontal.png"])
def test_paths_of_another_machine(tmp_path: Path, form: str) -> None:
    rows: list[Sequence[object]] = [["FilePath", "Patient ID", "Effusion", "Mass"]]
    for name, patient, effusion, mass in FILMS:
        picture(tmp_path / ("all" if "all" in form or ":" not in form else "") / name / "frontal.png")
        rows.append([form.format(name), patient, effusion, mass])
    written_csv(tmp_path / "list.csv", rows)
    judge(drafted(tmp_path), ["Effusion", "Mass"])


def test_dicom_films_by_accession_number_with_all_films_of_a_study(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["Accession", "Report date", "Effusion", "Mass"]]
    for place, (name, patient, effusion, mass) in enumerate(FILMS):
        for number, view in enumerate(("PA", "LL")[: 1 + (place == 0)]):
            uid, pixels = f"1.2.{place + 1}.{number}", np.full((8, 8), place, dtype=np.uint16)
            (tmp_path / name).mkdir(exist_ok=True)
            tags: dict[str, Any] = {
                "AccessionNumber": f"A{place}",
                "PatientID": patient,
                "ViewPosition": view,
                "SOPInstanceUID": uid,
            }
            written(tmp_path / name / f"IM{number}.dcm", pixels, **tags)
        rows.append([f"A{place}", "2024-01-01", ["neg", "positive"][effusion], ["neg", "pos"][mass]])
    written_csv(tmp_path / "worklist.csv", rows)
    films = drafted(tmp_path)
    judge(films, ["Effusion", "Mass"])
    assert len(films) == 6
    assert films.table["view"].value_counts().to_dict() == {"PA": 5, "LATERAL": 1}
    text = (tmp_path / "map.toml").read_text()
    assert 'match = "dicom:AccessionNumber", several = true' in text
    assert 'patient = "dicom:PatientID"' in text
    (tmp_path / "map.toml").write_text(text.replace(", several = true", ""))
    with pytest.raises(FilmsError, match=r"name one film, but both a1/IM0.dcm and a1/IM1.dcm fit.*several = true"):
        index_csv(tmp_path, Options())


def test_a_missing_patient_a_row_of_totals_and_names_in_capitals(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["No.", "image file", "Effusion", "Mass", "", ""]]
    for place, (name, _, effusion, mass) in enumerate(FILMS):
        picture(tmp_path / ("sick" if effusion or mass else "well") / f"{name}.png")
        rows.append([place + 1, name.upper(), str(bool(effusion)), str(bool(mass)), "", ""])
    written_csv(tmp_path / "tb.csv", [*rows, ["", "Total", 2, 2, "", ""]])
    with pytest.raises(FilmsError, match=r"patient must be decided"):
        drafted(tmp_path)
    (tmp_path / "map.toml").unlink()
    films = drafted(tmp_path, **{'patient = "?"': 'patient = "film"'})
    judge(films, ["Effusion", "Mass"], patients=5)
    assert films.notes["problems"]["missing"] == ["Total"]
    assert films.notes["patients_are_films"]


def test_the_second_sheet_and_lists_with_a_word_for_normal(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["ImgName", "CaseNo", "Sex(M/F)", "Age (years)", "Findings (separated by ;)", "Quality"]]
    for name, patient, effusion, mass in FILMS:
        picture(tmp_path / "img" / f"{name}.png")
        said = "; ".join(["Effusion"] * effusion + ["Mass"] * mass) or "NAD"
        rows.append([f"{name}.PNG", patient, "M", 61, said, "good"])
    written_xlsx(tmp_path / "study.xlsx", [["Read me"], ["This file lists films"]], rows)
    (tmp_path / "~$study.xlsx").write_bytes(b"locked by Excel")
    films = drafted(tmp_path)
    judge(films, ["Effusion", "Mass"])
    assert (films.table["age"] == 61).all()
    text = (tmp_path / "map.toml").read_text().replace('sheet = "Sheet 1"', 'sheet = "Data"')
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(FilmsError, match="sheet must be one of 'Sheet', 'Sheet 1', got 'Data'"):
        index_csv(tmp_path, Options())


def test_leading_zeros_that_a_spreadsheet_has_lost(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["ID", "patient", "Effusion", "Mass"]]
    for place, (name, patient, effusion, mass) in enumerate(FILMS, start=1):
        picture(tmp_path / name / f"{place:05d}.png")
        rows.append([place, patient, effusion, mass])
    written_csv(tmp_path / "table.tsv", rows, "\t")
    judge(drafted(tmp_path), ["Effusion", "Mass"])


def test_lists_as_python_writes_them(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["path", "patientId", "labels"]]
    for name, patient, effusion, mass in FILMS:
        picture(tmp_path / "imgs" / f"{name}.png")
        rows.append([f"./imgs/{name}.png", patient, str(["Effusion"] * effusion + ["Mass"] * mass)])
    written_csv(tmp_path / "meta.csv", rows)
    judge(drafted(tmp_path), ["Effusion", "Mass"])


def test_an_old_excel_file_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "films.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(FilmsError, match=r"Save films\.xls as XLSX or CSV"):
        write_draft(tmp_path)


def test_formats_far_below_the_table_cost_nothing_and_are_no_columns(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl (hilum[tables]) is not installed")
    book = openpyxl.Workbook()
    for row in (["file", "pid"], ["a.png", 1]):
        book.active.append(row)
    book.active.cell(20_000, 9).font = openpyxl.styles.Font(bold=True)
    book.save(tmp_path / "a.xlsx")
    cells = read_any(tmp_path / "a.xlsx")
    assert (cells.names, cells.columns, cells.rows) == (["file", "pid"], [("a.png",), (1,)], [2])
    assert len(read_book(tmp_path / "a.xlsx")["Sheet"][0]) == 2


def test_names_under_groups_take_two_rows(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"set/P{n // 2}/IMG{n:03d}.png" for n in range(4)))
    rows: list[list[object]] = [
        ["Bild", "Patient", "Datum", "Pneumothorax", None, "Erguss", None],
        [None, None, None, "links", "rechts", "links", "Rundherd"],
    ]
    for n in range(4):
        rows.append(
            [f"IMG{n:03d}", 1001.0 + n // 2, datetime(2024, 1, 1 + n), *("ja" if n == k else "nein" for k in range(4))]
        )
    written_xlsx(tmp_path / "befunde.xlsx", rows, merged=["D1:E1", "F1:G1", "A1:A2", "B1:B2", "C1:C2"])
    films = drafted(tmp_path)
    assert films.findings == ("Pneumothorax links", "rechts", "Erguss links", "Rundherd")
    assert [films.table[name].tolist().index(1) for name in films.findings] == [0, 1, 2, 3]
    assert films.table["patient"].tolist() == ["1001", "1001", "1002", "1002"]
    assert films.notes["problems"]["missing"] == []


def test_lists_with_now_one_and_now_another_mark(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{n}.png" for n in range(7)))
    said = ["Cardiomegaly, Pleural effusion", "normal", "Effusion; Mass", "mass", "no finding", "nan", "Mass, Effusion"]
    text = "image,patient,diagnoses\n" + "".join(f'{n}.png,p{n // 2},"{one}"\n' for n, one in enumerate(said))
    (tmp_path / "table.csv").write_text(text)
    films = drafted(tmp_path)
    assert films.findings == ("Cardiomegaly", "Effusion", "Mass")
    labels = films.table[list(films.findings)].to_numpy()
    nan = np.nan
    expected = [[1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0], [nan, nan, nan], [0, 1, 1]]
    np.testing.assert_array_equal(labels, expected)


def test_a_comma_inside_a_finding_does_not_part_it(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{n}.png" for n in range(3)))
    said = ["mass, left; cavity", "nodule, right", "cavity; mass, left"]
    text = "image,patient,diagnoses\n" + "".join(f'{n}.png,p{n},"{one}"\n' for n, one in enumerate(said))
    (tmp_path / "table.csv").write_text(text)
    assert drafted(tmp_path).findings == ("cavity", "mass, left", "nodule, right")


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (("Файл", "Пациент", "Пол", "Возраст", "Пневмония"), ("снимок{}", "П{}", "жм", "{} лет", "да нет")),
        (("ファイル名", "患者ID", "性別", "年齢", "気胸"), ("胸部{}", "A{}", "女男", "{}歳", "有 無")),
        (("fichero", "paciente", "sexo", "edad", "neumotórax"), ("p{}", "N{}", "MH", "{}", "sí no")),
    ],
)
def test_headers_and_words_of_other_scripts(tmp_path: Path, header: tuple[str, ...], row: tuple[str, ...]) -> None:
    name, patient, sexes, age, words = row
    pictures(tmp_path, *(f"{name.format(n)}.png" for n in range(4)))
    rows: list[list[object]] = [list(header)]
    for n in range(4):
        said = words.split()[n % 2]
        rows.append([name.format(n), patient.format(n // 2), sexes[n % 2], age.format(40 + n), said])
    written_xlsx(tmp_path / "table.xlsx", rows)
    films = drafted(tmp_path)
    assert films.table[header[-1]].tolist() == [1, 0, 1, 0]
    assert films.table["sex"].tolist() == ["F", "M"] * 2
    assert films.table["age"].tolist() == [40, 41, 42, 43]
    assert films.table["patient"].nunique() == 2
