"""Augmentation in one batched pass gives film for film what Augmentation gives one by one."""

import pytest
import torch

from hilum.data.augment_batch import augment_batch
from hilum.data.dataset import FILM_OPERATIONS, Augmentation

ALL = {"rotation_deg": 10, "shift": 0.06, "scale": 0.12, "contrast": 0.15, "flip": 0.5, "gamma": 0.3, "erase": 0.5}


def films(number: int = 12, channels: int = 1, height: int = 40, width: int = 32) -> torch.Tensor:
    images = torch.rand(number, channels, height, width, generator=torch.Generator().manual_seed(0))
    soft: torch.Tensor = torch.nn.functional.avg_pool2d(images, 3, 1, 1)  # a place's grey is not noise
    return soft


@pytest.mark.parametrize(
    "levers",
    [
        {"rotation_deg": 180, "shift": 0.3, "scale": 0.4},
        {"contrast": 0.8},
        {"flip": 0.5},
        {"gamma": 1.0},
        {"erase": 0.7},
        {"operations": 3, "magnitude": 1.0},
        {"operations": len(FILM_OPERATIONS)},
        {**ALL, "operations": 2},
    ],
    ids=lambda levers: ",".join(levers),
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_what_its_films_are_one_by_one(levers: dict[str, float], channels: int) -> None:
    augmentation, images = Augmentation.model_validate(levers), films(channels=channels)
    seeds = [2**40 + 17 * film for film in range(len(images))]
    before, untouched = torch.random.get_rng_state(), images.clone()
    together = augment_batch(images, augmentation, seeds)
    one_by_one = torch.stack([augmentation.apply(film, seed=seed) for film, seed in zip(images, seeds, strict=True)])
    assert (together - one_by_one).abs().max() < 1e-4
    assert not torch.equal(together, images)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(images, untouched)


def test_each_operation_is_the_same_on_a_batch() -> None:
    from hilum.data.augment_batch import _operation

    images = films(3)
    for name, change in FILM_OPERATIONS.items():
        amounts = [-1.0, 0.0, 0.7]
        each = torch.stack([change(film, amount) for film, amount in zip(images, amounts, strict=True)])
        assert (_operation(name, images, amounts) - each).abs().max() < 1e-4, name


def test_nothing_is_done_where_nothing_is_asked_for() -> None:
    images = films()
    assert augment_batch(images, Augmentation(), [0] * len(images)) is images
