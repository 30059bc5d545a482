from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from hilum.data.dataset import Augmentation, Draw, FilmDataset, SeededFilms, ShuffledBatches, boxes_by_row
from hilum.data.films import Films

CHANGES = Augmentation(rotation_deg=10, shift=0.1, contrast=0.2)
SIZES = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4)).filter(lambda s: s[0] >= s[1] >= s[2])


def some_films(number: int = 12) -> Films:
    labels = np.array([(1.0, 0.0), (0.0, np.nan), (np.nan, 1.0)] * number, dtype=np.float32)[:number]
    table = pd.DataFrame({"path": [f"{row}.png" for row in range(number)], "Mass": labels[:, 0], "Edema": labels[:, 1]})
    return Films(table, Path(), ("Mass", "Edema"), {})


def picture(row: int) -> np.ndarray:
    return np.random.default_rng(row).random((1, 32, 32), dtype=np.float32)


def rows(batches: list[list[Draw]]) -> list[int]:
    return [draw.row for draw in chain(*batches)]


def epoch(batches: ShuffledBatches, number: int) -> list[list[Draw]]:
    batches.set_epoch(number)
    return list(batches)


def test_a_row_is_its_film_and_labels() -> None:
    dataset = FilmDataset(some_films(), picture, CHANGES)
    assert len(dataset) == 12
    for row in range(12):
        image, labels = dataset[row]
        assert np.array_equal(image.numpy(), picture(row))
        np.testing.assert_array_equal(labels.numpy(), some_films().labels(row))  # NaN where unknown


