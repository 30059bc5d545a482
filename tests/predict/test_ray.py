"""The same rows from a Ray cluster, also when a worker is killed."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hilum import batch as ray_pool
from hilum.batch import Asked, Counts, predict_to_file
from hilum.data.films import Films

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


class Mortal(ray_pool.RayWorker):
    """A worker of which the first that comes to its second task is killed there, with that task in its hands."""

    tasks = 0

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        marker = Path(os.environ["MORTAL_MARKER"])  # Ray pickles the class by its name
        self.tasks += 1
        if self.tasks == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(task)


def test_the_rows_are_those_of_a_single_process(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "FILMS_A_TASK", 64)
    monkeypatch.setattr(ray_pool, "WORKERS_A_NODE", 2)
    marker = tmp_path / "killed"
    monkeypatch.setattr(ray_pool, "RayWorker", Mortal)
    monkeypatch.setenv("MORTAL_MARKER", str(marker))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # where workers find the class
    expected = predict_to_file(asked, tmp_path / "single.csv")
    assert expected == Counts(1100, 30)
    assert predict_to_file(replace(asked, ray="local"), tmp_path / "ray.csv") == expected
    assert marker.exists()
    found, single = (pd.read_csv(tmp_path / name, keep_default_na=False) for name in ("ray.csv", "single.csv"))
    pd.testing.assert_frame_equal(found, single, check_exact=False, rtol=0, atol=1e-6)  # threads decide the last bits
