"""README, CONTRIBUTING and the pages of docs/ against the disk, the command line and Python."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import typer

from hilum.cli import app
from hilum.recipe import shipped_recipes

if TYPE_CHECKING:
    from hilum.data.films import Films

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "hilum"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BUILT = (REPOSITORY / "docs" / "_build", REPOSITORY / "docs" / "reference" / "made")
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *sorted((REPOSITORY / "docs").rglob("*.md")),
    ]
    if not any(path.is_relative_to(folder) for folder in BUILT)
}
DATED = ("docs/experiments.md", "docs/decisions/", "docs/model_card.md")
"""What was written on a day, with that day's commands and files."""
TODAY = {name: text for name, text in PAGES.items() if not name.startswith(DATED)}
SNIPPETS = [
    (name, code) for name, text in PAGES.items() for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
]


def section(title: str) -> str:
    """What stands under a heading of README."""
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def entries() -> list[str]:
    """The files and folders that README's tree names, from the repository's root; folders end in a slash."""
    folder, found = "", []
    for line in section("The tree").split("```")[1].splitlines():
        names = line.split("  #")[0]
        if names.strip() == "src/hilum/":
            folder = "src/hilum/"
            continue
        within = folder if names.startswith("  ") else ""
        found += [within + name for name in names.split()]
    return found


def commands_of(text: str) -> list[list[str]]:
    """The lines of a page that call `hilum` in a shell, as words; comments are left out."""
    lines = re.findall(r"^(?:    )?(hilum [a-z].*)$", text, flags=re.M)
    return [line.split("  #")[0].replace("\\", "").split() for line in lines]


def test_readme_fits_three_screens() -> None:
    assert len(README.splitlines()) <= 150


def test_readme_says_what_hilum_is_not() -> None:
    assert "not a medical device" in README


def test_the_tree_is_the_disk() -> None:
    listed = entries()
    assert len(listed) == len(set(listed))
    for path in listed:
        assert (REPOSITORY / path).exists(), f"README's tree lists {path}, which is not there"
    packages = {f"src/hilum/{face.parent.name}/" for face in SOURCE.glob("*/__init__.py")}
    modules = {f"src/hilum/{module.name}" for module in SOURCE.glob("[!_]*.py")}
    assert packages | modules == {path for path in listed if path.startswith("src/")}


def test_every_line_of_the_tree_has_a_gloss() -> None:
    for line in section("The tree").split("```")[1].splitlines():
        assert not line.strip() or line == "src/hilum/" or "  # " in line


def test_where_to_change_what_names_files_that_exist() -> None:
    rows = re.findall(r"^\| (?!change|---)(.+?) \| (.+) \|$", section("Where to change what"), flags=re.M)
    assert len(rows) == 10
    for change, files in rows:
        named = re.findall(r"`([^`]+)`", files)
        assert named, f"README names no file for {change}"
        for name in named:
            path = SOURCE / name
            assert path.parent.is_dir() if "NAME" in name else path.is_file(), f"README names {name} for {change}"


def test_every_recipe_has_its_row_and_no_other() -> None:
    first_cells = re.findall(r"^\| (`[^|]+`) \|", PAGES["docs/guide/train.md"], flags=re.M)
    assert sorted(re.findall(r"`([a-z0-9-]+)`", " ".join(first_cells))) == shipped_recipes()


def test_commands_and_their_options_exist() -> None:
    group = typer.main.get_command(app)
    used = set()
    for name, text in TODAY.items():
        for words in commands_of(text):
            command: Any = group
            path = 1
            while path < len(words) and hasattr(command, "commands") and words[path] in command.commands:
                command = command.commands[words[path]]
                path += 1
            assert path > 1, f"{name} calls {' '.join(words)}, which is no command"
            used.add(words[1])
            options = {option for parameter in command.params for option in parameter.opts}
            asked = {word for word in words[path:] if word.startswith("--")}
            assert asked <= options | {"--help"}, f"{name} gives {words[1]} {sorted(asked - options)}"
    assert used >= {
        "index",
        "audit",
        "split",
        "train",
        "calibrate",
        "evaluate",
        "compare",
        "predict",
        "export",
        "serve",
    }


def test_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for name, text in TODAY.items():
        for targets in re.findall(r"^    make ((?:[a-z]+ ?)+)", text, flags=re.M):
            for target in targets.split():
                assert f"\n{target}: " in makefile, f"{name} names make {target}"


def test_extras_exist() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, text in TODAY.items():
        for asked in re.findall(r"pip install '\.\[([a-z,]+)\]'", text):
            assert set(asked.split(",")) <= set(extras), f"{name} installs {asked}"
    rows = re.findall(r"^\| `([a-z]+)` \|", PAGES["docs/install.md"], flags=re.M)
    assert sorted(rows) == sorted(extras)


def test_links_and_pictures_are_there() -> None:
    for name, text in PAGES.items():
        prose = re.sub(r"^(?:```.*?^```|    .*?$)", "", text, flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
            if "://" not in target:
                assert ((REPOSITORY / name).parent / target).exists(), f"{name} links to {target}, which is not there"


@pytest.fixture
def prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path, tiny_run: Path, phantom_films: "Films"
) -> dict[str, Any]:
    """The files and names that the snippets take for granted, in the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, tmp_path / "runs" / "nih-small")
    shutil.copy(tiny, tmp_path / "tiny.toml")
    shutil.copy(phantom_films.path(0), tmp_path / "film.png")
    shutil.copytree(phantom_films.root, tmp_path / "films")
    table = phantom_films.table
    labels = table[list(phantom_films.findings)]
    noise = np.random.default_rng(0).normal(size=labels.shape)
    return {
        "df": pd.DataFrame({"path": table["path"], "patient": table["patient"], "Tuberculosis": table["Effusion"]}),
        "labels": labels,
        "scores": pd.DataFrame(1 / (1 + np.exp(-(labels.to_numpy() + noise))), columns=labels.columns),
        "patients": table["patient"],
    }


@pytest.mark.parametrize(
    ("page", "code"),
    [
        pytest.param(page, code, id=f"{page}-{code[:40]!r}", marks=[pytest.mark.slow] if "hilum.train(" in code else [])
        for page, code in SNIPPETS
    ],
)
def test_python_snippets_run(page: str, code: str, prepared: dict[str, Any]) -> None:
    exec(compile(code.replace('recipe="nih-small"', 'recipe="tiny.toml"'), page, "exec"), prepared)
    saved = [path for path in re.findall(r'(?:save\(|out=)"([^"]+)"', code) if not Path(path).exists()]
    assert not saved, f"{page} says that it writes {saved}"


def test_the_pages_have_snippets() -> None:
    assert {"README.md", "docs/index.md", "docs/guide/python.md"} <= {page for page, _ in SNIPPETS}
