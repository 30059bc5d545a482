"""The command line: standard output is the result, standard error the rest, and every mistake has one line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from commands import Hilum
from typer.testing import CliRunner

from hilum import __version__, cli
from hilum.data.films import Films, read_films, write_films

COMMANDS = [
    str(command.name or command.callback.__name__) for command in cli.app.registered_commands if command.callback
]
TINY = ("--set", "training.epochs=1")


@contextmanager
def nothing_new_in(folder: Path) -> Iterator[None]:
    before = sorted(folder.rglob("*"))
    yield
    assert sorted(folder.rglob("*")) == before


def test_all_commands_are_known() -> None:
    assert {"demo", "phantom", "index", "audit", "split", "train", "predict", "evaluate", "compare", "info"} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_is_its_own(command: str) -> None:
    said = CliRunner().invoke(cli.app, [command, "--help"])
    assert said.exit_code == 0
    [example] = [line for line in said.output.splitlines() if "Example: " in line]
    assert f"Example: hilum {command} " in example
    assert CliRunner().invoke(cli.app, [command, "-h"]).output == said.output


def test_version_and_help(hilum: Hilum) -> None:
    assert hilum("--version") == (0, f"hilum {__version__}\n", "")
    said = hilum("--help")
    assert (said.code, said.err) == (0, "")
    assert "not a medical device" in " ".join(said.out.split())
    assert all(command in said.out for command in COMMANDS)
    assert hilum().code == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['hilum', '--help']\n"
        "from hilum.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'pyarrow', 'PIL', 'pydantic', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_help_starts_fast() -> None:
    def best_of(code: str) -> float:
        times = []
        for _ in range(7):
            begun = os.times()
            subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=True)
            ended = os.times()  # of the processor: what others do on the machine at this moment does not count
            times.append(sum(ended[2:4]) - sum(begun[2:4]))
        return min(times)

    assert best_of("from hilum.cli import main; main()") - best_of("pass") <= 0.3


@pytest.mark.slow  # it trains
def test_the_way_from_folder_to_report(hilum: Hilum, tmp_path: Path, tiny: Path) -> None:
    data, films, run = tmp_path / "data", tmp_path / "films.parquet", tmp_path / "run"
    drawn = hilum("phantom", data, "--films", 50, "--size", 64)
    assert (drawn.code, drawn.out) == (0, "")
    indexed = hilum("index", "nih", data, "--out", films, "--json")
    assert indexed.code == 0
    assert json.loads(indexed.out)["films"] == 50
    audited = hilum("audit", films, "--json")
    assert audited.code == 0
    assert json.loads(audited.out)
    divided = hilum("split", films, "--protocol", "patient", "--fractions", 0.5, 0.2, 0.3, "--json")
    assert divided.code == 0
    assert set(json.loads(divided.out)["shared_patients"].values()) == {0}
    assert {row["split"] for row in json.loads(divided.out)["splits"]} == {"train", "val", "test"}
    trained = hilum("train", tiny, "--films", films, "--out", run, *TINY, "--json")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["epochs"] == 1
    assert (tmp_path / ".hilum-packs").is_dir()
    again = hilum("train", tiny, "--films", films, "--out", run, *TINY, "--resume", "--json")
    assert json.loads(again.out) == json.loads(trained.out)
    judged = hilum("evaluate", run, "--films", films, "--out", tmp_path / "report", "--draws", 100, "--json")
    assert judged.code == 0
    assert json.loads(judged.out) == json.loads((tmp_path / "report" / "report.json").read_text())
    shown = hilum("evaluate", run, "--films", films, "--out", tmp_path / "report", "--draws", 100)
    assert "AUROC" in shown.out
    assert "mean" in shown.out


def test_tables_are_printed_where_json_is_not_asked_for(hilum: Hilum, films_file: Path, tmp_path: Path) -> None:
    divided = hilum("split", films_file, "--protocol", "image", "--out", tmp_path / "image.parquet")
    assert "train" in divided.out
    assert "patients are in train and test" in divided.err
    assert read_films(tmp_path / "image.parquet").notes["protocol"] == "image"
    assert read_films(films_file).notes["protocol"] == "patient"
    assert "split" in hilum("audit", films_file, "--no-read-files").out


def test_recipes_and_bundles_are_described(hilum: Hilum, tiny_run: Path) -> None:
    assert "am-densenet" in json.loads(hilum("info", "--json").out)
    assert json.loads(hilum("info", "am-densenet", "--json").out)["parameters_rgb"] == 7_011_508
    changed = hilum("info", "am-densenet", "--set", "training.epochs=3", "--json")
    assert json.loads(changed.out)["training"]["epochs"] == 3
    assert json.loads(hilum("info", tiny_run, "--json").out)["training"]["epochs"] == 3
    assert "am-densenet" in hilum("info").out
    assert hilum("info", "demo").code == 0


def test_predictions_go_to_a_file_or_to_standard_output(
    hilum: Hilum, tiny_run: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    films = sorted((phantom_folder / "images").iterdir())[:3]
    table = hilum("predict", tiny_run, *films)
    assert table.code == 0
    assert [line.split(",")[0] for line in table.out.splitlines()] == ["film", *(film.name for film in films)]
    written = hilum(
        "predict", tiny_run, *films, "--out", tmp_path / "p.csv", "--heatmaps", tmp_path / "maps", "--top", 1
    )
    assert (written.code, written.out) == (0, "")
    assert "3 films scored, 0 bad" in written.err
    assert len(list((tmp_path / "maps").iterdir())) == 3
    both = hilum("predict", tiny_run, *films, "--out", tmp_path / "p.parquet", "--json")
    assert json.loads(both.out) == {"out": str(tmp_path / "p.parquet"), "films": 3, "bad": 0}
    printed = hilum("predict", tiny_run, *films, "--json")
    assert [row["film"] for row in json.loads(printed.out)] == pd.read_parquet(tmp_path / "p.parquet")["film"].tolist()


def test_a_bad_film_is_exit_code_1_and_the_rest_go_on(
    hilum: Hilum, tiny_run: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    film = min((phantom_folder / "images").iterdir())
    (tmp_path / "bad.png").write_bytes(b"no film")
    said = hilum("predict", tiny_run, tmp_path / "bad.png", film, "--json")
    assert said.code == 1
    bad, good = json.loads(said.out)
    assert "bad.png" in bad["error"]
    assert bad["Mass"] is None
    assert good["error"] == ""
    assert 0 < good["Mass"] < 1
    assert "1 films scored, 1 bad" in said.err
    written = hilum("predict", tiny_run, tmp_path / "bad.png", film, "--out", tmp_path / "p.json")
    assert written.code == 1
    assert json.loads((tmp_path / "p.json").read_text()) == [bad, good]


@pytest.mark.slow  # it trains
def test_demo_prints_where_to_look_or_json(
    hilum: Hilum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path, phantom_folder: Path
) -> None:
    from hilum import demo
    from hilum.recipe import load_recipe

    monkeypatch.setattr(demo, "load_recipe", lambda name, changes: load_recipe(tiny, [*changes, "training.epochs=1"]))
    said = hilum("demo", "--out", tmp_path / "demo", "--data", phantom_folder, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["films"] == 60
    assert "5/5" in said.err
    refused = hilum("demo", "--out", tmp_path / "demo")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: out must be a new or empty folder")


@pytest.fixture
def mistakes(films_file: Path, phantom_films: Films, tmp_path: Path) -> Path:
    """A folder with what people give by mistake."""
    folder = tmp_path / "mistakes"
    (folder / "full").mkdir(parents=True)
    (folder / "full" / "notes.txt").write_text("mine")
    (folder / "notes.txt").write_text("no manifest, no recipe")
    (folder / "wrong.toml").write_text('extends = "demo"\ncolour = "blue"\n')
    unsplit = phantom_films.table.assign(split=pd.Series([None] * len(phantom_films), dtype=object))
    write_films(replace(phantom_films, table=unsplit), folder / "unsplit.parquet")
    return folder


FILMS, OUT = "{films}", "{out}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audit", "{m}/missing.parquet"], "films must be a manifest file"),
        (["audit", "{m}"], "films must be a manifest file"),
        (["audit", "{m}/notes.txt"], "films must be a Parquet manifest"),
        (["index", "nih", "{m}/missing"], ""),
        (["index", "nih", "{m}/full"], ""),
        (["index", "elsewhere", "{m}"], "source must be one of auto, nih, csv, "),
        (["split", FILMS, "--protocol", "coin"], "protocol must be one of"),
        (["split", FILMS, "--protocol", "patient", "--fractions", 0.5, 0.5, 0.5], "fractions must be three numbers"),
        (["split", FILMS, "--protocol", "patient", "--seed", "-1"], "'--seed'"),
        (["split", "{m}/missing.parquet", "--protocol", "patient"], "films must be a manifest file"),
        (["train", "am-lensenet", "--films", FILMS, "--out", OUT], "recipe must be a TOML file or one of"),
        (["train", "{m}/full", "--films", FILMS, "--out", OUT], "recipe must be a TOML file or one of"),
        (["train", "{m}/notes.txt", "--films", FILMS, "--out", OUT], "recipe must be a TOML file, but"),
        (["train", "{m}/wrong.toml", "--films", FILMS, "--out", OUT], "colour in"),
        (["train", "{tiny}", "--films", FILMS, "--out", OUT, "--set", "optimizer.speed=3"], "optimizer.speed"),
        (["train", "{tiny}", "--films", FILMS, "--out", OUT, "--set", "optimizer.lr"], "--set must be KEY=VALUE"),
        (["train", "{tiny}", "--films", FILMS, "--out", OUT, "--set", "optimizer.lr=fast"], "optimizer.lr"),
        (["train", "{tiny}", "--films", FILMS, "--out", OUT, "--set", "training.batch=999"], "training.batch must be"),
        (["train", "{tiny}", "--films", FILMS, "--out", OUT, "--set", "weights={m}/notes.txt"], "weights must be"),
        (["train", "{tiny}", "--films", FILMS, "--out", OUT, "--resume"], "Start it without --resume"),
        (["train", "{tiny}", "--films", FILMS, "--out", "{m}/full"], "out must be a new or empty folder"),
        (["train", "{tiny}", "--films", "{m}/unsplit.parquet", "--out", OUT], "films must be split"),
        (["train", "{tiny}", "--films", "{m}", "--out", OUT], "films must be a manifest file"),
        (["train", "{tiny}", "--films", FILMS], "'--out'"),
        (["predict", "{m}", "{m}/notes.txt"], "bundle must be a folder with bundle.json"),
        (["predict", "{m}/missing", "{m}/notes.txt"], "bundle must be a folder with bundle.json"),
        (["predict", "{run}", "{m}/missing.png"], "which names none"),
        (["predict", "{run}", "{m}/notes.txt", "--out", "{m}/p.xlsx"], "out must end in .csv, .json or .parquet"),
        (["predict", "{run}", "{m}/notes.txt", "--top", 0], "'--top'"),
        (["predict", "{run}", "{m}/notes.txt", "--heatmaps", "{m}/notes.txt"], "heatmaps must be a folder"),
        (["predict", "{run}"], "INPUT"),
        (["predict", "{run}", "{m}/notes.txt", "--resume"], "resume must go with out"),
        (
            ["predict", "{run}", "{m}/notes.txt", "--engine", "abacus"],
            "engine must be auto, torch, onnx, openvino, got",
        ),
        (["predict", "{run}", "{m}/notes.txt", "--precision", "fp8"], "precision must be fp32, bf16, int8, got 'fp8'"),
        (["evaluate", "{run}", "--films", "{m}/unsplit.parquet", "--out", OUT], "films must be split"),
        (["evaluate", "{run}", "--films", FILMS, "--out", OUT, "--split", "exam"], "split must be one of"),
        (["evaluate", "{run}", "--films", FILMS, "--out", OUT, "--draws", 1], "--bootstrap-samples"),
        (["evaluate", "{m}/missing.csv", "--films", FILMS, "--out", OUT], "missing.csv"),
        (["evaluate", "{m}/notes.txt", "--films", FILMS, "--out", OUT], "notes.txt"),
        (["phantom", "{m}/full"], "folder must be new or empty"),
        (["phantom", OUT, "--films", 0], "'--films'"),
        (["phantom", OUT, "--size", 32], "'--size'"),
        (["phantom", OUT, "--films", 1, "--shuffle-labels"], "films must be enough"),
        (["demo", "--out", "{m}/full"], "out must be a new or empty folder"),
        (["demo", "--data", "{m}/missing", "--out", OUT], ""),
        (["info", "am-lensenet"], "recipe must be a TOML file or one of"),
        (["info", "{m}/missing"], "bundle must be a folder with bundle.json"),
        (["info", "{m}/full"], "bundle must be a folder with bundle.json"),
        (["reproduce", "--films", FILMS, "--out", "{m}/full"], "out must be a new or empty folder"),
        (["reproduce", "--films", FILMS, "--out", OUT, "--systems", "am-lensenet"], "recipe must be a TOML file or"),
        (["reproduce", "--films", FILMS, "--out", OUT, "--set", "seed=3"], "--set must leave seed to the suite"),
        (["reproduce", "--films", "{m}/unsplit.parquet", "--out", OUT], "films must be split"),
        (["reproduce", "--films", FILMS, "--out", OUT, "--seeds", 0], "'--seeds'"),
        (["reproduce", "--films", FILMS, "--out", OUT, "--budget", "-3"], "'--budget'"),
        (["judge"], "No such command"),
        (["demo", "--fast"], "--fast"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[object], says: str, hilum: Hilum, mistakes: Path, films_file: Path, tiny: Path, tiny_run: Path
) -> None:
    names = {"{m}": mistakes, FILMS: films_file, OUT: mistakes / "out", "{tiny}": tiny, "{run}": tiny_run}

    def filled(argument: object) -> str:
        text = str(argument)
        for name, path in names.items():
            text = text.replace(name, str(path))
        return text

    with nothing_new_in(mistakes), nothing_new_in(tiny_run), nothing_new_in(films_file.parent):
        said = hilum(*map(filled, arguments))
    assert said.code == 2, said
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said.err
    assert said.err.splitlines()[-1] == lines[0]
    assert says in lines[0]
    assert "Traceback" not in said.err


def test_every_mistake_without_work_before_it_is_a_single_line(hilum: Hilum, mistakes: Path) -> None:
    for arguments in (("audit", mistakes / "notes.txt"), ("info", "am-lensenet"), ("phantom", mistakes, "--films", 0)):
        assert len(hilum(*arguments).err.splitlines()) == 1


def test_ctrl_c_outside_training_is_exit_code_1(
    hilum: Hilum, films_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hilum.data.audit.audit", interrupted)
    said = hilum("audit", films_file)
    assert (said.code, said.out, said.err) == (1, "", "stopped\n")


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    arguments = [sys.executable, "-c", "from hilum.cli import main; main()", "--version"]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
