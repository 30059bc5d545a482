import json
from pathlib import Path

import pytest
import torch

from hilum.errors import BundleError, RecipeError
from hilum.findings import CHESTXRAY14
from hilum.model.bundle import Bundle, save_bundle
from hilum.model.info import Layer, cost, describe, layers, recipe_of, sections, shipped
from hilum.nn.build import build
from hilum.recipe import load_recipe, shipped_recipes

TINY = ["architecture.block_layers=[1,1,1,1]", "architecture.stem=16", "architecture.reduction=8"]


def write_tiny_bundle(folder: Path) -> Bundle:
    recipe = load_recipe("demo", TINY)
    bundle = Bundle(
        model=build(recipe.architecture, findings=2, channels=1),
        findings=("Mass", "Edema"),
        recipe=recipe,
        films="f" * 64,
        heatmap_logits={"Mass": (-1.0, 2.0), "Edema": (0.0, 1.0)},
        training={"epochs": 3},
    )
    save_bundle(bundle, folder)
    return bundle


def test_every_recipe_says_what_it_is_for() -> None:
    assert list(shipped()) == shipped_recipes()
    assert all(len(about) > 20 for about in shipped().values())


@pytest.mark.parametrize(
    ("name", "own", "rgb", "grey"),
    [
        ("am-densenet", 7_011_508, 7_011_508, 7_005_236),
        ("densenet", 6_968_206, 6_968_206, 6_961_934),
        ("nih-small", 7_005_236, 7_011_508, 7_005_236),
    ],
)
def test_golden_counts(name: str, own: int, rgb: int, grey: int) -> None:
    facts = describe(name, [])
    assert (facts["parameters"], facts["parameters_rgb"], facts["parameters_grey"]) == (own, rgb, grey)


def test_a_recipe_is_shown_with_its_changes() -> None:
    facts = describe("am-densenet", ["preprocessing.channels=1", "optimizer.lr=1e-3"])
    assert facts["parameters"] == facts["parameters_grey"] == 7_005_236
    assert facts["optimizer"]["lr"] == 1e-3
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_a_bundle_is_shown(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    facts = describe(str(tmp_path), [])
    assert facts["parameters"] == bundle.parameters == sum(p.numel() for p in bundle.model.parameters())
    assert facts["parameters_rgb"] - facts["parameters_grey"] == 2 * 16 * 7 * 7
    assert (facts["findings"], facts["films"], facts["training"]) == (["Mass", "Edema"], "f" * 64, {"epochs": 3})
    assert facts["thresholds"] is facts["calibration"] is None
    assert facts["findings"] != list(CHESTXRAY14)


def test_a_bundle_is_not_changed(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path)
    with pytest.raises(RecipeError, match=r"--set must go with a recipe, got the bundle"):
        describe(str(tmp_path), ["seed=3"])


def test_nothing_is_drawn() -> None:
    before = torch.random.get_rng_state()
    describe("demo", [])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_folder_named_as_a_recipe_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()  # as `make demo` leaves it
    monkeypatch.chdir(tmp_path)
    assert describe("demo", [])["name"] == "demo"


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle must be a folder with bundle\.json"):
        describe(str(tmp_path), [])
    with pytest.raises(BundleError, match=r"bundle must be a folder with bundle\.json"):
        describe(str(tmp_path / "nothing"), [])
    with pytest.raises(RecipeError, match="recipe must be a TOML file or one of"):
        describe("nothing", [])


def test_layers_hold_every_parameter_once_and_every_shape() -> None:
    found = layers(*recipe_of("am-densenet", []), size=224)
    assert sum(layer.parameters for layer in found) == 7_011_508
    by_name = {layer.name: layer for layer in found}
    assert len(by_name) == len(found)  # though the MLP of each CBAM is passed twice
    assert sum(layer.parameters for layer in found) == 7_011_508
    assert by_name["features.conv0"] == Layer("features.conv0", "Conv2d", (64, 112, 112), 9_408)
    assert by_name["features.norm5"].shape == (1024, 7, 7)
    assert found[-1] == Layer("classifier", "Linear", (14,), 14 * 1024 + 14)


def test_multiply_adds_are_those_of_a_hand_count() -> None:
    """AlexNet's convolutions at 224 px, the transition on 6 x 6, the classifier: outputs times what each adds up."""
    by_hand = 55**2 * 64 * 3 * 121 + 27**2 * 192 * 64 * 25 + 13**2 * (384 * 192 + 256 * 384 + 256 * 256) * 9
    by_hand += 6**2 * 256 * 256 + 256 * 14
    figures = cost(*recipe_of("wang-alexnet", []), size=224)
    assert figures.multiply_adds == by_hand
    assert figures.weights_mb == round(2_539_086 * 4 / 2**20, 2)


def test_densenet121s_cost() -> None:
    """The literature's 2.87 G at 224 px counts batch norm too, and the transitions' convolutions before they average.

    Behind the average they cost a quarter: three times 102,760,448 become a quarter of it.
    """
    small, large = (cost(*recipe_of("densenet", []), size=size) for size in (224, 448))
    assert 2.8e9 < small.multiply_adds + 3 * 102_760_448 * 3 / 4 < 2.87e9
    assert large.multiply_adds == pytest.approx(4 * small.multiply_adds, rel=1e-3)
    assert large.training_mb == pytest.approx(4 * small.training_mb, rel=0.01)
    assert large.weights_mb == small.weights_mb == round(6_968_206 * 4 / 2**20, 2)


def test_what_a_backward_pass_needs_is_counted_once() -> None:
    """A linear layer keeps its input; the pooling and AlexNet's in-place ReLUs keep no copy of their own."""
    figures = cost(*recipe_of("wang-alexnet", ["architecture.pooling=average"]), size=63)
    film_and_maps = 3 * 63**2 + 64 * 15**2 + 64 * 7**2 + 192 * 7**2 + 192 * 3**2 + (384 + 256 + 256) * 3**2
    assert 4 * film_and_maps / 2**20 < figures.training_mb < 2.5 * 4 * film_and_maps / 2**20


@pytest.mark.parametrize("name", ["chestnet", "dnetloc", "wang-googlenet", "se-densenet"])
def test_every_system_is_described(name: str) -> None:
    facts = describe(name, [])
    assert facts["cost"]["size"] == facts["preprocessing"]["size"]
    assert facts["cost"]["multiply_adds"] > 1e9
    assert facts["parameters_rgb"] > facts["parameters_grey"]


def test_a_size_that_the_network_does_not_take_is_refused() -> None:
    for figures in (layers, cost):
        with pytest.raises(RecipeError, match="size must be at least 128 px for dnetloc, got 64"):
            figures(*recipe_of("dnetloc", []), size=64)


def test_a_bundles_network(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    recipe, findings = recipe_of(str(tmp_path), [])
    assert (recipe, findings) == (bundle.recipe, 2)
    assert sum(layer.parameters for layer in layers(recipe, findings)) == bundle.parameters
    with pytest.raises(RecipeError, match="--set must go with a recipe"):
        recipe_of(str(tmp_path), ["seed=3"])


def test_partners_of_a_recipe_are_shown() -> None:
    rows = dict(sections(describe("nih-lite", [])))["Training"]
    assert [row[1] for row in rows if row[0] == "partners"] == ["lite-probe", "lite-boxes, seed 1"]
