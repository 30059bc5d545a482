"""The plan: its order, what it changes and says so, and what a suite that goes on refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hilum.data.films import Films
from hilum.errors import HilumError, RecipeError
from hilum.files import write_whole
from hilum.recipe import load_recipe
from hilum.reproduction.plan import (
    SYSTEMS,
    Plan,
    Scale,
    TrainingCost,
    chosen_recipes,
    departures_of,
    make_plan,
    not_the_papers,
    read_plan,
    what_was_asked,
)

SMALL = Scale(128, 6, 600.0, {"densenet": TrainingCost(1.0, 0.1)})


def plan_of(films: Films, *systems: str, changes: tuple[str, ...] = (), **asked: Any) -> Plan:
    recipes = chosen_recipes(systems, changes)
    scale = asked.pop("scale", None)
    splits = asked.pop("splits", {"patient": films})
    return make_plan(what_was_asked(recipes, splits, **{"seeds": 1, "budget": None, **asked}), recipes, splits, scale)


def test_seed_0_of_all_systems_comes_before_any_seed_1(phantom_films: Films) -> None:
    splits = {protocol: phantom_films.split(protocol) for protocol in ("patient", "image")}
    plan = plan_of(phantom_films, "densenet", "chestnet", seeds=2, splits=splits)
    assert [run.name for run in plan.runs()] == [
        f"{protocol}/{system}-seed{seed}"
        for seed in (0, 1)
        for protocol in ("patient", "image")
        for system in ("densenet", "chestnet")
    ]
    assert [run.recipe.seed for run in plan.runs()] == [0] * 4 + [1] * 4
    assert {run.recipe.protocol for run in plan.runs()[:2]} == {"patient"}


def test_without_a_budget_the_full_recipes_are_taken(phantom_films: Films) -> None:
    plan = plan_of(phantom_films, *SYSTEMS)
    for name, recipe in plan.recipes["patient"].items():
        shipped = load_recipe(name)
        assert recipe.model_copy(update={"protocol": shipped.protocol}) == shipped
    assert plan.departures["patient"]["am-densenet"] == ["films split by patient instead of image"]
    assert plan.departures["patient"]["dnetloc"] == []


def test_where_no_film_is_left_to_choose_by_the_last_epoch_is_kept(phantom_films: Films) -> None:
    plan = plan_of(phantom_films, "chestnet", splits={"image": phantom_films.split("image")})
    assert plan.recipes["image"]["chestnet"].training.keep == "last"
    assert "the last epoch is kept instead of the best" in plan.departures["image"]["chestnet"]


def test_a_plan_says_what_is_not_the_papers(phantom_films: Films) -> None:
    changes = ("weights=none", "optimizer.lr=1e-3", "schedule.name=one-cycle", "training.ema_decay=0.998")
    plan = plan_of(phantom_films, "am-densenet", "chestnet", "dnetloc", changes=changes, budget=60.0, scale=SMALL)
    said = plan.departures["patient"]
    assert not_the_papers(said["am-densenet"]) == (
        "Not the paper's training: films split by patient instead of image, random weights instead of ImageNet's, "
        "128 px instead of 512, learning rate 0.001 instead of 0.0001, schedule one-cycle instead of plateau, "
        "6 of 20 epochs, no early stop, training.ema_decay 0.998 instead of none."
    )
    assert "128 px instead of 224" in said["chestnet"]
    assert "128 px instead of 1024" in said["dnetloc"]
    assert not any("architecture" in word for word in said["chestnet"])
    text = plan.to_text()
    assert "3 trainings" in text
    assert "60 minutes" in text
    assert "The rule: The size of the films gives way first" in text
    assert "patient, chestnet: Not the paper's training" in text


def test_departures_are_none_of_a_recipe_from_itself_and_ignore_the_seed() -> None:
    recipe = load_recipe("am-densenet")
    assert departures_of(recipe, recipe.model_copy(update={"seed": 4})) == []
    assert not_the_papers([]) == "Trained as the recipe says."
    longer = load_recipe("am-densenet", ["training.epochs=30", "weights=phantom", "loss.gamma=3"])
    assert departures_of(recipe, longer) == [
        "the weights of phantom instead of ImageNet's",
        "loss.gamma 3.0 instead of 2.0",
        "30 epochs instead of 20",
    ]


def test_a_plan_comes_back_as_it_was(phantom_films: Films, tmp_path: Path) -> None:
    import json

    plan = plan_of(phantom_films, "densenet", "chestnet", seeds=3, budget=9.0, scale=SMALL)
    write_whole(tmp_path / "plan.json", json.dumps(plan.to_dict()).encode())
    assert read_plan(tmp_path / "plan.json", plan.asked) == plan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 2}, "seeds must be those that the suite in .* began with: 1, got 2"),
        ({"budget": 30.0}, r"budget must be .*: None, got 30\.0"),
        ({"changes": ("optimizer.lr=1e-3",)}, "recipes and --set must be those"),
        ({"systems": ("chestnet",)}, "systems must be"),
    ],
)
def test_another_plan_is_refused_by_name(
    phantom_films: Films, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    import json

    write_whole(tmp_path / "plan.json", json.dumps(plan_of(phantom_films, "densenet").to_dict()).encode())
    other = plan_of(phantom_films, *change.pop("systems", ("densenet",)), **change)
    with pytest.raises(HilumError, match=words):
        read_plan(tmp_path / "plan.json", other.asked)


def test_other_films_and_damaged_plans_are_refused(phantom_films: Films, tmp_path: Path) -> None:
    import json

    path = tmp_path / "plan.json"
    plan = plan_of(phantom_films, "densenet")
    write_whole(path, json.dumps(plan.to_dict()).encode())
    fewer = replace(phantom_films, table=phantom_films.table.iloc[:-1])
    with pytest.raises(HilumError, match="films and their split must be those"):
        read_plan(path, plan_of(fewer, "densenet").asked)
    for text in ("{", "[]", "{}", '{"asked": {}}'):
        path.write_text(text)
        with pytest.raises(HilumError, match=r"plan\.json must be the plan of a suite"):
            read_plan(path, plan.asked)


@pytest.mark.parametrize(
    ("systems", "changes", "words"),
    [
        ((), (), "at least one recipe"),
        (("densenet", "densenet"), (), "densenet twice"),
        (("nothing",), (), "recipe must be a TOML file or one of"),
        (("densenet",), ("seed=3",), "leave seed to the suite"),
        (("densenet",), ("protocol=image",), "leave protocol to the suite"),
        (("densenet", "chestnet"), ("architecture.growth=8",), "growth"),
    ],
)
def test_what_cannot_be_chosen(systems: tuple[str, ...], changes: tuple[str, ...], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        chosen_recipes(systems, changes)
