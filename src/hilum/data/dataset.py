"""Films as a torch data set: augmentation, and resumable shuffling that several processes share."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.data.pack import open_pack

Image = Float[Tensor, "channels height width"]
Regions = Float[Tensor, "regions height width"]
"""Which part of each place belongs to a region, in [0, 1]."""
Share = Annotated[float, Field(ge=0, lt=1)]


def _moved(
    image: Image, *, angle: float = 0.0, shear: float = 0.0, scale: float = 1.0, right: float = 0.0, down: float = 0.0
) -> Image:
    height, width = image.shape[-2:]
    moved: Image = functional.affine(
        image,
        angle=angle,
        translate=[right * width, down * height],
        scale=scale,
        shear=[shear],
        interpolation=InterpolationMode.BILINEAR,
    )
    return moved


def _soft_or_sharp(image: Image, amount: float) -> Image:
    """Blurred below 0, sharpened above, as by another focus or another edge filter of the unit."""
    soft: Image = functional.gaussian_blur(image, [5, 5], [1.0, 1.0])
    return image + amount * (image - soft)


class Operation(Protocol):
    """A change of a film by an amount."""

    def __call__(self, image: Image, amount: float) -> Image:
        """The changed film."""


FILM_OPERATIONS: dict[str, Operation] = {
    "turn": lambda image, amount: _moved(image, angle=20 * amount),
    "shear": lambda image, amount: _moved(image, shear=10 * amount),
    "right": lambda image, amount: _moved(image, right=0.1 * amount),
    "down": lambda image, amount: _moved(image, down=0.1 * amount),
    "scale": lambda image, amount: _moved(image, scale=1 + 0.25 * amount),
    "contrast": lambda image, amount: functional.adjust_contrast(image, 1 + 0.5 * amount),
    "brightness": lambda image, amount: functional.adjust_brightness(image, 1 + 0.4 * amount),
    "gamma": lambda image, amount: image ** math.exp(0.7 * amount),
    "focus": _soft_or_sharp,
}
"""What a film may suffer between two units and two postures, by an amount in [-1, 1]; 0 leaves it as it is."""

MOVING = ("turn", "shear", "right", "down", "scale")
"""Those of FILM_OPERATIONS that move what is on the film."""


Rectangle = tuple[int, int, int, int]
"""Top, left, rows and columns."""


def _rectangle(height: int, width: int, draw: torch.Generator) -> Rectangle:
    """A rectangle of 2 to 15 % of a film."""
    share = torch.empty(()).uniform_(0.02, 0.15, generator=draw).item()
    log_ratio = torch.empty(()).uniform_(-1, 1, generator=draw).item()
    side, ratio = math.sqrt(share), math.exp(log_ratio / 2)
    rows, columns = max(1, round(height * side * ratio)), max(1, round(width * side / ratio))
    top = int(torch.randint(height - rows + 1, (), generator=draw).item())
    left = int(torch.randint(width - columns + 1, (), generator=draw).item())
    return top, left, rows, columns


@dataclass(frozen=True)
class Change:
    """What one seed does to one film; None or False where it does nothing.

    Attributes:
        moved: degrees, whole pixels to the right and down, and the scale.
        contrast, brightness: factors.
        mirrored: left to right.
        power: of the greys.
        operations: names of FILM_OPERATIONS in their order, with their amounts.
        erased: the rectangle that is filled with the film's mean.
    """

    moved: tuple[float, int, int, float] | None = None
    contrast: float | None = None
    brightness: float | None = None
    mirrored: bool = False
    power: float | None = None
    operations: tuple[tuple[str, float], ...] = ()
    erased: Rectangle | None = None


class Augmentation(BaseModel):
    """How far a training film may be moved; all zero is no augmentation.

    Attributes:
        rotation_deg: turned by up to this many degrees either way.
        shift: moved by up to this part of its width and height.
        scale: shrunk or grown by up to this part.
        contrast: contrast and brightness changed by up to this part.
        flip: probability of a mirror image; 0 by default, since it moves the heart.
        gamma: greys raised to a power of up to exp(gamma) or down to exp(-gamma), as by another exposure.
        erase: probability that a rectangle of 2 to 15 % of the film is filled with the film's mean. Source: Zhong et
            al., "Random Erasing Data Augmentation", AAAI 2020. https://arxiv.org/abs/1708.04896
        operations: how many of FILM_OPERATIONS are drawn for each film, each once at the most; 0 is none. Source:
            Cubuk et al., "RandAugment", NeurIPS 2020, without what no film suffers (posterize, solarize, equalize,
            invert, large shear). https://arxiv.org/abs/1909.13719
        magnitude: how far the drawn operations go, in (0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: Share = 0.0
    scale: Share = 0.0
    contrast: Share = 0.0
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    gamma: Annotated[float, Field(ge=0, le=2)] = 0.0
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0
    operations: Annotated[int, Field(ge=0, le=len(FILM_OPERATIONS))] = 0
    magnitude: Annotated[float, Field(gt=0, le=1)] = 0.5

    def apply(self, image: Image, *, seed: int) -> Image:
        """The film changed as the seed says; torch's own random state is left as it was.

        Args:
            image: grey in [0, 1]; so is the result.
            seed: the same seed gives the same change.
        """
        return self.apply_to_both(image, image[:0], seed=seed)[0]

    def apply_to_both(self, image: Image, regions: Regions, *, seed: int) -> tuple[Image, Regions]:
        """As `apply`; regions of the film move with it, and their values stay what they are."""
        if self == Augmentation():
            return image, regions
        channels, drawn = len(image), self.change(seed, *image.shape[-2:])

        def on_film(both: Image, change: Callable[[Image], Image]) -> Image:
            return change(both) if len(both) == channels else torch.cat([change(both[:channels]), both[channels:]])

        both = torch.cat([image, regions]) if len(regions) else image
        if drawn.moved is not None:
            angle, right, down, scale = drawn.moved
            both = functional.affine(
                both, angle, [right, down], scale, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR, fill=0
            )
        if drawn.contrast is not None and drawn.brightness is not None:
            contrast, brightness = drawn.contrast, drawn.brightness
            both = on_film(
                both,
                lambda film: functional.adjust_brightness(functional.adjust_contrast(film, contrast), brightness),
            )
        if drawn.mirrored:
            both = functional.horizontal_flip(both)
        if drawn.power is not None:
            power = drawn.power
            both = on_film(both, lambda film: film**power)
        for name, amount in drawn.operations:
            change = partial(FILM_OPERATIONS[name], amount=amount)
            both = (change(both) if name in MOVING else on_film(both, change)).clamp(0, 1)
        if drawn.erased is not None:
            rectangle = drawn.erased
            both = on_film(both, lambda film: functional.erase(film, *rectangle, film.mean(dim=(-2, -1), keepdim=True)))
        return both[:channels], both[channels:]

    def change(self, seed: int, height: int, width: int) -> Change:
        """What the seed does to a film of this size in pixels; torch's own random state is left as it was."""
        draw = torch.Generator().manual_seed(seed)

        def between(low: float, high: float) -> float:
            return torch.empty(1).uniform_(low, high, generator=draw).item()

        moved = contrast = brightness = power = erased = None
        if self.rotation_deg or self.shift or self.scale:
            angle = between(-self.rotation_deg, self.rotation_deg)
            right = round(between(-self.shift * width, self.shift * width))
            down = round(between(-self.shift * height, self.shift * height))
            moved = angle, right, down, between(1 - self.scale, 1 + self.scale)
        if self.contrast:
            low, high = 1 - self.contrast, 1 + self.contrast
            contrast, brightness = torch.empty(2).uniform_(low, high, generator=draw).tolist()
        mirrored = bool(self.flip) and torch.rand((), generator=draw).item() < self.flip
        if self.gamma:
            power = math.exp(between(-self.gamma, self.gamma))
        operations = []
        if self.operations:
            for place in torch.randperm(len(FILM_OPERATIONS), generator=draw)[: self.operations].tolist():
                operations.append((list(FILM_OPERATIONS)[place], self.magnitude * between(-1.0, 1.0)))
        if self.erase and torch.rand((), generator=draw).item() < self.erase:
            erased = _rectangle(height, width, draw)
        return Change(moved, contrast, brightness, mirrored, power, tuple(operations), erased)


Labels = Float[Tensor, " findings"]


@dataclass(frozen=True)
class Draw:
    """One film asked for in training: its row, and the seed of its augmentation."""

    row: int
    seed: int


@dataclass(frozen=True)
class FilmDataset(Dataset[tuple[Image, Labels]]):
    """Films and labels on demand. All sources share this class: a source only lists its films.

    A plain row gives the film as it is; a Draw gives it augmented. `targets` are what training takes for labels;
    `fetch` is told which rows of a batch will be read next.
    """

    films: Films
    read: Callable[[int], np.ndarray]  # row -> channels x size x size, float32 in [0, 1]
    augmentation: Augmentation
    targets: Float32[np.ndarray, "films findings"] | None = None
    fetch: Callable[[Sequence[int]], None] | None = None

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, index: int | Draw) -> tuple[Image, Labels]:
        row = index.row if isinstance(index, Draw) else index
        image = torch.from_numpy(self.read(row))
        if isinstance(index, Draw):
            image = self.augmentation.apply(image, seed=index.seed)
        return image, torch.from_numpy(self.films.labels(row) if self.targets is None else self.targets[row].copy())

    def __getitems__(self, indices: Sequence[int | Draw]) -> list[tuple[Image, Labels]]:
        """A batch, as torch's loader asks for it."""
        self.expect(indices)
        return [self[index] for index in indices]

    def expect(self, indices: Sequence[int | Draw]) -> None:
        """Say which films come next, so that those of a store are brought at once."""
        if self.fetch is not None:
            self.fetch([index.row if isinstance(index, Draw) else index for index in indices])


