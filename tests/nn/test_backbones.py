"""Networks of timm: golden counts, the same logits as timm's own network, class maps whose mean is the logit."""

from typing import Any

import pytest
import torch

from hilum.nn.backbones import Backbone
from hilum.nn.build import architecture_from_dict, build
from hilum.recipe import load_recipe

timm: Any = pytest.importorskip("timm")

GOLDEN = {
    "tf_efficientnet_lite0": (3_388_942, 224),
    "resnet50": (23_536_718, 224),
    "convnext_tiny": (27_830_894, 224),
    "vit_small_patch16_224": (21_671_054, 224),
}
SMALL = {
    "tf_efficientnet_lite0": 64,
    "convnext_atto": 64,
    "vit_tiny_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 224,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_counts(name: str) -> None:
    parameters, size = GOLDEN[name]
    with torch.device("meta"):
        model = build(architecture_from_dict({"network": f"timm:{name}", "size": size}), findings=14, channels=3)
    assert sum(weight.numel() for weight in model.parameters()) == parameters


def shaken(model: torch.nn.Module) -> None:
    """Norms that do something, so that a wrong one is seen."""
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data.uniform_(0.2, 1.0)


@pytest.mark.parametrize("name", SMALL)
@torch.inference_mode()
def test_logits_are_those_of_timms_own_network_and_the_mean_of_the_maps(name: str) -> None:
    torch.manual_seed(0)
    size = SMALL[name]
    sized: dict[str, Any] = {"img_size": size, "global_pool": "avg"} if name.startswith("vit") else {}
    theirs = timm.create_model(name, pretrained=False, num_classes=3, **sized).eval()
    shaken(theirs)
    ours = Backbone(findings=3, name=name, size=size).eval()
    state = ours.own_keys(theirs.state_dict())
    own = {"classifier.weight", "classifier.bias", "pixel_mean", "pixel_deviation"}
    assert state.keys() | own == ours.state_dict().keys()
    head = theirs.get_classifier()
    ours.load_state_dict(ours.state_dict() | state | {"classifier.weight": head.weight, "classifier.bias": head.bias})
    images = torch.rand(2, 3, size, size)
    expected = theirs(ours.scaled(images))
    assert torch.allclose(ours(images), expected, atol=1e-5)
    logits, maps = ours.class_maps(images)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(maps.mean((2, 3)), expected, atol=1e-5)


def test_what_has_no_closed_form_is_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="mobilenetv3_small_050 has others there"):
        Backbone(findings=2, name="mobilenetv3_small_050", size=64)


def test_an_unknown_name_is_refused_with_its_neighbours() -> None:
    with pytest.raises(ValueError, match=r"got 'convnext_enormous'.*convnext_atto"):
        Backbone(findings=2, name="convnext_enormous", size=64)


def test_a_transformer_takes_the_size_that_it_was_built_for() -> None:
    model = Backbone(findings=2, name="vit_tiny_patch16_224", size=64)
    with pytest.raises(ValueError, match="must be 64 px"):
        model(torch.zeros(1, 3, 96, 96))


def test_a_grey_stem_is_the_sum_of_the_colours() -> None:
    from hilum.nn.classifier import load_backbone

    torch.manual_seed(0)
    colour = Backbone(findings=2, name="tf_efficientnet_lite0", size=64).eval()
    grey = Backbone(findings=2, name="tf_efficientnet_lite0", size=64, channels=1).eval()
    load_backbone(grey, colour.state_dict())
    films = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(grey(films), colour(films.expand(-1, 3, -1, -1)), atol=1e-5)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto"])
@torch.inference_mode()
def test_folded_to_grey_it_sees_what_three_equal_channels_showed(name: str) -> None:
    torch.manual_seed(0)
    model = Backbone(findings=2, name=name, size=64).eval()
    films = torch.rand(2, 1, 64, 64)
    expected = model(films.expand(-1, 3, -1, -1))
    model.fold_to_grey()
    assert torch.allclose(model(films), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "golden"),
    [
        ("convnext-tiny", 27_830_894),
        ("convnext-base-512", 87_580_814),
        ("vit-small", 21_671_054 - 2 * 384 * 16**2),  # a grey stem
        ("resnet50", 23_536_718),
        ("rad-dino", 86_590_478 - 2 * 768 * 14**2),
    ],
)
def test_recipes_have_their_golden_counts(recipe: str, golden: int) -> None:
    chosen = load_recipe(recipe)
    with torch.device("meta"):
        model = build(chosen.architecture, findings=14, channels=chosen.preprocessing.channels)
    assert sum(parameter.numel() for parameter in model.parameters()) == golden


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_tiny_patch16_224"])
@torch.inference_mode()
def test_a_classifier_on_stages_reads_each_field_and_its_maps_have_the_logits_as_mean(name: str) -> None:
    torch.manual_seed(0)
    levels, fields, size = (3, 5, 7), 3, 80  # 3 divides none of the stages' sides
    model = Backbone(findings=2, name=name, size=size, channels=1, levels=levels, fields=fields).eval()
    films = torch.rand(2, 1, size, size)
    stages = model.level_maps(films)
    read = model.pooled(films)
    assert read.shape[1] == model.classifier.in_features == 9 * sum(stage.shape[1] for stage in stages)
    used = 0
    for stage in stages:  # each channel's fields have the channel's mean as their mean
        own = read[:, used : used + 9 * stage.shape[1]].reshape(2, stage.shape[1], 9)
        assert torch.allclose(own.mean(2), stage.mean((2, 3)), atol=1e-4)
        used += 9 * stage.shape[1]
    logits, maps = model.class_maps(films)
    assert torch.allclose(logits, model(films), atol=1e-4)
    assert torch.allclose(maps.mean((2, 3)), logits, atol=1e-4)


def test_fields_are_the_means_of_equal_parts_of_the_film() -> None:
    from hilum.nn.backbones import _by_field

    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert _by_field(features, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    uneven = _by_field(torch.tensor([0.0, 1.0, 2.0]).expand(1, 1, 3, 3), 2)  # the middle column is shared
    assert uneven.flatten().tolist() == pytest.approx([1 / 3, 5 / 3] * 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"levels": (3, 9)}, "levels must rise and be below 8"),
        ({"levels": (3, 3)}, "levels must rise"),
        ({"fields": 2}, "fields with levels"),
        ({"levels": (3,), "dropout": 0.2}, "without dropout"),
    ],
)
def test_stages_that_do_not_fit_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Backbone(findings=2, name="tf_efficientnet_lite0", size=64, **options)


def test_recipes_of_before_do_not_change_by_the_new_choices() -> None:
    before = {"network": "timm:resnet50", "size": 64, "dropout": 0.0, "drop_path": 0.0}
    assert architecture_from_dict(before).model_dump(mode="json") == before
    stated = before | {"levels": [2, 3], "fields": 2}
    assert architecture_from_dict(stated).model_dump(mode="json") == stated
