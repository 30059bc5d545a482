"""Heatmaps as files: one scale for all films, so that an empty map looks empty."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.data.films import Films
from hilum.data.images import WHOLE, Preprocessing
from hilum.metrics.thresholds import Threshold
from hilum.model.engines import Engine, open_engine
from hilum.model.metadata import UNVALIDATED_LEVEL, RegionLevel, on_whole_film, read_description, strength
from hilum.predict.heatmaps import (
    captioned,
    enlarged,
    heat_over,
    marked,
    outlines,
    overlay,
    region,
    region_of,
    save_picture,
    write_heatmaps,
)
from hilum.predict.scoring import Scored, score_files


@pytest.fixture(scope="module")
def engine(tiny_run: Path) -> Engine:
    return open_engine(tiny_run, engine="torch")


def test_strength_is_golden() -> None:
    given = np.array([[-9.0, -1.0], [0.0, 1.0], [3.0, 8.0]], dtype=np.float32)
    expected = np.array([[0, 0], [0.25, 0.5], [1, 1]], dtype=np.float32)
    np.testing.assert_array_equal(strength(given, (-1.0, 3.0)), expected)


def test_strength_does_not_depend_on_the_rest_of_the_film() -> None:
    weak, strong = np.full((2, 2), 0.5, dtype=np.float32), np.full((2, 2), 0.5, dtype=np.float32)
    strong[0, 0] = 9
    assert strength(weak, (0.0, 2.0))[1, 1] == strength(strong, (0.0, 2.0))[1, 1] == 0.25


def test_nothing_is_transparent_and_full_is_red() -> None:
    grey = np.random.default_rng(0).random((32, 48)).astype(np.float32)
    clear = heat_over(grey, np.zeros((2, 3), dtype=np.float32))
    np.testing.assert_array_equal(clear, np.repeat(np.round(grey * 255).astype(np.uint8)[..., None], 3, axis=2))
    np.testing.assert_array_equal(overlay(grey, np.zeros((2, 3), dtype=np.float32), None), clear)
    full = heat_over(np.zeros((32, 48), dtype=np.float32), np.ones((2, 3), dtype=np.float32))
    np.testing.assert_array_equal(full, np.broadcast_to(np.round(0.6 * np.array([0.9, 0.1, 0.1]) * 255), full.shape))


def corner(row: int, column: int, *, side: int = 4) -> np.ndarray:
    heat = np.zeros((side, side), dtype=np.float32)
    heat[row, column] = 0.5
    return heat


def test_heat_lies_in_the_region_alone_with_a_line_around_it() -> None:
    heat = corner(0, 3)
    picture = overlay(np.full((64, 64), 0.5, dtype=np.float32), heat, region(heat, 0.7)).astype(int)
    coloured = np.ptp(picture, axis=2)
    assert coloured[8, 54] > 30
    assert coloured[32:, :].max() == coloured[:, :32].max() == 0
    assert (picture == 255).all(axis=2).any()  # the line
    untouched = (picture == 128).all(axis=2).mean()
    assert untouched > 0.85  # no tint over the film


@pytest.mark.parametrize(
    ("places", "side", "zone"),
    [
        ([(0, 7)], "left", "upper"),
        ([(3, 0)], "right", "mid"),
        ([(6, 6)], "left", "lower"),
        ([(6, 0), (6, 7)], "both", "lower"),
        ([(4, 3), (4, 4)], "central", "lower"),
    ],
)
def test_a_region_says_side_and_zone(places: list[tuple[int, int]], side: str, zone: str) -> None:
    heat = sum((corner(*place, side=8) for place in places), np.zeros((8, 8), dtype=np.float32))
    found = region(heat, 0.5)
    assert found is not None
    assert (found.side, found.zone) == (side, zone)
    assert zone in found.words
    assert 0 < found.area < 0.1


def test_outlines_surround_the_region_and_are_closed() -> None:
    found = region(corner(1, 2), 0.7)
    assert found is not None
    [line] = outlines(found)
    assert line[0] == pytest.approx(line[-1], abs=0.02)
    across, down = np.array(line).T
    assert 0.5 < across.min() < across.mean() < across.max() < 0.75
    assert 0.25 < down.min() < down.max() < 0.5
    higher = region(corner(1, 2), 0.95)
    assert higher is not None
    assert higher.area < found.area


def test_there_is_no_region_below_the_threshold_nor_without_evidence(tiny_run: Path) -> None:
    description = replace(read_description(tiny_run), regions=RegionLevel(0.5, 0.3, 40, 20))
    finding = description.findings[0]
    scale = description.heatmap_logits[finding]
    high, low = (np.full((2, 2), scale[k], dtype=np.float32) for k in (1, 0))
    limit = Threshold(0.4, 0.1, 0.9)
    assert region_of(high, description, finding, 0.39, limit) is None
    assert region_of(high, description, finding, 0.4, limit) is not None
    assert region_of(high, description, finding, 0.01, None) is not None
    assert region_of(low, description, finding, 0.9, limit) is None
    assert replace(description, regions=None).region_level == UNVALIDATED_LEVEL
    grey = np.full((32, 32), 0.5, dtype=np.float32)
    bare = replace(description, thresholds=None)
    picture, words = marked(grey, high, bare, finding, 0.812)
    assert words == f"{finding}: score 0.812, both mid zones"
    assert np.ptp(picture.astype(int), axis=2).max() > 0
    picture, words = marked(grey, low, bare, finding, 0.812)
    assert words.endswith("no region")
    assert (picture == 128).all()


def test_a_small_film_is_enlarged_and_a_large_one_left_as_it_is() -> None:
    small = np.tile(np.linspace(0, 1, 96, dtype=np.float32), (64, 1))
    shown = enlarged(small)
    assert shown.shape == (512, 768)
    assert (shown.min(), shown.max()) == (0, 1)
    assert (np.diff(shown[100]) >= 0).all()
    large = np.random.default_rng(0).random((600, 700), dtype=np.float32)
    np.testing.assert_array_equal(enlarged(large), large)


def test_caption_is_below_the_film(tmp_path: Path) -> None:
    picture = np.full((400, 400, 3), 90, dtype=np.uint8)
    caption = "Mass: score 0.812\nResearch software, not a medical device"
    save_picture(tmp_path / "deep" / "film.png", captioned(picture, caption))
    page = np.asarray(Image.open(tmp_path / "deep" / "film.png"))
    np.testing.assert_array_equal(page[:400, :400], picture)
    assert page.shape[0] > 400
    assert page[400:].max() > 200
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["film.png"]


def test_heatmaps_are_on_one_scale(engine: Engine, phantom_films: Films, tmp_path: Path) -> None:
    [scored] = score_files(engine, [phantom_films.path(0)])
    bare = replace(engine.description, thresholds=None)
    low = replace(bare, heatmap_logits=dict.fromkeys(engine.description.findings, (50.0, 60.0)))
    high = replace(bare, heatmap_logits=dict.fromkeys(engine.description.findings, (-60.0, -50.0)))
    assert scored.image is not None
    grey = np.round(enlarged(scored.image).astype(np.float64) * 255).astype(np.uint8)
    assert grey.shape == (512, 512)
    for path in write_heatmaps(low, scored, tmp_path / "low", film="film.png"):
        film = np.asarray(Image.open(path))[:512, :512]
        np.testing.assert_array_equal(film, np.repeat(grey[..., None], 3, axis=2))
    for path in write_heatmaps(high, scored, tmp_path / "high", film="film.png", top=2):
        film = np.asarray(Image.open(path))[:512, :512].astype(int)
        inner = film[4:-4, 4:-4]  # within the line around the region, which is the whole film
        assert (inner[..., 0] > inner[..., 2]).all()
    assert len(list((tmp_path / "high").iterdir())) == 2


def test_heatmaps_are_those_of_the_highest_scores(tiny_run: Path, tmp_path: Path) -> None:
    bundle = read_description(tiny_run)
    maps = np.full((len(bundle.findings), 2, 2), 20, dtype=np.float32)
    scores = np.full(len(bundle.findings), 0.1, dtype=np.float32)
    scores[[4, 9]] = 0.5, 0.9
    scored = Scored(Path("x.png"), "", np.zeros((64, 64), dtype=np.float32), scores, maps)
    written = write_heatmaps(bundle, scored, tmp_path, film="x")
    assert [path.name for path in written] == [f"x.{bundle.findings[k]}.png" for k in (9, 4, 0)]
    assert write_heatmaps(bundle, Scored(Path("y.png"), "bad"), tmp_path, film="y") == []


@pytest.mark.parametrize(
    ("film", "place"), [("a/b.png", "a/b.png"), ("/a/b.png", "_/a/b.png"), ("../b.png", "__/b.png"), ("a_b", "a_b")]
)
def test_heatmaps_lie_in_the_film_s_folders_and_never_outside(
    engine: Engine, phantom_films: Films, tmp_path: Path, film: str, place: str
) -> None:
    [scored] = score_files(engine, [phantom_films.path(0)])
    [written] = write_heatmaps(engine.description, scored, tmp_path / "maps", film=film, top=1)
    assert written.relative_to(tmp_path / "maps").as_posix().startswith(f"{place}.")
    assert written.is_file()


def test_a_map_of_a_part_of_a_film_lies_where_the_network_saw_it() -> None:
    part = np.zeros((4, 4), dtype=np.float32)
    part[0, 3] = 1
    assert on_whole_film(part, WHOLE, elsewhere=0.0) is part
    whole = on_whole_film(part, Preprocessing(64, crop="square").seen(100, 200), elsewhere=-1.0)
    side = len(whole)
    assert (whole[:, : side // 4] == -1).all()
    assert (whole[:, -side // 4 :] == -1).all()
    row, column = np.unravel_index(whole.argmax(), whole.shape)
    assert row < side / 8 + 1
    assert abs((column + 0.5) / side - (0.25 + 0.5 * 3.5 / 4)) < 0.07
    assert whole.max() == 1
