"""What an installation without PyTorch can do, what it says of the rest, and that the package is whole."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from hilum.errors import EXTRAS

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src"
ABSENT = ("train", "onnx", "export", "scale", "bench")
"""Extras that a slim installation, hilum[cpu,dicom,serve], has not."""
STRAY = {module for extra in ABSENT for module in EXTRAS[extra]} | {"sklearn", "timm"}
NEED_TORCH = {
    "demo",
    "train",
    "calibrate",
    "distil",
    "ensemble",
    "export",
    "import_",
    "info",
    "pack",
    "reproduce",
    "tune",
}
"""Commands that import PyTorch whatever they are asked; bench, predict, evaluate and others do so for some models."""


def test_the_extras_are_those_of_pyproject() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    offered = project["optional-dependencies"]
    assert set(EXTRAS) == set(offered) - {"dev", "docs"}
    distributions = packages_distributions()
    for extra, modules in EXTRAS.items():
        for module in modules:
            if module not in distributions or module == "skimage":  # torchxrayvision brings skimage
                continue
            names = {name.lower().replace("_", "-") for name in distributions[module]}
            assert names & {name(requirement) for requirement in offered[extra]}, f"{module} is not in [{extra}]"
    assert not {name(requirement) for requirement in project["dependencies"]} & {"torch", "scikit-learn", "matplotlib"}


def name(requirement: str) -> str:
    return requirement.partition("[")[0].partition(">")[0].lower().replace("_", "-")


# which modules a command imports


def head(path: Path) -> list[str]:
    """What a module imports when it is imported itself: not inside functions, not for type checkers alone."""
    return _head(path.read_text())


@cache
def _head(text: str) -> list[str]:
    return list(at_import(ast.parse(text)))


def at_import(module: ast.AST) -> Iterator[str]:
    waiting = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        yield from names(node)
        waiting += ast.iter_child_nodes(node)


def names(node: ast.AST) -> Iterator[str]:
    """The modules in an import statement, and what may be one of them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def house() -> dict[str, Path]:
    found = {}
    for path in sorted((SOURCE / "hilum").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def reached(first: set[str], modules: dict[str, Path]) -> dict[str, str]:
    """All modules that importing these imports, and by which module of the house."""
    by, waiting = dict.fromkeys(first, "the command"), [*first]
    while waiting:
        module = waiting.pop()
        if module in modules:
            new = [other for other in head(modules[module]) if other not in by]
            by |= dict.fromkeys(new, module)
            waiting += new
    return by


def commands() -> dict[str, ast.FunctionDef]:
    """The functions of hilum.cli that have examples in their help: the commands."""
    found = {}
    for path in sorted((SOURCE / "hilum" / "cli").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and "Example: hilum" in (ast.get_docstring(node) or ""):
                found[node.name] = node
    return found


def test_no_command_imports_what_it_does_not_need() -> None:
    modules, strays = house(), dict[str, list[str]]()
    assert {"train", "predict", "evaluate", "serve", "dicomweb", "run"} <= commands().keys()
    for command, function in commands().items():
        at_once = {name for node in function.body for name in names(node)}
        at_once |= {name for branch in function.body if isinstance(branch, ast.Match) for name in every(branch)}
        by = reached(at_once | set(head(modules["hilum.cli"])), modules)
        strays[command] = [f"{by[name]} imports {name}" for name in by if name.partition(".")[0] in STRAY]
    assert {command: found for command, found in strays.items() if found and command not in NEED_TORCH} == {}
    assert {command for command, found in strays.items() if found} == NEED_TORCH


def every(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        yield from names(inner)


def test_a_stray_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from hilum import b\n")
    (tmp_path / "b.py").write_text("try:\n    import torch.nn\nexcept ImportError:\n    pass\n")
    found = reached({"hilum.a"}, {"hilum.a": tmp_path / "a.py", "hilum.b": tmp_path / "b.py"})
    assert found["torch.nn"] == "hilum.b"
    (tmp_path / "b.py").write_text("def later():\n    import torch\nif TYPE_CHECKING:\n    import torch\n")
    assert "torch" not in reached({"hilum.a"}, {"hilum.a": tmp_path / "a.py", "hilum.b": tmp_path / "b.py"})


# commands in a process in which the absent extras cannot be imported

WITHOUT = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in STRAY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

asked = json.load(sys.stdin)
STRAY = set(asked["stray"])
sys.meta_path.insert(0, Absent)
from hilum.cli import main
said = []
for arguments in asked["commands"]:
    sys.argv, out, err = ["hilum", *arguments], io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    said.append([code, out.getvalue(), err.getvalue()])
json.dump(said, sys.stdout)
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def without(*lines: list[object], stray: set[str] = STRAY) -> list[Ended]:
    """What commands say one after another where the modules are absent."""
    asked = {"stray": sorted(stray), "commands": [[str(word) for word in line] for line in lines]}
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT], input=json.dumps(asked), capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    return [Ended(*one) for one in json.loads(ended.stdout)]


NEED_TRAIN = [
    ["train", "demo", "--films", "FILMS", "--out", "OUT"],
    ["calibrate", "RUN", "--films", "FILMS"],
    ["export", "RUN", "--to", "onnx"],
    ["info", "am-densenet"],
    ["predict", "RUN", "FILMS", "--out", "OUT/scores.csv"],
    ["predict", "RUN", "FILMS", "--engine", "torch"],
    ["evaluate", "RUN", "--films", "FILMS", "--out", "OUT"],
    ["serve", "RUN", "--port", "0"],
    ["demo", "--out", "OUT"],
    ["reproduce", "--films", "FILMS", "--out", "OUT"],
    ["bench"],
]


def test_without_torch_a_sentence_names_the_extra(untrained_run: Path, films_file: Path, tmp_path: Path) -> None:
    places = {"RUN": untrained_run, "FILMS": films_file}
    lines: list[list[object]] = [
        [places.get(word, word.replace("OUT", str(tmp_path / f"out{number}"))) for word in line]
        for number, line in enumerate(NEED_TRAIN)
    ]
    for number, (line, said) in enumerate(zip(lines, without(*lines), strict=True)):
        assert (said.code, said.err.count("\n")) == (2, 1), line
        assert any(
            f"error: {module} must be installed for this. Install it: pip install 'hilum[train]'" in said.err
            for module in ("torch", "pytorch_lightning")
        ), said.err
        out = tmp_path / f"out{number}"
        assert not out.exists() or not list(out.iterdir())


@pytest.mark.slow  # it evaluates
def test_films_are_made_listed_and_evaluated_without_any_extra(tmp_path: Path) -> None:
    stray = {module for modules in EXTRAS.values() for module in modules} | {"sklearn"}
    films, table = tmp_path / "films.parquet", tmp_path / "theirs.csv"
    made = without(
        ["phantom", tmp_path / "phantom", "--films", 80, "--size", 64],
        ["index", "nih", tmp_path / "phantom", "--out", films],
        ["split", films, "--protocol", "patient"],
        ["audit", films],
        stray=stray,
    )
    assert [one.code for one in made] == [0] * 4, made
    manifest = pd.read_parquet(films)
    scores = manifest[["film", "Mass", "Effusion"]].fillna(0.0)
    scores[["Mass", "Effusion"]] *= [0.5, -0.5]
    scores.to_csv(table, index=False)
    evaluation: list[object] = ["evaluate", table, "--films", films, "--draws", 100]
    said = without(
        [*evaluation, "--out", tmp_path / "first"],
        [*evaluation, "--out", tmp_path / "second", "--seed", 1],
        ["report", tmp_path / "first", "--out", tmp_path / "again"],
        ["compare", tmp_path / "first", tmp_path / "second", "--draws", 100, "--out", tmp_path / "compared"],
        ["predict", tmp_path, films],
        stray=stray,
    )
    assert [one.code for one in said] == [0, 0, 0, 0, 2], said
    assert {"report.html", "report.json", "roc.png"} <= {path.name for path in (tmp_path / "again").iterdir()}
    assert (tmp_path / "compared" / "comparison.html").is_file()


@pytest.fixture(scope="module")
def exported(untrained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an export in it."""
    pytest.importorskip("openvino")
    from hilum.model.export import export_bundle

    run = tmp_path_factory.mktemp("slim") / "run"
    shutil.copytree(untrained_run, run)
    export_bundle(run, "openvino", precision="fp32", out=None, films=None, accept_loss=False, say=print)
    return run


@pytest.mark.slow
def test_an_export_scores_without_torch(exported: Path, phantom_folder: Path, tmp_path: Path) -> None:
    films = sorted(phantom_folder.rglob("*.png"))[:2]
    said = without(
        ["predict", exported, *films, "--out", tmp_path / "of_bundle.csv", "--heatmaps", tmp_path / "maps"],
        ["predict", exported / "openvino-fp32", *films, "--out", tmp_path / "alone.csv"],
        ["predict", exported, *films, "--fhir", tmp_path / "fhir", "--out", tmp_path / "f.parquet"],
        ["node", "example"],
        [
            "dicomweb",
            exported,
            "http://127.0.0.1:9/none",
            "--filter",
            "StudyDate=20260101-",
            "--out",
            tmp_path / "w.csv",
        ],
    )
    assert [one.code for one in said] == [0, 0, 0, 0, 2], said
    assert "Engine: openvino in fp32" in said[0].err
    assert len(list((tmp_path / "maps").iterdir())) == 6
    assert "[model]" in said[3].out
    assert "server must answer as DICOMweb" in said[4].err
    first, second = (pd.read_csv(tmp_path / name) for name in ("of_bundle.csv", "alone.csv"))
    assert (first["Mass"] == second["Mass"]).all()


@pytest.mark.slow
def test_the_reading_room_opens_without_torch(exported: Path, phantom_folder: Path) -> None:
    from hilum.serve.client import Client

    code = WITHOUT.replace("json.load(sys.stdin)", "json.loads(sys.argv[1])").partition("said = []")[0]
    asked = json.dumps({"stray": sorted(STRAY)})
    arguments = ["hilum", "serve", str(exported), "--port", "0", "--json"]
    server = subprocess.Popen(
        [sys.executable, "-u", "-c", f"{code}\nsys.argv = {arguments!r}\nmain()", asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        opened = "".join(line for _, line in zip(range(4), server.stdout, strict=False))
        film = min(phantom_folder.rglob("*.png"))
        with Client(json.loads(opened)["url"]) as client:
            (answer,) = client.predict([film], heatmaps=True).films
        assert len(answer.findings) == 14
        assert any(one.heatmap for one in answer.findings)
    finally:
        server.terminate()
        server.communicate(timeout=60)


# the package itself


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, built from what the repository holds, and the wheel that is built of the sdist alone."""
    place = tmp_path_factory.mktemp("built")
    shutil.copytree(
        REPOSITORY / "src", place / "tree" / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, place / "tree" / name)
    (sdist,) = build(place / "tree", "sdist", place)
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (source,) = (place / "unpacked").iterdir()
    (wheel,) = build(source, "wheel", place)
    return sdist, wheel


def build(source: Path, kind: str, out: Path) -> list[Path]:
    backend = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    ended = subprocess.run([sys.executable, "-c", backend], cwd=source, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return [out / ended.stdout.split()[-1]]


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        held = {name for name in wheel.namelist() if name.startswith("hilum/")}
        own = {name.partition("/")[0] for name in wheel.namelist()}
    files = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "hilum").rglob("*") if path.is_file()}
    assert held == {name for name in files if "__pycache__" not in name}
    assert {name.partition("-")[0] for name in own} == {"hilum"}


@pytest.mark.slow
def test_the_installed_package_runs(built: tuple[Path, Path], films_file: Path, tmp_path: Path) -> None:
    """In a new environment that borrows its dependencies' files, and not Hilum's, from this one."""
    venv.create(tmp_path / "env", with_pip=False)
    place = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--prefix", str(tmp_path / "env")]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    installing = [sys.executable, *install, "--ignore-installed", str(built[1])]
    subprocess.run(installing, check=True, env=env, timeout=300, capture_output=True)
    pandas = find_spec("pandas")
    assert pandas is not None
    assert pandas.origin is not None
    (place / "borrowed.pth").write_text(f"{Path(pandas.origin).parent.parent}\n")  # the .pth files there are not read
    script = tmp_path / "env" / "bin" / "hilum"
    text = script.read_text().partition("\n")[2]
    script.write_text(f"#!{tmp_path / 'env' / 'bin' / 'python'}\n{text}")

    def run(*words: object) -> str:
        ended = subprocess.run(
            [script, *map(str, words)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert "serve" in run("--help")  # then what reads the package's data files
    assert "[model]" in run("node", "example")
    assert "am-densenet" in run("info", "--json")
    pd.read_parquet(films_file)[["film", "Mass"]].to_csv(tmp_path / "theirs.csv", index=False)
    run("evaluate", "theirs.csv", "--films", films_file, "--draws", 100, "--out", "report")
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    where = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c", "import hilum, importlib.resources as r; print(hilum.__file__); "
         "print((r.files('hilum.serve') / 'static' / 'index.html').is_file())"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.split() == [str(place / "hilum" / "__init__.py"), "True"]
