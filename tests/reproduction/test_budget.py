"""The budget: the rule by hand, what it leaves alone, and that the probe measures every system."""

import re

import pytest

from hilum.errors import HilumError
from hilum.recipe import Recipe, load_recipe
from hilum.reproduction.plan import RESERVE, RUN_S, TrainingCost, Work, probe, run_s, scale, scaled

WORK = Work(train=80, val=10, test=20)


def by_area(recipe: Recipe) -> TrainingCost:
    """A second per step and a tenth per film at 128 px, more as the area grows."""
    part = (recipe.preprocessing.size / 128) ** 2
    return TrainingCost(part, part / 10)


def minutes(seconds: float) -> float:
    return seconds / 60 / (1 - RESERVE)


def test_a_run_takes_its_steps_its_validation_its_judging_and_the_rest() -> None:
    recipe = load_recipe("densenet")
    assert recipe.training.batch == 8
    assert run_s(TrainingCost(2.0, 0.5), recipe, WORK, 3) == 3 * (10 * 2.0 + 10 * 0.5) + 30 * 0.5 + RUN_S


@pytest.mark.parametrize(
    ("seconds", "size", "epochs"),
    [
        (20 * 11 + 3 + RUN_S, 128, 20),  # all epochs of 10 steps and 10 films, then 30 films
        (20 * 11 + 2 + RUN_S, 128, 19),
        (6 * 11 + 3 + RUN_S, 128, 6),
        (11 + 3 + RUN_S, 128, 1),
        (16 * (20 * 11 + 3) + RUN_S, 512, 20),
        (16 * (20 * 11 + 3) + RUN_S - 1, 320, 20),
        (1e9, 512, 20),  # never above the recipe's own
    ],
)
def test_size_gives_way_first_then_the_epochs(seconds: float, size: int, epochs: int) -> None:
    recipes = {"densenet": load_recipe("densenet")}
    allowed = scale(recipes, [WORK], seeds=1, minutes=minutes(seconds) + 1e-6, measure=by_area)
    assert (min(allowed.size, 512), allowed.epochs) == (size, epochs)
    assert allowed.expected_s <= seconds + 1e-3


def test_seeds_protocols_and_systems_share_the_time() -> None:
    names = ("densenet", "am-densenet", "chestnet")
    recipes = {name: load_recipe(name) for name in names}
    time = minutes(12 * (6 * 11 + 3 + RUN_S)) + 1e-6
    alone = scale({"densenet": recipes["densenet"]}, [WORK], seeds=1, minutes=time / 12, measure=by_area)
    together = scale(recipes, [WORK, WORK], seeds=2, minutes=time, measure=by_area)
    assert (alone.size, alone.epochs) == (together.size, together.epochs)
    assert together.expected_s == pytest.approx(12 * alone.expected_s)
    assert set(together.costs) == set(names)


def test_a_size_is_measured_once_and_none_beyond_the_first_that_does_not_fit() -> None:
    asked: list[tuple[str, int]] = []

    def measure(recipe: Recipe) -> TrainingCost:
        asked.append((recipe.name, recipe.preprocessing.size))
        return by_area(recipe)

    recipes = {name: load_recipe(name) for name in ("chestnet", "densenet")}
    allowed = scale(recipes, [WORK], seeds=1, minutes=minutes(2 * (9 * 223 + RUN_S)), measure=measure)
    assert allowed.size == 320
    assert len(asked) == len(set(asked))
    assert ("chestnet", 320) not in asked
    assert [size for name, size in asked if name == "densenet"] == [128, 160, 224, 320, 512]


def test_too_little_time_is_refused_with_what_would_do() -> None:
    with pytest.raises(HilumError, match=r"budget must be at least 0\.\d minutes .* 1 trainings at 128 px") as refused:
        scale({"densenet": load_recipe("densenet")}, [WORK], seeds=1, minutes=0.1, measure=by_area)
    needed = float(re.findall(r"at least ([\d.]+)", str(refused.value))[0])
    assert needed == pytest.approx(minutes(11 + 3 + RUN_S), abs=0.06)


@pytest.mark.parametrize("name", ["am-densenet", "densenet", "wang-resnet50", "chestnet", "dnetloc"])
def test_scaling_leaves_what_is_compared_alone(name: str) -> None:
    recipe = load_recipe(name)
    small = scaled(recipe, 128, 6)
    assert small.preprocessing.size == 128
    assert (small.training.epochs, small.training.keep, small.training.stop_patience) == (6, "last", None)
    assert small.preprocessing.interpolation == recipe.preprocessing.interpolation
    for part in ("loss", "optimizer", "schedule", "augmentation", "protocol", "weights", "name", "seed"):
        assert getattr(small, part) == getattr(recipe, part)
    ours, theirs = (r.architecture.model_dump(exclude={"size"}) for r in (small, recipe))
    assert ours == theirs
    assert scaled(recipe, 4096, 6).preprocessing.size == recipe.preprocessing.size


def test_the_probe_measures_a_training_and_leaves_the_random_state_alone() -> None:
    import torch

    recipe = load_recipe(
        "densenet",
        ["architecture.block_layers=[1,1,1,1]", "preprocessing.size=64", "training.batch=2", "training.precision=fp32"],
    )
    before = torch.get_rng_state()
    cost = probe(recipe, 14)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < cost.film_s < cost.step_s < 10
