import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Hilum


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    """Three readers, with and without help, on 80 films of 40 patients; help makes them better."""
    generator = np.random.default_rng(0)
    labels, film = (np.arange(80) // 2 % 2).astype(np.float64), generator.normal(size=80)
    rows = [
        {
            "reader": reader,
            "modality": modality,
            "film": f"{i}.png",
            "score": score,
            "label": labels[i],
            "patient": i // 2,
        }
        for reader in ("Ada", "Ben", "Cy")
        for modality, gain in (("alone", 0.6), ("helped", 2.5))
        for i, score in enumerate(film + gain * labels + 0.5 * generator.normal(size=80))
    ]
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv(tmp_path / "readings.csv", index=False)
    return tmp_path / "readings.csv"


def test_a_study_is_told_as_tables_json_and_a_page(hilum: Hilum, readings: Path, tmp_path: Path) -> None:
    said = hilum("readers", readings, "--out", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    study = json.loads(said.out)
    assert study == json.loads((tmp_path / "out" / "readers.json").read_text())
    (pair,) = study["pairs"]
    assert (pair["first"], pair["second"]) == ("alone", "helped")
    assert pair["difference"]["low"] > 0
    assert (study["positives"], study["positive_patients"]) == (40, 20)
    page = (tmp_path / "out" / "readers.html").read_text()
    assert "Mean AUROC of helped minus that of alone" in page
    assert "Chance does not explain it." in page
    assert page.count("this reader alone") == 3
    shown = hilum("readers", readings)
    assert "Do the modalities differ?" in shown.out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.drop(columns="reader"), "readings must have a column 'reader'"),
        (lambda table: table.iloc[1:], "of all films by all readers in all modalities"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "got two of"),
        (lambda table: table.assign(label=2), "label must be 0 or 1"),
        (lambda table: table.assign(score="much"), "score must be a number, got 'much'"),
        (lambda table: table[table["reader"] == "Ada"], "two readers at least"),
    ],
)
def test_what_is_no_whole_study_is_said(hilum: Hilum, readings: Path, change: object, says: str) -> None:
    change(pd.read_csv(readings)).to_csv(readings, index=False)  # type: ignore[operator]
    said = hilum("readers", readings)
    assert (said.code, len(said.err.splitlines())) == (2, 1), said.err
    assert says in said.err
