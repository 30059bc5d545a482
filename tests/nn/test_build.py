import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from hilum.nn.attention import CBAM
from hilum.nn.build import DenseNetChoices, architecture_from_dict, build
from hilum.nn.classifier import Classifier

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
