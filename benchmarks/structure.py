"""The shape of the source: modules, their lengths, who imports them, circles. `structure.py [SRC]` prints a table.

`benchmarks/structure.py --touched REV` prints the files that the working tree changes against a revision, tests and
documents left out: the number that README's "Where to change what" states for each kind of change.
"""

import argparse
import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent.parent


def modules(source: Path) -> dict[str, Path]:
    """Each module below a `hilum` folder and its file; a package under its own name."""
    found = {}
    for path in sorted((source / "hilum").rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: set[str]) -> set[str]:
    """The modules of `known` that a file imports, at its head or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found |= {inner if inner in known else node.module} & known
    return found


def graph(source: Path) -> dict[str, set[str]]:
    """Each module and the modules of the house that it imports."""
    found = modules(source)
    return {name: imported(path, set(found)) - {name, "hilum"} for name, path in found.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other in a circle (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(edges[name]):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in number:
            visit(name)
    return found


def rows(source: Path) -> Iterator[tuple[str, str]]:
    """What the table says of a source tree."""
    found, edges = modules(source), graph(source)
    lengths = [len(path.read_text().splitlines()) for path in found.values()]
    faces = [name for name, path in found.items() if path.name == "__init__.py"]
    importers = {name: sum(name in others for others in edges.values()) for name in found}
    yield "modules", str(len(found))
    yield "of these, faces of packages", str(len(faces))
    yield "lines in all", f"{sum(lengths):,}"
    yield "median lines of a module", f"{median(lengths):.0f}"
    yield "modules under 60 lines", str(sum(length < 60 for length in lengths))
    yield "longest module", str(max(lengths))
    yield "modules with a single importer", str(sum(importers[name] == 1 for name in found if name not in faces))
    circled = circles(edges)
    yield "circles of imports", str(len(circled))
    for group in circled:
        yield "", " - ".join(name.removeprefix("hilum.") for name in group)


def touched(revision: str) -> list[str]:
    """The files that differ from a revision, tests and documents left out; new files count."""
    changed = subprocess.check_output(["git", "diff", "--name-only", revision], cwd=HERE, text=True).split()
    new = ["git", "ls-files", "--others", "--exclude-standard"]
    changed += subprocess.check_output(new, cwd=HERE, text=True).split()
    return sorted(name for name in set(changed) if name.startswith("src/"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", default=HERE / "src")
    parser.add_argument("--touched", metavar="REV", help="the files that the working tree changes against REV")
    options = parser.parse_args()
    if options.touched:
        print("\n".join(touched(options.touched)))
        return
    for name, value in rows(options.source):
        print(f"{name:<34}{value}")


if __name__ == "__main__":
    main()
