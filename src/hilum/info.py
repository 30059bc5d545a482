"""What a recipe or a bundle holds, in numbers: parameters, layers, arithmetic, memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hilum.bundle import load_bundle
from hilum.errors import RecipeError
from hilum.findings import CHESTXRAY14
from hilum.nn.build import build, check_size
from hilum.nn.classifier import Classifier
from hilum.recipe import Recipe, load_recipe, shipped_recipes

BYTES_PER_MB = 2**20


class Layer(NamedTuple):
    """One module of a network: `shape` is its output for one film, `parameters` are its own."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


class Cost(NamedTuple):
    """What one film costs at a size.

    Attributes:
        size: height and width of the film in pixels.
        multiply_adds: of convolutions and matrix products in a forward pass, as publications count them.
        weights_mb: the weights in fp32, in MiB.
        training_mb: what a forward pass in fp32 keeps per film for the backward pass, in MiB.
    """

    size: int
    multiply_adds: int
    weights_mb: float
    training_mb: float


def shipped() -> dict[str, str]:
    """The shipped recipes and what each is for."""
    return {name: load_recipe(name).about for name in shipped_recipes()}


def describe(what: str, changes: list[str], *, size: int | None = None) -> dict[str, Any]:
    """A recipe by name or file, or a bundle by its folder.

    `parameters` are those of the recipe's own network; `parameters_rgb` and `parameters_grey` of its forms with three
    channels and with one; `cost` is what a film costs.

    Args:
        size: height and width in pixels for which the cost is counted; the recipe's if None.

    Raises:
        RecipeError: if there is no such recipe, a bundle is to be changed, or the network does not take the size.
        BundleError: if the folder is not a bundle.
    """
    if not _is_bundle(what):
        return _network(load_recipe(what, changes), len(CHESTXRAY14), size)
    _unchanged(what, changes)
    bundle = load_bundle(Path(what))
    return {
        **_network(bundle.recipe, len(bundle.findings), size),
        "findings": list(bundle.findings),
        "films": bundle.films,
        "training": bundle.training,
        "thresholds": bundle.thresholds and bundle.thresholds.to_dict(),
        "calibration": bundle.calibration,
        "calibration_set": bundle.calibration_set and asdict(bundle.calibration_set),
    }


def recipe_of(what: str, changes: list[str]) -> tuple[Recipe, int]:
    """The recipe of a name, a file or a bundle's folder, and the number of findings it is for.

    Raises:
        RecipeError: if there is no such recipe, or if a bundle is to be changed.
        BundleError: if the folder is not a bundle.
    """
    if not _is_bundle(what):
        return load_recipe(what, changes), len(CHESTXRAY14)
    _unchanged(what, changes)
    bundle = load_bundle(Path(what))
    return bundle.recipe, len(bundle.findings)


def layers(recipe: Recipe, findings: int, *, size: int | None = None) -> list[Layer]:
    """Every module without parts of the recipe's network, in the order of its forward pass, each once.

    Args:
        size: height and width of the film in pixels; the recipe's if None.

    Raises:
        RecipeError: if the network does not take films of this size.
    """
    model, film = shape_only(recipe, findings, size=size)
    found: dict[str, Layer] = {}  # a module that is passed twice, as CBAM's MLP, counts once

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        count = sum(p.numel() for p in module.parameters())
        found.setdefault(name, Layer(name, type(module).__name__, tuple(output.shape[1:]), count))

    with watched({name: module for name, module in model.named_modules() if not list(module.children())}, note):
        model(film)
    return list(found.values())


def cost(recipe: Recipe, findings: int, *, size: int | None = None) -> Cost:
    """What one film costs, counted without computing anything.

    Args:
        size: height and width of the film in pixels; the recipe's if None.

    Raises:
        RecipeError: if the network does not take films of this size.
    """
    model, film = shape_only(recipe, findings, size=size)
    own = {id(weight) for weight in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}  # holds the storages, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(film)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    activations = sum(storage.nbytes() for storage in kept.values())
    return Cost(
        size=film.shape[-1],
        multiply_adds=counter.get_total_flops() // 2,
        weights_mb=round(weights / BYTES_PER_MB, 2),
        training_mb=round(activations / BYTES_PER_MB, 2),
    )


def shape_only(recipe: Recipe, findings: int, *, size: int | None = None) -> tuple[Classifier, Tensor]:
    """The recipe's network and one film, both without memory or randomness.

    Raises:
        RecipeError: if the network does not take films of this size.
    """
    side = recipe.preprocessing.size if size is None else size
    try:
        check_size(recipe.architecture, side)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    with torch.device("meta"):
        model = build(recipe.architecture, findings=findings, channels=recipe.preprocessing.channels).eval()
        return model, torch.zeros(1, recipe.preprocessing.channels, side, side)


@contextmanager
def watched(modules: dict[str, nn.Module], note: Any) -> Iterator[None]:
    """Call `note(name, module, output)` whenever one of the modules has computed."""
    handles = [
        module.register_forward_hook(lambda its, _, output, name=name: note(name, its, output))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_bundle(what: str) -> bool:
    """Whether a folder is meant, there or not, rather than a recipe."""
    path = Path(what)
    meant = path.is_dir() or (len(path.parts) > 1 and path.suffix != ".toml" and not path.exists())
    return meant and what not in shipped_recipes()


def _unchanged(what: str, changes: list[str]) -> None:
    if changes:
        raise RecipeError(f"--set must go with a recipe, got the bundle {what}, which stays as it was trained")


def _network(recipe: Recipe, findings: int, size: int | None) -> dict[str, Any]:
    counts = {}
    for channels in (3, 1):
        with torch.device("meta"):  # shapes without memory or randomness
            model = build(recipe.architecture, findings=findings, channels=channels)
        counts[channels] = sum(p.numel() for p in model.parameters())
    return {
        **recipe.to_dict(),
        "parameters": counts[recipe.preprocessing.channels],
        "parameters_rgb": counts[3],
        "parameters_grey": counts[1],
        "cost": cost(recipe, findings, size=size)._asdict(),
    }
