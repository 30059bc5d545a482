"""A run that is killed goes on, and its file is the one of a run that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hilum import batch as job
from hilum.batch import Asked, Counts, predict_to_file, predicted
from hilum.data.films import Films
from hilum.errors import BundleError, HilumError, ImageError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.files import alone
from hilum.model import engines
from hilum.model.engines import Outputs, TorchEngine

SUFFIXES = (".csv", ".json", ".parquet")


@pytest.fixture
def asked(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> Asked:
    """Forty films, two of them bad, in a folder."""
    for row in range(38):
        path = tmp_path / "films" / f"{row % 3}" / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(phantom_films.path(row), path)
    (tmp_path / "films" / "1" / "text.png").write_bytes(b"no film")
    (tmp_path / "films" / "2" / "old.dcm").write_bytes(bytes(128) + b"DICM")
    return Asked(tiny_run, (str(tmp_path / "films"),), engine="torch")


def read(path: Path) -> pd.DataFrame:
    match path.suffix:
        case ".csv":
            return pd.read_csv(path)
        case ".json":
            return pd.DataFrame(json.loads(path.read_text()))
        case _:
            return pd.read_parquet(path)


def test_csv_json_and_parquet_hold_the_same(asked: Asked, tmp_path: Path) -> None:
    films = tmp_path / "films"
    tables = []
    for suffix in SUFFIXES:
        assert predict_to_file(asked, tmp_path / "deep" / f"predictions{suffix}") == Counts(40, 2)
        tables.append(read(tmp_path / "deep" / f"predictions{suffix}"))
    expected = sorted((path.relative_to(films) for path in films.rglob("*.*")), key=lambda path: path.as_posix())
    for table in tables:
        assert table["film"].tolist() == [path.as_posix() for path in expected]
        assert table.columns[-1] == "error"
        bad = table["error"].fillna("") != ""
        assert table["film"][bad].tolist() == ["1/text.png", "2/old.dcm"]
        assert table[bad].drop(columns=["film", "fit", "error"]).isna().all(axis=None)
        assert (table["fit"].fillna("") == tables[0]["fit"].fillna("")).all()
        numbers = table.drop(columns=["film", "fit", "error"]).astype(np.float32)
        np.testing.assert_array_equal(numbers, tables[0].drop(columns=["film", "fit", "error"]).astype(np.float32))
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [f"predictions{s}" for s in SUFFIXES]


def test_without_bad_films_there_is_no_column_of_errors(asked: Asked, tmp_path: Path) -> None:
    good = replace(asked, inputs=(str(tmp_path / "films" / "0"),), heatmaps=tmp_path / "maps", top=1)
    assert predict_to_file(good, tmp_path / "p.csv") == Counts(13, 0)
    assert "error" not in read(tmp_path / "p.csv").columns
    assert len(list((tmp_path / "maps").iterdir())) == 13
    with predicted(good) as (table, counts):
        assert counts == Counts(13, 0)
        assert [row.film for row in table.rows] == read(tmp_path / "p.csv")["film"].tolist()


def test_films_that_do_not_fit_have_no_scores_unless_they_are_forced(asked: Asked, tmp_path: Path) -> None:
    film = tmp_path / "films" / "0" / "0.png"
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    Image.fromarray(255 - np.asarray(Image.open(film))).save(spoilt / "inverted.png")
    Image.fromarray(np.full((64, 64), 90, dtype=np.uint8)).save(spoilt / "blank.png")
    shutil.copy(film, spoilt / "well.png")
    asked = replace(asked, inputs=(str(spoilt),), calls="youden", heatmaps=tmp_path / "maps", top=1)
    assert predict_to_file(asked, tmp_path / "p.csv") == Counts(3, 0, unfit=2)
    table = read(tmp_path / "p.csv").set_index("film")
    assert table.columns[-1] == "fit"
    assert table["fit"].str.partition(":")[0].to_dict() == {
        "blank.png": "blank",
        "inverted.png": "inverted",
        "well.png": "ok",
    }
    others = table.drop(columns="fit")
    assert others.loc["well.png"].notna().all()
    assert others.loc[["blank.png", "inverted.png"]].isna().all(axis=None)
    assert [path.name.partition(".")[0] for path in (tmp_path / "maps").iterdir()] == ["well"]
    assert predict_to_file(replace(asked, force=True), tmp_path / "f.csv") == Counts(3, 0)
    forced = read(tmp_path / "f.csv").set_index("film")
    assert forced["forced"].to_dict() == {"blank.png": "yes", "inverted.png": "yes", "well.png": "no"}
    assert forced["fit"].equals(table["fit"])
    assert forced.notna().all(axis=None)
    assert len(list((tmp_path / "maps").iterdir())) == 3


HALF_A_LINE = b'[["", [0.5, 0.'


class Killed(BaseException):
    """As a kill, nothing of the program catches it."""


@pytest.mark.parametrize(("suffix", "left"), [(".csv", b""), (".json", HALF_A_LINE), (".parquet", HALF_A_LINE)])
def test_a_killed_run_goes_on_to_the_same_file(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, left: bytes
) -> None:
    monkeypatch.setattr(engines, "_PIXELS_A_BATCH", 6 * 64**2)  # 6 films of tiny_run
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"killed{suffix}"
    predict_to_file(asked, whole)
    ran = TorchEngine.run
    runs = 0

    def counted(engine: TorchEngine, grey: np.ndarray) -> Outputs:
        nonlocal runs
        runs += 1
        if runs == 4:
            raise Killed
        return ran(engine, grey)

    monkeypatch.setattr(TorchEngine, "run", counted)
    with pytest.raises(Killed):
        predict_to_file(asked, out)
    before = runs
    assert not out.exists()
    unfinished = tmp_path / f".killed{suffix}.unfinished"
    done = len((unfinished / "scores.jsonl").read_bytes().splitlines())
    assert 0 < done <= 3
    with (unfinished / "scores.jsonl").open("ab") as log:
        log.write(left)
    (tmp_path / "films" / "0" / "new.png").touch()  # the films are those of the beginning
    monkeypatch.setattr(engines, "_PIXELS_A_BATCH", 16 * 64**2)
    assert predict_to_file(asked, out, resume=True) == Counts(40, 2)
    assert out.read_bytes() == whole.read_bytes()
    assert runs - before == 7 - done
    assert not unfinished.exists()


def test_what_an_unfinished_run_refuses(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "p.csv"
    with monkeypatch.context() as patched:
        patched.setattr(job, "write_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict_to_file(asked, out)
    with pytest.raises(HilumError, match="out must not have an unfinished run"):
        predict_to_file(asked, out)
    for other in (replace(asked, top=1), replace(asked, inputs=(str(tmp_path),)), replace(asked, precision="fp32")):
        with pytest.raises(HilumError, match=r"but (top|inputs|precision) differs"):
            predict_to_file(other, out, resume=True)
    assert predict_to_file(asked, out, resume=True) == Counts(40, 2)
    with pytest.raises(HilumError, match="is finished"):
        predict_to_file(asked, out, resume=True)


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_cannot_begin_leaves_nothing(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="which names none"):
        predict_to_file(replace(asked, inputs=(str(tmp_path / "empty"),)), tmp_path / "p.csv")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        predict_to_file(replace(asked, run=tmp_path), tmp_path / "p.csv")
    with pytest.raises(HilumError, match=r"out must end in \.csv"):
        predict_to_file(asked, tmp_path / "p.xlsx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "films"]
    assert predict_to_file(asked, tmp_path / "p.csv", resume=True) == Counts(40, 2)  # nothing to go on with


@pytest.mark.slow
def test_kill_9_and_the_same_command_with_resume(asked: Asked, tmp_path: Path) -> None:
    slow = (
        "import time; from hilum.model.engines import TorchEngine as engine; run = engine.run; "  # a kill comes between
    )
    slow += "engine.run = lambda *films: (time.sleep(0.5), run(*films))[1]; "
    code = slow + "from hilum.cli import main; main()"
    films = list(asked.inputs)
    for copy in range(12):
        shutil.copytree(tmp_path / "films" / "0", tmp_path / "films" / f"more{copy}")

    def command(out: Path, *more: str) -> list[str]:
        return [sys.executable, "-c", code, "predict", str(asked.run), *films, "--out", str(out), *more]

    assert predict_to_file(asked, tmp_path / "whole.csv").bad == 2
    out = tmp_path / "killed.csv"
    log = tmp_path / ".killed.csv.unfinished" / "scores.jsonl"
    kills = 0
    for _ in range(2):
        running = subprocess.Popen(command(out, "--resume"))
        before = log.stat().st_size if log.exists() else 0
        while running.poll() is None and (not log.exists() or log.stat().st_size <= before):
            time.sleep(0.002)
        if running.poll() is not None:
            break
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        kills += 1
        assert out.exists() or log.exists()
    assert kills > 0
    if not out.exists():
        assert subprocess.run(command(out, "--resume"), check=False).returncode == 1
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not log.parent.exists()


def test_a_run_at_work_is_not_joined(asked: Asked, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with alone(tmp_path / ".out.csv.unfinished"):
        for resume in (False, True):
            with pytest.raises(HilumError, match=r"out must be of one run at a time, got another at work"):
                predict_to_file(asked, out, resume=resume)
    predict_to_file(asked, out)
    assert out.is_file()
    assert not (tmp_path / ".out.csv.unfinished").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2, "asked": {}, "chosen": null}'])
def test_a_damaged_job_is_not_resumed(asked: Asked, tmp_path: Path, content: str) -> None:
    folder = tmp_path / ".out.csv.unfinished"
    folder.mkdir()
    (folder / "job.json").write_text(content)
    with pytest.raises(HilumError, match=r"job\.json must be whole, got a damaged one in .*Delete the folder"):
        predict_to_file(asked, tmp_path / "out.csv", resume=True)


def test_evaluating_predictions_equals_evaluating_the_bundle(
    tiny_run: Path, phantom_films: Films, tmp_path: Path
) -> None:
    tested = phantom_films.select("test")
    inputs = tuple(str(tested.path(row)) for row in range(len(tested)))
    whole = evaluate_to_folder(tiny_run, phantom_films, tmp_path / "bundle", bootstrap_samples=100)
    assert whole["mean"]["auroc"]["value"] is not None
    exact = {name: finding.pop("curve") for name, finding in whole["findings"].items()}
    for suffix in (".csv", ".parquet"):
        predict_to_file(Asked(tiny_run, inputs[::-1], engine="torch"), tmp_path / f"predictions{suffix}")
        again = evaluate_to_folder(
            tmp_path / f"predictions{suffix}", phantom_films, tmp_path / suffix, bootstrap_samples=100
        )
        assert again["mean"] == whole["mean"]
        for name, finding in again["findings"].items():
            curve = finding.pop("curve")
            for part in curve:  # thresholds are scores, whose last bits depend on the batch
                assert curve[part][:1] == exact[name][part][:1]
                assert curve[part][1:] == pytest.approx(exact[name][part][1:], rel=1e-5)
        assert again["findings"] == whole["findings"]


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from hilum import batch as job
from hilum.model.engines import TorchEngine
from hilum.predict import scoring
from hilum.batch import Asked, predict_to_file

first, run = [], TorchEngine.run

def same(engine, grey):  # as many outputs as the network has, which are not what grows
    if not first or len(first[0].logits) < len(grey):
        first[:] = [run(engine, grey)]
    return type(first[0])(*(part[:len(grey)].copy() for part in first[0]))

TorchEngine.run = same
black = np.zeros((64, 64), dtype=np.float32)
batches = scoring.score_batches
same_film = {"read": lambda *_: black, "force": True}
job.score_batches = lambda engine, paths, **how: batches(engine, paths, **how | same_film)
predict_to_file(Asked(Path(sys.argv[1]), (sys.argv[2],), engine="torch"), Path(sys.argv[3]))
[peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
print(peak.split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read where Linux has it")
def test_memory_does_not_grow_with_the_number_of_films(tiny_run: Path, tmp_path: Path) -> None:
    peaks_kb = []
    for films in (2_000, 20_000):
        folder = tmp_path / f"{films}"
        folder.mkdir()
        for number in range(films):
            (folder / f"{number * 7919 % films:08d}_a_name_as_long_as_some_archives_have_{number:08d}.png").touch()
        command = [sys.executable, "-c", MEMORY, str(tiny_run), str(folder), str(tmp_path / f"{films}.parquet")]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks_kb.append(int(ended.stdout))
        assert len(pd.read_parquet(tmp_path / f"{films}.parquet", columns=["film"])) == films
    assert peaks_kb[1] - peaks_kb[0] <= 16_000
