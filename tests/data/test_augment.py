import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from hilum.data.dataset import FILM_OPERATIONS, Augmentation

ALL = Augmentation(rotation_deg=10, shift=0.06, scale=0.12, contrast=0.15, flip=0.5)


def film(size: int = 32, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(channels, size, size, generator=torch.Generator().manual_seed(seed))


def blob(size: int = 64) -> Tensor:
    """A soft bright spot in the middle."""
    place = torch.arange(size) - (size - 1) / 2
    return torch.exp(-(place**2 + place[:, None] ** 2) / 32)[None]


def centre(image: Tensor) -> tuple[float, float]:
    """Centre of brightness, in pixels from the middle: down, across."""
    place = torch.arange(image.shape[-1]) - (image.shape[-1] - 1) / 2
    total = image.sum()
    return float((image.sum((0, 2)) * place).sum() / total), float((image.sum((0, 1)) * place).sum() / total)


def test_nothing_by_default() -> None:
    image = film()
    assert Augmentation().apply(image, seed=1) is image


def test_no_mirror_image_by_default() -> None:
    """It would put the heart on the right."""
    assert Augmentation(rotation_deg=10, shift=0.1, scale=0.1, contrast=0.1).flip == 0


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Augmentation,
        rotation_deg=st.floats(0, 180),
        shift=st.floats(0, 0.9),
        scale=st.floats(0, 0.9),
        contrast=st.floats(0, 0.9),
        flip=st.floats(0, 1),
        gamma=st.floats(0, 2),
        erase=st.floats(0, 1),
        operations=st.integers(0, len(FILM_OPERATIONS)),
        magnitude=st.floats(0.01, 1),
    ),
    st.integers(0, 2**62),
    st.sampled_from([1, 3]),
)
def test_the_result_is_a_film_and_the_seed_alone_decides(augmentation: Augmentation, seed: int, channels: int) -> None:
    image = film(channels=channels)
    before, untouched = torch.random.get_rng_state(), image.clone()
    first = augmentation.apply(image, seed=seed)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(image, untouched)
    torch.rand(3)  # whatever else is drawn meanwhile
    assert torch.equal(augmentation.apply(image, seed=seed), first)
    torch.random.set_rng_state(before)
    assert (first.shape, first.dtype) == (image.shape, torch.float32)
    assert first.min() >= 0
    assert first.max() <= 1


def test_every_seed_gives_another_film() -> None:
    image = film()
    results = [ALL.apply(image, seed=seed) for seed in range(20)]
    assert all(not torch.equal(results[0], other) for other in results[1:])


def test_pythons_and_numpys_random_states_are_left_alone() -> None:
    program = """
import random, numpy, torch
from hilum.data.dataset import Augmentation
everything = Augmentation(rotation_deg=10, shift=0.06, scale=0.12, contrast=0.15, flip=0.5, operations=2, erase=1.0)
before = random.getstate(), str(numpy.random.get_state())
everything.apply(torch.rand(1, 32, 32), seed=0)
assert (random.getstate(), str(numpy.random.get_state())) == before
"""  # in an interpreter of its own: the tests' type checker draws the items that it looks at
    subprocess.run([sys.executable, "-c", program], check=True)


def test_grey_channels_stay_equal() -> None:
    changed = ALL.apply(film().expand(3, -1, -1), seed=3)
    torch.testing.assert_close(changed[0], changed[1])
    torch.testing.assert_close(changed[0], changed[2])


def test_shift_stays_within_its_part_and_reaches_it() -> None:
    shift = Augmentation(shift=0.125)  # 8 of 64 pixels
    moved = np.array([centre(shift.apply(blob(), seed=seed)) for seed in range(60)])
    assert np.abs(moved).max() <= 8.1
    assert (moved.max(0) > 5).all()
    assert (moved.min(0) < -5).all()


def test_scale_goes_both_ways_and_keeps_the_middle() -> None:
    scale = Augmentation(scale=0.2)
    areas = np.array([float(scale.apply(blob(), seed=seed).sum() / blob().sum()) for seed in range(60)])
    assert areas.min() >= 0.8**2 * 0.97
    assert areas.max() <= 1.2**2 * 1.03
    assert areas.min() < 0.8 < 1.2 < areas.max()
    assert np.abs([centre(scale.apply(blob(), seed=seed)) for seed in range(10)]).max() < 0.1


def test_rotation_turns_about_the_middle() -> None:
    off_centre = torch.roll(blob(), 20, dims=2)  # 20 pixels to the right of the middle
    places = [centre(Augmentation(rotation_deg=30).apply(off_centre, seed=seed)) for seed in range(40)]
    angles = np.degrees([np.arctan2(down, across) for down, across in places])
    assert np.hypot(*np.array(places).T) == pytest.approx(20, abs=0.5)
    assert np.abs(angles).max() <= 30.5
    assert angles.min() < -15 < 15 < angles.max()


