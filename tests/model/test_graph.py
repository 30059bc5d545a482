import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.data.images import Preprocessing
from hilum.model.export import Resize
from hilum.nn.densenet import DenseNet

SIDES = [(64, 64), (100, 333), (1024, 1000), (50, 40), (17, 16), (500, 224), (448, 1024), (20, 9000)]


@functools.cache
def resize_of(size: int, interpolation: str) -> Resize:
    """As Preprocessing has it; that of nearest neighbours takes a second to be made."""
    return Resize(Preprocessing(size, interpolation))  # type: ignore[arg-type]


def resized(resize: Resize, pixels: np.ndarray) -> np.ndarray:
    full_scale = np.float32(np.iinfo(pixels.dtype).max)
    scale = torch.tensor([full_scale])
    films: torch.Tensor = resize(torch.from_numpy(pixels.astype(np.float32))[None], scale) / scale
    return films[0].numpy()


@pytest.mark.parametrize("interpolation", ["area", "nearest"])
@pytest.mark.parametrize("size", [64, 100, 224])
def test_the_resize_is_preprocessings(size: int, interpolation: str) -> None:
    preprocessing = Preprocessing(size, interpolation)  # type: ignore[arg-type]
    resize, generator = resize_of(size, interpolation), np.random.default_rng(0)
    for height, width in SIDES:
        pixels = generator.integers(0, 65536, (height, width), dtype=np.uint16)
        tolerance = 0 if interpolation == "nearest" else 1e-6
        np.testing.assert_allclose(resized(resize, pixels), preprocessing.apply(pixels)[0], rtol=0, atol=tolerance)


KERNELS = ("area", "bilinear", "bicubic", "pillow-bicubic", "scikit-image")
CUTS = (
    *((name, cut) for name in KERNELS for cut in ({"crop": "square"}, {"shorter": 70})),
    ("nearest", {"crop": "square"}),
)


@pytest.mark.parametrize(("interpolation", "cut"), [*CUTS, *((name, {}) for name in KERNELS[1:])])
def test_crops_and_resizes_of_other_systems_are_preprocessings(interpolation: Any, cut: dict[str, Any]) -> None:
    preprocessing = Preprocessing(64, interpolation, **cut)
    resize, generator = Resize(preprocessing), np.random.default_rng(0)
    for height, width in [(64, 64), (100, 333), (301, 300), (40, 50)]:
        pixels = generator.integers(0, 256, (height, width), dtype=np.uint8)
        found, expected = resized(resize, pixels), preprocessing.apply(pixels)[0]
        tolerance = 1.001 / 255 if "pillow" in interpolation else 2e-6  # where a half falls differently
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        assert (np.abs(found - expected) > 2e-6).mean() < 1e-3
        ready = torch.from_numpy(expected)[None]
        torch.testing.assert_close(resize(ready, torch.ones(1)), ready, rtol=0, atol=1e-6)


@settings(max_examples=40)
@given(st.integers(16, 3000), st.sampled_from([64, 100, 224]))
def test_nearest_takes_pillows_pixel_also_on_edges(side: int, size: int) -> None:
    resize = resize_of(size, "nearest")
    ramp = np.arange(side, dtype=np.uint16)[None].repeat(16, axis=0)
    expected = Preprocessing(resize.size, "nearest").apply(ramp)[0]
    assert np.array_equal(resized(resize, ramp), expected)


@settings(max_examples=40)
@given(st.integers(16, 20_000), st.sampled_from([64, 512]))
def test_every_new_pixel_shares_out_one_whole(side: int, size: int) -> None:
    resize = resize_of(size, "area")
    axis, _ = resize._axes(side, side, torch.ones(1))
    shares = resize._weights(axis)
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(resize.size), rtol=0, atol=2e-6)


def test_averaging_before_the_transitions_convolution_is_the_same_network() -> None:
    from torchvision.models import DenseNet as Torchvision

    torch.manual_seed(0)
    ours = DenseNet(findings=3, block_layers=(1, 1, 1, 1), growth=8, stem=16)
    theirs = Torchvision(8, (1, 1, 1, 1), 16, num_classes=3)
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    images = torch.rand(2, 3, 70, 90)  # odd sides on the way
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-5, atol=1e-6)
