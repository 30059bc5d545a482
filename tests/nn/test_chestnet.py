from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet152

from hilum.nn.baselines import AttentionBranch, ChestNet
from hilum.nn.classifier import load_backbone


def small(**choices: Any) -> ChestNet:
    return ChestNet(**{"findings": 3, "size": 64, "stage_blocks": (1, 1, 1, 1), **choices}).eval()


def films(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def derived_count(channels: int, side: int, findings: int) -> int:
    """ResNet-152 as bottlenecks with batch norm, each stage's first with a 1x1 beside it; then the rest."""

    def normed(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel * kernel + 2 * outputs

    total, inputs = normed(channels, 64, 7), 64
    for blocks, width in zip((3, 8, 36, 3), (64, 128, 256, 512), strict=True):
        total += normed(inputs, 4 * width, 1)
        for _ in range(blocks):
            total += normed(inputs, width, 1) + normed(width, width, 3) + normed(width, 4 * width, 1)
            inputs = 4 * width
    total += 2048 * findings + findings
    total += normed(1024, 512, 1) + normed(512, 512, 3) + normed(512, 2048, 1)  # the bottleneck of the attention branch
    return total + (14 + 14) + (14 * 512 + 512) + (512 * side * side + 1)


def test_the_parameter_count_is_golden() -> None:
    assert 62_218_859 == 58_143_808 + 28_686 + 3_938_304 + 28 + 7_680 + 100_353
    assert derived_count(3, 14, 14) == 62_218_859
    for channels, size in ((3, 224), (1, 224), (1, 512)):
        with torch.device("meta"):
            model = ChestNet(findings=14, channels=channels, size=size)
        assert sum(p.numel() for p in model.parameters()) == derived_count(channels, size // 16, 14)


def test_the_full_network_at_224_px() -> None:
    with torch.device("meta"):
        logits, maps = ChestNet(findings=14).eval().class_maps(torch.zeros(2, 3, 224, 224))
    assert (logits.shape, maps.shape) == ((2, 14), (2, 14, 14, 14))


def test_the_full_network_takes_all_of_resnet152_but_its_head() -> None:
    with torch.device("meta"):
        model, theirs = ChestNet(findings=14), resnet152()
        missing = load_backbone(model, theirs.state_dict())
    assert {key.split(".")[0] for key in missing} == {"attention", "classifier"}


def test_the_forward_pass_by_hand() -> None:
    """Both branches, step by step; their logits are averaged."""
    model, images = small(), films(2, 3, 64, 64)
    part = model.backbone.get_submodule
    x = part("maxpool")(part("bn1")(part("conv1")(images)).relu())
    penultimate = part("layer3")(part("layer2")(part("layer1")(x)))
    last = part("layer4")(penultimate)
    assert (penultimate.shape, last.shape) == ((2, 1024, 4, 4), (2, 2048, 2, 2))
    branch = model.attention
    y = branch.norm1(branch.conv1(penultimate)).relu()
    y = branch.norm3(branch.conv3(branch.norm2(branch.conv2(y)).relu())).relu()
    attended = torch.zeros(2, 3)
    for film in range(2):
        for finding in range(3):
            alpha = model.classifier.weight[finding] / 4  # Grad-CAM's, of four places
            one = (alpha[:, None, None] * y[film]).sum(0)
            one = (one - one.min()) / (one.max() - one.min())
            hidden = branch.second(branch.first(one[None, None]).relu()).relu()
            attended[film, finding] = branch.whole(hidden).item()
    expected = (model.classifier(last.mean((2, 3))) + attended) / 2
    torch.testing.assert_close(model(images), expected, atol=1e-4, rtol=1e-4)


def test_alpha_is_grad_cams() -> None:
    """The gradient of a logit by the last feature map, averaged over places, is the classifier's weight over places."""
    model, features = small(), torch.rand(1, 2048, 2, 2, requires_grad=True)
    for finding in range(3):
        logit = model.classifier(features.mean((2, 3)))[0, finding]
        (slopes,) = torch.autograd.grad(logit, features)
        torch.testing.assert_close(slopes.sum((2, 3))[0] / 4, model.classifier.weight[finding] / 4)


def test_the_mean_of_a_map_is_its_logit() -> None:
    model, images = small(channels=1), films(3, 1, 64, 64)
    logits, maps = model.class_maps(images)
    assert maps.shape == (3, 3, 4, 4)
    torch.testing.assert_close(maps.mean((2, 3)), model(images))
    assert torch.equal(logits, model(images))


def test_a_flat_map_is_empty_and_not_nan() -> None:
    branch = AttentionBranch(4).eval()
    with torch.no_grad():
        votes = branch(films(1, 1024, 4, 4), torch.zeros(2, 2048))
        nothing = branch.whole(branch.second(branch.first(torch.zeros(1, 1, 4, 4)).relu()).relu())
    torch.testing.assert_close(votes.mean((2, 3)), nothing.reshape(1, 1).expand(1, 2))


def test_a_gradient_reaches_every_weight_of_both_branches() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small(channels=1).train()
        model(films(4, 1, 64, 64)).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    for name in ("conv1", "conv2", "conv3", "first", "second", "whole"):
        assert model.get_parameter(f"attention.{name}.weight").grad.any(), name  # type: ignore[union-attr]


def test_a_grey_stem_summed_over_rgb_gives_the_same_output_on_grey_films() -> None:
    colour, grey = small(), small(channels=1)
    assert load_backbone(grey, colour.state_dict()) == []
    images = films(2, 1, 64, 64)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(32, 32), (96, 96), (64, 96)])
def test_films_of_another_size_are_refused_in_one_sentence(shape: tuple[int, int]) -> None:
    message = f"images must be 64 x 64 px for this ChestNet, got {shape[0]} x {shape[1]}$"
    for call in (small(), small().class_maps):
        with pytest.raises(ValueError, match=message):
            call(films(1, 3, *shape))


def test_choices_that_do_not_fit_are_refused() -> None:
    for size in (0, 31, 100):
        with pytest.raises(ValueError, match=f"size must be a multiple of 32, got {size}"):
            small(size=size)
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        small(channels=2)


def test_a_few_films_can_be_learned_by_heart() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small(channels=1).train()
        images, labels = films(4, 1, 64, 64), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        first = None
        for _ in range(6):
            loss = nn.functional.binary_cross_entropy_with_logits(model(images), labels)
            first = first or loss.item()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert first is not None
    assert loss.item() < first / 2
