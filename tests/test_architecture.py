"""The house's rules: imports point one way, never in a circle; nn, metrics, losses are pure; a file is one topic."""

import ast
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hilum

PACKAGE = Path(hilum.__file__).parent
REPOSITORY = PACKAGE.parent.parent

FLOORS = (
    {"errors"},
    {"files", "findings", "messages"},
    {"data", "nn", "metrics", "phantom"},
    {"recipe"},
    {"model"},
    {"training", "predict"},
    {"evaluation", "pacs"},
    {"batch", "reproduction", "serve"},
    {"api", "bench", "demo"},
    {"cli"},
    {"__main__"},
)
"""A package or module may import those of the floors before its own, and no other of its own floor."""

PURE = ("hilum.nn", "hilum.metrics", "hilum.training.losses")
IO_MODULES = {"os", "io", "pathlib", "open", "json", "tomllib", "safetensors", "urllib", "socket", "random", "tempfile"}
GLOBAL_RANDOM = {"manual_seed", "seed", "set_rng_state", "set_state", "default_rng_from_global"}
LONG = 800
"""A file of more lines is looked at again: it may hold two topics."""


def structure() -> ModuleType:
    """benchmarks/structure.py, which measures the same graph for people."""
    spec = importlib.util.spec_from_file_location("structure", REPOSITORY / "benchmarks" / "structure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def floor(module: str) -> int:
    package = module.split(".")[1]
    for number, packages in enumerate(FLOORS):
        if package in packages:
            return number
    raise AssertionError(f"{module} stands on no floor: add {package} to FLOORS")


def test_imports_point_one_way() -> None:
    wrong = [
        f"{here} imports {other}"
        for here, others in structure().graph(PACKAGE.parent).items()
        for other in others
        if here != "hilum" and here.split(".")[1] != other.split(".")[1] and floor(other) >= floor(here)
    ]
    assert not wrong


def test_no_module_imports_itself_in_a_circle() -> None:
    assert structure().circles(structure().graph(PACKAGE.parent)) == []


def test_circles_are_found() -> None:
    assert structure().circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def faults(path: Path) -> Iterator[str]:
    """Where a module that should be pure does input or output, or touches global random state."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ({alias.name.split(".")[0] for alias in node.names} & IO_MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from ({(node.module or "").split(".")[0]} & IO_MODULES)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.split(".")[-1] in GLOBAL_RANDOM or called in ("open", "print", "input"):
                yield called
            if called.startswith("np.random.") and called != "np.random.default_rng":
                yield called


def test_networks_losses_and_metrics_are_pure() -> None:
    pure = {name: path for name, path in structure().modules(PACKAGE.parent).items() if name.startswith(PURE)}
    assert len(pure) > 10
    assert {name: found for name, path in pure.items() if (found := list(faults(path)))} == {}


def test_a_file_is_one_topic() -> None:
    for name, path in structure().modules(PACKAGE.parent).items():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{name} has no docstring"
        lines = len(path.read_text().splitlines())
        if lines > LONG:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                warnings.warn(f"{name} has {lines} lines: does it hold two topics?", stacklevel=1)
