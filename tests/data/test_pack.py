import os
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hilum.data import pack as packing
from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.data.pack import open_pack, stored, verify_pack
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
    """The shards, and nothing half written beside them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.suffix in (".npy", ".index") for path in files)
    return sorted(path for path in files if path.suffix == ".npy")


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


@pytest.mark.parametrize(
    "changed",
    [{"size": 16}, {"interpolation": "bilinear"}, {"bits": 12}, {"crop": "square"}, {"shorter": 30}],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_changes_greys_is_another_pack(tmp_path: Path, changed: dict[str, Any]) -> None:
    films = some_films(tmp_path, dtype=np.uint16)
    for row in range(len(films)):
        darker = np.asarray(Image.open(films.path(row))) >> 4
        Image.fromarray(darker).save(films.path(row), format="PNG")  # as of 12 bits
    open_pack(films, AREA, tmp_path / "packs")
    other = replace(AREA, **changed)
    pack = open_pack(films, other, tmp_path / "packs")
    assert len(packs(tmp_path / "packs")) == 2
    assert np.abs(pack.read(1) - other.read(films.path(1))).max() <= HALF_A_LEVEL * 1.01
    assert {field.name for field in fields(Preprocessing)} == {
        *("size", "interpolation", "bits", "crop", "shorter"),
        "channels",  # equal copies, which share a pack
    }


def test_a_film_is_packed_anew_when_its_file_changes(tmp_path: Path) -> None:
    films = some_films(tmp_path)
    open_pack(films, NEAREST, tmp_path / "packs")
    write_film(films.path(2), seed=99)
    pack = open_pack(films, NEAREST, tmp_path / "packs")
    assert np.array_equal(pack.read(2), NEAREST.read(films.path(2)))
    status = films.path(1).stat()
    os.utime(films.path(1), ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # of the same size, but of another date
    open_pack(films, NEAREST, tmp_path / "packs")
    assert len(packs(tmp_path / "packs")) == 3
    assert stored(NEAREST, tmp_path / "packs").films == 6


@pytest.mark.parametrize("part", [0, 50, 500])
def test_a_damaged_pack_is_refused(tmp_path: Path, part: int) -> None:
    films = some_films(tmp_path)
    open_pack(films, AREA, tmp_path / "packs")
    (path,) = packs(tmp_path / "packs")
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(HilumError, match=r"pack must be whole, got a damaged .*\.npy. Delete it"):
        open_pack(films, AREA, tmp_path / "packs")


def test_what_is_read_is_the_callers_own(tmp_path: Path) -> None:
    pack = open_pack(some_films(tmp_path), AREA, tmp_path / "packs")
    pack.read(0)[:] = 0
    assert pack.read(0).any()


def test_a_pack_goes_to_another_process_without_its_films(tmp_path: Path) -> None:
    pack = open_pack(some_films(tmp_path), AREA, tmp_path / "packs")
    sent = pickle.dumps(pack)
    assert len(sent) < 4 * 24 * 24 * 2
    assert np.array_equal(pickle.loads(sent).read(2), pack.read(2))


def test_splits_share_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = some_films(tmp_path, number=9)
    halves = [Films(films.table.iloc[rows].reset_index(drop=True), tmp_path, (), {}) for rows in ([0, 3, 5], [5, 1, 3])]
    opened: list[str] = []
    real = Preprocessing.read

    def read(self: Preprocessing, path: Path) -> Any:
        opened.append(path.name)
        return real(self, path)

    monkeypatch.setattr(Preprocessing, "read", read)
    first, second = (open_pack(half, AREA, tmp_path / "packs") for half in halves)
    assert sorted(opened) == ["0.png", "1.png", "3.png", "5.png"]  # no film twice, and none that was not asked for
    assert np.array_equal(first.read(2), second.read(0))
    whole = open_pack(films, AREA, tmp_path / "packs")
    assert len(opened) == len(whole) == 9
    for row in range(9):
        assert np.abs(whole.read(row) - real(AREA, films.path(row))).max() <= HALF_A_LEVEL * 1.01


def test_8_bits_are_taken_where_they_lose_nothing(tmp_path: Path) -> None:
    films = some_films(tmp_path)
    write_film(films.path(1), dtype=np.uint16)
    pack = open_pack(films, NEAREST, tmp_path / "packs")
    assert [pack.levels(row).dtype for row in range(4)] == [np.uint8, np.uint16, np.uint8, np.uint8]
    assert all(np.array_equal(pack.read(row), NEAREST.read(films.path(row))) for row in range(4))
    told = stored(NEAREST, tmp_path / "packs")
    assert (told.films, told.eight_bit, told.shards) == (4, 3, 2)
    assert told.bytes == sum(path.stat().st_size for path in packs(tmp_path / "packs"))


def test_a_killed_build_goes_on_after_its_last_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = some_films(tmp_path, number=7)
    monkeypatch.setattr(packing, "_SHARD_BYTES", 2 * 24 * 24)  # two films of 8 bits
    real, read = Preprocessing.read, list[str]()

    def killed(self: Preprocessing, path: Path) -> Any:
        if path.name == "5.png":
            raise KeyboardInterrupt
        return real(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(Preprocessing, "read", killed)
        with pytest.raises(KeyboardInterrupt):
            open_pack(films, NEAREST, tmp_path / "packs")
    assert len(packs(tmp_path / "packs")) == 2

    def noted(self: Preprocessing, path: Path) -> Any:
        read.append(path.name)
        return real(self, path)

    monkeypatch.setattr(Preprocessing, "read", noted)
    pack = open_pack(films, NEAREST, tmp_path / "packs")
    assert sorted(read) == ["4.png", "5.png", "6.png"]
    assert all(np.array_equal(pack.read(row), real(NEAREST, films.path(row))) for row in range(7))


def test_a_shard_is_verified_by_its_hash(tmp_path: Path) -> None:
    films = some_films(tmp_path)
    open_pack(films, NEAREST, tmp_path / "packs")
    assert verify_pack(NEAREST, tmp_path / "packs") == 4
    (path,) = packs(tmp_path / "packs")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(HilumError, match="pack must be whole, got a damaged"):
        verify_pack(NEAREST, tmp_path / "packs")


def test_a_shard_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    pack = open_pack(some_films(tmp_path), AREA, tmp_path / "packs")
    (path,) = packs(tmp_path / "packs")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HilumError, match="pack must be whole"):
        pack.read(3)


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
    assert len(open_pack(films, AREA, tmp_path / "packs")) == 4
