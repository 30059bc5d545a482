"""Augmentation of a whole batch in a few passes on the device where it lies, film for film as Augmentation does it."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from hilum.data.dataset import FILM_OPERATIONS, MOVING, Augmentation, Change

Images = Float[Tensor, "films channels height width"]
Factors = Float[Tensor, "films 1 1 1"]
Matrices = Float[Tensor, "films 2 3"]

_GREY = (0.2989, 0.587, 0.114)  # torchvision's, whose contrast is about the mean grey


def augment_batch(images: Images, augmentation: Augmentation, seeds: Sequence[int]) -> Images:
    """Each film changed as its seed says: what `Augmentation.apply` gives one by one, to the rounding of sums.

    Args:
        images: grey in [0, 1], on any device; so is the result.
        seeds: one for each film, in the host's memory.
    """
    if augmentation == Augmentation():
        return images
    height, width = images.shape[-2:]
    changes = [augmentation.change(seed, height, width) for seed in seeds]
    if augmentation.rotation_deg or augmentation.shift or augmentation.scale:
        images = _moved(images, _matrices([change.moved or (0.0, 0, 0, 1.0) for change in changes]), filled=True)
    if augmentation.contrast:
        images = _blend(images, _mean_grey(images), _factors([change.contrast or 1.0 for change in changes], images))
        images = (images * _factors([change.brightness or 1.0 for change in changes], images)).clamp(0, 1)
    if augmentation.flip:
        mirrored = torch.tensor([change.mirrored for change in changes], device=images.device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(-1), images)
    if augmentation.gamma:
        images = images ** _factors([change.power or 1.0 for change in changes], images)
    for turn in range(augmentation.operations):
        images = _operated(images, [change.operations[turn] for change in changes])
    if augmentation.erase:
        images = torch.where(_erased(changes, images), images.mean((-2, -1), keepdim=True), images)
    return images


def _operated(images: Images, wanted: Sequence[tuple[str, float]]) -> Images:
    """One operation for each film; films of the same one go together."""
    changed = images.clone()
    for name in FILM_OPERATIONS:
        films = [film for film, (chosen, _) in enumerate(wanted) if chosen == name]
        if films:
            rows = torch.tensor(films, device=images.device)
            amounts = [wanted[film][1] for film in films]
            changed[rows] = _operation(name, images[rows], amounts).clamp(0, 1)
    return changed


def _operation(name: str, images: Images, amounts: Sequence[float]) -> Images:
    height, width = images.shape[-2:]
    if name in MOVING:
        matrices = {
            "turn": lambda amount: _matrix(angle=20 * amount),
            "shear": lambda amount: _matrix(shear=10 * amount),
            "right": lambda amount: _matrix(right=0.1 * amount * width),
            "down": lambda amount: _matrix(down=0.1 * amount * height),
            "scale": lambda amount: _matrix(scale=1 + 0.25 * amount),
        }
        return _moved(images, torch.tensor([matrices[name](amount) for amount in amounts]), filled=False)
    by = _factors(amounts, images)
    match name:
        case "contrast":
            return _blend(images, _mean_grey(images), 1 + 0.5 * by)
        case "brightness":
            return (images * (1 + 0.4 * by)).clamp(0, 1)
        case "gamma":
            return images ** (0.7 * by).exp()
        case "focus":
            soft: Images = functional.gaussian_blur(images, [5, 5], [1.0, 1.0])
            return images + by * (images - soft)
    raise AssertionError(name)


def _factors(values: Sequence[float], images: Images) -> Factors:
    return torch.tensor(values, dtype=torch.float32).to(images.device, non_blocking=True)[:, None, None, None]


def _mean_grey(images: Images) -> Factors:
    if images.shape[1] == 1:
        return images.mean((1, 2, 3), keepdim=True)
    weights = torch.tensor(_GREY, device=images.device)[None, :, None, None]
    return (images * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)


def _blend(images: Images, other: Factors, by: Factors) -> Images:
    return (images * by + other * (1 - by)).clamp(0, 1)


def _erased(changes: Sequence[Change], images: Images) -> Tensor:
    """Which pixels are gone, of each film."""
    height, width = images.shape[-2:]
    rectangles = torch.tensor([change.erased or (0, 0, 0, 0) for change in changes]).to(images.device)
    top, left, rows, columns = (side[:, None] for side in rectangles.unbind(1))
    down, across = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    inside = ((down >= top) & (down < top + rows))[:, :, None] & ((across >= left) & (across < left + columns))[:, None]
    return inside[:, None]


def _matrices(moves: Sequence[tuple[float, int, int, float]]) -> Matrices:
    return torch.tensor([_matrix(angle=a, right=float(x), down=float(y), scale=s) for a, x, y, s in moves])


def _matrix(
    *, angle: float = 0.0, shear: float = 0.0, right: float = 0.0, down: float = 0.0, scale: float = 1.0
) -> list[list[float]]:
    """Where each pixel of a moved film comes from, in pixels from the middle.

    Args:
        angle, shear: in degrees; the film is sheared along rows and columns, scaled, turned, then moved.
        right, down: in pixels.
    """
    turn, lean = math.radians(angle), math.radians(shear)
    cos, sin = math.cos(turn - lean) / math.cos(lean), math.sin(turn - lean) / math.cos(lean)
    slope = math.tan(lean)
    across = [(math.cos(turn) - sin * slope) / scale, (cos * slope + math.sin(turn)) / scale]  # the inverse
    along = [-sin / scale, cos / scale]
    return [[*row, -row[0] * right - row[1] * down] for row in (across, along)]


def _moved(images: Images, matrices: Matrices, *, filled: bool) -> Images:
    """Films resampled between their four nearest pixels; black comes in from beyond the edge.

    Args:
        filled: as torchvision does it with a fill: what half lies beyond the edge is darkened twice.
    """
    films, channels, height, width = images.shape
    device = images.device
    right = torch.linspace((1.0 - width) / 2, (width - 1.0) / 2, width, device=device)
    down = torch.linspace((1.0 - height) / 2, (height - 1.0) / 2, height, device=device)
    places = torch.stack(
        [right.expand(height, width), down[:, None].expand(height, width), torch.ones(height, width, device=device)], -1
    ).reshape(-1, 3)
    halves = torch.tensor([0.5 * width, 0.5 * height], device=device)
    grid = (places @ (matrices.to(device).transpose(1, 2) / halves)).reshape(films, height, width, 2)
    if not filled:
        return nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    inside = torch.ones(films, 1, height, width, device=device)
    both = nn.functional.grid_sample(
        torch.cat([images, inside], 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return both[:, :channels] * both[:, channels:]
