import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hilum.errors import PredictionsError
from hilum.evaluation.inputs import read_reference
from hilum.findings import CHESTXRAY14

GOOGLE = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,Fracture,\
Pneumothorax,Airspace opacity,Nodule or mass,Set Id
00000013_008.png,No Finding,8,13,60,M,AP,NO,NO,YES,NO,test
00000013_026.png,Cardiomegaly|Emphysema,26,13,57,M,AP,NO,YES,NO,YES,val
"""


@pytest.mark.parametrize("zipped", [False, True])
def test_the_published_file_is_read_as_it_is(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "google2019.csv"
    path.write_bytes(gzip.compress(GOOGLE.encode()) if zipped else GOOGLE.encode())
    reference = read_reference(path, CHESTXRAY14)
    assert reference.films == ("00000013_008.png", "00000013_026.png")
    assert {name: column.tolist() for name, column in reference.labels.items()} == {
        "Pneumothorax": [0, 1],
        "Airspace opacity": [1, 0],
        "Nodule or mass": [0, 1],
        "Fracture": [0, 0],  # of the vocabulary; the manifest has no labels of it
    }
    assert reference.others == ()


def test_a_plain_file_is_read_and_empty_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text("film,pleural thickening,Mass,reader\na.png,1,,x\nb.png,0.0,true,y\n")
    reference = read_reference(path, CHESTXRAY14)
    assert reference.labels["Pleural_Thickening"].tolist() == [1, 0]
    assert np.isnan(reference.labels["Mass"][0])
    assert reference.labels["Mass"][1] == 1
    assert reference.others == ()
    pd.DataFrame({"film": ["a.png"], "Mass": [True]}).to_parquet(tmp_path / "ours.parquet")
    assert read_reference(tmp_path / "ours.parquet", CHESTXRAY14).labels["Mass"].tolist() == [1]


def test_films_are_found_by_their_names_or_base_names(tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text("film,Mass\na,1\nfolder/b.png,0\n")
    found = read_reference(path, CHESTXRAY14).of(["x/b.png", "c.png", "a.png"])["Mass"]
    assert np.array_equal(found, [0, np.nan, 1], equal_nan=True)
    with pytest.raises(PredictionsError, match=r"evaluated films, with names such as 'c\.png', got none among 2 such"):
        read_reference(path, CHESTXRAY14).of(["c.png"])
    with pytest.raises(PredictionsError, match="got 'a', which fits several films"):
        read_reference(path, CHESTXRAY14).of(["x/a.png", "y/a.png"])
    path.write_text("film,Mass\nx/a.png,1\ny/a.png,0\n")
    assert read_reference(path, CHESTXRAY14).of(["y/a.png"])["Mass"].tolist() == [0]
    with pytest.raises(PredictionsError, match=r"one row for a film, got 'x/a\.png' and 'y/a\.png' for 'a\.png'"):
        read_reference(path, CHESTXRAY14).of(["a.png"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("film,Mass\na.png,maybe\n", "labels must be YES or NO, .* got 'maybe' in .*, row 2, column 'Mass'"),
        ("film,Mass\na.png,-1\n", "got '-1' in"),
        ("film,Spinach\na.png,YES\n", "a column for at least one finding, got film, Spinach in"),
        ("Mass\n1\n", "columns must include 'film'"),
        ("film,Mass\na.png,1\na.png,1\n", r"film must be there once, got 'a\.png' again in .*, row 3"),
        ("film,Mass,mass\na.png,1,1\n", "Mass must have one column, got 'Mass' and 'mass'"),
        ("", "empty file"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ours.csv"
    path.write_text(text)
    with pytest.raises(PredictionsError, match=message):
        read_reference(path, CHESTXRAY14)


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "google2019.csv.gz"
    path.write_bytes(gzip.compress(GOOGLE.encode())[:-20])
    with pytest.raises(PredictionsError, match="table must be a file that can be read"):
        read_reference(path, CHESTXRAY14)
