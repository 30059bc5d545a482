"""The same rows from a Ray cluster, also when a worker is killed."""

import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from hilum.data.films import Films
from hilum.predict import ray_pool
from hilum.predict.job import Asked, Counts, predict_to_file

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own


@pytest.fixture(scope="module")
def asked(tiny_run: Path, phantom_films: Films, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Eleven hundred films, of which every 37th is bad."""
    folder = tmp_path_factory.mktemp("ray") / "films"
    folder.mkdir()
    (folder.parent / "bad").write_bytes(b"no film")
    for number in range(1100):
        source = folder.parent / "bad" if number % 37 == 0 else phantom_films.path(number % 60)
        os.link(shutil.copy(source, folder.parent / f"{number % 60}-{number % 37 == 0}"), folder / f"{number:04d}.png")
    return Asked(tiny_run, (str(folder),), engine="torch")


def descendants(process: int) -> list[int]:
    """The processes that a process started, and theirs."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for child in children for pid in (child, *descendants(child))]


@pytest.mark.parametrize("killed", [False, True])
def test_the_rows_are_those_of_a_single_process(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(ray_pool, "FILMS_A_TASK", 64)
    monkeypatch.setattr(ray_pool, "WORKERS_A_NODE", 2)
    expected = predict_to_file(asked, tmp_path / "single.csv")
    assert expected == Counts(1100, 30)
    log = tmp_path / ".ray.csv.unfinished" / "scores.jsonl"
    victims: list[int] = []

    def kill_a_worker() -> None:
        while not log.exists() or not log.stat().st_size:
            time.sleep(0.01)
        workers = [pid for pid in descendants(os.getpid()) if b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        victims.append(workers[0])
        os.kill(workers[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_a_worker)
    if killed:
        killer.start()
    assert predict_to_file(replace(asked, ray="local"), tmp_path / "ray.csv") == expected
    if killed:
        killer.join()
        assert len(victims) == 1
    found, single = (pd.read_csv(tmp_path / name, keep_default_na=False) for name in ("ray.csv", "single.csv"))
    pd.testing.assert_frame_equal(found, single, check_exact=False, rtol=0, atol=1e-6)  # threads decide the last bits
