"""Several processes train what one does; whatever ends one ends all, and the run goes on bit for bit."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import several_processes

from hilum.data.films import read_films, write_films
from hilum.errors import ElsewhereError, HilumError, RecipeError, TrainingStoppedError
from hilum.model.bundle import load_bundle
from hilum.recipe import load_recipe
from hilum.training.processes import (
    Processes,
    check_processes,
    find_processes,
    gathered,
    highest,
    said_once,
    together,
)
from hilum.training.train import train

SBATCH = Path(__file__).parents[2] / "docs" / "guide" / "train.sbatch"
RUN = [sys.executable, "-m", "hilum"]
MINUTE_S = 60.0
CHANGES = ("training.epochs=13", "training.batch=7", "architecture.dropout=0.3", "optimizer.lr=2e-5")
"""52 steps of 4 and 3 films."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)

    def put(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return put


def test_alone_without_anyones_variables(environment: Callable[..., None]) -> None:
    environment(SLURM_NTASKS=4, SLURM_JOB_ID=7)  # within sbatch or salloc, but not started by srun
    assert find_processes() == Processes()
    assert (find_processes().first, find_processes().nodes) == (True, 1)
    assert (gathered(3), highest(1, 2), together(lambda: 5)) == ([3], [1, 2], 5)


def test_torchruns_and_sruns_variables(environment: Callable[..., None]) -> None:
    environment(SLURM_STEP_NUM_TASKS=16, SLURM_STEP_NUM_NODES=2, SLURM_PROCID=11, SLURM_LOCALID=3)
    found = find_processes()
    assert found == Processes(11, 16, 3, 8, slurm=True)
    assert (found.nodes, found.first) == (2, False)
    check_processes(found, devices=8, nodes=2)
    check_processes(found, devices=None, nodes=None)
    for devices, nodes, message in ((4, 2, "devices must be 8"), (8, 1, "nodes must be 2")):
        with pytest.raises(HilumError, match=f"{message}, since 16 processes on 2 machines were started"):
            check_processes(found, devices=devices, nodes=nodes)
    environment(RANK=1, WORLD_SIZE=4, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2)  # torchrun's, inside a step of srun's
    assert find_processes() == Processes(1, 4, 1, 2)


@pytest.mark.parametrize(
    "values",
    [
        {"RANK": "first", "WORLD_SIZE": 2},
        {"SLURM_STEP_NUM_TASKS": 2},
        {"SLURM_STEP_NUM_TASKS": 3, "SLURM_STEP_NUM_NODES": 2, "SLURM_PROCID": 0, "SLURM_LOCALID": 0},
    ],
)
def test_variables_that_do_not_fit_are_refused(environment: Callable[..., None], values: dict[str, object]) -> None:
    environment(**values)
    with pytest.raises(HilumError, match=r"must be numbers|the same number of processes each"):
        find_processes()


def test_one_process_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = TrainingStoppedError("saved")
    assert said_once(stopped) is stopped
    monkeypatch.setattr("hilum.training.processes.process_rank", lambda: 1)
    other = said_once(stopped)
    assert isinstance(other, ElsewhereError)
    assert other.code == 1


# --- real processes: they train


@pytest.fixture(scope="module")
def films(films_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom films with a third of the labels unknown, those of some films wholly."""
    known = read_films(films_file)
    table = known.table.copy()
    unknown = np.random.default_rng(0).random((len(table), len(known.findings))) < 0.3
    unknown[::5] = True
    table[list(known.findings)] = table[list(known.findings)].mask(unknown)
    path = tmp_path_factory.mktemp("unknown") / "films.parquet"
    write_films(type(known)(table, known.root, known.findings, known.notes), path)
    return path


@pytest.fixture(scope="module")
def pair(tiny: Path, films: Path, packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in two processes that torchrun started; read only."""
    out = tmp_path_factory.mktemp("pair") / "run"
    script = Path(several_processes.__file__)
    arguments = [script, tiny, films, out, packs, *CHANGES]
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = subprocess.run(
        [*started, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=600, env=one_thread()
    )
    assert said.returncode == 0, said.stderr
    return out


def one_thread(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


@pytest.mark.slow
def test_two_processes_train_what_one_does(
    pair: Path, tiny: Path, films: Path, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.training.train.Learner", several_processes.Watched)
    several_processes.watched_training(tiny, films, tmp_path / "one", packs, list(CHANGES))
    seen = json.loads((pair / "seen.json").read_text())
    assert len(seen["losses"]) == 52
    np.testing.assert_allclose(seen["losses"], several_processes.LOSSES, rtol=0, atol=1e-5)
    np.testing.assert_allclose(seen["validated"], several_processes.VALIDATED, rtol=0, atol=1e-5)
    told = [load_bundle(run).training for run in (tmp_path / "one", pair)]
    assert [training["processes"] for training in told] == [1, 2]
    assert told[0]["val_auroc"] == pytest.approx(told[1]["val_auroc"], abs=1e-5)
    assert told[0]["steps"] == told[1]["steps"] == 52
    assert len(list((pair / "logs").glob("events.out.tfevents*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("network", list(several_processes.NETWORKS))
def test_batch_norm_sees_the_films_of_all_processes(pair: Path, network: str) -> None:
    seen = json.loads((pair / "seen.json").read_text())
    assert seen["ranks"] == [0, 1]
    assert seen[network]["gradients"] < 1e-7
    assert seen[network]["running"] < 1e-12


@pytest.mark.slow
def test_two_processes_accumulate_what_one_takes_at_once(
    pair: Path, tiny: Path, films: Path, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of 4 and 3 films, each in three parts, against one of 7; batch norm keeps its statistics."""
    monkeypatch.setattr("hilum.training.train.Learner", several_processes.Watched)
    changes = [*CHANGES, *several_processes.ACCUMULATED]
    several_processes.watched_training(tiny, films, tmp_path / "one", packs, changes, steady=True)
    seen = json.loads((pair / "seen.json").read_text())
    assert len(seen["accumulated"]) == 8
    np.testing.assert_allclose(seen["accumulated"], several_processes.LOSSES, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_another_number_of_processes_is_refused(
    pair: Path, tiny: Path, films: Path, packs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match=r"processes must be 2, with which the run in .* --devices 2"):
        train(load_recipe(tiny, list(CHANGES)), read_films(films), pair, packs=packs, resume=True, bar=False)


SRUN = """#!{python}
import os, subprocess, sys
command = sys.argv[1:]
while command[0].startswith("-"):
    command.pop(0)
both = [
    subprocess.Popen(command, env=os.environ | {{
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank), "SLURM_JOB_ID": "4711", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": "{port}",
    }})
    for rank in (0, 1)
]
sys.exit(max(one.wait() for one in both))
"""
"""srun as far as train.sbatch uses it: two tasks on this machine, and the highest of their exit codes."""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder of commands in which srun, scontrol and hilum are found."""
    folder = tmp_path / "commands"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, content in {
        "srun": SRUN.format(python=sys.executable, port=port),
        "scontrol": f'#!/bin/bash\necho "$@" >> {folder}/scontrol.txt\n',
        "hilum": f'#!/bin/bash\nexec {sys.executable} -m hilum "$@"\n',
    }.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    return folder


def processes_of(ancestor: int) -> dict[int, int]:
    """The process number of each rank among a process's descendants, by what /proc says."""
    parents, ranks = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            pid = int(entry.name)
            parents[pid] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            ranks[pid] = dict(part.partition("=")[::2] for part in (entry / "environ").read_text().split("\0"))
        except (ValueError, OSError):
            continue
    found = {}
    for pid in parents:
        above, at = [], pid
        while at in parents:
            at = parents[at]
            above.append(at)
        rank = ranks[pid].get("RANK", ranks[pid].get("SLURM_PROCID")) if pid in ranks else None
        if ancestor in above and rank is not None:
            found[int(rank)] = pid
    return found


def interrupted(
    command: list[str], out: Path, interrupt: Callable[[subprocess.Popen[str]], None], **environment: str
) -> tuple[int, str, float]:
    """Start, interrupt once an epoch is saved, and return exit code, standard error and seconds until the end."""
    last = out / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns if last.is_file() else 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread(**environment)
    ) as process:
        give_up = time.monotonic() + 600
        while not last.is_file() or last.stat().st_mtime_ns == before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        interrupt(process)
        start = time.monotonic()
        _, errors = process.communicate(timeout=600)
    return process.returncode, errors, time.monotonic() - start


def settings(tiny: Path, films: Path, out: Path, packs: Path) -> list[str]:
    changes = [word for change in CHANGES for word in ("--set", change)]
    return ["train", str(tiny), "--films", str(films), "--out", str(out), "--packs", str(packs), *changes]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")
def test_what_ends_one_process_ends_all_and_the_run_goes_on_bit_for_bit(
    pair: Path, tiny: Path, films: Path, packs: Path, tmp_path: Path, cluster: Path
) -> None:
    out = tmp_path / "run"
    command = settings(tiny, films, out, packs)
    job = ["bash", str(SBATCH), *command[6:]]  # all but the recipe, the films and the folder, which are variables there
    given = {"RECIPE": str(tiny), "FILMS": str(films), "OUT": str(out), "SLURM_JOB_ID": "4711"}
    given["PATH"] = f"{cluster}{os.pathsep}{os.environ['PATH']}"

    def warn_one(process: subprocess.Popen[str]) -> None:
        os.kill(processes_of(process.pid)[1], signal.SIGUSR1)

    code, errors, _ = interrupted(job, out, warn_one, **given)
    assert code == 1, errors
    assert errors.count("training was stopped by SIGUSR1 after ") == 1
    assert "Traceback" not in errors
    assert (cluster / "scontrol.txt").read_text() == "requeue 4711\n"

    def kill_one(process: subprocess.Popen[str]) -> None:
        os.kill(processes_of(process.pid)[1], signal.SIGKILL)

    code, errors, seconds = interrupted([*RUN, *command, "--resume", "--devices", "2"], out, kill_one)
    assert seconds < MINUTE_S
    assert code == 2, errors
    assert "process 1 of 2 was ended by SIGKILL" in errors
    assert "Traceback" not in errors
    assert not (out / "bundle.json").exists()

    again = subprocess.run(job, capture_output=True, text=True, check=False, env=one_thread(**given), timeout=600)
    assert again.returncode == 0, again.stderr
    assert (cluster / "scontrol.txt").read_text() == "requeue 4711\n"
    assert again.stderr.count("The bundle is in") == 1
    assert (out / "weights.safetensors").read_bytes() == (pair / "weights.safetensors").read_bytes()
    assert told(out) == told(pair)


def told(run: Path) -> dict[str, Any]:
    training = dict(load_bundle(run).training)
    del training["minutes_since_start_or_resume"]
    return training
