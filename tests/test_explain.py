"""Heatmaps: one scale for all films, so that an empty map looks empty."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hilum.bundle import load_bundle
from hilum.data.augment import Augmentation
from hilum.data.dataset import FilmDataset
from hilum.data.films import Films
from hilum.explain import enlarged, heatmap_logits, overlay, save_overlay, strength


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
    clear = overlay(grey, np.zeros((2, 3), dtype=np.float32))
    np.testing.assert_array_equal(clear, np.repeat(np.round(grey * 255).astype(np.uint8)[..., None], 3, axis=2))
    full = overlay(np.zeros((32, 48), dtype=np.float32), np.ones((2, 3), dtype=np.float32))
    np.testing.assert_array_equal(full, np.broadcast_to(np.round(0.6 * np.array([0.9, 0.1, 0.1]) * 255), full.shape))


def test_heat_lies_where_the_map_says() -> None:
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[0, 3] = 1
    picture = overlay(np.full((64, 64), 0.5, dtype=np.float32), heat)
    coloured = np.ptp(picture.astype(int), axis=2)
    assert coloured[8, 56] > 60
    assert coloured[32:, :].max() == coloured[:, :32].max() == 0


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
    save_overlay(tmp_path / "deep" / "film.png", picture, "Mass: score 0.812\nResearch software, not a medical device")
    page = np.asarray(Image.open(tmp_path / "deep" / "film.png"))
    np.testing.assert_array_equal(page[:400, :400], picture)
    assert page.shape[0] > 400
    assert page[400:].max() > 200
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["film.png"]


def test_the_scale_is_the_median_film_and_the_strongest_places(tiny_run: Path, phantom_films: Films) -> None:
    bundle, films = load_bundle(tiny_run), phantom_films.select("val")
    read = [bundle.preprocessing.read(films.path(row)) for row in range(len(films))]
    scale = heatmap_logits(bundle.model, FilmDataset(films, read.__getitem__, Augmentation()), bundle.findings)
    with torch.inference_mode():
        logits, maps = bundle.model.class_maps(torch.from_numpy(np.stack(read)))
    for k, finding in enumerate(bundle.findings):
        low, high = scale[finding]
        assert low == pytest.approx(float(np.median(logits[:, k])), abs=1e-5)
        assert high == pytest.approx(float(np.percentile(maps[:, k].amax((1, 2)), 99)), abs=1e-5)
        assert low < high
        np.testing.assert_allclose(scale[finding], bundle.heatmap_logits[finding], atol=1e-3)  # 16 bits a grey there


def test_constant_maps_have_a_scale(tiny_run: Path, phantom_films: Films) -> None:
    bundle, films = load_bundle(tiny_run), phantom_films.select("val")
    black = np.zeros((1, 64, 64), dtype=np.float32)
    scale = heatmap_logits(bundle.model, FilmDataset(films, lambda row: black, Augmentation()), bundle.findings)
    assert all(low < high for low, high in scale.values())
