import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hilum.data.dataset import open_pack
from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.errors import HilumError, ImageError

HALF_A_LEVEL = 0.5 / 65535
AREA = Preprocessing(size=24)
NEAREST = Preprocessing(size=24, interpolation="nearest")


def write_film(path: Path, *, seed: int = 0, shape: tuple[int, int] = (40, 50), dtype: Any = np.uint8) -> None:
    highest = np.iinfo(dtype).max
    pixels = np.random.default_rng(seed).integers(0, highest, shape, dtype, endpoint=True)
    Image.fromarray(pixels).save(path, format="PNG")


def some_films(folder: Path, number: int = 4, dtype: Any = np.uint8) -> Films:
    names = [f"{row}.png" for row in range(number)]
    for row, name in enumerate(names):
        write_film(folder / name, seed=row, shape=(30 + row, 50 - row), dtype=dtype)
    return Films(pd.DataFrame({"path": names}), folder, (), {})


def packs(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("preprocessing", [AREA, NEAREST, Preprocessing(size=64, channels=3)])
def test_a_pack_equals_preprocessing_to_half_a_level(tmp_path: Path, dtype: Any, preprocessing: Preprocessing) -> None:
    films = some_films(tmp_path, dtype=dtype)
    pack = open_pack(films, preprocessing, tmp_path / "packs")
    for row in range(len(films)):
        expected = preprocessing.read(films.path(row))
        assert pack.read(row).shape == expected.shape
        assert np.abs(pack.read(row).astype(np.float64) - expected).max() <= HALF_A_LEVEL * 1.01  # float32's rounding


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nearest_films_survive_exactly(tmp_path: Path, dtype: Any) -> None:
    films = some_films(tmp_path, dtype=dtype)
    pack = open_pack(films, NEAREST, tmp_path / "packs")
    assert all(np.array_equal(pack.read(row), NEAREST.read(films.path(row))) for row in range(len(films)))


def test_all_8_bit_greys_survive_exactly(tmp_path: Path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "0.png")
    films = Films(pd.DataFrame({"path": ["0.png"]}), tmp_path, (), {})
    pack = open_pack(films, Preprocessing(size=16, interpolation="nearest"), tmp_path / "packs")
    assert np.array_equal(pack.read(0).ravel(), np.arange(256, dtype=np.float32) / np.float32(255))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)))
def test_rows_are_films(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    folder = tmp_path_factory.mktemp("films")
    films = some_films(folder)
    moved = Films(films.table.iloc[order].reset_index(drop=True), folder, (), {})
    first, second = (open_pack(table, NEAREST, folder / "packs") for table in (films, moved))
    assert all(np.array_equal(second.read(row), first.read(order[row])) for row in range(4))


def test_it_is_made_once(tmp_path: Path) -> None:
    films = some_films(tmp_path)
    first = open_pack(films, AREA, tmp_path / "packs")
    (path,) = packs(tmp_path / "packs")
    written = path.stat().st_mtime_ns, path.stat().st_ino
    again = open_pack(films, Preprocessing(size=24, channels=3), tmp_path / "packs")  # the channels are equal copies
    assert packs(tmp_path / "packs") == [path]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == written
    assert np.array_equal(again.read(1), np.repeat(first.read(1), 3, axis=0))


def test_another_preprocessing_is_another_pack(tmp_path: Path) -> None:
    films = some_films(tmp_path)
    for preprocessing in (AREA, NEAREST, Preprocessing(size=25)):
        open_pack(films, preprocessing, tmp_path / "packs")
    assert len(packs(tmp_path / "packs")) == 3


def test_it_is_made_anew_when_a_file_changes(tmp_path: Path) -> None:
    films = some_films(tmp_path)
    open_pack(films, NEAREST, tmp_path / "packs")
    write_film(films.path(2), seed=99)
    pack = open_pack(films, NEAREST, tmp_path / "packs")
    assert np.array_equal(pack.read(2), NEAREST.read(films.path(2)))
    status = films.path(1).stat()
    os.utime(films.path(1), ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # of the same size, but of another date
    open_pack(films, NEAREST, tmp_path / "packs")
    assert len(packs(tmp_path / "packs")) == 3


@pytest.mark.parametrize("part", [0, 50, 500])
def test_a_damaged_pack_is_refused(tmp_path: Path, part: int) -> None:
    films = some_films(tmp_path)
    open_pack(films, AREA, tmp_path / "packs")
    (path,) = packs(tmp_path / "packs")
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(HilumError, match=r"pack must be whole, got a damaged .*\.npy. Delete it"):
        open_pack(films, AREA, tmp_path / "packs")


def test_a_pack_is_read_from_disk_and_cannot_be_written_to(tmp_path: Path) -> None:
    pack = open_pack(some_films(tmp_path), AREA, tmp_path / "packs")
    assert isinstance(pack.pixels, np.memmap)
    assert not pack.pixels.flags.writeable
    pack.read(0)[:] = 0  # a copy, the caller's own
    assert pack.read(0).any()


@pytest.mark.parametrize("fault", ["missing", "truncated", "text"])
def test_a_film_that_cannot_be_read_is_named_and_leaves_nothing(tmp_path: Path, fault: str) -> None:
    films = some_films(tmp_path)
    path = films.path(2)
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200] if fault == "truncated" else b"not a film")
    with pytest.raises(ImageError, match=r"2\.png"):
        open_pack(films, AREA, tmp_path / "packs")
    assert packs(tmp_path / "packs") == []
    write_film(path)
    assert len(open_pack(films, AREA, tmp_path / "packs").pixels) == 4
