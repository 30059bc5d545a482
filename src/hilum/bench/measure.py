"""Measure one engine, or the baseline (torchxrayvision's DenseNet in eager fp32), in a process of its own."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from hilum.data.images import read_grey
from hilum.errors import extras_named
from hilum.model.engines import Engine, open_engine


class Baseline:
    """The network without weights, and its own road from a file to the input."""

    def __init__(self, size: int, batch: int):
        with extras_named():
            import skimage.io
            import torch
            import torchxrayvision
            from torchvision.transforms import Compose
        self.torch, self.batch = torch, batch
        self._imread, self._normalize = skimage.io.imread, torchxrayvision.datasets.normalize
        crop, resize = torchxrayvision.datasets.XRayCenterCrop(), torchxrayvision.datasets.XRayResizer(size)
        self._transform = Compose([crop, resize])
        self._model = torchxrayvision.models.DenseNet(weights=None).eval()

    def read(self, path: Path) -> Any:
        """The network's input for one file."""
        grey = self._normalize(self._imread(path), 255)
        return self.torch.from_numpy(self._transform((grey.mean(2) if grey.ndim == 3 else grey)[None, ...]))

    def run(self, films: Sequence[Any]) -> Any:
        """The network's answers for some inputs."""
        with self.torch.no_grad():
            return self._model(self.torch.stack(list(films)))

    def score(self, paths: Sequence[Path]) -> Iterator[int]:
        """Read and run films for ever, a batch at a time; how many each time."""
        coming = cycle(paths)
        while True:
            self.run([self.read(path) for path in islice(coming, self.batch)])
            yield self.batch


_FEWEST, _MOST = 5, 30
"""Films of which each takes its time: as many as fit into the given seconds, within these bounds."""


def main() -> None:
    """Measure what standard input asks for; `begun` in it is when the process was started, in seconds since 1970."""
    task: dict[str, Any] = json.load(sys.stdin)
    paths = [Path(path) for path in task["paths"]]
    match task["what"], task["engine"]:
        case "latency", "torchxrayvision":
            baseline = Baseline(task["size"], 1)
            found = _latency(task, paths, lambda path: baseline.run([baseline.read(path)]))
        case "latency", _:
            alone = _open(task, films=1)
            found = _latency(task, paths, lambda path: alone.run(_read(alone, path)[np.newaxis]))
        case "throughput", "torchxrayvision":
            baseline = Baseline(task["size"], task["batch"])
            films = [baseline.read(paths[0])] * baseline.batch
            found = {
                "films_per_second": films_per_second(baseline.score(paths), task["seconds"]),
                "forward_films_per_second": films_per_second(
                    _again(lambda: baseline.run(films), baseline.batch), task["seconds"] / 2
                ),
            }
        case _:
            engine = _open(task, films=None)
            found = {
                "films_per_second": films_per_second(_scored(engine, paths), task["seconds"]),
                "forward_films_per_second": films_per_second(_forward(engine, paths[0]), task["seconds"] / 2),
            }
    print(json.dumps({**found, "peak_memory_mb": peak_memory_bytes() / 2**20}))


def films_per_second(steps: Iterator[int], seconds: float) -> float:
    """How many films come out of steps in a while; the first step is not counted, as it allocates."""
    next(steps)
    films, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or not films:
        films += next(steps)
    return films / passed


def peak_memory_bytes() -> int:
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts the parent's memory too, where a process is forked
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _open(task: dict[str, Any], *, films: int | None) -> Engine:
    return open_engine(Path(task["run"]), engine=task["engine"], precision=task["precision"], films=films)


def _read(engine: Engine, path: Path) -> Any:
    preprocessing = engine.description.preprocessing
    return preprocessing.grey(read_grey(path, bits=preprocessing.bits))


def _latency(task: dict[str, Any], paths: Sequence[Path], answer: Callable[[Path], object]) -> dict[str, float]:
    answer(paths[0])
    cold = time.time() - task["begun"]
    times: list[float] = []
    for path in islice(cycle(paths), _MOST):
        if len(times) >= _FEWEST and sum(times) > task["seconds"]:
            break
        start = time.perf_counter()
        answer(path)
        times.append(time.perf_counter() - start)
    p50, p95 = np.percentile(times, [50, 95])
    return {"cold_seconds": cold, "warm_p50_ms": 1000 * float(p50), "warm_p95_ms": 1000 * float(p95)}


def _scored(engine: Engine, paths: Sequence[Path]) -> Iterator[int]:
    from hilum.predict.scoring import score_files

    for scored in score_files(engine, cycle(paths)):
        if scored.scores is None:
            raise ValueError(scored.error)
        yield 1


def _again(run: Callable[[], object], films: int) -> Iterator[int]:
    while True:
        run()
        yield films


def _forward(engine: Engine, path: Path) -> Iterator[int]:
    films = np.stack([_read(engine, path)] * engine.batch)
    with ThreadPoolExecutor(engine.parallel) as runners:
        while True:
            list(runners.map(engine.run, [films] * 4 * engine.parallel))
            yield 4 * engine.parallel * engine.batch


if __name__ == "__main__":
    main()
