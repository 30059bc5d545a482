from typing import cast

import pytest
import torch
from torch import nn
from torch.nn import functional

from hilum.nn.build import architecture_from_dict, build
from hilum.training.dropout import FilmDropout, drops

CPU = torch.device("cpu")
SEEDS = [5, 2**62 - 1, 11, 0]


def dropped(seeds: list[int], layer: nn.Module | None = None) -> torch.Tensor:
    with FilmDropout(seeds, CPU):
        return cast(torch.Tensor, (layer or nn.Dropout(0.4))(torch.ones(len(seeds), 3, 8, 8)))


def test_a_film_loses_the_same_wherever_it_is() -> None:
    whole = dropped(SEEDS)
    assert torch.equal(torch.cat([dropped(SEEDS[:1]), dropped(SEEDS[1:])]), whole)
    assert torch.equal(dropped(SEEDS[::-1]), whole.flip(0))
    assert len({tuple(film.flatten().tolist()) for film in whole}) == 4


def test_layers_draw_one_after_another() -> None:
    with FilmDropout([1], CPU):
        first, second = functional.dropout(torch.ones(1, 99)), functional.dropout(torch.ones(1, 99))
    assert not torch.equal(first, second)


def test_what_is_kept_is_scaled_and_its_gradient_with_it() -> None:
    features = torch.ones(4, 5000, requires_grad=True)
    with FilmDropout(SEEDS, CPU):
        kept = functional.dropout(features, 0.25)
    assert sorted(set(kept.tolist()[0])) == pytest.approx([0, 1 / 0.75])
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    torch.autograd.backward(kept.sum())
    assert features.grad is not None
    assert torch.equal(features.grad, kept.detach())


def test_nothing_is_dropped_in_evaluation_and_torchs_random_state_stays() -> None:
    before = torch.get_rng_state()
    assert torch.equal(dropped(SEEDS, nn.Dropout(0.4).eval()), torch.ones(4, 3, 8, 8))
    dropped(SEEDS)
    assert torch.equal(torch.get_rng_state(), before)


def test_stochastic_depth_and_windows_are_the_films_too() -> None:
    with FilmDropout(SEEDS, CPU):
        paths = torch.empty(4, 1, 1, 1).bernoulli_(0.5)
        windows = functional.dropout(torch.ones(8, 20))  # two for each film
    with FilmDropout(SEEDS[2:], CPU):
        assert torch.equal(torch.empty(2, 1, 1, 1).bernoulli_(0.5), paths[2:])
        assert torch.equal(functional.dropout(torch.ones(4, 20)), windows[4:])


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({"network": "densenet", "block_layers": [1, 1, 1, 1]}, False),
        ({"network": "densenet", "block_layers": [1, 1, 1, 1], "dropout": 0.1}, True),
        ({"network": "timm:test_vit", "size": 160}, False),
        ({"network": "timm:test_vit", "size": 160, "drop_path": 0.1}, True),
        ({"network": "timm:test_vit", "size": 160, "dropout": 0.1}, True),
    ],
)
def test_networks_that_drop_are_known(network: dict[str, object], expected: bool) -> None:
    assert drops(build(architecture_from_dict(network), findings=2, channels=1)) == expected
