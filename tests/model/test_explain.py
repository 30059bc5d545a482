"""The scale of heatmaps: measured on films of the training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.data.dataset import Augmentation, FilmDataset
from hilum.data.films import Films
from hilum.model.bundle import load_bundle
from hilum.model.explain import heatmap_logits


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
