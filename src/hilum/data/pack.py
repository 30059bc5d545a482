"""Packs: films decoded once, in shards that all splits of a manifest and all recipes of one preprocessing share."""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt16, UInt64

from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.data.store import Store
from hilum.errors import HilumError
from hilum.files import in_turn, unfinished, write_whole
from hilum.messages import messages, track

PACKS = ".hilum-packs"
"""The folder beside a manifest in which its packed films are kept; it may be deleted at any time."""
FORMAT = 2
_STORED = "store.json"
_SHARD_BYTES = 128 << 20
"""What a killed build does again at most, for each depth."""
_OPEN_SHARDS = 256
_DIGEST_BYTES = 64  # of a SHA-256 in letters, before the identities of a shard's films
_LEVELS = {np.dtype(np.uint8): np.float32(255), np.dtype(np.uint16): np.float32(65535)}
_IDENTITY = np.dtype("<u8")

Levels = UInt8[np.ndarray, "size size"] | UInt16[np.ndarray, "size size"]
Identities = UInt64[np.ndarray, " films"]
"""A digest for each film: of its file's path, size and date."""


@dataclass(frozen=True)
class Shard:
    """A file of films of one depth, in NumPy's format, with an index beside it that vouches for it.

    Attributes:
        path: the file.
        first_byte: where the films begin in it.
        films: how many there are.
        size: height and width of each, in pixels.
        dtype: 8-bit or 16-bit greys.
        store: where the file is, if it is not at `path`.
    """

    path: Path
    first_byte: int
    films: int
    size: int
    dtype: np.dtype[Any]
    store: Store | None = None

    def read(self, place: int) -> Levels:
        """One film's greys, by one read of the file: nothing else comes into memory."""
        if self.store is not None:
            return self.levels(self.store.parts([self.part(place)])[0])
        levels = np.empty((self.size, self.size), dtype=self.dtype)
        _read_at(self.path, levels, self.first_byte + place * levels.nbytes)
        return levels

    def part(self, place: int) -> tuple[str, int, int]:
        """Where a film's greys are: the file's name, their first byte and the one after their last."""
        length = self.size * self.size * self.dtype.itemsize
        first = self.first_byte + place * length
        return self.path.name, first, first + length

    def levels(self, content: bytes) -> Levels:
        """The greys in a part of the file."""
        if len(content) != self.size * self.size * self.dtype.itemsize:
            raise _damaged(self.path)
        return np.frombuffer(content, dtype=self.dtype).reshape(self.size, self.size)


@dataclass(frozen=True)
class Pack:
    """The films of a table, wherever in the shards they are.

    Attributes:
        shards: those that hold them.
        shard, place: of each row.
        channels: of the network's input.
        fetched: films of a store that `fetch` brought and nobody has read yet, by row.
    """

    shards: tuple[Shard, ...]
    shard: Int64[np.ndarray, " films"]
    place: Int64[np.ndarray, " films"]
    channels: int
    fetched: dict[int, Levels] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def remote(self) -> bool:
        """Whether some of it lies in a store."""
        return any(shard.store is not None for shard in self.shards)

    def fetch(self, rows: Sequence[int]) -> None:
        """Bring films of a store, all at once, for the next time that each is read; those on disk are left there."""
        by_store: dict[Store, list[int]] = {}
        for row in set(rows):
            store = self.shards[int(self.shard[row])].store
            if store is not None:
                by_store.setdefault(store, []).append(row)
        for store, own in by_store.items():
            shards = [self.shards[int(self.shard[row])] for row in own]
            places = [int(self.place[row]) for row in own]
            parts = store.parts([shard.part(place) for shard, place in zip(shards, places, strict=True)])
            self.fetched.update((row, shard.levels(part)) for row, shard, part in zip(own, shards, parts, strict=True))

    def levels(self, row: int) -> Levels:
        """One film's greys as they are stored: 255 or 65535 is white."""
        if row in self.fetched:
            return self.fetched.pop(row)
        return self.shards[int(self.shard[row])].read(int(self.place[row]))

    def read(self, row: int) -> Float32[np.ndarray, "channels size size"]:
        """The network's input for one film, to half a 16-bit grey level of what Preprocessing gives."""
        levels = self.levels(row)
        grey = np.divide(levels, _LEVELS[levels.dtype], dtype=np.float32)
        one: Float32[np.ndarray, "1 size size"] = grey[np.newaxis]
        return one if self.channels == 1 else np.repeat(one, self.channels, axis=0)


