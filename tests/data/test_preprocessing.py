import hashlib
import time
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float32
from PIL import Image
from torch.nn import functional
from torchvision.transforms import v2

from hilum.data.images import WHOLE_BLOCKS, Preprocessing, block_mean, coverage, read_grey

PAPER = Preprocessing(size=512, interpolation="nearest", channels=3)

# sha256 of the float32 bytes that reach the network; if they change, so do the answers of every trained bundle
GOLDEN = {
    "00005435_000.png": (
        "c6409b3031e939ad2f4a24b3e8268dfa7e332848f51273b5fe05b36d2beddde6",
        "168994d0b66092680f2a6bf47d26900a3e3bcd6ab6e1932d4198e89fbd3024fc",
    ),
    "00005813_000.png": (
        "eef2cadf461e278a1be4bf25efb241060fdef0f8d3d24a2e049eb9aa1692d1d3",
        "6978491a850b0c85281f40f780bb87f9300462c351735136854db404a7ec6a8a",
    ),
    "00000100_000.png": (
        "1259adf92a53debf0749d02360d35af4c02b361807501e1a6c97c26ceac9bc14",
        "b0714f135d00818fc4b12b8fbe8f2daa79c6a4b8fefc86e248bdfa33fcde0dfe",
    ),
    "00007120_009.png": (
        "4b7276e7dd27a67895c168179ab79d89145856b1fb35bdf7b6a40558af22e92c",
        "db5edf647498b82394ec41fb2374dddf4c1ccc9ab89169e5dfa479a1584d6a69",
    ),
    "00015599_000.png": (
        "063f2d3fcbdaa7192469a5ee38fa217a8fe682f4963691f1a54b968f5c58c511",
        "55dae6bd8d17e0e0d815d0f5c68d4808ca544536f37f1f1f822d75958edaab98",
    ),
}


def noise(height: int, width: int, dtype: Any = np.uint8) -> Any:
    return np.random.default_rng(height * width).integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True)


def nearest_oracle(pixels: Any, size: int) -> Any:
    """Pixel centres, by index, stepping from centre to centre as Pillow does."""
    rows, columns = (list(accumulate([before / size] * size, initial=before / size / 2)) for before in pixels.shape)
    rows, columns = ([int(centre) for centre in centres[:size]] for centres in (rows, columns))
    return pixels[np.ix_(rows, columns)].astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def weights_oracle(before: int, after: int) -> Any:
    """One axis of an antialiased resize, as a matrix: exact shares of an area when it shrinks, linear when it grows."""
    weights = np.zeros((after, before))
    scale = Fraction(before, after)
    for row in range(after):
        for pixel in range(before):
            if after <= before:
                covered = min(Fraction(pixel + 1), (row + 1) * scale) - max(Fraction(pixel), row * scale)
                weights[row, pixel] = max(Fraction(0), covered) / scale
            else:
                centre = min(max((row + Fraction(1, 2)) * scale - Fraction(1, 2), Fraction(0)), Fraction(before - 1))
                weights[row, pixel] = max(Fraction(0), 1 - abs(centre - pixel))
    return weights


def area_oracle(pixels: Any, size: int) -> Any:
    down, across = (weights_oracle(before, size) for before in pixels.shape)
    return down @ (pixels / np.iinfo(pixels.dtype).max) @ across.T


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(64, 64), (128, 64), (97, 31), (20, 200), (33, 70), (256, 192)])
@pytest.mark.parametrize("size", [32, 64, 50])
def test_parity_with_the_oracles(shape: tuple[int, int], size: int, dtype: Any) -> None:
    pixels = noise(*shape, dtype)
    nearest = Preprocessing(size, "nearest").apply(pixels)
    area = Preprocessing(size, "area").apply(pixels)
    np.testing.assert_array_equal(nearest[0], nearest_oracle(pixels, size))
    np.testing.assert_allclose(area[0], area_oracle(pixels, size), rtol=0, atol=1e-6)


def test_parity_with_torchvision_on_pillow_images() -> None:
    pixels = noise(300, 200)
    for size in (16, 50, 112, 224, 333):
        transform = v2.Compose([v2.Resize((size, size), v2.InterpolationMode.NEAREST), v2.PILToTensor()])
        expected = transform(Image.fromarray(pixels)).numpy().astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(Preprocessing(size, "nearest").apply(pixels), expected)


@settings(max_examples=200)
@given(height=st.integers(16, 400), width=st.integers(16, 400), size=st.integers(1, 300))
def test_nearest_is_pillow_s_nearest(height: int, width: int, size: int) -> None:
    pixels = noise(height, width)
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST)) / np.float32(255)
    np.testing.assert_array_equal(Preprocessing(size, "nearest").apply(pixels)[0], expected)
    wide = Preprocessing(size, "nearest").apply(pixels.astype(np.uint16) * 257)[0]
    np.testing.assert_allclose(wide, expected, rtol=0, atol=1e-7)  # a 16-bit film has the same neighbours


@pytest.mark.parametrize(("before", "after"), [(30, 50), (64, 64), (33, 70), (20, 21)])
def test_area_enlarges_as_torch_does(before: int, after: int) -> None:
    pixels = noise(before, before)
    expected = functional.interpolate(torch.from_numpy(pixels)[None, None].double(), (after, after), mode="bilinear")
    np.testing.assert_allclose(Preprocessing(after).apply(pixels), expected[0] / 255, rtol=0, atol=1e-6)


