"""Films per second read in random order at 512 px: packed, against Pillow decoding and resizing 1024 px PNG files."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from hilum.data.images import Preprocessing
from hilum.data.pack import open_pack
from hilum.data.sources.nih import index_nih
from hilum.phantom.dataset import write_phantom

TARGET = 20.0


def films_per_second(read: Callable[[int], object], rows: list[int], rounds: int) -> float:
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        for row in rows:
            read(row)
        best = max(best, len(rows) / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of 1024 px films with a label file; phantom if absent")
    parser.add_argument("--labels", type=Path, help="its label file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "phantom"
        if options.data is None:
            write_phantom(data, films=48, size=1024)
        films = index_nih(data, labels=options.labels)
        pack = open_pack(films, Preprocessing(512), Path(folder) / "packs")
        rows = np.random.default_rng(0).permutation(len(films)).tolist()

        def decode(row: int) -> object:
            with Image.open(films.path(row)) as film:
                grey = film.convert("L").resize((512, 512), Image.Resampling.BILINEAR)
            return np.asarray(grey, dtype=np.float32) / 255

        decoded = films_per_second(decode, rows, options.rounds)
        packed = films_per_second(pack.read, rows, options.rounds)
    result = {"pillow": decoded, "packed": packed, "ratio": packed / decoded, "target": TARGET, "films": len(rows)}
    if options.json:
        print(json.dumps(result))
        return
    print(f"Pillow decode + resize {decoded:8.1f} films/s; packed {packed:8.1f} films/s: {packed / decoded:.1f}x")
    print(f"target: {TARGET}x")


if __name__ == "__main__":
    main()
