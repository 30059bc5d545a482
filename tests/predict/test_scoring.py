"""Files in, one row per file out, in order: a bad file is a row with a reason."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.data.films import Films
from hilum.errors import ImageError
from hilum.model.bundle import Bundle, load_bundle
from hilum.model.engines import Engine, TorchEngine
from hilum.predict.scoring import score_files, score_films


@pytest.fixture(scope="module")
def bundle(tiny_run: Path) -> Bundle:
    return load_bundle(tiny_run)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return TorchEngine(bundle)


@pytest.fixture(scope="module")
def paths(phantom_films: Films) -> list[Path]:
    return [phantom_films.path(row) for row in range(20)]


def scores_of(engine: Engine, paths: list[Path], batch: int) -> np.ndarray:
    rows = [scored.scores for scored in score_files(engine, paths, batch=batch)]
    return np.stack([row for row in rows if row is not None])


def test_scores_are_the_networks_in_any_batch(bundle: Bundle, engine: Engine, paths: list[Path]) -> None:
    images = torch.from_numpy(np.stack([bundle.preprocessing.read(path) for path in paths]))
    with torch.inference_mode():
        expected = bundle.description.scores(bundle.model(images).numpy())
    for batch in (1, 7, 16):
        np.testing.assert_allclose(scores_of(engine, paths, batch), expected, atol=1e-5)


def test_maps_average_to_the_logit_before_calibration(bundle: Bundle, paths: list[Path]) -> None:
    for scored in score_files(TorchEngine(replace(bundle, calibration=None)), paths[:3]):
        assert scored.maps is not None
        assert scored.scores is not None
        np.testing.assert_allclose(1 / (1 + np.exp(-scored.maps.mean((1, 2)))), scored.scores, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("parallel", [1, 3])
def test_rows_come_in_the_order_of_the_files(
    bundle: Bundle, paths: list[Path], tmp_path: Path, batch: int, parallel: int
) -> None:
    engine = TorchEngine(bundle)
    engine.parallel = parallel
    mixed = [tmp_path / "missing.png", *paths[:10], tmp_path / "also missing.png"]
    forward = list(score_files(engine, mixed, batch=batch))
    backward = list(score_files(engine, mixed[::-1], batch=batch))[::-1]
    assert [scored.path for scored in forward] == mixed == [scored.path for scored in backward]
    assert [bool(scored.error) for scored in forward] == [True, *[False] * 10, True]
    for one, other in zip(forward[1:-1], backward[1:-1], strict=True):
        assert one.scores is not None
        assert other.scores is not None
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_memory_is_bounded_by_a_few_batches(engine: Engine, paths: list[Path]) -> None:
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield paths[asked % len(paths)]

    scoring = score_files(engine, endless(), batch=4)
    for _ in range(9):
        next(scoring)
    assert asked <= 12 + 4 * engine.parallel + 2 * max(4, os.cpu_count() or 1)
    scoring.close()  # type: ignore[attr-defined]


def test_manifest_films_are_scored_or_refused(engine: Engine, phantom_films: Films) -> None:
    films = phantom_films.select("val")
    table = score_films(engine, films)
    assert table["film"].tolist() == films.table["film"].tolist()
    broken = replace(films, root=films.root / "elsewhere")
    with pytest.raises(ImageError, match=r"Find all such films with: hilum audit films\.parquet"):
        score_films(engine, broken)


def test_a_fault_of_the_program_is_not_a_row(engine: Engine, paths: list[Path]) -> None:
    def broken() -> Iterator[Path]:
        yield paths[0]
        raise RuntimeError("a slip")

    with pytest.raises(RuntimeError, match="a slip"):
        list(score_files(engine, broken()))
