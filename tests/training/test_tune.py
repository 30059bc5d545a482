import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hilum.errors import RecipeError
from hilum.recipe import Recipe, load_recipe
from hilum.training.tune import BEST, Range, budget_seconds, folds_of, read_space, tune

if TYPE_CHECKING:
    from hilum.data.films import Films

pytest.importorskip("optuna")

SPACE = """
"optimizer.lr" = { low = 1e-4, high = 1e-2, log = true }
"training.batch" = { low = 4, high = 8 }
"augmentation.flip" = [0.0, 0.5]
"""


@pytest.fixture
def recipe(tiny: Path) -> Recipe:
    return load_recipe(tiny, ["training.epochs=1", "training.keep=last"])


def space_of(folder: Path, recipe: Recipe, text: str = SPACE) -> dict[str, Range]:
    (folder / "space.toml").write_text(text)
    return read_space(folder / "space.toml", recipe)


def test_a_space_holds_ranges_and_lists(recipe: Recipe, tmp_path: Path) -> None:
    assert space_of(tmp_path, recipe) == {
        "optimizer.lr": Range(low=1e-4, high=1e-2, log=True),
        "training.batch": Range(low=4.0, high=8.0, whole=True),
        "augmentation.flip": Range(choices=(0.0, 0.5)),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "space must name a key of the recipe at least"),
        ("=", "space must be a TOML file"),
        ('"optimizer.lr" = 3', "must be a list of values or a table of low, high"),
        ('"optimizer.lr" = { low = 2.0, high = 1.0 }', "must be a list of values or a table"),
        ('"optimizer.lr" = { low = 0.0, high = 1.0, log = true }', "must be a list of values or a table"),
        ('"optimizer.lr" = { low = -1.0, high = 1.0 }', r"optimizer\.lr in tiny: .* greater than 0"),
        ('"optimizer.lrr" = [1.0]', "this recipe takes no such key"),
    ],
)
def test_a_space_that_the_recipe_cannot_take_is_refused(
    text: str, message: str, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        space_of(tmp_path, recipe, text)


def test_a_budget_is_a_time() -> None:
    assert [budget_seconds(text) for text in ("90s", "20m", "1.5h")] == [90, 1200, 5400]
    for text in ("", "2", "2d", "0h", "-1h"):
        with pytest.raises(RecipeError, match="budget must be a time"):
            budget_seconds(text)


def test_folds_are_patient_wise_and_without_test_films(phantom_films: "Films") -> None:
    pairs = folds_of(phantom_films, 3, seed=0)
    held = set(phantom_films.table["film"][phantom_films.table["split"] != "test"])
    seen: list[str] = []
    for pair in pairs:
        assert set(pair.table["film"]) == held
        by_split = {split: set(pair.select(split).table["patient"]) for split in ("train", "val")}
        assert not by_split["train"] & by_split["val"]
        seen += list(pair.select("val").table["film"])
    assert sorted(seen) == sorted(held)
    with pytest.raises(RecipeError, match="folds must be from 2 to the number of patients"):
        folds_of(phantom_films, 1, seed=0)


@pytest.mark.slow
def test_a_search_is_resumed_and_its_best_is_a_recipe(
    recipe: Recipe, phantom_films: "Films", packs: Path, tmp_path: Path
) -> None:
    space, out = space_of(tmp_path, recipe), tmp_path / "search"
    first = tune(recipe, phantom_films, space, out, budget_s=1e6, folds=2, trials=1, packs=packs)
    assert first.trials == 1
    assert first.changes["optimizer.lr"] == recipe.optimizer.lr  # the recipe's own values come first
    with pytest.raises(RecipeError, match="out must be a new or empty folder"):
        tune(recipe, phantom_films, space, out, budget_s=1e6, folds=2, packs=packs)
    with pytest.raises(RecipeError, match="folds must be what the search"):
        tune(recipe, phantom_films, space, out, budget_s=1e6, folds=3, packs=packs, resume=True)
    again = tune(recipe, phantom_films, space, out, budget_s=1e6, folds=2, trials=2, packs=packs, resume=True)
    assert again.trials == 2
    assert again.value >= first.value
    assert math.isfinite(again.spread)
    best = load_recipe(out / BEST)
    assert best.optimizer.lr == again.changes["optimizer.lr"]
    assert best.training.batch == again.changes["training.batch"]
    assert best.name == "tiny-tuned"
    assert tune(recipe, phantom_films, space, out, budget_s=0.0, folds=2, packs=packs, resume=True).trials == 2
