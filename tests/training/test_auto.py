"""What the recipe auto chooses, by a clock of our own, and that its choice trains."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Hilum

from hilum.data.films import Films, read_films
from hilum.errors import BundleError, RecipeError
from hilum.recipe import Recipe, load_recipe
from hilum.training import auto
from hilum.training.auto import choose, seconds_per_film, with_validation

pytest.importorskip("timm")

TEST_NETWORK = ("architecture.network=timm:test_efficientnet", "weights=none")


@pytest.fixture(autouse=True)
def no_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "_packing_seconds", lambda films, recipe: 0.0)


def machine(films_per_second_at_224: float) -> Callable[[Recipe], float]:
    return lambda recipe: recipe.preprocessing.size**2 / 224**2 / films_per_second_at_224


def test_time_enough_gives_the_largest_size_and_all_epochs(phantom_films: Films) -> None:
    chosen = choose(phantom_films, budget_s=3600.0, changes=TEST_NETWORK, measure=machine(100.0))
    assert (chosen.recipe.preprocessing.size, chosen.recipe.training.epochs) == (224, 24)
    assert (chosen.recipe.training.ema_decay, chosen.recipe.weights) == (0.99, "none")
    assert chosen.films is phantom_films
    assert "Size 224 px" in " ".join(chosen.reasons)


def test_less_time_takes_epochs_first_and_then_size(phantom_films: Films) -> None:
    taken = [
        choose(phantom_films, budget_s=budget, changes=TEST_NETWORK, measure=machine(1.0)).recipe
        for budget in (4000.0, 900.0, 200.0, 45.0)
    ]
    assert [(one.preprocessing.size, one.training.epochs >= 6) for one in taken[:2]] == [(224, True), (224, True)]
    assert taken[1].training.epochs < taken[0].training.epochs
    assert taken[2].preprocessing.size < 224
    assert (taken[3].preprocessing.size, taken[3].training.epochs < 6) == (96, True)
    learned = len(phantom_films.select("train")) + len(phantom_films.select("val"))
    for budget, one in zip((4000.0, 900.0, 200.0, 45.0), taken, strict=True):
        assert one.training.epochs * learned * machine(1.0)(one) * 0.8 < budget
    with pytest.raises(RecipeError, match=r"budget must leave time for an epoch of .* films at 96 px"):
        choose(phantom_films, budget_s=1.0, changes=TEST_NETWORK, measure=machine(1.0))


def test_what_is_set_is_not_chosen(phantom_films: Films) -> None:
    changes = [*TEST_NETWORK, "preprocessing.size=64", "training.epochs=3", "training.batch=8"]
    recipe = choose(phantom_films, budget_s=1.0, changes=changes, measure=machine(1.0)).recipe
    assert (recipe.preprocessing.size, recipe.training.epochs, recipe.training.batch) == (64, 3, 8)


def test_fewer_films_than_a_batch_are_one(phantom_films: Films) -> None:
    few = replace(phantom_films, table=phantom_films.table.groupby("split").head(5).reset_index(drop=True))
    recipe = choose(few, budget_s=1e5, changes=TEST_NETWORK, measure=machine(1.0)).recipe
    assert recipe.training.batch == 5


def test_validation_films_are_of_other_patients(phantom_films: Films) -> None:
    table = phantom_films.table
    trained = replace(phantom_films, table=table.assign(split=table["split"].replace("val", "train")))
    for films in (trained, replace(phantom_films, table=table.assign(split=None))):
        parted, (reason,) = with_validation(films, seed=0)
        patients = {split: set(parted.select(split).table["patient"]) for split in ("train", "val")}
        assert not patients["train"] & patients["val"]
        assert 0.05 < len(patients["val"]) / len(patients["train"] | patients["val"]) < 0.2
        assert parted.fingerprint() == with_validation(films, seed=0)[0].fingerprint()
        assert "eighth" in reason
    assert (trained.table["split"] == "test").sum() == (
        with_validation(trained, seed=0)[0].table["split"] == "test"
    ).sum()


def test_without_imagenets_weights_it_says_so(phantom_films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(model: object, weights: str) -> None:
        raise BundleError("ImageNet weights could not be had (no network). Fetch them elsewhere")

    monkeypatch.setattr(auto, "load_weights", away)
    chosen = choose(phantom_films, budget_s=1e4, changes=TEST_NETWORK[:1], measure=machine(10.0))
    assert chosen.recipe.weights == "none"
    assert "Random weights to start from" in " ".join(chosen.reasons)


def test_a_step_is_measured() -> None:
    recipe = load_recipe("auto", [*TEST_NETWORK, "preprocessing.size=64", "training.batch=2"])
    assert 0 < seconds_per_film(recipe, steps=1) < 60


@pytest.mark.slow
def test_it_trains_and_is_resumed(hilum: Hilum, films_file: Path, tmp_path: Path) -> None:
    changes = [*TEST_NETWORK, "preprocessing.size=64", "training.epochs=1"]
    options = [word for change in changes for word in ("--set", change)]
    said = hilum("train", "auto", "--films", films_file, "--out", tmp_path / "run", "--budget", "5m", *options)
    assert said.code == 0, said.err
    assert "It should take" in said.err
    told = json.loads((tmp_path / "run" / "bundle.json").read_text())
    assert told["recipe"]["name"] == "auto"
    assert told["training"]["val_auroc"] > 0
    assert len(read_films(films_file).select("val")) > 0
    again = hilum("train", "auto", "--films", films_file, "--out", tmp_path / "run", "--resume")
    assert (again.code, "trained to its end" in " ".join(again.err.split())) == (0, True)
    for words, message in (
        (["nih-small", "--budget", "20m"], "budget must go with the recipe auto"),
        (["auto", "--devices", "2"], "recipe auto must be trained once"),
        (["auto", "--budget", "soon"], "budget must be a time"),
    ):
        refused = hilum("train", *words, "--films", films_file, "--out", tmp_path / "new")
        assert (refused.code, message in " ".join(refused.err.split())) == (2, True), refused.err
