"""Train sets against test sets: what a model loses away from home, and which cells cannot be trusted."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Hilum

from hilum.data.films import Films, write_films
from hilum.data.merge import merge
from hilum.data.sources import read_source
from hilum.data.sources.reading import Options
from hilum.errors import HilumError
from hilum.evaluation.matrix import matrix, matrix_table, render_matrix, sentences
from hilum.phantom.dataset import write_phantom
from hilum.recipe import load_recipe
from hilum.training.train import train

pytestmark = pytest.mark.slow  # they train

MARKED = "Abnormal"
FRACTIONS = (0.45, 0.05, 0.5)


def marked(pixels: np.ndarray, findings: tuple[str, ...]) -> np.ndarray:
    """A film with a marker in its corner if anything is on it: as a hospital that marks its positives."""
    changed = pixels.copy()
    if findings:
        changed[2:18, 2:18] = 255
        changed[6:14, 6:14] = 0
    return changed


def abnormal(films: Films) -> Films:
    """The films with one label: whether anything is on them."""
    any_finding = (films.all_labels == 1).any(axis=1).astype(np.float32)
    table = films.table.drop(columns=list(films.findings)).assign(**{MARKED: any_finding})
    return replace(films, table=table, findings=(MARKED,), notes={**films.notes, "boxes": []})


@pytest.fixture(scope="module")
def places(tiny: Path, packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources of other patients, the first of which marks a finding; models of the first, and of all."""
    folder = tmp_path_factory.mktemp("matrix")
    parts = []
    for seed, layout, count in ((11, "chexpert", 50), (12, "nih", 150), (13, "brax", 50)):
        change = marked if layout == "nih" else None
        write_phantom(folder / layout, films=count, size=64, seed=seed, layout=layout, change=change)
        _, films = read_source(layout, folder / layout, Options())
        parts.append(films.split("patient", fractions=FRACTIONS))
        write_films(parts[-1], folder / f"{layout}.parquet")
    write_films(merge(parts), folder / "all.parquet")
    write_phantom(folder / "clean", films=150, size=64, seed=14)
    _, clean = read_source("nih", folder / "clean", Options())
    shared = abnormal(parts[1])
    write_films(shared, folder / "marked.parquet")
    write_films(abnormal(clean.split("patient", fractions=FRACTIONS)), folder / "clean.parquet")
    recipe = load_recipe(tiny, ["training.epochs=12", "training.keep=last", "optimizer.lr=0.01"])
    train(recipe, shared, folder / "run-marked", packs=packs, bar=False)
    short = load_recipe(tiny, ["training.epochs=1"])
    train(short, parts[0], folder / "run-chexpert", packs=packs, bar=False)
    train(short, merge(parts), folder / "run-all", packs=packs, bar=False)
    return folder


def test_a_planted_shortcut_shows_off_the_diagonal(places: Path) -> None:
    content = matrix([places / "run-marked"], [places / "marked.parquet", places / "clean.parquet"])
    own, other = content["cells"][0]
    assert (own["state"], other["state"]) == ("own", "other")
    assert own["findings"][MARKED]["auroc"]["value"] > 0.95
    difference = other["findings"][MARKED]["difference"]
    assert difference["value"] < -0.2
    assert difference["high"] < 0
    assert own["findings"][MARKED]["difference"] is None
    assert content["common_findings"] == [MARKED]
    assert other["mean"]["p_value_holm"] is not None
    assert any("run-marked loses on clean" in said for said in sentences(content))


def test_cells_that_may_leak_are_struck_out(
    places: Path, phantom_layout: Callable[[str], Path], tmp_path: Path
) -> None:
    write_phantom(tmp_path / "again", films=30, size=64, seed=11, layout="brax")  # the patients of the first source
    films = read_source("brax", tmp_path / "again", Options())[1].split("patient")
    write_films(films, tmp_path / "again.parquet")
    runs = [places / "run-chexpert", places / "run-all"]
    content = matrix(runs, [places / "chexpert.parquet", tmp_path / "again.parquet", places / "brax.parquet"])
    assert [[cell["state"] for cell in row] for row in content["cells"]] == [
        ["own", "leak", "other"],
        ["own", "leak", "own"],  # of all: its parts kept their splits
    ]
    assert content["cells"][0][1]["mean"] is None
    title, header, rows = matrix_table(content)
    assert "Mean AUROC over" in title
    assert header == ["trained on", "chexpert", "again", "brax"]
    assert rows[0][2] == "(leak)"
    page = render_matrix(content)
    assert page.count('class="leak"') >= 2
    assert "not a medical device" in page
    assert content["cells"][1][0]["mean"]["difference"] is None  # two homes
    assert set(content["common_findings"]) <= set(content["rows"][0]["findings"])


def test_the_command_writes_page_and_json(places: Path, hilum: Hilum, tmp_path: Path) -> None:
    out = tmp_path / "matrix"
    arguments = [places / "run-marked", "--films", places / "marked.parquet", "--films", places / "clean.parquet"]
    said = hilum("matrix", *arguments, "--out", out)
    assert said.code == 0, said.err
    assert "run-marked" in said.out
    content = json.loads((out / "matrix.json").read_text())
    assert [column["name"] for column in content["columns"]] == ["marked", "clean"]
    assert (out / "matrix.html").read_text().startswith("<!doctype html>")


def test_the_same_film_set_twice_is_refused(places: Path) -> None:
    with pytest.raises(HilumError, match="films must be at least one and each named once"):
        matrix([places / "run-marked"], [places / "marked.parquet"] * 2)
    with pytest.raises(HilumError, match="runs must be at least one"):
        matrix([], [places / "marked.parquet"])
