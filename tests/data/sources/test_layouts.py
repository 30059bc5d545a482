"""Each reader from folder to pixels, on phantom films in its layout: what was drawn is what is read."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hilum.data.films import Films, read_films, write_films
from hilum.data.images import read_grey
from hilum.data.sources import SOURCES, detect, read_source
from hilum.data.sources.masks import grid_of
from hilum.data.sources.reading import Options
from hilum.errors import FilmsError
from hilum.phantom.dataset import PhantomFilm, drawn, plan_layout, write_phantom
from hilum.phantom.film import render
from hilum.phantom.layouts import LAYOUTS, RSNA_OPACITIES, TUBERCULOSIS

COUNTS, SEED = {"jsrt": 6}, 4
SAME: dict[str, tuple[str, ...]] = {
    name: (name,) for name in ("Effusion", "Pneumothorax", "Consolidation", "Cardiomegaly", "Fibrosis")
}
KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "padchest": {**SAME, "Nodule": ("Nodule",), "Mass": ("Mass",), "Emphysema": ("Emphysema",), "Hernia": ("Hernia",)},
    "openi": {**SAME, "Nodule": ("Nodule",), "Mass": ("Mass",), "Edema": ("Edema",), "Hernia": ("Hernia",)},
    "vindr": SAME,
    "rsna": {"Lung Opacity": RSNA_OPACITIES},
    "siim": {"Pneumothorax": ("Pneumothorax",)},
    "tb": {"Tuberculosis": TUBERCULOSIS},
    "jsrt": {"Nodule": ("Nodule",)},
}
"""The manifest's findings and the phantom's that make them present."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Phantom films in the layout of a source, drawn when they are asked for."""

    @cache
    def folder(source: str) -> Path:
        path = tmp_path_factory.mktemp("drawn") / source
        write_phantom(path, films=count_of(source), size=64, seed=SEED, layout=source)
        return path

    return folder


def indexed(source: str, folder: Path, tmp_path: Path) -> Films:
    assert list(detect(folder)) == [source]
    _, films = read_source("auto", folder, Options())
    problems = films.notes["problems"]
    assert {kind: names for kind, names in problems.items() if names} == {}
    write_films(films, tmp_path / "films.parquet")
    return read_films(tmp_path / "films.parquet")


def count_of(source: str) -> int:
    """JSRT's films have 8 MB each."""
    return COUNTS.get(source, 16)


def in_order(films: Films, planned: list[PhantomFilm], source: str) -> list[int]:
    """The manifest's row of each planned film, by where it lies."""
    rows = {path: row for row, path in enumerate(films.table["path"])}
    path = LAYOUTS[source].path
    return [rows[path(drawn(number, film, film))] for number, film in enumerate(planned, start=1)]


@pytest.mark.parametrize("source", KNOWN)
def test_what_was_drawn_is_what_is_read(source: str, places: Callable[[str], Path], tmp_path: Path) -> None:
    films = indexed(source, places(source), tmp_path)
    planned = plan_layout(count_of(source), SEED, LAYOUTS[source])
    order = in_order(films, planned, source)
    assert sorted(order) == list(range(count_of(source)))
    assert set(films.table["source"]) == {f"phantom-{source}"}
    for finding, shown in KNOWN[source].items():
        present = films.table[finding].to_numpy()[order] == 1
        truth = [bool(set(shown) & set(film.findings)) for film in planned]
        if source == "vindr":  # two of three readers must see what is subtle
            assert all(one <= other for one, other in zip(present, truth, strict=True))
        else:
            assert present.tolist() == truth
    for row, film in list(zip(order, planned, strict=True))[:5]:
        pixels, _ = render(film.plan, 64)
        grey = read_grey(films.path(row))
        seen = np.asarray(grey, dtype=np.float64) / np.iinfo(grey.dtype).max * 255
        step = seen.shape[0] // 64
        if step == 1:
            assert np.abs(seen - pixels).max() <= 1
        else:  # enlarged to the size of the set's films
            seen = seen.reshape(64, step, 64, step).mean(axis=(1, 3))
            assert np.corrcoef(seen.ravel(), pixels.ravel())[0, 1] > 0.99
            assert abs(seen.mean() - pixels.mean()) < 1


@pytest.mark.parametrize("source", ["vindr", "rsna", "siim", "jsrt"])
def test_boxes_lie_where_the_findings_were_drawn(source: str, places: Callable[[str], Path], tmp_path: Path) -> None:
    films = indexed(source, places(source), tmp_path)
    planned = plan_layout(count_of(source), SEED, LAYOUTS[source])
    films_of = dict(zip(in_order(films, planned, source), planned, strict=True))
    row_of = {film: row for row, film in enumerate(films.table["film"])}
    boxes_of = cache(lambda row: render(films_of[row].plan, 64)[1])
    assert films.notes["boxes"]
    for box in films.notes["boxes"]:
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        nearest = min(
            max(abs(middle[0] - one.x - one.width / 2), abs(middle[1] - one.y - one.height / 2))
            for one in boxes_of(row_of[box["film"]])
        )
        assert nearest < 0.01
        if source == "siim":
            filled = grid_of(box["mask"]).sum() / 256**2 / (box["width"] * box["height"])
            assert filled == pytest.approx(np.pi / 4, abs=0.05)


def test_labels_of_other_patients_are_in_names_too(tmp_path: Path) -> None:
    write_phantom(tmp_path / "tb", films=20, size=64, layout="tb", shuffle_labels=True)
    films = indexed("tb", tmp_path / "tb", tmp_path)
    planned = plan_layout(20, 0, LAYOUTS["tb"])
    shown = [int(bool(set(film.findings) & set(TUBERCULOSIS))) for film in planned]
    named = [int(path[-5]) for path in sorted(films.table["path"], key=lambda path: path.split("_")[-2])]
    assert sorted(named) == sorted(shown)
    assert named != shown


def test_patients_are_those_of_the_layout(places: Callable[[str], Path]) -> None:
    films = read_source("rsna", places("rsna"), Options())[1]
    assert films.table["patient"].nunique() < len(films)
    assert films.notes["patients_of"] == "nih"
    for source in ("siim", "openi"):
        assert read_source(source, places(source), Options())[1].table["patient"].nunique() == count_of(source)


def test_each_source_has_a_layout() -> None:
    assert {"nih", *LAYOUTS} == set(SOURCES) - {"csv"}


def test_too_many_films_for_a_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="films must be at most 999 in the layout of jsrt, got 1000"):
        write_phantom(tmp_path / "jsrt", films=1000, size=64, layout="jsrt")
    with pytest.raises(FilmsError, match="folder must be new or empty"):
        write_phantom(Path(__file__), films=1, size=64, layout="jsrt")
