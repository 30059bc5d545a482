"""Starting weights from Hilum's own simulator: the network learns phantom films before it sees a real one."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Protocol, runtime_checkable

from hilum.bundle import Bundle
from hilum.data.films import Films, read_films, write_films
from hilum.data.nih import index_nih
from hilum.data.phantom import write_phantom
from hilum.data.splits import split_films
from hilum.progress import messages
from hilum.recipe import Recipe, load_recipe

PHANTOM_FILMS = 2000
_FRACTIONS = (0.95, 0.05, 0.0)


@runtime_checkable  # for the tests' type checker
class Train(Protocol):
    """`hilum.train.train`, which asks for this file and therefore cannot be imported here."""

    def __call__(self, recipe: Recipe, films: Films, out: Path, *, packs: Path, resume: bool) -> Bundle:
        """Train a recipe on films into a folder."""


def phantom_bundle(recipe: Recipe, folder: Path, train: Train) -> Path:
    """The folder of a bundle that was trained on phantom films for this recipe's network; made once, then kept.

    Phantom films cost nothing, their labels are true, and their findings lie where a radiologist would look. The recipe
    `phantom` says how it is done; network, loss and channels are those of `recipe`.

    Args:
        recipe: the recipe that asks for `weights = "phantom"`.
        folder: where bundles and phantom films are kept; either may be deleted at any time.
        train: `hilum.train.train`.
    """
    shipped = load_recipe("phantom", [f"preprocessing.channels={recipe.preprocessing.channels}"])
    same = {name: getattr(recipe, name) for name in ("architecture", "loss", "seed")}
    pretraining = shipped.model_copy(update=same)
    key = hashlib.sha256(json.dumps([pretraining.to_dict(), PHANTOM_FILMS], sort_keys=True).encode()).hexdigest()[:12]
    out = folder / f"phantom-{key}"
    if (out / "bundle.json").is_file():
        messages().print(f"Starting from the weights learned on phantom films: {out}")
        return out
    messages().print(f"Starting weights: {PHANTOM_FILMS:,} phantom films are drawn and learned first, once: {out}")
    films = _phantom_films(pretraining, folder)
    train(pretraining, films, out, packs=folder, resume=(out / "run.json").is_file())
    return out


def _phantom_films(recipe: Recipe, folder: Path) -> Films:
    """The phantom films of this size and seed, drawn now unless an earlier run finished drawing them."""
    size, seed = recipe.preprocessing.size, recipe.seed
    data = folder / f"phantom-films-{PHANTOM_FILMS}-{size}-{seed}"
    manifest = data / "films.parquet"
    if not manifest.is_file():
        if data.exists():
            shutil.rmtree(data)  # an earlier run was stopped while it drew
        write_phantom(data / "nih", films=PHANTOM_FILMS, size=size, seed=seed)
        write_films(split_films(index_nih(data / "nih"), "patient", seed=seed, fractions=_FRACTIONS), manifest)
    return read_films(manifest)
