import math
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import get_model

from hilum.nn.baselines import MINIMUM_SIZES, Pooling, Wang2017, Wang2017Backbone, lse_pool
from hilum.nn.classifier import load_backbone

BACKBONES = get_args(Wang2017Backbone)


def network(backbone: Wang2017Backbone = "alexnet", **choices: Any) -> Wang2017:
    return Wang2017(**{"findings": 3, "backbone": backbone, **choices}).eval()


def films(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def convolution(inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> int:
    return inputs * outputs * kernel * kernel + bias * outputs


def alexnet_count(channels: int) -> int:
    """The five convolutions of "One weird trick" 2014, each with a bias."""
    sizes = [(channels, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3)]
    return sum(convolution(*size) for size in sizes)


def vgg16_count(channels: int) -> int:
    """Configuration D: thirteen 3x3 convolutions, each with a bias."""
    widths = [channels, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    return sum(convolution(a, b, 3) for a, b in pairwise(widths))


def normed(inputs: int, outputs: int, kernel: int) -> int:
    """A convolution without bias, and its batch norm's two numbers per channel."""
    return convolution(inputs, outputs, kernel, bias=False) + 2 * outputs


def googlenet_count(channels: int) -> int:
    """The stem and nine inception modules of its paper's table 1; torchvision's "5x5" branch is 3x3."""
    total = normed(channels, 64, 7) + normed(64, 64, 1) + normed(64, 192, 3)
    width = 192
    for one, three_in, three, five_in, five, pool in (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    ):
        total += normed(width, one, 1) + normed(width, three_in, 1) + normed(three_in, three, 3)
        total += normed(width, five_in, 1) + normed(five_in, five, 3) + normed(width, pool, 1)
        width = one + three + five + pool
    return total


def resnet_count(channels: int, blocks: tuple[int, ...]) -> int:
    """The stem and bottlenecks 1x1, 3x3, 1x1 to four times the width; the first of a stage has a 1x1 beside it."""
    total, inputs = normed(channels, 64, 7), 64
    for number, width in zip(blocks, (64, 128, 256, 512), strict=True):
        total += normed(inputs, 4 * width, 1)
        for _ in range(number):
            total += normed(inputs, width, 1) + normed(width, width, 3) + normed(width, 4 * width, 1)
            inputs = 4 * width
    return total


DERIVED = {
    "alexnet": (alexnet_count, 256, 2_469_696, 2_539_086),
    "googlenet": (googlenet_count, 1024, 5_599_904, 6_663_854),
    "vgg16": (vgg16_count, 512, 14_714_688, 14_984_526),
    "resnet50": (lambda channels: resnet_count(channels, (3, 4, 6, 3)), 2048, 23_508_032, 27_733_070),
}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("channels", [3, 1])
def test_parameter_counts_are_golden(backbone: Wang2017Backbone, channels: int) -> None:
    """Wang2017Backbone, a 1x1 convolution of its width with bias, and a linear layer of 14 outputs."""
    count, width, trunk, golden = DERIVED[backbone]
    assert count(3) == trunk
    assert trunk + width * width + width + 14 * width + 14 == golden
    with torch.device("meta"):
        model = Wang2017(findings=14, backbone=backbone, channels=channels)
    assert sum(p.numel() for p in model.parameters()) == golden - (count(3) - count(channels))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("channels", [3, 1])
def test_shapes_and_the_s_of_the_source(backbone: Wang2017Backbone, pooling: Pooling, channels: int) -> None:
    """At 1,024 px the source's maps are 32 x 32 (AlexNet's own arithmetic leaves 31)."""
    with torch.device("meta"):
        model = Wang2017(findings=14, backbone=backbone, pooling=pooling, channels=channels).eval()
        logits, maps = model.class_maps(torch.zeros(2, channels, 1024, 1024))
        assert model(torch.zeros(2, channels, 224, 256)).shape == (2, 14)
    side = 31 if backbone == "alexnet" else 32
    assert (logits.shape, maps.shape) == ((2, 14), (2, 14, side, side))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_backbone_is_torchvisions(backbone: Wang2017Backbone) -> None:
    if backbone in ("alexnet", "vgg16"):
        with torch.device("meta"):  # their heads take half a gigabyte
            theirs = get_model(backbone).eval()
        theirs.features.to_empty(device="cpu").apply(lambda m: m.reset_parameters() if hasattr(m, "weight") else None)
    else:
        theirs = get_model(backbone, **({"init_weights": False} if backbone == "googlenet" else {})).eval()
    ours, images, seen = network(backbone), films(1, 3, 96, 64), []
    missing = load_backbone(ours, theirs.state_dict())
    assert set(missing) == {"transition.weight", "transition.bias", "classifier.weight", "classifier.bias"}
    theirs.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        if backbone in ("alexnet", "vgg16"):
            seen.append(theirs.features(images))
        else:
            theirs(images)
        torch.testing.assert_close(ours.backbone(images), seen[0])


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_the_forward_pass_by_hand(pooling: Pooling) -> None:
    model, images = network(pooling=pooling, lse_r=4.0), films(2, 3, 96, 128)
    features = model.transition(model.backbone(images)).relu()
    pooled = {
        "lse": (torch.logsumexp(4 * features.flatten(2), 2) - math.log(features[0, 0].numel())) / 4,
        "max": features.flatten(2).max(2).values,
        "average": features.flatten(2).mean(2),
    }[pooling]
    torch.testing.assert_close(model(images), model.classifier(pooled))
    logits, maps = model.class_maps(images)
    assert torch.equal(logits, model(images))
    torch.testing.assert_close(maps[:, :, 1, 2], model.classifier(features[:, :, 1, 2]))


def test_the_mean_of_a_map_is_its_logit_under_average_pooling_alone() -> None:
    images = films(2, 3, 128, 128)
    for pooling in get_args(Pooling):
        logits, maps = network(pooling=pooling).class_maps(images)
        assert torch.allclose(maps.mean((2, 3)), logits, atol=1e-5) == (pooling == "average")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12),
    st.sampled_from([0.1, 1.0, 10.0, 100.0]),
    st.floats(-1e4, 1e4),
)
def test_lse_lies_between_mean_and_maximum_and_moves_with_its_input(
    values: list[float], r: float, shift: float
) -> None:
    x = torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)
    pooled = lse_pool(x, r=r).item()
    top = max(values)
    slow = top + math.log(math.fsum(math.exp(r * (value - top)) for value in values) / len(values)) / r
    assert pooled == pytest.approx(slow, rel=1e-9, abs=1e-9)
    assert math.fsum(values) / len(values) - 1e-6 <= pooled <= top + 1e-6
    assert lse_pool(x + shift, r=r).item() == pytest.approx(pooled + shift, rel=1e-9, abs=1e-6)


