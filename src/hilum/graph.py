"""A bundle as one graph: from grey pixels of any height and width to scores, logits and class maps."""

import copy
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from hilum.bundle import Bundle
from hilum.data.faults import LARGEST_SIDE, SMALLEST_SIDE
from hilum.data.images import Preprocessing
from hilum.data.resize import centres
from hilum.nn.classifier import Classifier, ClassMaps, Logits

Pixels = Float32[Tensor, "batch height width"]
Film = Float32[Tensor, "batch size size"]
Side = Any
"""A whole number, or torch's symbol for one while it traces a graph."""


class Answer(NamedTuple):
    """What the graph gives, in the findings' order: hilum.engines.Outputs, and the film that the network saw."""

    scores: Logits
    logits: Logits
    maps: ClassMaps
    film: Film


class Graph(nn.Module):
    """Everything behind the decoding of a file, in one forward.

    Args:
        bundle: the model; left as it is.
    """

    slopes: Float32[Tensor, " findings"]
    intercepts: Float32[Tensor, " findings"]

    def __init__(self, bundle: Bundle):
        super().__init__()
        self.resize = Resize(bundle.preprocessing)
        self.model = _grey(bundle.model)
        slopes, intercepts = torch.from_numpy(bundle.description.slopes_and_intercepts())
        self.register_buffer("slopes", slopes)
        self.register_buffer("intercepts", intercepts)

    def forward(self, pixels: Pixels, full_scale: Float32[Tensor, " batch"]) -> Answer:
        """See Answer.

        Args:
            pixels: grey, bone bright, of films of one height and width.
            full_scale: what the pixels of each film are divided by: its format's maximum, 255 or 65535.
        """
        film = self.resize(pixels) / full_scale[:, None, None]
        logits, maps = self.model.class_maps(film[:, None])
        return Answer((self.slopes * logits + self.intercepts).sigmoid(), logits, maps, film)


class Resize(nn.Module):
    """Preprocessing's resize, computed from the pixels' shape, so that one graph takes films of every shape.

    Its arithmetic is on whole numbers, below 2^31 for every film that may be read, because engines may have no 64-bit
    floats: nothing is rounded before the last division.
    """

    earlier: Int64[Tensor, " ties"]

    def __init__(self, preprocessing: Preprocessing):
        super().__init__()
        self.size, self.interpolation = preprocessing.size, preprocessing.interpolation
        self.register_buffer("earlier", _earlier(self.size) if self.interpolation == "nearest" else None)

    def forward(self, pixels: Pixels) -> Film:
        """Films of the model's size, in the pixels' unit."""
        height, width = pixels.shape[1:]
        if self.interpolation == "nearest":
            return pixels[:, self._centres(height)][:, :, self._centres(width)]
        return self._shares(height) @ pixels @ self._shares(width).T

    def _centres(self, before: Side) -> Int64[Tensor, " size"]:
        """See hilum.data.resize.centres."""
        new = torch.arange(self.size)
        pixel: Tensor = (2 * new + 1) * before // (2 * self.size)
        if not len(self.earlier):
            return pixel
        early: Tensor = (_tie(before, new, self.size)[:, None] == self.earlier).any(1)
        return pixel - early.long()

    def _shares(self, before: Side) -> Float32[Tensor, "size before"]:
        """See hilum.data.resize.coverage."""
        new, old, after = torch.arange(self.size)[:, None], torch.arange(before), self.size
        covered = torch.minimum((old + 1) * after, (new + 1) * before) - torch.maximum(old * after, new * before)
        position = ((2 * new + 1) * before - after).clamp(torch.zeros_like(new), 2 * after * old[-1])
        near = 2 * after - (position - 2 * after * old).abs()
        shrinks = old[-1] >= after - 1  # a tensor, not a branch: the shape is not known yet
        return torch.where(shrinks, covered, near).clamp(min=0) / torch.where(shrinks, old[-1] + 1, 2 * after)


def _tie(before: Side, new: Tensor, after: int) -> Tensor:
    """One number for a new pixel's centre along an axis."""
    tie: Tensor = before * after + new
    return tie


def _earlier(after: int) -> Int64[Tensor, " ties"]:
    """The centres on an edge between two pixels that Pillow's rounding puts into the earlier one, for every side."""
    new = np.arange(after)
    ties = []
    for before in range(SMALLEST_SIDE, LARGEST_SIDE + 1):
        exact = (2 * new + 1) * before // (2 * after)
        ties.append(before * after + new[centres(before, after) < exact])
    return torch.from_numpy(np.concatenate(ties))


def _grey(model: Classifier) -> Classifier:
    """A copy whose first convolution sees one channel: for three equal ones, the same sum in a third of the time."""
    model = copy.deepcopy(model).eval()
    stem = cast(nn.Conv2d, model.get_submodule(model.stem_key.removesuffix(".weight")))
    stem.weight = nn.Parameter(stem.weight.detach().sum(1, keepdim=True))
    stem.in_channels = 1
    return model
