"""The table of this machine: engine x precision x size, against torchxrayvision in the same run."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hilum.data.sources.nih import index_nih
from hilum.errors import HilumError
from hilum.findings import CHESTXRAY14
from hilum.messages import messages, track
from hilum.model.bundle import Bundle, save_bundle
from hilum.model.engines import EXPORT_JSON, EngineName, Precision
from hilum.model.metadata import read_description
from hilum.nn.build import build
from hilum.phantom.dataset import write_phantom
from hilum.recipe import load_recipe

BASELINE = "torchxrayvision"
NETWORKS = ("am-densenet", "densenet")
ENGINES: tuple[tuple[EngineName, Precision], ...] = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
BASELINE_BATCHES = (1, 8)

_FILMS, _PIXELS = 32, 1024
_CALIBRATION_FILMS = 60


class EngineSpeed(NamedTuple):
    """A line of the table.

    Attributes:
        batch: films per forward pass, for the baseline; the engine's own choice if None.
        films_per_second: from PNG file to scores and class maps.
        forward_films_per_second: the network alone.
        cold_seconds: from the start of a process to the first film's scores.
        warm_p50_ms, warm_p95_ms: the same for a film in a process that has scored others.
        peak_memory_mb: the most that the process had, in MiB.
        ratio_to_baseline, forward_ratio_to_baseline: to the baseline's faster form at this size.
    """

    network: str
    engine: str
    precision: str
    size: int
    batch: int | None
    films_per_second: float
    forward_films_per_second: float
    cold_seconds: float
    warm_p50_ms: float
    warm_p95_ms: float
    peak_memory_mb: float
    ratio_to_baseline: float
    forward_ratio_to_baseline: float


def measure(
    sizes: Sequence[int], engines: Sequence[str], *, images: Path | None = None, seconds: float = 4.0
) -> list[EngineSpeed]:
    """Measure networks with random weights, which are as fast as trained ones; each line in processes of its own.

    Args:
        sizes: heights and widths of the networks' input, in pixels.
        engines: which of torch, onnx and openvino.
        images: a folder of PNG films; 32 phantom films of 1024 px if None.
        seconds: for how long films per second are counted.

    Raises:
        HilumError: if the folder holds no PNG film, or a measurement fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if images is None:
            write_phantom(scratch / "films", films=_FILMS, size=_PIXELS)
            images = scratch / "films" / "images"
        paths = [str(path) for path in sorted(images.glob("*.png"))]
        if not paths:
            raise HilumError(f"images must be a folder with PNG films, got {images}, which has none")
        lines: list[EngineSpeed] = []
        for size in sizes:
            baseline = [
                _line(BASELINE, BASELINE, "fp32", size, batch, None, paths, seconds) for batch in BASELINE_BATCHES
            ]
            lines += [_with_ratios(line, baseline) for line in baseline]
            chosen = [(name, precision) for name, precision in ENGINES if name in engines]
            kinds = [(network, name, precision) for network in NETWORKS for name, precision in chosen]
            for network, name, precision, run in track(
                exported_bundles(kinds, size, scratch), f"measuring at {size} px", total=len(kinds)
            ):
                line = _with_ratios(_line(network, name, precision, size, None, run, paths, seconds), baseline)
                messages().print(
                    f"{network} at {size} px, {name} in {precision}: {line.films_per_second:.3g} films per second, "
                    f"{line.ratio_to_baseline:.2f} times {BASELINE}'s; a film alone {line.warm_p50_ms:.0f} ms"
                )
                lines.append(line)
        return lines


