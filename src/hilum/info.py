"""What a recipe or a bundle holds, in numbers."""

from pathlib import Path
from typing import Any

import torch

from hilum.bundle import load_bundle
from hilum.errors import RecipeError
from hilum.findings import CHESTXRAY14
from hilum.nn.build import build
from hilum.recipe import Recipe, load_recipe, shipped_recipes


def shipped() -> dict[str, str]:
    """The shipped recipes and what each is for."""
    return {name: load_recipe(name).about for name in shipped_recipes()}


def describe(what: str, changes: list[str]) -> dict[str, Any]:
    """A recipe by name or file, or a bundle by its folder.

    `parameters` are those of the recipe's own network; `parameters_rgb` and `parameters_grey` of its forms with three
    channels and with one.

    Raises:
        RecipeError: if there is no such recipe, or if a bundle is to be changed.
        BundleError: if the folder is not a bundle.
    """
    if Path(what).is_dir() and what not in shipped_recipes():
        if changes:
            raise RecipeError(f"--set must go with a recipe, got the bundle {what}, which stays as it was trained")
        bundle = load_bundle(Path(what))
        return {
            **_network(bundle.recipe, len(bundle.findings)),
            "findings": list(bundle.findings),
            "films": bundle.films,
            "training": bundle.training,
            "thresholds": bundle.thresholds,
            "calibration": bundle.calibration,
        }
    return _network(load_recipe(what, changes), len(CHESTXRAY14))


def _network(recipe: Recipe, findings: int) -> dict[str, Any]:
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
    }
