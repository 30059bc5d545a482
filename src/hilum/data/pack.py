"""Films decoded and resized once, kept in one file, so that decoding does not starve the trainer."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt16

from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.errors import HilumError
from hilum.files import unfinished
from hilum.progress import track

_LEVELS = np.float32(65535)


@dataclass(frozen=True)
class Pack:
    """Preprocessed films in one memory-mapped file of 16-bit greys: 8-bit films survive nearest resizing exactly."""

    pixels: UInt16[np.ndarray, "films size size"]
    channels: int

    def read(self, row: int) -> Float32[np.ndarray, "channels size size"]:
        """The network's input for one film, to half a 16-bit grey level of what Preprocessing gives."""
        grey = self.pixels[row].astype(np.float32) / _LEVELS
        return np.repeat(grey[np.newaxis], self.channels, axis=0)


def open_pack(films: Films, preprocessing: Preprocessing, folder: Path) -> Pack:
    """The pack of these films, made now if it is not there yet.

    Its name says which files, of which size and date, went through which preprocessing: when any of these changes,
    another pack is made.

    Raises:
        ImageError: naming the first film that cannot be read.
        HilumError: if the pack that is there is damaged.
    """
    path = folder / f"{_key(films, preprocessing)}.npy"
    if not path.is_file():
        _write(path, films, preprocessing)
    try:
        pixels = np.load(path, mmap_mode="r")
    except (ValueError, EOFError):
        raise HilumError(f"pack must be whole, got a damaged {path}. Delete it, and it is made anew") from None
    return Pack(pixels, preprocessing.channels)


def _key(films: Films, preprocessing: Preprocessing) -> str:
    rows: list[object] = [preprocessing.size, preprocessing.interpolation]
    for row in range(len(films)):
        path = films.path(row)
        status = path.stat() if path.is_file() else None
        rows.append((str(path.resolve()), status and status.st_size, status and status.st_mtime_ns))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _write(path: Path, films: Films, preprocessing: Preprocessing) -> None:
    grey = Preprocessing(preprocessing.size, preprocessing.interpolation, 1)

    def levels(row: int) -> UInt16[np.ndarray, "size size"]:
        film: UInt16[np.ndarray, "size size"] = np.round(grey.read(films.path(row))[0] * _LEVELS).astype(np.uint16)
        return film

    with unfinished(path) as beside:
        shape = (len(films), grey.size, grey.size)
        header = {"descr": np.dtype(np.uint16).str, "fortran_order": False, "shape": shape}
        with ThreadPoolExecutor(os.cpu_count()) as threads, beside.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)  # not through a map: a full disk would kill the process
            for film in track(threads.map(levels, range(len(films))), "packing films", total=len(films)):
                file.write(film.tobytes())
