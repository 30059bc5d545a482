"""The house's rules: imports point inwards, and nn, losses and metrics do no I/O and touch no global random state."""

import ast
from pathlib import Path

import pytest

import hilum

PACKAGE = Path(hilum.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {"", "errors", "findings", "progress", "files", "quiet"},
    {"data", "nn", "losses", "metrics"},
    {"recipe", "operating", "description", "bundle", "published", "weights"},
    {"train", "pretrain", "learner", "checkpoints", "engines", "predict", "explain", "evaluate", "judging", "info"}
    | {"budget", "suite", "calibrate", "cpu_engines", "dicom", "export", "exported", "graph", "quantise"},
    {"report"},
    {"demo", "serve", "node", "reproduce", "bench"},
    {"cli", "console", "__main__"},
]
"""Each floor stands on those above it in this list; rooms of one floor may lean on each other from the third on."""

MAY_LEAN_ON_EACH_OTHER_FROM = 2
PURE = {"nn", "losses", "metrics"}
IO_MODULES = {"os", "io", "pathlib", "open", "json", "tomllib", "safetensors", "urllib", "socket", "random", "tempfile"}
GLOBAL_RANDOM = {"manual_seed", "seed", "set_rng_state", "set_state", "default_rng_from_global"}


def room(module: str) -> str:
    """`hilum.data.films` -> `data`; `hilum` itself -> the empty word."""
    return [*module.split("."), ""][1]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return number
    raise AssertionError(f"{module} stands on no floor: add it to FLOORS")


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_inwards(path: Path) -> None:
    here = name_of(path)
    for other in imports(path):
        if other.split(".")[0] != "hilum" or room(other) == room(here):
            continue
        assert floor(other) <= floor(here), f"{here} imports {other}, which stands above it"
        if floor(other) == floor(here):
            assert floor(here) >= MAY_LEAN_ON_EACH_OTHER_FROM or floor(here) == 0, f"{here} imports its sibling {other}"


@pytest.mark.parametrize("path", [p for p in MODULES if room(name_of(p)) in PURE], ids=name_of)
def test_networks_losses_and_metrics_are_pure(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & IO_MODULES
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called.split(".")[-1] not in GLOBAL_RANDOM, f"{called} touches global random state"
            assert called not in ("open", "print", "input"), f"{called} does input or output"
            if called.startswith("np.random."):
                assert called == "np.random.default_rng", f"{called} draws from global random state"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_is_one_idea_of_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    assert len(path.relative_to(PACKAGE).parts) <= 2


def test_every_module_says_what_it_is() -> None:
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
