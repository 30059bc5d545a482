"""Films as a torch data set, in an order that a seed decides and that can be taken up in the middle."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hilum.data.augment import Augmentation
from hilum.data.films import Films

Image = Float[Tensor, "channels height width"]
Labels = Float[Tensor, " findings"]


@dataclass(frozen=True)
class Draw:
    """One film asked for in training: its row, and the seed of its augmentation."""

    row: int
    seed: int


@dataclass(frozen=True)
class FilmDataset(Dataset[tuple[Image, Labels]]):
    """Films and labels on demand. All sources share this class: a source only lists its films.

    A plain row gives the film as it is; a Draw gives it augmented.
    """

    films: Films
    read: Callable[[int], np.ndarray]  # row -> channels x size x size, float32 in [0, 1]
    augmentation: Augmentation

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, index: int | Draw) -> tuple[Image, Labels]:
        row = index.row if isinstance(index, Draw) else index
        image = torch.from_numpy(self.read(row))
        if isinstance(index, Draw):
            image = self.augmentation.apply(image, seed=index.seed)
        return image, torch.from_numpy(self.films.labels(row))


class ShuffledBatches(Sampler[list[Draw]]):
    """Batches of an epoch in random order, the same for the same seed and epoch; an incomplete last batch is left out.

    Args:
        films: number of films.
        batch: films per batch; must not exceed `films`.
        seed: decides the order and every augmentation.
        rank, ranks: this process among all that train together; each takes every `ranks`-th batch.

    Raises:
        ValueError: if there are fewer batches than processes.
    """

    def __init__(self, films: int, batch: int, *, seed: int, rank: int = 0, ranks: int = 1):
        if films // batch < ranks:
            raise ValueError(f"batch must be at most {films // ranks} for {films} films, got {batch}")
        self.films, self.batch, self.seed, self.rank, self.ranks = films, batch, seed, rank, ranks
        self.epoch = 0
        self.skip = 0  # batches of the coming epoch that were trained on before a stop
        self.sampler = self  # where Lightning looks for `set_epoch`

    def __len__(self) -> int:
        return self.films // self.batch // self.ranks

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next: it decides the order and the augmentations."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.films)
        seeds = random.integers(2**62, size=self.films)
        skip, self.skip = self.skip, 0
        for number in range(skip, len(self)):
            first = (number * self.ranks + self.rank) * self.batch
            rows = order[first : first + self.batch]
            yield [Draw(int(row), int(seeds[row])) for row in rows]