def test_area_is_the_mean_of_blocks() -> None:
    pixels = np.array([[0, 255], [255, 255]], np.uint8).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(Preprocessing(1).apply(pixels), [[[0.75]]])
    np.testing.assert_array_equal(Preprocessing(2).apply(pixels)[0], [[0, 1], [1, 1]])


@pytest.mark.parametrize("times", WHOLE_BLOCKS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_blocks_are_the_same_bit_for_bit(times: int, dtype: Any) -> None:
    pixels = noise(16 * times, 24 * times, dtype)
    pixels[: 8 * times] = np.iinfo(dtype).max
    down, across = coverage(16 * times, 16), coverage(24 * times, 24)
    np.testing.assert_array_equal(block_mean(pixels, times), (across @ (down @ pixels.astype(np.float32)).T).T)
    square = pixels[:, : 16 * times]
    read = Preprocessing(size=16).apply(square)[0]
    np.testing.assert_array_equal(
        read, (down @ (down @ square.astype(np.float32)).T).T / np.float32(np.iinfo(dtype).max)
    )


def test_16_bits_are_divided_by_65535_and_not_rounded_to_8() -> None:
    pixels = np.full((32, 32), 1000, np.uint16)
    np.testing.assert_array_equal(Preprocessing(16).apply(pixels), np.full((1, 16, 16), np.float32(1000) / 65535))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    size=st.integers(1, 120),
    interpolation=st.sampled_from(["nearest", "area"]),
    level=st.integers(0, 65535),
)
def test_range_shape_and_flat_films(height: int, width: int, size: int, interpolation: Any, level: int) -> None:
    preprocessing = Preprocessing(size, interpolation, 3)
    read = preprocessing.apply(noise(height, width, np.uint16))
    assert read.shape == (3, size, size)
    assert 0 <= read.min() <= read.max() <= 1
    np.testing.assert_array_equal(read[0], read[2])
    flat = preprocessing.apply(np.full((height, width), level, np.uint16))
    terms = -(-height // size) - (-width // size) + 2  # of the float32 sums along both axes, and the division
    np.testing.assert_allclose(flat, level / 65535, rtol=0, atol=max(1e-6, terms * 2**-24))


def test_area_is_fast() -> None:
    pixels, preprocessing = noise(1024, 1024), Preprocessing(512)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        preprocessing.apply(pixels)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1  # about 0.01 on an idle machine


def test_to_dict_and_back() -> None:
    assert PAPER.to_dict() == {"size": 512, "interpolation": "nearest", "channels": 3}
    assert Preprocessing.from_dict(PAPER.to_dict()) == PAPER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": 0.5}, "must have the fields size, interpolation, channels, bits, crop, shorter, got .*mean"),
        ({"size": 0}, "size must be a whole number of pixels from 1"),
        ({"size": True}, "size must be a whole number"),
        ({"size": "512"}, "size must be a whole number"),
        ({"interpolation": "cubic"}, "interpolation must be one of nearest, area, bilinear, .*, got 'cubic'"),
        ({"crop": "centre"}, "crop must be square, or none at all, got 'centre'"),
        ({"size": 224, "shorter": 256}, "shorter must go with an interpolation other than nearest, got 256"),
        (
            {"interpolation": "area", "size": 224, "shorter": 200},
            r"shorter must be a whole number of pixels from size \(224\)",
        ),
        ({"interpolation": "area", "size": 224, "shorter": 256, "crop": "square"}, "without crop"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
    ],
)
def test_from_dict_is_strict(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict({**PAPER.to_dict(), **change})
    with pytest.raises(ValueError, match="must have the fields"):
        Preprocessing.from_dict({"size": 512})


def test_size_is_checked_without_a_dict_too() -> None:
    with pytest.raises(ValueError, match="size must be"):
        Preprocessing(size=0)


# real films


def digest(tensor: Float32[np.ndarray, "channels size size"]) -> str:
    return hashlib.sha256(tensor.tobytes()).hexdigest()


@pytest.mark.real
def test_real_films_reach_the_network_bit_for_bit(real_data: Path) -> None:
    for name, (paper, area) in GOLDEN.items():
        path = real_data / "nih" / "originals" / name
        assert digest(PAPER.read(path)) == paper, name
        assert digest(Preprocessing(224).read(path)) == area, name


@pytest.mark.real
def test_every_real_original_against_the_oracles(real_data: Path) -> None:
    paths = sorted((real_data / "nih" / "originals").glob("*.png"))
    assert len(paths) == 90
    for path in paths[::3]:
        image = Image.open(path)
        pixels = np.asarray(image)
        pixels = pixels if pixels.ndim == 2 else pixels[:, :, 0]  # the 10 RGBA films are grey and opaque
        np.testing.assert_array_equal(read_grey(path), pixels)
        expected = pixels[1::2, 1::2].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(PAPER.apply(pixels), np.stack([expected] * 3))
        blocks = (pixels.reshape(512, 2, 512, 2).mean((1, 3)) / 255).astype(np.float32)
        np.testing.assert_allclose(Preprocessing(512).apply(pixels)[0], blocks, rtol=0, atol=1e-6)