def measure_runs(runs: Sequence[Path], *, images: Path | None = None, seconds: float = 4.0) -> list[EngineSpeed]:
    """Measure bundles as they are: by torch, and by each export in their folders. Ratios are to the first line's.

    Raises:
        HilumError: if the folder holds no PNG film, or a measurement fails.
        BundleError: if a folder is no bundle.
    """
    with tempfile.TemporaryDirectory() as folder:
        if images is None:
            write_phantom(Path(folder) / "films", films=_FILMS, size=_PIXELS)
            images = Path(folder) / "films" / "images"
        paths = [str(path) for path in sorted(images.glob("*.png"))]
        if not paths:
            raise HilumError(f"images must be a folder with PNG films, got {images}, which has none")
        lines: list[EngineSpeed] = []
        for run in runs:
            size = read_description(run).preprocessing.size
            kinds = [
                kind for kind in ENGINES if kind == ("torch", "fp32") or (run / "-".join(kind) / EXPORT_JSON).is_file()
            ]
            for name, precision in kinds:
                line = _line(run.name, name, precision, size, None, run, paths, seconds)
                lines.append(_with_ratios(line, lines[:1] or [line]))
        return lines


def exported_bundles(
    kinds: Sequence[tuple[str, EngineName, Precision]], size: int, scratch: Path
) -> Iterator[tuple[str, EngineName, Precision, Path]]:
    """A bundle for each kind of line, exported when its turn comes. INT8 is made for its speed: nothing is learned."""
    from hilum.model.export import export_bundle

    for network, engine, precision in kinds:
        run = scratch / f"{network}-{size}"
        if not run.exists():
            _random_bundle(network, size, run)
        if engine != "torch":
            films = None
            if precision == "int8":
                if not (scratch / "calibration").exists():
                    write_phantom(scratch / "calibration", films=_CALIBRATION_FILMS, size=256)
                films = index_nih(scratch / "calibration").split("patient", fractions=(0.5, 0.5, 0.0))
            with redirect_stdout(sys.stderr):  # NNCF talks
                export_bundle(
                    run, engine, precision=precision, films=films, accept_loss=True, search=False, say=messages().print
                )
        yield network, engine, precision, run


def _random_bundle(network: str, size: int, run: Path) -> None:
    preprocessing = [f"preprocessing.{change}" for change in (f"size={size}", "interpolation=area", "channels=1")]
    recipe = load_recipe(network, [*preprocessing, "weights=none"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(recipe.architecture, findings=len(CHESTXRAY14), channels=recipe.preprocessing.channels)
    scale = dict.fromkeys(CHESTXRAY14, (-1.0, 1.0))
    save_bundle(Bundle(model.eval(), CHESTXRAY14, recipe, "", scale, training={"weights": "random"}), run)


def _line(
    network: str,
    engine: str,
    precision: str,
    size: int,
    batch: int | None,
    run: Path | None,
    paths: list[str],
    seconds: float,
) -> EngineSpeed:
    task = {"engine": engine, "precision": precision, "size": size, "batch": batch, "run": str(run)}
    task |= {"paths": paths, "seconds": seconds}
    alone = in_a_process({**task, "what": "latency"})
    many = in_a_process({**task, "what": "throughput"})
    peak = max(alone.pop("peak_memory_mb"), many.pop("peak_memory_mb"))
    nan = float("nan")
    return EngineSpeed(
        network,
        engine,
        precision,
        size,
        batch,
        **many,
        **alone,
        peak_memory_mb=peak,
        ratio_to_baseline=nan,
        forward_ratio_to_baseline=nan,
    )


def in_a_process(task: dict[str, Any]) -> dict[str, float]:
    """What `hilum.bench.measure` finds when it is asked this.

    Raises:
        HilumError: if it fails.
    """
    command = [sys.executable, "-m", "hilum.bench.measure"]
    asked = json.dumps({**task, "begun": time.time()})  # not an argument: the films may be many
    ended = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise HilumError(f"{task['engine']} in {task['precision']} must run to be measured, but: {reason}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _with_ratios(line: EngineSpeed, baseline: Sequence[EngineSpeed]) -> EngineSpeed:
    whole = max(other.films_per_second for other in baseline)
    forward = max(other.forward_films_per_second for other in baseline)
    return line._replace(
        ratio_to_baseline=line.films_per_second / whole,
        forward_ratio_to_baseline=line.forward_films_per_second / forward,
    )
