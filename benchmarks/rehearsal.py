"""The whole way at full size with small films: index, audit, split, pack, train in two processes with a kill, evaluate.

The label table and the lists of the split are NIH's own (`--tables`), the films phantom films under NIH's names, the
network is small: what is measured is whatever grows with the number of films. Time is wall time; memory is the
most that the largest process of a step had.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hilum.phantom.dataset import write_phantom

RECIPE = """
extends = "demo"
name = "rehearsal"
about = "A small network for the rehearsal at full size."
protocol = "official"

[architecture]
block_layers = [1, 1, 1, 1]
growth = 16
stem = 16
reduction = 4

[preprocessing]
size = 64

[training]
batch = 128
epochs = 2
keep = "last"
"""


class Step(NamedTuple):
    """One line of the table."""

    name: str
    seconds: float
    peak_memory_mb: float


def run(name: str, *arguments: object, expect: tuple[int, ...] = (0,), kill_at: Path | None = None) -> Step:
    """Run a command of Hilum's; SIGKILL one of its processes once a file is there."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "hilum", *map(str, arguments)], stdout=subprocess.DEVNULL)
    while kill_at is not None and not kill_at.is_file():
        if process.poll() is not None:
            raise SystemExit(f"{name} ended before it could be killed")
        time.sleep(0.05)
    if kill_at is not None:
        os.kill(rank_of(process.pid), signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in expect:
        raise SystemExit(f"{name} ended with code {code}")
    return Step(name, time.perf_counter() - start, usage.ru_maxrss / 1024)


def rank_of(parent: int) -> int:
    """The last process that a launcher started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[-1])


def write_films(tables: Path, folder: Path, films: int | None, distinct: int) -> int:
    """NIH's table and lists, and a phantom film under each name: `distinct` different ones."""
    table = pd.read_csv(tables / "Data_Entry_2017_v2020.csv")
    table = table if films is None else table.iloc[:films]
    write_phantom(folder / "drawn", films=distinct, size=64, seed=0)
    drawn = sorted((folder / "drawn" / "images").glob("*.png"))
    data = folder / "nih"
    (data / "images").mkdir(parents=True)
    for number, name in enumerate(table["Image Index"]):
        os.link(drawn[number % len(drawn)], data / "images" / name)
    table.to_csv(data / "Data_Entry_2017_v2020.csv", index=False)
    known = set(table["Image Index"])
    for name in ("train_val_list.txt", "test_list.txt"):
        listed = [line for line in (tables / name).read_text().split() if line in known]
        (data / name).write_text("\n".join(listed) + "\n")
    return len(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, default=Path("../shared/nih"), help="folder of NIH's table and lists")
    parser.add_argument("--films", type=int, help="the first so many rows; all 112,120 if not given")
    parser.add_argument("--distinct", type=int, default=500, help="different phantom films; the others are links")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        start = time.perf_counter()
        films = write_films(options.tables, folder, options.films, options.distinct)
        steps = [Step("films", time.perf_counter() - start, 0.0)]
        manifest, recipe, out = folder / "films.parquet", folder / "rehearsal.toml", folder / "run"
        recipe.write_text(RECIPE)
        steps += [
            run("index", "index", "nih", folder / "nih", "--out", manifest),
            run("audit", "audit", manifest),
            run("split", "split", manifest, "--protocol", "official"),
            run("pack", "pack", manifest, "--recipe", recipe, "--verify"),
        ]
        training = ("train", recipe, "--films", manifest, "--out", out, "--devices", options.devices)
        last = out / "checkpoints" / "last.ckpt"
        steps += [
            run("train, killed after an epoch", *training, expect=(2,), kill_at=last),
            run("train, resumed", *training, "--resume"),
            run("evaluate", "evaluate", out, "--films", manifest, "--out", folder / "report"),
        ]
        told: dict[str, Any] = json.loads((out / "bundle.json").read_text())["training"]
        report = json.loads((folder / "report" / "report.json").read_text())
    facts = {
        "films": films,
        "processes": told["processes"],
        "steps": told["steps"],
        "evaluated": report["films"],
        "rows": [step._asdict() for step in steps],
    }
    if options.json:
        print(json.dumps(facts))
        return
    print(f"{films:,} films, {told['steps']} steps in {told['processes']} processes, {report['films']:,} evaluated")
    for step in steps:
        print(f"{step.name:32} {step.seconds:8.1f} s {step.peak_memory_mb:8.0f} MiB")


if __name__ == "__main__":
    main()
