"""Packs beyond this machine's disks: in a folder by its address, and in an S3-compatible server."""

import json
import os
import re
import shutil
import subprocess
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hilum.data.dataset import packed_films
from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.data.pack import Pack, move_to_store, open_pack, stored, verify_pack
from hilum.data.store import Store
from hilum.errors import HilumError

pytest.importorskip("obstore")

NEAREST = Preprocessing(size=24, interpolation="nearest")


def some_films(folder: Path, number: int = 6) -> Films:
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(number):
        pixels = np.random.default_rng(row).integers(0, 256, (30, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
    table = pd.DataFrame(
        {"path": [f"{row}.png" for row in range(number)], "Mass": np.array([0, 1] * (number // 2), dtype=np.float32)}
    )
    return Films(table, folder, ("Mass",), {})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's server of S3, which cannot be installed beside Hilum: its botocore wants an older python-dateutil."""
    command = os.environ.get("HILUM_MOTO_SERVER") or shutil.which("moto_server")
    if command is None:
        pytest.skip("HILUM_MOTO_SERVER does not name moto_server, of 'moto[server]' in an environment of its own")
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([command, "-H", "127.0.0.1", "-p", "0"], stdout=file, stderr=file)
    try:
        while (found := re.search(r"Running on (http://\S+)", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
        yield found[1]
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place by its address."""
    if request.param == "file":
        return f"file://{tmp_path}/store"
    address = request.getfixturevalue("server")
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"films-{tmp_path.name[-20:].replace('_', '-')}".lower()
    with urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT")):
        return f"s3://{bucket}/packs"


def whole(pack: Pack, films: Films) -> bool:
    return all(np.array_equal(pack.read(row), NEAREST.read(films.path(row))) for row in range(len(films)))


def test_a_pack_is_moved_to_a_store_and_read_and_added_to_there(tmp_path: Path, url: str) -> None:
    films, packs = some_films(tmp_path / "films"), tmp_path / "packs"
    half = Films(films.table.iloc[:3].reset_index(drop=True), films.root, ("Mass",), {})
    open_pack(half, NEAREST, packs)
    move_to_store(NEAREST, packs, url)
    assert not list(packs.rglob("*.npy"))
    pack = open_pack(films, NEAREST, packs)  # the other half goes there at once
    assert not list(packs.rglob("*.npy"))
    assert pack.remote
    assert whole(pack, films)
    told = stored(NEAREST, packs)
    assert (told.films, told.shards, told.store) == (6, 2, f"{url}/{told.folder.name}")
    assert verify_pack(NEAREST, packs) == 6
    pack.fetch([4, 1, 4])
    assert sorted(pack.fetched) == [1, 4]
    assert whole(pack, films)
    assert pack.fetched == {}


def test_another_machine_finds_what_is_there(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    films = some_films(tmp_path / "films")
    move_to_store(NEAREST, tmp_path / "packs", url)
    open_pack(films, NEAREST, tmp_path / "packs")
    move_to_store(NEAREST, tmp_path / "others", url)
    expected = [NEAREST.read(films.path(row)) for row in range(6)]
    monkeypatch.setattr(Preprocessing, "read", None)  # nothing is decoded again
    pack = open_pack(films, NEAREST, tmp_path / "others")
    assert all(np.array_equal(pack.read(row), film) for row, film in enumerate(expected))


def test_a_batch_is_brought_at_once(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    films = some_films(tmp_path / "films")
    move_to_store(NEAREST, tmp_path / "packs", url)
    open_pack(films, NEAREST, tmp_path / "packs")
    asked: list[int] = []
    real = Store.parts

    def parts(self: Store, wanted: list[tuple[str, int, int]]) -> list[bytes]:
        asked.append(len(wanted))
        return real(self, wanted)

    monkeypatch.setattr(Store, "parts", parts)
    dataset = packed_films(films, NEAREST, tmp_path / "packs")
    batches = list(DataLoader(dataset, batch_size=3))
    assert asked == [3, 3]
    assert np.array_equal(batches[1][0][2].numpy(), NEAREST.read(films.path(5)))


@pytest.mark.slow
def test_workers_bring_a_store_s_films(tmp_path: Path, url: str) -> None:
    films = some_films(tmp_path / "films")
    move_to_store(NEAREST, tmp_path / "packs", url)
    dataset = packed_films(films, NEAREST, tmp_path / "packs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about pinned memory and few cores
        loader = DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context="spawn")
        images = torch.cat([images for images, _ in loader])
    assert all(np.array_equal(images[row].numpy(), NEAREST.read(films.path(row))) for row in range(6))


def test_a_damaged_shard_in_a_store_is_named(tmp_path: Path, url: str) -> None:
    films, packs = some_films(tmp_path / "films"), tmp_path / "packs"
    move_to_store(NEAREST, packs, url)
    pack = open_pack(films, NEAREST, packs)
    (index,) = packs.rglob("*.index")
    short = tmp_path / "short"
    short.write_bytes(b"short")
    store = Store(json.loads((index.parent / "store.json").read_text())["url"])
    store.put(short, index.with_suffix(".npy").name)
    with pytest.raises(HilumError, match="pack must be whole"):
        verify_pack(NEAREST, packs)
    with pytest.raises(HilumError, match=r"pack must be whole|store must be a place that can be reached"):
        pack.read(3)


def test_a_store_that_cannot_be_reached_moves_nothing(tmp_path: Path) -> None:
    films, packs = some_films(tmp_path / "films"), tmp_path / "packs"
    open_pack(films, NEAREST, packs)
    with pytest.raises(HilumError, match="store must be a place that can be reached, but nowhere://packs/"):
        move_to_store(NEAREST, packs, "nowhere://packs")
    assert whole(open_pack(films, NEAREST, packs), films)
    move_to_store(NEAREST, packs, f"file://{tmp_path}/one")
    with pytest.raises(HilumError, match=r"store must be file://.*/one/.*, where the pack in"):
        move_to_store(NEAREST, packs, f"file://{tmp_path}/other")
