import json
from pathlib import Path

import pytest
import torch

from hilum.bundle import Bundle, save_bundle
from hilum.errors import BundleError, RecipeError
from hilum.findings import CHESTXRAY14
from hilum.info import describe, shipped
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
        ("am-densenet-bce", 7_011_508, 7_011_508, 7_005_236),
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
    with pytest.raises(RecipeError, match="recipe must be a TOML file or one of"):
        describe(str(tmp_path / "nothing"), [])
