"""The recipe `auto`: size, epochs and starting weights from the films, this machine's speed and a time budget."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hilum.data.films import Films
from hilum.errors import BundleError, RecipeError
from hilum.nn.build import build, check_size
from hilum.recipe import Recipe, load_recipe, recipe_from_dict
from hilum.training.learner import Learner
from hilum.training.train import computes_in_bf16
from hilum.training.weights import load_weights

AUTO = "auto"
DEFAULT_BUDGET_S = 1200.0
SIZES = (224, 192, 160, 128, 96)
"""From the best to the fastest: of what was tried on real films, films of 224 px as they are did best."""
FEWEST_EPOCHS = 6
"""A smaller size is taken before fewer epochs than these."""
_TUNED_ON = 1_219  # films for which the recipe's epochs were found
_RESERVE = 1.25  # the machine is not always as fast as in the measurement
_VALIDATION = 0.125


@dataclass(frozen=True)
class Chosen:
    """A recipe, its films, and why it is this one.

    Attributes:
        recipe: to train.
        films: with a split; those given where they had one.
        reasons: a sentence for each choice.
    """

    recipe: Recipe
    films: Films
    reasons: tuple[str, ...]


def choose(
    films: Films,
    *,
    budget_s: float = DEFAULT_BUDGET_S,
    changes: Sequence[str] = (),
    measure: Callable[[Recipe], float] | None = None,
) -> Chosen:
    """Choose the recipe for these films and this machine.

    Args:
        films: split by patient, or not split yet.
        budget_s: seconds for packing, training, validation and calibration together.
        changes: values that are not to be chosen, as of `--set`.
        measure: seconds that a recipe's training takes for each film; measured here if None.

    Raises:
        RecipeError: if there is no time for an epoch, or no film to train on.
    """
    given = load_recipe(AUTO, changes)
    fixed = {change.partition("=")[0].strip() for change in changes}
    films, reasons = with_validation(films, seed=given.seed)
    own = films.of_views(given.views)
    learned, unseen = len(own.select("train")), len(own.select("val"))
    more = [f"training.batch={min(given.training.batch, learned)}"] if "training.batch" not in fixed else []
    if "weights" not in fixed:
        start, why = _start(given)
        more.append(f"weights={start}")
        reasons.append(why)
    packing = _packing_seconds(own, given)
    most = given.training.epochs if "training.epochs" in fixed else _most_epochs(learned)
    sizes = (given.preprocessing.size,) if "preprocessing.size" in fixed else _possible(given)
    tried = []
    for size in sizes:
        recipe = load_recipe(AUTO, [*changes, *more, f"preprocessing.size={size}"])
        per_film = (measure or seconds_per_film)(recipe)
        epoch = per_film * (learned + unseen / 3)  # forward alone is about a third
        after = packing + per_film * 2 * unseen / 3  # calibration, and the scale of heatmaps
        there_is_time_for = math.floor((budget_s / _RESERVE - after) / epoch)
        tried.append(f"{size} px: {1 / per_film:.1f} films a second")
        if there_is_time_for >= min(FEWEST_EPOCHS, most) or "training.epochs" in fixed:
            break
    if there_is_time_for < 1 and "training.epochs" not in fixed:
        raise RecipeError(
            f"budget must leave time for an epoch of {learned:,} films at {size} px, about {_time(epoch + after)}, got "
            f"{_time(budget_s)}. Give more with --budget, or fewer films"
        )
    epochs = most if "training.epochs" in fixed else min(most, there_is_time_for)
    recipe = load_recipe(AUTO, [*changes, *more, f"preprocessing.size={size}", f"training.epochs={epochs}"])
    reasons.append(f"Size {size} px, the largest of those tried that leaves time enough ({'; '.join(tried)}).")
    limit = "the budget" if epochs == there_is_time_for < most else "what that many films are good for"
    reasons.append(f"{epochs} epochs over {learned:,} films, as {limit} allows; averaged weights of the last ones.")
    told = _RESERVE * (epochs * epoch + after)
    reasons.append(f"It should take {_time(told)} at the most, of {_time(budget_s)}, on {_device()}.")
    return Chosen(recipe, films, tuple(reasons))


def chosen_before(out: Path) -> Recipe:
    """The recipe that a run was started with, to go on with it.

    Raises:
        RecipeError: if there is no run.
    """
    try:
        told = json.loads((out / "run.json").read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RecipeError(f"out must hold a run to resume, but {out / 'run.json'} cannot be read") from None
    return recipe_from_dict(told, where=str(out / "run.json"))


def with_validation(films: Films, *, seed: int) -> tuple[Films, list[str]]:
    """Films with validation films: an eighth of the training patients where there are none; and what was done.

    Films without any split are all training and validation films: they leave nothing to evaluate on.
    """
    splits = films.table["split"]
    if (splits == "val").any():
        return films, ["Train and validation films are those of the manifest."]
    unsplit = bool(splits.isna().all())
    mine = splits.isna() if unsplit else splits == "train"
    patients = sorted(
        set(films.table["patient"][mine]), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()
    )
    held = set(patients[: round(_VALIDATION * len(patients)) or 1])
    names = films.table["patient"].where(mine)
    column = splits.where(~mine, "train").where(~names.isin(held), "val")
    told = f"An eighth of the {'' if unsplit else 'training '}patients ({len(held):,}) are held out for validation."
    if unsplit:
        told += " No film is left to evaluate on: split them before, hilum split FILMS --protocol patient."
    notes = {**films.notes, "protocol": films.notes.get("protocol") or "patient"}
    return replace(films, table=films.table.assign(split=column), notes=notes), [told]


def seconds_per_film(recipe: Recipe, *, steps: int = 3) -> float:
    """Seconds that a training step takes here for each film, from random weights and films in memory."""
    channels, size, batch = recipe.preprocessing.channels, recipe.preprocessing.size, recipe.training.batch
    constant = recipe.schedule.model_copy(update={"name": "constant"})
    device = _device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(recipe.architecture, findings=14, channels=channels)
        images, labels = torch.rand(batch, channels, size, size), torch.zeros(batch, 14)
    learner = Learner(model, recipe.model_copy(update={"schedule": constant}), steps=1).to(device).train()
    optimizer = learner.configure_optimizers()
    images, labels = images.to(device), labels.to(device)
    bf16 = computes_in_bf16(recipe.training.precision)
    best = math.inf
    for step in range(steps + 1):
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits = learner(images)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        loss.item()  # waits for the device
        if step:  # the first one allocates
            best = min(best, time.perf_counter() - start)
    return best / batch


def _start(recipe: Recipe) -> tuple[str, str]:
    """ImageNet's weights where they can be had."""
    with torch.random.fork_rng(devices=[]):
        model = build(recipe.architecture, findings=1, channels=recipe.preprocessing.channels)
    try:
        load_weights(model, "imagenet")
    except BundleError as error:
        return (
            "none",
            f"Random weights to start from: {str(error).partition('. ')[0]}. Better: pip install 'hilum[lite]'.",
        )
    return "imagenet", "ImageNet's weights to start from: they are here, and few films alone teach less."


def _most_epochs(films: int) -> int:
    """Epochs that do these films good: the more films, the fewer rounds; a rule of thumb from one set of films."""
    return int(min(24, max(4, round(12 * math.sqrt(_TUNED_ON / max(films, 1))))))


def _possible(recipe: Recipe) -> list[int]:
    found = []
    for size in SIZES:
        try:
            check_size(recipe.architecture, size)
        except ValueError:
            continue
        found.append(size)
    return found or [recipe.preprocessing.size]


def _packing_seconds(films: Films, recipe: Recipe, *, tried: int = 4) -> float:
    """How long one core takes to decode all films; what is packed already is not known here."""
    rows = range(0, len(films), max(1, len(films) // tried))
    start = time.perf_counter()
    for row in rows:
        recipe.preprocessing.read(films.path(row))
    return (time.perf_counter() - start) / len(rows) * len(films)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )
