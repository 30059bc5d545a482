"""How many films a second one core brings from a pack to a batch, whatever trains on them."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hilum.data.dataset import Augmentation, Draw, FilmDataset, SeededFilms
from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.data.pack import open_pack
from hilum.recipe import load_recipe

_FILMS, _BATCH = 256, 32


class FeedingSpeed(NamedTuple):
    """A line of the table.

    Attributes:
        films_per_second: of one core, in random order, each film from the pack to a batch of tensors.
        augmented_films_per_second: the same, each film turned and moved as `nih-small` does it on the CPU.
    """

    size: int
    films_per_second: float
    augmented_films_per_second: float


def measure_feeding(sizes: Sequence[int], *, seconds: float = 3.0, films: int = _FILMS) -> list[FeedingSpeed]:
    """Measure the loader alone, in this process and on one core.

    Args:
        seconds: of the processor's time, for each rate: what else the machine does is not measured.
        films: 8-bit films in the pack; they stay in the page cache, so that no disk is measured.
    """
    augmentation = load_recipe("nih-small").augmentation
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    lines = []
    try:
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                table = _noise(Path(folder), size, films)
                pack = open_pack(table, Preprocessing(size, interpolation="nearest"), Path(folder) / "packs")
                rates = [
                    _rate(SeededFilms(FilmDataset(table, pack.read, chosen)), seconds)
                    for chosen in (Augmentation(), augmentation)
                ]
            lines.append(FeedingSpeed(size, *rates))
    finally:
        torch.set_num_threads(before)
    return lines


def _noise(folder: Path, size: int, films: int) -> Films:
    """Films of noise, already of this size."""
    random = np.random.default_rng(0)
    names = [f"{row}.png" for row in range(films)]
    for name in names:
        pixels = random.integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, compress_level=0)
    labels = random.integers(0, 2, films).astype(np.float32)
    return Films(pd.DataFrame({"film": names, "path": names, "Mass": labels}), folder, ("Mass",), {})


class _Endless:
    """Batches in random order without an end."""

    def __init__(self, films: int):
        self.films = films

    def __iter__(self) -> Iterator[list[Draw]]:
        random = np.random.default_rng(0)
        while True:
            rows = random.integers(0, self.films, _BATCH)
            yield [
                Draw(int(row), int(seed)) for row, seed in zip(rows, random.integers(2**62, size=_BATCH), strict=True)
            ]


def _rate(films: SeededFilms, seconds: float) -> float:
    loader: Iterator[list[torch.Tensor]] = iter(
        DataLoader(films, batch_sampler=cast("list[list[int]]", _Endless(len(films))), num_workers=0)
    )
    next(loader)  # the first one opens files
    start, counted = time.process_time(), 0
    while counted == 0 or time.process_time() - start < seconds:
        counted += len(next(loader)[0])
    return counted / (time.process_time() - start)