def packed_films(
    films: Films,
    preprocessing: Preprocessing,
    packs: Path,
    *,
    augmentation: Augmentation | None = None,
    targets: Float32[np.ndarray, "films findings"] | None = None,
) -> FilmDataset:
    """The films of a pack, made now as far as it is not there yet: see open_pack."""
    pack = open_pack(films, preprocessing, packs)
    fetch = pack.fetch if pack.remote else None
    return FilmDataset(films, pack.read, augmentation or Augmentation(), targets, fetch)


REGION_GRID = 32
"""Places a side on which a finding's true region is told to the loss."""

FindingRegions = Float[Tensor, "findings grid grid"]


@dataclass(frozen=True)
class SeededFilms(Dataset[tuple[Image, Labels, int] | tuple[Image, Labels, int, FindingRegions]]):
    """Films for training, each with the seed that it was drawn with, from which its dropout is drawn too.

    Attributes:
        films: the films and their augmentation.
        boxes: where the loss is to learn from them: for each film, finding by number and left, top, width and height
            in fractions of the film; a region for each finding comes fourth then, 0 everywhere where there is none.
    """

    films: FilmDataset
    boxes: Mapping[int, Sequence[tuple[int, float, float, float, float]]] | None = None

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, draw: Draw) -> tuple[Image, Labels, int] | tuple[Image, Labels, int, FindingRegions]:
        if self.boxes is None:
            return *self.films[draw], draw.seed
        image, labels = self.films[draw.row]
        regions = torch.zeros(len(labels), REGION_GRID, REGION_GRID)
        boxes = self.boxes.get(draw.row, ())
        findings = sorted({finding for finding, *_ in boxes})
        drawn = torch.zeros(len(findings), *image.shape[1:])
        for finding, left, top, width, height in boxes:
            drawn[findings.index(finding), _span(top, height, len(drawn[0])), _span(left, width, drawn.shape[2])] = 1
        image, moved = self.films.augmentation.apply_to_both(image, drawn, seed=draw.seed)
        if findings:
            regions[findings] = nn.functional.adaptive_avg_pool2d(moved, REGION_GRID)
        return image, labels, draw.seed, regions

    def __getitems__(
        self, draws: Sequence[Draw]
    ) -> list[tuple[Image, Labels, int] | tuple[Image, Labels, int, FindingRegions]]:
        """A batch, as torch's loader asks for it."""
        self.films.expect(draws)
        return [self[draw] for draw in draws]


