from pathlib import Path

from hilum.model.info import Layer, describe, layer_rows, sections
from hilum.recipe import load_recipe


def values(what: str, **options: int) -> dict[str, dict[str, str]]:
    return {title: dict(rows) for title, rows in sections(describe(what, [], **options))}


def test_every_value_of_a_recipe_stands_under_the_name_that_set_takes() -> None:
    shown = values("am-densenet")
    assert list(shown) == ["What it is", "Network", "Size and cost", "Films", "Training"]
    recipe = load_recipe("am-densenet")
    for title, part in (("Network", "architecture"), ("Films", "preprocessing"), ("Training", "optimizer")):
        for key in recipe.to_dict()[part]:
            assert f"{part}.{key}" in shown[title]
    assert shown["Network"]["architecture.block_layers"] == "6, 12, 24, 16"
    assert shown["Network"]["architecture.identity_start"] == "no"
    assert shown["Training"]["optimizer.lr"] == "0.0001"
    assert shown["Training"]["training.ema_decay"] == "none"


def test_counts_have_their_units_and_separators() -> None:
    cost = values("densenet", size=224)["Size and cost"]
    assert cost["parameters"] == "6,968,206"
    assert cost["with an RGB stem, with a grey one"] == "6,968,206, 6,961,934"
    assert cost["multiply-adds of one 224 px film"].startswith("2,60")
    assert cost["weights in fp32"] == "26.6 MiB"
    assert cost["kept per film for the backward pass, fp32"].endswith(" MiB")


def test_a_bundle_shows_what_only_a_bundle_has(tiny_run: Path) -> None:
    shown = values(str(tiny_run))
    assert shown["This bundle"]["findings"].startswith("Atelectasis, Cardiomegaly")
    assert len(shown["This bundle"]["films"]) == 64
    assert shown["Training"]["training.epochs"] == "3"


def test_layers_and_their_sum() -> None:
    layers = [Layer("conv0", "Conv2d", (64, 112, 112), 9408), Layer("relu0", "ReLU", (64, 112, 112), 0)]
    assert layer_rows(layers) == [
        ["conv0", "Conv2d", "64 x 112 x 112", "9,408"],
        ["relu0", "ReLU", "64 x 112 x 112", ""],
        ["all", "", "", "9,408"],
    ]