def test_contrast_leaves_places_where_they_are() -> None:
    image = film() * 0.5 + 0.2  # far enough from black and white not to be cut off
    for seed in range(10):
        changed = Augmentation(contrast=0.15).apply(image, seed=seed)
        slope = float((changed.max() - changed.min()) / (image.max() - image.min()))
        assert 0.85**2 - 1e-4 <= slope <= 1.15**2 + 1e-4
        torch.testing.assert_close((changed - changed.min()) / slope, image - image.min())


def test_flip_is_as_frequent_as_asked() -> None:
    image = film(8)
    for probability in (0.0, 0.3, 1.0):
        results = [Augmentation(flip=probability).apply(image, seed=seed) for seed in range(200)]
        mirrored = [torch.equal(result, image.flip(-1)) for result in results]
        assert np.mean(mirrored) == pytest.approx(probability, abs=0.1 * (0 < probability < 1))
        assert all(flipped or torch.equal(result, image) for flipped, result in zip(mirrored, results, strict=True))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rotation_deg", -1),
        ("rotation_deg", 181),
        ("shift", 1.0),
        ("scale", 1.0),
        ("contrast", -0.1),
        ("flip", 1.1),
        ("flip", float("nan")),
        ("shift", float("inf")),
        ("rotation", 10),
        ("gamma", -0.1),
        ("erase", 1.5),
        ("operations", len(FILM_OPERATIONS) + 1),
        ("magnitude", 0.0),
    ],
)
def test_what_cannot_be_is_refused(key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=key):
        Augmentation.model_validate({key: value})


def test_gamma_raises_greys_to_a_power_and_keeps_black_and_white() -> None:
    image = torch.linspace(0, 1, 64 * 64).reshape(1, 64, 64)
    powers = []
    for seed in range(30):
        changed = Augmentation(gamma=0.5).apply(image, seed=seed)
        power = (changed[0, 32, 7].log() / image[0, 32, 7].log()).item()
        assert torch.allclose(changed, image**power, atol=1e-5)
        powers.append(power)
    assert math.exp(-0.5) <= min(powers) < 0.8
    assert 1.25 < max(powers) <= math.exp(0.5)


def test_erasing_fills_one_rectangle_with_the_films_mean() -> None:
    image = torch.linspace(0.4, 1, 64 * 64).reshape(1, 64, 64)
    for seed in range(30):
        changed = Augmentation(erase=1.0).apply(image, seed=seed)
        gone = (changed != image)[0]
        rows, columns = gone.any(1).nonzero().flatten(), gone.any(0).nonzero().flatten()
        inside = changed[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert torch.allclose(inside, image.mean().expand_as(inside))
        assert 0.01 < inside.numel() / image.numel() < 0.17


@pytest.mark.parametrize("name", FILM_OPERATIONS)
def test_an_operation_does_nothing_at_0_and_something_at_1(name: str) -> None:
    image = film()
    assert torch.allclose(FILM_OPERATIONS[name](image, 0.0), image, atol=1e-5)
    assert not torch.allclose(FILM_OPERATIONS[name](image, 1.0), image, atol=1e-3)


def test_as_many_operations_are_drawn_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    for name in FILM_OPERATIONS:

        def note(image: Tensor, amount: float, name: str = name) -> Tensor:
            assert abs(amount) <= 0.3
            drawn.append(name)
            return image

        monkeypatch.setitem(FILM_OPERATIONS, name, note)
    for seed in range(60):
        drawn.clear()
        Augmentation(operations=3, magnitude=0.3).apply(film(), seed=seed)
        assert len(set(drawn)) == len(drawn) == 3


def test_a_new_lever_leaves_the_earlier_ones_draws_as_they_were() -> None:
    plain = ALL.apply(film(), seed=7)
    with_more = ALL.model_copy(update={"gamma": 1e-9}).apply(film(), seed=7)
    assert torch.allclose(plain, with_more, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**62))
def test_regions_move_with_the_film(seed: int) -> None:
    """A bright square on black is its own region, whatever moves it."""
    image = torch.zeros(1, 32, 32)
    image[:, 8:20, 12:22] = 1
    moving = Augmentation(rotation_deg=20, shift=0.1, scale=0.2, flip=0.5)
    film_alone = moving.apply(image, seed=seed)
    both, region = moving.apply_to_both(image, image.repeat(2, 1, 1), seed=seed)
    assert torch.equal(both, film_alone)
    assert torch.equal(region, film_alone.repeat(2, 1, 1))


def test_greys_of_a_film_change_and_its_regions_do_not() -> None:
    image, region = film(), (film(seed=3) > 0.5).float()
    changes = Augmentation(contrast=0.3, gamma=0.3, erase=1.0)
    changed, kept = changes.apply_to_both(image, region, seed=5)
    assert torch.equal(changed, changes.apply(image, seed=5))
    assert not torch.equal(changed, image)
    assert torch.equal(kept, region)
