import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from hilum.nn.build import NETWORKS, DenseNetChoices, architecture_from_dict, build, check_size
from hilum.nn.classifier import Classifier
from hilum.nn.densenet import CBAM

SMALL: dict[str, Any] = {"block_layers": (1, 1, 1, 1), "growth": 16, "stem": 16, "reduction": 8}


def built(findings: int = 14, channels: int = 3, **choices: Any) -> Classifier:
    with torch.device("meta"):
        return build(architecture_from_dict(choices), findings=findings, channels=channels)


def parameters(model: Classifier) -> int:
    return sum(p.numel() for p in model.parameters())


def derived_count(*, channels: int, attention: bool, findings: int = 14) -> int:
    """DenseNet-121 counted layer by layer from its paper's table 1; a batch norm has two numbers per channel."""
    total, width = channels * 64 * 7 * 7 + 2 * 64, 64
    for block, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):  # norm, 1x1 to 4 x 32, norm, 3x3 to 32
            total += 2 * width + width * 128 + 2 * 128 + 128 * 32 * 9
            width += 32
        if block < 3:  # transition: norm, 1x1 to half
            total += 2 * width + width * (width // 2)
            width //= 2
            total += attention * (2 * width * (width // 16) + 2 * 7 * 7)
    return total + 2 * width + width * findings + findings


@pytest.mark.parametrize(
    ("network", "channels", "golden"),
    [
        ("am-densenet", 3, 7_011_508),
        ("densenet", 3, 6_968_206),
        ("am-densenet", 1, 7_005_236),
        ("densenet", 1, 6_961_934),
    ],
)
def test_parameter_counts_are_golden(network: str, channels: int, golden: int) -> None:
    assert derived_count(channels=channels, attention=network == "am-densenet") == golden
    assert parameters(built(network=network, channels=channels)) == golden


def test_where_the_golden_counts_differ() -> None:
    assert 7_011_508 - 6_968_206 == (2_048 + 98) + (8_192 + 98) + (32_768 + 98)
    assert 6_968_206 - 6_961_934 == 7_011_508 - 7_005_236 == 2 * 64 * 7 * 7  # two of three channels of the stem


def test_attention_before_the_transition_is_on_twice_the_channels() -> None:
    model = built(attention_place="before-transition")
    widths = [module.channel.excite.out_channels for module in model.modules() if isinstance(module, CBAM)]
    assert widths == [256, 512, 1024]
    assert parameters(model) == 6_968_206 + sum(2 * c * (c // 16) + 98 for c in widths)


def test_every_choice_arrives() -> None:
    model = built(findings=3, channels=1, block_layers=(2, 3, 4, 5), growth=8, stem=32, reduction=2, dropout=0.25)
    assert model.state_dict()["features.conv0.weight"].shape == (32, 1, 7, 7)
    blocks = [model.get_submodule(f"features.denseblock{number}") for number in (1, 2, 3, 4)]
    assert [len(list(block.children())) for block in blocks] == [2, 3, 4, 5]
    assert model.get_submodule("features.denseblock1.denselayer1").drop_rate == 0.25
    assert model.get_submodule("features.denseblock1.denselayer1.conv2").out_channels == 8
    assert model.get_submodule("features.attention1.channel.squeeze").out_channels == (32 + 2 * 8) // 2 // 2
    assert model.classifier.out_features == 3
    assert built(identity_start=True).get_submodule("features.attention1.spatial").gate_scale == 2.0
    assert not [module for module in built(network="densenet").modules() if isinstance(module, CBAM)]


def test_the_same_random_state_gives_the_same_network() -> None:
    def from_seed(seed: int) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(DenseNetChoices(**SMALL), findings=2, channels=1).state_dict()

    first, again, other = from_seed(0), from_seed(0), from_seed(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["features.conv0.weight"], other["features.conv0.weight"])


def test_counting_draws_nothing() -> None:
    before = torch.random.get_rng_state()
    built()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network", "resnet"),
        ("block_layers", (6, 12, 24)),
        ("block_layers", (0, 12, 24, 16)),
        ("block_layers", (6, 12, 24, 10**9)),
        ("growth", 0),
        ("growth", 10**30),
        ("stem", -64),
        ("reduction", 0),
        ("dropout", 1.0),
        ("dropout", float("nan")),
        ("attention_place", "nowhere"),
        ("squeeze", 16),
    ],
)
def test_architectures_that_cannot_be_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        architecture_from_dict({key: value})


def test_choices_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="channels must be a multiple of the reduction 7, got 128"):
        built(reduction=7)
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        built(channels=2)


def test_architecture_is_frozen_and_plain_json() -> None:
    architecture = DenseNetChoices(**SMALL)
    with pytest.raises(ValidationError, match="frozen"):
        architecture.growth = 3
    assert architecture_from_dict(json.loads(architecture.model_dump_json())) == architecture


GOLDEN: list[tuple[dict[str, Any], int]] = [
    ({"network": "se-densenet"}, 6_968_206 + 2_048 + 8_192 + 32_768),
    ({"network": "channel-densenet"}, 6_968_206 + 2_048 + 8_192 + 32_768),
    ({"network": "spatial-densenet"}, 6_968_206 + 3 * 98),
    ({"network": "am-densenet", "attention_place": "before-transition"}, 7_140_532),
    ({"network": "wang2017", "backbone": "alexnet"}, 2_539_086),
    ({"network": "wang2017", "backbone": "googlenet"}, 6_663_854),
    ({"network": "wang2017", "backbone": "vgg16"}, 14_984_526),
    ({"network": "wang2017", "backbone": "resnet50"}, 27_733_070),
    ({"network": "chestnet"}, 62_218_859),
    ({"network": "dnetloc"}, 6_977_605),
]
"""Each is derived where its network is tested."""


@pytest.mark.parametrize(("fields", "golden"), GOLDEN)
def test_every_network_is_built_with_its_golden_count(fields: dict[str, Any], golden: int) -> None:
    model = built(**fields)
    assert parameters(model) == golden
    assert model.stem_key in model.state_dict()
    assert model.state_dict()[model.stem_key].shape[1] == 3
    assert built(**fields, channels=1).state_dict()[model.stem_key].shape[1] == 1


def test_the_list_of_networks_is_whole() -> None:
    assert set(NETWORKS) == {fields["network"] for fields, _ in GOLDEN} | {"densenet", "onnx", "timm:NAME"}


def test_the_network_is_am_densenet_unless_said_otherwise() -> None:
    assert architecture_from_dict({}) == DenseNetChoices(network="am-densenet")


def test_what_is_written_of_densenets_stays_as_it_was() -> None:
    """Runs and bundles that exist hold these keys, and a resumed run must find the same."""
    for network in ("densenet", "am-densenet"):
        assert architecture_from_dict({"network": network}).model_dump(mode="json") == {
            "network": network,
            "block_layers": [6, 12, 24, 16],
            "growth": 32,
            "stem": 64,
            "attention_place": "after-transition",
            "reduction": 16,
            "identity_start": False,
            "dropout": 0.0,
        }


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"network": "wang2017", "backbone": "resnet18"}, "backbone"),
        ({"network": "wang2017", "lse_r": 0}, "lse_r"),
        ({"network": "wang2017", "lse_r": float("inf")}, "lse_r"),
        ({"network": "wang2017", "pooling": "median"}, "pooling"),
        ({"network": "wang2017", "reduction": 16}, "reduction"),
        ({"network": "chestnet", "size": 225}, "size"),
        ({"network": "chestnet", "stage_blocks": (3, 8, 36)}, "stage_blocks"),
        ({"network": "dnetloc", "locations": -1}, "locations"),
        ({"network": []}, "network"),
        ({"network": None}, "network"),
    ],
)
def test_choices_of_another_network_are_refused(fields: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        architecture_from_dict(fields)


@pytest.mark.parametrize(
    ("fields", "least"),
    [
        ({"network": "am-densenet"}, 32),
        ({"network": "wang2017", "backbone": "alexnet"}, 63),
        ({"network": "wang2017", "backbone": "vgg16"}, 32),
        ({"network": "dnetloc"}, 128),
    ],
)
def test_sizes_that_are_too_small_are_refused_before_building(fields: dict[str, Any], least: int) -> None:
    architecture = architecture_from_dict(fields)
    check_size(architecture, least)
    assert built(**fields).minimum_size == least
    with pytest.raises(ValueError, match=f"size must be at least {least} px for {fields['network']}, got {least - 1}"):
        check_size(architecture, least - 1)


def test_chestnet_takes_one_size() -> None:
    check_size(architecture_from_dict({"network": "chestnet", "size": 320}), 320)
    with pytest.raises(ValueError, match=r"size must be 224 px, .* got 512\. Change both"):
        check_size(architecture_from_dict({"network": "chestnet"}), 512)