def open_pack(films: Films, preprocessing: Preprocessing, folder: Path) -> Pack:
    """The pack of these films; those that are not in it yet are added now, by all cores.

    A film is known by its file's path, size and date: if one of them changes, it is packed again. Greys are kept in
    8 bits where that loses nothing, else in 16. A build that is killed goes on after its last whole shard.

    Args:
        folder: of the packs of all preprocessings; it may be deleted at any time.

    Raises:
        ImageError: naming the first film that cannot be read.
        HilumError: if a shard is damaged.
    """
    place = folder / _key(preprocessing)
    wanted = identities(films)
    _bring_indexes(place)
    shards, known = _index(place, preprocessing.size)
    if not np.isin(wanted, known).all():
        with in_turn(place):  # another process may be packing the same films
            shards, known = _index(place, preprocessing.size)
            missing = np.flatnonzero(~np.isin(wanted, known))
            if len(missing):
                _write(place, films, missing, wanted, preprocessing)
                shards, known = _index(place, preprocessing.size)
    return _located(wanted, shards, known, preprocessing.channels)


def verify_pack(preprocessing: Preprocessing, folder: Path) -> int:
    """Compare the SHA-256 of every shard with its index, and return how many films they hold.

    Raises:
        HilumError: naming the first shard that is damaged.
    """
    films = 0
    for shard in _index(folder / _key(preprocessing), preprocessing.size)[0]:
        if shard.store is not None:
            digest = hashlib.sha256(shard.store.content(shard.path.name)).hexdigest()
        else:
            with shard.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != _index_file(shard.path).read_bytes()[:_DIGEST_BYTES].decode("ascii"):
            raise _damaged(shard.path)
        films += shard.films
    return films


def move_to_store(preprocessing: Preprocessing, folder: Path, url: str) -> None:
    """Keep the shards of a preprocessing's pack in a store from now on; the folder keeps their indexes, and says where.

    Args:
        url: of a folder that all packs share, such as s3://bucket/packs.

    Raises:
        HilumError: if the store cannot be reached, or the pack is in another one.
    """
    place = folder / _key(preprocessing)
    with in_turn(place):
        whole, before = f"{url.rstrip('/')}/{place.name}", _store(place)
        if before is not None and before.url != whole:
            raise HilumError(
                f"store must be {before.url}, where the pack in {place} is, got {whole}. Delete the folder"
            )
        store = Store(whole)
        store.names()  # refused before anything is moved
        write_whole(place / _STORED, json.dumps({"url": whole}).encode())
        for index in sorted(place.glob("*.index")):
            shard = index.with_suffix(".npy")
            if shard.is_file():
                _send(store, shard)


def identities(films: Films) -> Identities:
    """A digest for each film, by its file's path, size and date; no file is opened."""
    found = np.empty(len(films), dtype=_IDENTITY)
    for row in range(len(films)):
        path = films.path(row)
        try:
            status = path.stat()
            known = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        except OSError:  # said when it is read
            known = str(path)
        found[row] = int.from_bytes(hashlib.blake2b(known.encode(), digest_size=_IDENTITY.itemsize).digest(), "little")
    return found


def _key(preprocessing: Preprocessing) -> str:
    """The folder's name: what decides the greys. Channels are equal copies."""
    facts = {**preprocessing.to_dict(), "channels": 1, "format": FORMAT}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Stored:
    """What a pack takes on disk.

    Attributes:
        films: that it holds, earlier forms of changed files among them.
        eight_bit: those that 8 bits hold exactly.
        shards: files.
        bytes: of all of them.
        store: where they are; None for the folder itself.
    """

    folder: Path
    films: int
    eight_bit: int
    shards: int
    bytes: int
    store: str | None


