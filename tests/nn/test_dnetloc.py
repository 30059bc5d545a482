from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import densenet121

from hilum.nn.baselines import MINIMUM_SIZE, DNetLoc
from hilum.nn.classifier import load_backbone
from hilum.nn.densenet import DenseNet
from hilum.training.losses import bce_loss

SMALL: dict[str, Any] = {"findings": 3, "block_layers": (1, 1, 1, 1), "growth": 16, "stem": 16}


def small(**choices: Any) -> DNetLoc:
    return DNetLoc(**{**SMALL, "locations": 2, **choices}).eval()


def films(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_parameter_counts_are_golden() -> None:
    """DenseNet-121; twice three 3x3 kernels over three planes with batch norm; nine more rows of 1,024 and a bias."""
    assert 6_977_605 == 6_968_206 + 2 * (3 * 3 * 9 + 2 * 3) + 9 * (1024 + 1)
    for channels, locations, golden in ((3, 9, 6_977_605), (1, 9, 6_977_551), (3, 0, 6_968_380)):
        with torch.device("meta"):
            model = DNetLoc(findings=14, channels=channels, locations=locations)
        assert sum(p.numel() for p in model.parameters()) == golden


def test_shapes_at_the_sources_size() -> None:
    with torch.device("meta"):
        model = DNetLoc(findings=14).eval()
        logits, maps = model.class_maps(torch.zeros(2, 3, 1024, 1024))
        assert model(torch.zeros(1, 3, 128, 256)).shape == (1, 14)
        assert model.all_logits(torch.zeros(1, 3, 128, 256)).shape == (1, 23)
    assert (logits.shape, maps.shape) == ((2, 14), (2, 14, 8, 8))


def test_it_is_a_densenet_behind_two_convolutions() -> None:
    model, images = small(), films(2, 3, 128, 192)
    plain = DenseNet(**{**SMALL, "findings": 5}).eval()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith("front.")})
    x = images
    for number in (0, 1):
        x = model.get_submodule(f"front.conv{number}")(x)
        x = model.get_submodule(f"front.norm{number}")(x).relu()
    assert x.shape == (2, 3, 32, 48)
    torch.testing.assert_close(model.all_logits(images), plain(x))
    assert torch.equal(model(images), model.all_logits(images)[:, :3])


def test_the_mean_of_a_class_map_is_its_logit() -> None:
    model, images = small(channels=1), films(2, 1, 128, 256)
    logits, maps = model.class_maps(images)
    assert maps.shape == (2, 3, 1, 2)
    torch.testing.assert_close(maps.mean((2, 3)), model(images))
    torch.testing.assert_close(logits, model(images))


def test_imagenets_densenet121_fits_behind_the_front() -> None:
    for channels in (1, 3):
        with torch.device("meta"):
            missing = load_backbone(DNetLoc(findings=14, channels=channels), densenet121().state_dict())
        assert {key.split(".")[0] for key in missing} == {"front", "classifier"}


def test_a_grey_front_summed_over_rgb_gives_the_same_output_on_grey_films() -> None:
    colour, grey = small(), small(channels=1)
    assert load_backbone(grey, colour.state_dict()) == []
    images = films(2, 1, 128, 128)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)))


def test_locations_without_labels_are_masked_and_those_with_labels_are_learned() -> None:
    model, images = small().train(), films(4, 3, 128, 128)
    nan = float("nan")
    for locations, moves in ((nan, False), (1.0, True)):
        labels = torch.tensor([[1.0, 0, 1, locations, nan]] * 4)
        model.zero_grad()
        bce_loss(model.all_logits(images), labels).backward()  # type: ignore[no-untyped-call]
        slopes = model.classifier.weight.grad
        assert slopes is not None
        assert slopes[:3].any()
        assert slopes[3].any() == moves
        assert not slopes[4].any()


def test_the_loss_of_the_findings_gives_locations_no_gradient_and_the_rest_one() -> None:
    model = small(channels=1).train()
    model(films(4, 1, 128, 128)).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    assert model.classifier.weight.grad is not None
    assert not model.classifier.weight.grad[3:].any()
    assert model.get_parameter("front.conv0.weight").grad.any()  # type: ignore[union-attr]


def test_films_that_are_too_small_are_refused_in_one_sentence() -> None:
    assert MINIMUM_SIZE == 128
    assert small()(films(1, 3, 128, 128)).shape == (1, 3)
    for call in (small(), small().class_maps):
        with pytest.raises(
            ValueError, match=r"images must be at least 128 px high and wide for this network, got 128 x 127$"
        ):
            call(films(1, 3, 128, 127))


def test_choices_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="locations must be 0 or more, got -1"):
        small(locations=-1)
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        small(channels=2)


def test_a_few_films_can_be_learned_by_heart() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small(channels=1).train()
        images, labels = films(4, 1, 128, 128), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(60):
            loss = nn.functional.binary_cross_entropy_with_logits(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert loss.item() < 0.05