def test_a_draw_is_augmented_by_its_seed_and_leaves_torchs_random_state() -> None:
    dataset, before = FilmDataset(some_films(), picture, CHANGES), torch.random.get_rng_state()
    image, labels = dataset[Draw(3, seed=7)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(image, CHANGES.apply(dataset[3][0], seed=7))
    assert torch.equal(dataset[Draw(3, seed=7)][0], image)
    assert not torch.equal(image, dataset[3][0])
    assert not torch.equal(dataset[Draw(3, seed=8)][0], image)
    np.testing.assert_array_equal(labels, dataset[3][1])


@settings(max_examples=50, deadline=None)
@given(SIZES, st.integers(0, 2**32 - 1), st.integers(0, 100))
def test_an_epoch_is_every_film_at_most_once(sizes: tuple[int, int, int], seed: int, number: int) -> None:
    films, batch, _ = sizes
    batches = epoch(ShuffledBatches(films, batch, seed=seed), number)
    assert [len(b) for b in batches] == [batch] * (films // batch)
    assert len(set(rows(batches))) == films // batch * batch
    assert set(rows(batches)) <= set(range(films))


@settings(max_examples=50, deadline=None)
@given(SIZES, st.integers(0, 1000))
def test_processes_share_the_batches_of_one(sizes: tuple[int, int, int], seed: int) -> None:
    films, batch, ranks = sizes
    alone = epoch(ShuffledBatches(films, batch, seed=seed), 2)
    shared = [epoch(ShuffledBatches(films, batch, seed=seed, rank=rank, ranks=ranks), 2) for rank in range(ranks)]
    assert [list(chain(*parts)) for parts in zip(*shared, strict=True)] == alone  # with the same seeds
    for parts in zip(*shared, strict=True):
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1


@settings(max_examples=50, deadline=None)
@given(SIZES, st.integers(0, 1000), st.data())
def test_skipping_is_going_on_where_it_stopped(sizes: tuple[int, int, int], seed: int, data: st.DataObject) -> None:
    films, batch, ranks = sizes
    whole = epoch(ShuffledBatches(films, batch, seed=seed, ranks=ranks), 4)
    resumed = ShuffledBatches(films, batch, seed=seed, ranks=ranks)
    resumed.skip = data.draw(st.integers(0, len(whole)))
    rest = whole[resumed.skip :]
    assert epoch(resumed, 4) == rest
    assert epoch(resumed, 5) == epoch(ShuffledBatches(films, batch, seed=seed, ranks=ranks), 5)  # whole again


def test_seed_and_epoch_decide_order_and_augmentation() -> None:
    batches = ShuffledBatches(40, 4, seed=0)
    first = epoch(batches, 0)
    assert epoch(batches, 0) == first == epoch(ShuffledBatches(40, 4, seed=0), 0)
    for other in (epoch(batches, 1), epoch(ShuffledBatches(40, 4, seed=1), 0)):
        assert rows(other) != rows(first)
        assert {d.row: d.seed for b in other for d in b} != {d.row: d.seed for b in first for d in b}
    assert len({draw.seed for batch in first for draw in batch}) == 40


def test_the_order_is_golden() -> None:
    """Should it change, no training can be repeated or resumed."""
    assert rows(epoch(ShuffledBatches(8, 3, seed=0), 0)) == [2, 4, 3, 6, 5, 0]
    assert epoch(ShuffledBatches(8, 3, seed=0), 1)[0][0] == Draw(1, 1090205781259590580)


def test_every_film_gets_its_turn() -> None:
    batches = ShuffledBatches(10, 4, seed=0)  # two films are left out of each epoch, not always the same
    assert set(chain(*(rows(epoch(batches, number)) for number in range(12)))) == set(range(10))


def test_no_global_random_state_is_read_or_changed() -> None:
    before = torch.random.get_rng_state()
    first = epoch(ShuffledBatches(20, 4, seed=0), 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert epoch(ShuffledBatches(20, 4, seed=0), 0) == first


@pytest.mark.parametrize(
    ("films", "batch", "ranks", "message"),
    [(7, 8, 1, "at most 7 for 7 films, got 8"), (20, 2, 3, "at least 3 for 3 processes, got 2")],
)
def test_no_batch_and_less_than_a_film_for_each_process_are_refused(
    films: int, batch: int, ranks: int, message: str
) -> None:
    with pytest.raises(ValueError, match=f"batch must be {message}"):
        ShuffledBatches(films, batch, seed=0, ranks=ranks)


def test_films_for_training_come_with_their_seeds() -> None:
    films = FilmDataset(some_films(), picture, CHANGES)
    image, labels, seed, *_ = SeededFilms(films)[Draw(3, seed=2**62 - 1)]
    assert torch.equal(image, films[Draw(3, seed=2**62 - 1)][0])
    np.testing.assert_array_equal(labels, films[3][1])
    assert seed == 2**62 - 1
    assert len(SeededFilms(films)) == 12


def test_a_loader_gives_the_same_batches_again() -> None:
    def images() -> list[torch.Tensor]:
        sampler = ShuffledBatches(12, 5, seed=3)
        sampler.set_epoch(1)
        loader = DataLoader(FilmDataset(some_films(), picture, CHANGES), batch_sampler=sampler)
        return [image for image, _ in loader]

    first, second = images(), images()
    assert [tuple(batch.shape) for batch in first] == [(5, 1, 32, 32)] * 2
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


SOURCES = ["large"] * 90 + ["small"] * 10


@pytest.mark.parametrize(("power", "least", "most"), [(1.0, 0.04, 0.16), (0.5, 0.17, 0.33), (0.0, 0.43, 0.57)])
def test_sources_are_drawn_by_a_power_of_their_films(power: float, least: float, most: float) -> None:
    batches = ShuffledBatches(100, 10, seed=0, sources=SOURCES, power=power)
    drawn = [draw.row for number in range(10) for batch in epoch(batches, number) for draw in batch]
    assert least < np.mean(np.array(drawn) >= 90) < most


def test_no_film_of_a_source_comes_again_before_all_have_come() -> None:
    batches = ShuffledBatches(100, 10, seed=0, sources=SOURCES, power=0.0)
    rows = [draw.row for batch in epoch(batches, 0) for draw in batch]
    for films in (range(90), range(90, 100)):
        own = [row for row in rows if row in films]
        for start in range(0, len(own), len(films)):
            turn = own[start : start + len(films)]
            assert len(set(turn)) == len(turn)


def test_balanced_batches_are_resumed_exactly() -> None:
    def batches() -> ShuffledBatches:
        return ShuffledBatches(100, 10, seed=3, sources=SOURCES, power=0.5)

    whole, resumed = epoch(batches(), 2), batches()
    resumed.skip = 4
    assert epoch(resumed, 2) == whole[4:]
    assert epoch(resumed, 3) == epoch(batches(), 3) != whole


def test_a_box_comes_as_a_region_that_moved_with_its_film(phantom_films: Films) -> None:
    boxed = phantom_films.notes["boxes"][0]
    rows = boxes_by_row(phantom_films)
    row = list(phantom_films.table["film"]).index(boxed["film"])
    finding = phantom_films.findings.index(boxed["finding"])
    assert (finding, boxed["x"], boxed["y"], boxed["width"], boxed["height"]) in rows[row]
    assert sum(map(len, rows.values())) == len(phantom_films.notes["boxes"])

    plain = FilmDataset(phantom_films, lambda row: np.zeros((1, 64, 64), np.float32), Augmentation())
    one = {row: [(finding, 0.25, 0.5, 0.125, 0.25)]}
    *_, regions = SeededFilms(plain, one)[Draw(row, 7)]
    assert isinstance(regions, Tensor)
    expected = torch.zeros(len(phantom_films.findings), 32, 32)
    expected[finding, 16:24, 8:12] = 1
    assert torch.equal(regions, expected)
    mirrored = FilmDataset(phantom_films, plain.read, Augmentation(flip=1.0))
    *_, moved = SeededFilms(mirrored, one)[Draw(row, 7)]
    assert torch.equal(cast(Tensor, moved), expected.flip(2))
    *_, none = SeededFilms(plain, {})[Draw(row, 7)]
    assert torch.equal(cast(Tensor, none), torch.zeros_like(expected))


def test_a_box_on_the_edge_or_smaller_than_a_pixel_still_counts(phantom_films: Films) -> None:
    plain = FilmDataset(phantom_films, lambda row: np.zeros((1, 64, 64), np.float32), Augmentation())
    *_, regions = SeededFilms(plain, {0: [(0, 1.0, 0.999, 0.001, 0.0)]})[Draw(0, 7)]
    assert cast(Tensor, regions)[0].nonzero().tolist() == [[31, 31]]