def _span(start: float, length: float, pixels: int) -> slice:
    """The pixels of one side of a box; one at the least."""
    first = min(max(round(start * pixels), 0), pixels - 1)
    return slice(first, max(first + 1, round((start + length) * pixels)))


def boxes_by_row(films: Films) -> dict[int, list[tuple[int, float, float, float, float]]]:
    """The true boxes in the films' notes, for SeededFilms; of findings that the films are labelled with."""
    row_of = {str(film): row for row, film in enumerate(films.table["film"])}
    boxes: dict[int, list[tuple[int, float, float, float, float]]] = {}
    for box in films.notes.get("boxes", []):
        row = row_of.get(box["film"])
        if row is not None and box["finding"] in films.findings:
            place = tuple(float(box[side]) for side in ("x", "y", "width", "height"))
            boxes.setdefault(row, []).append((films.findings.index(box["finding"]), *place))  # type: ignore[arg-type]
    return boxes


class ShuffledBatches(Sampler[list[Draw]]):
    """Batches of an epoch in random order, the same for the same seed and epoch; an incomplete last batch is left out.

    Args:
        films: number of films.
        batch: films per batch, of all processes together; must not exceed `films`.
        seed: decides the order and every augmentation.
        rank, ranks: this process among all that train together; each takes its part of every batch.
        sources: of each film, where sources are to be balanced.
        power: how a source of n films is weighed: 1 as it is, 0.5 by its square root, 0 like every other. Inside a
            source no film comes again before all have come.

    Raises:
        ValueError: if there is no batch, or it has fewer films than there are processes.
    """

    def __init__(
        self,
        films: int,
        batch: int,
        *,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        sources: Sequence[str] | None = None,
        power: float = 1.0,
    ):
        if batch > films:
            raise ValueError(f"batch must be at most {films} for {films} films, got {batch}")
        if batch < ranks:
            raise ValueError(f"batch must be at least {ranks} for {ranks} processes, got {batch}")
        self.films, self.batch, self.seed, self.rank, self.ranks = films, batch, seed, rank, ranks
        self.sources, self.power = None if sources is None else np.asarray(sources, dtype=str), power
        self.epoch = 0
        self.skip = 0  # batches of the coming epoch that were trained on before a stop
        self.sampler = self  # where Lightning looks for `set_epoch`

    def __len__(self) -> int:
        return self.films // self.batch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next: it decides the order and the augmentations."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.films) if self.sources is None else self._balanced(random)
        seeds = random.integers(2**62, size=self.films)
        skip, self.skip = self.skip, 0
        for number in range(skip, len(self)):
            whole = order[number * self.batch : (number + 1) * self.batch]
            yield [Draw(int(row), int(seeds[row])) for row in part_of_batch(whole, self.rank, self.ranks)]

    def _balanced(self, random: np.random.Generator) -> Int64[np.ndarray, " films"]:
        """An epoch's films: each place draws a source, which gives the next of its films in a random order."""
        assert self.sources is not None
        names, of_film, counts = np.unique(self.sources, return_inverse=True, return_counts=True)
        weights = counts.astype(np.float64) ** self.power
        drawn = random.choice(len(names), size=self.films, p=weights / weights.sum())
        order = np.empty(self.films, dtype=np.int64)
        for place in range(len(names)):
            films, turns = np.flatnonzero(of_film == place), np.flatnonzero(drawn == place)
            rounds = [random.permutation(films) for _ in range(-(-len(turns) // len(films)))]
            order[turns] = np.concatenate([*rounds, films[:0]])[: len(turns)]
        return order


def part_of_batch(rows: np.ndarray, rank: int, ranks: int) -> np.ndarray:
    """One process's films of a batch: the only place where a batch is split. Parts differ by one film at most."""
    return np.array_split(rows, ranks)[rank]
