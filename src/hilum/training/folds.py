"""Train a recipe once for each fold of a cross-validation by patient."""

from collections.abc import Callable
from pathlib import Path

from hilum.data.films import Films, write_films
from hilum.data.splits import folds, out_of_fold
from hilum.errors import RecipeError
from hilum.messages import messages
from hilum.model.bundle import Bundle
from hilum.recipe import Recipe
from hilum.training.train import train

MANIFEST = "folds.parquet"


def train_folds(
    recipe: Recipe,
    films: Films,
    out: Path,
    *,
    number: int,
    packs: Path,
    resume: bool = False,
    train_one: Callable[..., Bundle] = train,
) -> list[Bundle]:
    """Train a bundle for each fold in `out`/fold-1, ..., and write `out`/folds.parquet, whose split test is all folds.

    Each fold is tested once: by the bundle that saw neither it nor, for its choices, the fold before.

    Args:
        recipe: its seed deals the patients.
        films: those of the split test, if there is one, are in no fold.
        resume: go on where it was stopped; folds that are trained stay as they are.
        train_one: `hilum.training.train.train`.

    Raises:
        FilmsError: if the films are too few for so many folds.
        RecipeError: if `out` holds folds of others; and as `train`.
    """
    parted, together = folds(films, number, seed=recipe.seed), out_of_fold(films, number, seed=recipe.seed)
    out.mkdir(parents=True, exist_ok=True)
    if (out / "fold-1").exists() and not resume:
        raise RecipeError(
            f"out must be a new folder, got {out}, which has folds. Go on with --resume, or name another."
        )
    write_films(together, out / MANIFEST)
    bundles = []
    for fold, one in enumerate(parted, start=1):
        folder = out / f"fold-{fold}"
        messages().print(f"Fold {fold} of {number}: {folder}")
        bundles.append(train_one(recipe, one, folder, packs=packs, resume=(folder / "run.json").is_file()))
    return bundles