def stored(preprocessing: Preprocessing, folder: Path) -> Stored:
    """What the pack of a preprocessing takes on disk."""
    place = folder / _key(preprocessing)
    shards, store = _index(place, preprocessing.size)[0], _store(place)
    return Stored(
        store=None if store is None else store.url,
        folder=place,
        films=sum(shard.films for shard in shards),
        eight_bit=sum(shard.films for shard in shards if shard.dtype.itemsize == 1),
        shards=len(shards),
        bytes=sum(shard.part(shard.films)[1] for shard in shards),
    )


def _index_file(shard: Path) -> Path:
    return shard.with_suffix(".index")


def _store(place: Path) -> Store | None:
    """Where the shards of a pack are, if not in its folder."""
    try:
        return Store(str(json.loads((place / _STORED).read_text(encoding="utf-8"))["url"]))
    except FileNotFoundError:
        return None


def _bring_indexes(place: Path) -> None:
    """The indexes of shards that other machines put into the store since."""
    store = _store(place)
    if store is None:
        return
    for name in store.names():
        if name.endswith(".index") and not (place / name).is_file():
            write_whole(place / name, store.content(name))


def _send(store: Store, shard: Path) -> None:
    """Move a whole shard to the store; its index there comes last, as on a disk."""
    store.put(shard, shard.name)
    store.put(_index_file(shard), _index_file(shard).name)
    shard.unlink()


def _index(place: Path, size: int) -> tuple[list[Shard], UInt64[np.ndarray, " packed"]]:
    """The whole shards, and the identities of their films, one shard's after another's."""
    shards: list[Shard] = []
    store = _store(place)
    known = [np.empty(0, dtype=_IDENTITY)]
    for index in sorted(place.glob("*.index")):
        held = np.frombuffer(index.read_bytes()[_DIGEST_BYTES + 1 :], dtype=_IDENTITY)
        path = index.with_suffix(".npy")
        there = store is not None and not path.is_file()
        shards.append(_in_store(path, len(held), size, store) if there else _opened(path, len(held), size))
        known.append(held)
    return shards, np.concatenate(known)


def _opened(path: Path, films: int, size: int) -> Shard:
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            first_byte, length = file.tell(), os.fstat(file.fileno()).st_size
    except (OSError, ValueError, EOFError):
        raise _damaged(path) from None
    if shape != (films, size, size) or length != first_byte + films * size * size * dtype.itemsize:
        raise _damaged(path)
    return Shard(path, first_byte, films, size, dtype)


def _in_store(path: Path, films: int, size: int, store: Store | None) -> Shard:
    """A shard that is not opened before a film is read: its name says its depth."""
    dtype = np.dtype(path.name.partition("-")[0])
    return Shard(path, len(_header(films, size, dtype)), films, size, dtype, store)


def _header(films: int, size: int, dtype: np.dtype[Any]) -> bytes:
    """The beginning of a shard's file."""
    content = BytesIO()
    facts = {"descr": dtype.str, "fortran_order": False, "shape": (films, size, size)}
    np.lib.format.write_array_header_1_0(content, facts)
    return content.getvalue()


def _damaged(path: Path) -> HilumError:
    return HilumError(f"pack must be whole, got a damaged {path}. Delete it and its .index, and it is made anew")


def _located(wanted: Identities, shards: list[Shard], known: UInt64[np.ndarray, " packed"], channels: int) -> Pack:
    """Where each film is."""
    order = np.argsort(known, kind="stable")
    found = order[np.searchsorted(known, wanted, sorter=order)] if len(wanted) else np.empty(0, dtype=np.int64)
    ends = np.cumsum([shard.films for shard in shards], dtype=np.int64)
    shard = np.searchsorted(ends, found, side="right").astype(np.int64)
    starts = ends - np.array([one.films for one in shards], dtype=np.int64)
    return Pack(tuple(shards), shard, found - starts[shard] if len(found) else found, channels)


# --- writing