def test_lse_golden_values() -> None:
    """exp(0) and exp(ln 3) have the mean 2; r = 2 halves the logarithm's scale."""
    assert lse_pool(torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2), r=1.0).item() == pytest.approx(math.log(2))
    assert lse_pool(torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2) / 2, r=2.0).item() == pytest.approx(
        math.log(2) / 2
    )
    x = films(1, 4, 6, 6).double()
    torch.testing.assert_close(lse_pool(x, r=1e-7), x.mean((2, 3)), atol=1e-6, rtol=0)
    torch.testing.assert_close(lse_pool(x, r=1e6), x.amax((2, 3)), atol=1e-5, rtol=0)


def test_lse_does_not_overflow_and_its_gradient_is_the_softmax() -> None:
    x = torch.tensor([500.0, 499.9, -800.0], dtype=torch.float64).reshape(1, 1, 1, 3).requires_grad_()
    (slopes,) = torch.autograd.grad(lse_pool(x, r=10.0).sum(), x)
    torch.testing.assert_close(slopes.flatten(), torch.softmax(10 * x.detach().flatten(), 0))
    y = (3 * torch.rand(2, 3, 4, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: lse_pool(value, r=10.0), y)
    assert lse_pool(torch.full((1, 1, 2, 2), 300.0, dtype=torch.bfloat16), r=10.0).dtype == torch.float32


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_gradient_reaches_every_weight(backbone: Wang2017Backbone) -> None:
    model = network(backbone, channels=1).train()
    model(films(2, 1, 64, 64)).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    assert sum(bool(p.grad.any()) for p in model.parameters() if p.grad is not None) > 5


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet"])
def test_a_grey_stem_summed_over_rgb_gives_the_same_output_on_grey_films(backbone: Wang2017Backbone) -> None:
    colour, grey = network(backbone), network(backbone, channels=1)
    assert load_backbone(grey, colour.state_dict()) == []
    images = films(2, 1, 96, 96)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_films_that_are_too_small_are_refused_in_one_sentence(backbone: Wang2017Backbone) -> None:
    least = MINIMUM_SIZES[backbone]
    with torch.device("meta"):
        model = Wang2017(findings=2, backbone=backbone).eval()
        assert model.class_maps(torch.zeros(1, 3, least, least))[1].shape == (1, 2, 1, 1)
        with pytest.raises(
            ValueError, match=f"at least {least} px high and wide for this network, got {least - 1} x 96$"
        ):
            model(torch.zeros(1, 3, least - 1, 96))


def test_choices_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        network(channels=2)
    for r in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="lse_r must be above 0, got"):
            network(lse_r=r)


def test_a_few_films_can_be_learned_by_heart() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = network("alexnet", channels=1).train()
        images, labels = films(4, 1, 64, 64), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(25):
            loss = nn.functional.binary_cross_entropy_with_logits(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert loss.item() < 0.3
