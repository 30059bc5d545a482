"""docs/own_films.md, walked by a newcomer: phantom films, an Excel sheet of one's own, and the page's five commands."""

import json
import re
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import Hilum

if TYPE_CHECKING:
    from hilum.data.films import Films

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "own_films.md").read_text(encoding="utf-8")
COMMANDS = [line.split()[1:] for line in re.findall(r"^    (hilum .*)$", PAGE, flags=re.M)]
WORDS = {"Effusion": "pleural effusion", "Mass": "mass", "Pneumothorax": "pneumothorax", "Edema": "edema"}
HEADER = ["Image", "Patient no.", "Date", "Age", "Projection", "Diagnosis", "Remarks"]


def sheet(films: "Films") -> list[list[Any]]:
    """The rows that a radiologist might have typed: names without ending, long lists, dates, one row twice."""
    rows: list[list[Any]] = [HEADER]
    for number, row in enumerate(films.table.to_dict("records")):
        found = [word for name, word in WORDS.items() if row[name] == 1] or ["normal"]
        view = "p.a." if row["view"] == "PA" else "a.p. supine"
        day = date(2024, 1, 1) + timedelta(days=number)
        patient = int(row["patient"].removeprefix("nih:"))
        rows.append([Path(row["path"]).stem, patient, day, 50, view, " | ".join(found), None])
    return [*rows, rows[3]]


@pytest.fixture
def own(tmp_path: Path, phantom_films: "Films", monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of films with its Excel sheet, in the working folder."""
    openpyxl = pytest.importorskip("openpyxl")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "films"
    shutil.copytree(phantom_films.root / "images", folder)
    book = openpyxl.Workbook()
    for row in sheet(phantom_films):
        book.active.append(row)
    book.save(folder / "labels.xlsx")
    return folder


def test_the_page_has_five_commands() -> None:
    assert [words[0] for words in COMMANDS] == ["index", "index", "split", "train", "evaluate"]


@pytest.mark.slow
def test_the_walk_ends_in_a_report(own: Path, hilum: Hilum, tiny: Path) -> None:
    for words in COMMANDS:
        said = hilum(*[str(tiny) if word == "nih-small" else word for word in words])
        assert said.code == 0, said.err
        if "--draft" in words:
            text = (own / "map.toml").read_text()
            assert 'patient = "Patient no."' in text
            assert "'Date'" in text.splitlines()[-1]  # not a study
            text = text.replace('"pleural effusion" =', '"Effusion" =')  # mended as the page says
            (own / "map.toml").write_text(text)
    report = json.loads(Path("report/report.json").read_text())
    assert set(report["findings"]) == {"Effusion", "mass", "pneumothorax", "edema"}
    assert report["protocol"] == "patient"
    assert report["patients"] < report["films"]
    audit = json.loads(hilum("audit", "films.parquet", "--json").out)
    assert (audit["films"], audit["repeated"]["count"], audit["patients_are_films"]) == (60, 1, False)


def test_without_a_column_of_patients_every_step_says_so(own: Path, hilum: Hilum) -> None:
    hilum("index", "csv", own, "--draft")
    text = (own / "map.toml").read_text().replace('patient = "Patient no."', 'patient = "film"')
    (own / "map.toml").write_text(text)
    for words in (
        ["index", "csv", own],
        ["split", "films.parquet", "--protocol", "patient"],
        ["audit", "films.parquet"],
    ):
        said = hilum(*words)
        assert said.code == 0, said.err
        assert "every film was taken for a patient of its own" in " ".join((said.out + said.err).split())
        assert "No patient is in two splits" not in said.err