class _Growing:
    """Films of one depth on their way to shards."""

    def __init__(self, place: Path, size: int, dtype: Any, store: Store | None):
        self.place, self.size, self.dtype, self.store = place, size, np.dtype(dtype), store
        self.most = max(1, _SHARD_BYTES // (size * size * self.dtype.itemsize))
        self.films: list[Levels] = []
        self.names: list[bytes] = []

    def add(self, levels: Levels, identity: bytes) -> None:
        """Take a film, and write a shard once there are enough."""
        self.films.append(levels)
        self.names.append(identity)
        if len(self.films) == self.most:
            self.write()

    def write(self) -> None:
        """A shard of what is there, whole or not at all; its index comes last."""
        if not self.films:
            return
        names = b"".join(self.names)
        path = self.place / f"{self.dtype.name}-{hashlib.sha256(names).hexdigest()[:16]}.npy"
        with unfinished(path) as beside:
            with beside.open("wb") as file:
                file.write(_header(len(self.films), self.size, self.dtype))  # not a map: a full disk would kill us
                for film in self.films:
                    file.write(film.tobytes())
            with beside.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        with unfinished(_index_file(path)) as beside:
            beside.write_bytes(digest.hexdigest().encode("ascii") + b"\n" + names)
        if self.store is not None:
            _send(self.store, path)
        self.films, self.names = [], []


def _write(
    place: Path, films: Films, rows: Int64[np.ndarray, " some"], names: Identities, preprocessing: Preprocessing
) -> None:
    grey = replace(preprocessing, channels=1)
    store = _store(place)
    growing = {8: _Growing(place, grey.size, np.uint8, store), 16: _Growing(place, grey.size, np.uint16, store)}
    start = time.perf_counter()

    def levels(row: int) -> tuple[int, Levels]:
        return _levels(grey.read(films.path(row))[0])

    order = [int(row) for row in rows]
    for row, (bits, film) in zip(order, track(_ahead(levels, order), "packing films", total=len(order)), strict=True):
        growing[bits].add(film, names[row].tobytes())
    for depth in growing.values():
        depth.write()
    seconds = time.perf_counter() - start
    messages().print(f"{len(order):,} films packed, {len(order) / seconds:,.0f} a second: {place}", soft_wrap=True)


def _levels(grey: Float32[np.ndarray, "size size"]) -> tuple[int, Levels]:
    """A film in 8 bits if they hold it exactly, else in 16."""
    eight: Levels = np.round(grey * np.float32(255)).astype(np.uint8)
    if np.array_equal(np.divide(eight, np.float32(255), dtype=np.float32), grey):
        return 8, eight
    return 16, np.round(grey * np.float32(65535)).astype(np.uint16)


def _ahead(work: Callable[[int], tuple[int, Levels]], rows: list[int]) -> Iterator[tuple[int, Levels]]:
    """What `work` gives for each row in order, by all cores, never more than a few rows ahead."""
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as threads:
        waiting: deque[Future[tuple[int, Levels]]] = deque()
        try:
            for row in rows:
                waiting.append(threads.submit(work, row))
                if len(waiting) > 4 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for unread in waiting:
                unread.cancel()


# --- reading


class _OpenFile:
    """A file that is closed once nobody has it."""

    def __init__(self, path: Path):
        self.file = path.open("rb", buffering=0)

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


@lru_cache(maxsize=_OPEN_SHARDS)
def _open_file(path: Path, process: int) -> _OpenFile:
    return _OpenFile(path)


def _read_at(path: Path, into: Levels, position: int) -> None:
    """Fill an array from a place in a file; many threads and processes may."""
    view = memoryview(cast(Any, into)).cast("B")
    try:
        if hasattr(os, "preadv"):
            descriptor = _open_file(path, os.getpid())
            got = os.preadv(descriptor.file.fileno(), [view], position)
        else:
            with path.open("rb", buffering=0) as file:
                file.seek(position)
                got = file.readinto(view) or 0
    except OSError as error:
        raise HilumError(f"pack must be a file that can be read, but {path} cannot: {error.strerror}") from None
    if got != into.nbytes:
        raise _damaged(path)
