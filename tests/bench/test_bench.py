"""The bench: what it counts, and that each line comes from processes of its own."""

import json
import shutil
from itertools import repeat
from pathlib import Path

import pytest

from hilum.bench import engines as table
from hilum.bench.engines import BASELINE, EngineSpeed, measure
from hilum.bench.feeding import measure_feeding
from hilum.bench.measure import films_per_second, peak_memory_bytes
from hilum.bench.training import PLAIN, PLAIN_BF16, measure_training
from hilum.errors import HilumError
from hilum.recipe import load_recipe


def test_films_per_second_counts_films_and_not_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(seconds)))
    assert films_per_second(repeat(8), 10.0) == pytest.approx(8 * 9 / 10)


def test_peak_memory_is_that_of_this_process() -> None:
    before = peak_memory_bytes()
    block = bytearray(before)  # as much again
    assert peak_memory_bytes() > before
    assert len(block) == before


def test_ratios_are_to_the_baseline_s_faster_form() -> None:
    def line(name: str, rate: float, forward: float) -> EngineSpeed:
        return EngineSpeed(name, name, "fp32", 64, None, rate, forward, 1, 1, 1, 1, 0, 0)

    baseline = [line("one", 4, 10), line("eight", 5, 8)]
    lines = [table._with_ratios(one, baseline) for one in (*baseline, line("ours", 20, 80))]
    assert [(one.ratio_to_baseline, one.forward_ratio_to_baseline) for one in lines] == [(0.8, 1), (1, 0.8), (4, 8)]


def test_bundles_are_measured_with_their_exports(
    untrained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rates = tmp_path / "run", iter([4.0, 20.0])
    shutil.copytree(untrained_run, run)
    (run / "openvino-int8").mkdir()
    (run / "openvino-int8" / "export.json").write_text("{}")
    (tmp_path / "film.png").write_bytes(b"")

    def line(network: str, engine: str, precision: str, size: int, *_: object) -> EngineSpeed:
        return EngineSpeed(network, engine, precision, size, None, next(rates), 1, 1, 1, 1, 1, 0, 0)

    monkeypatch.setattr(table, "_line", line)
    lines = table.measure_runs([run], images=tmp_path)
    assert [(one.engine, one.precision, one.size, one.ratio_to_baseline) for one in lines] == [
        ("torch", "fp32", 64, 1),
        ("openvino", "int8", 64, 5),
    ]


def test_a_folder_without_films_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HilumError, match="images must be a folder with PNG films"):
        measure([64], ["torch"], images=tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_small_table(phantom_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchxrayvision")
    small = ["architecture.block_layers=[1,1,1,1]", "architecture.growth=8", "architecture.stem=16"]
    monkeypatch.setattr(table, "NETWORKS", ("densenet",))
    monkeypatch.setattr(table, "load_recipe", lambda name, changes: load_recipe(name, [*changes, *small]))
    monkeypatch.setattr(table, "BASELINE_BATCHES", (2,))
    monkeypatch.setattr(table, "ENGINES", (("openvino", "fp32"),))
    lines = measure([64], ["openvino"], images=phantom_folder / "images", seconds=0.2)
    assert [line.engine for line in lines] == [BASELINE, "openvino"]
    assert [line.batch for line in lines] == [2, None]
    for line in lines:
        assert line.films_per_second > 0
        assert line.cold_seconds > line.warm_p95_ms / 1000 >= line.warm_p50_ms / 1000 > 0
        assert 50 < line.peak_memory_mb < 5000
    assert json.loads(json.dumps(lines[0]._asdict()))["size"] == 64


@pytest.mark.slow
def test_training_loops_are_measured_against_the_plain_one() -> None:
    loops = measure_training([64], compiled=False, steps=1, rounds=1)
    assert [loop.loop for loop in loops] == [PLAIN, PLAIN_BF16, "hilum DenseNet-121", "hilum AM_DenseNet"]
    assert loops[0].ratio == 1
    assert all(loop.films_per_second > 0 for loop in loops)


def test_feeding_is_measured_with_augmentation_and_without() -> None:
    (line,) = measure_feeding([32], seconds=0.05, films=8)
    assert line.size == 32
    assert line.films_per_second > line.augmented_films_per_second > 0
