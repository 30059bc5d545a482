"""README's tree, commands and recipes against the disk."""

import re
from pathlib import Path

import pytest
import typer

from hilum.cli import app
from hilum.recipe import shipped_recipes

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"^((?:    .+\n)+)", README, flags=re.MULTILINE)


def tree() -> list[str]:
    """The files of README's tree, as paths from the repository's root."""
    drawing = README.split("## The tree")[1].split("```")[1]
    files: list[str] = []
    folders: list[str] = []
    for line in drawing.splitlines():
        entry = line.split("  #")[0].rstrip()
        if not entry.strip():
            continue
        depth = (len(entry) - len(entry.lstrip())) // 2
        for name in entry.split():
            if name.endswith("/"):
                folders[depth:] = [name]
            else:
                files.append("".join(folders[:depth]) + name)
    return files


def test_the_tree_is_the_disk() -> None:
    listed = tree()
    assert len(listed) == len(set(listed))
    for path in listed:
        assert (REPOSITORY / path).is_file(), f"README lists {path}, which is not there"
    package = {str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "src").rglob("*.py") if p.name != "__init__.py"}
    assert package <= set(listed), f"README's tree lacks {sorted(package - set(listed))}"


def test_every_glossed_line_has_a_gloss() -> None:
    drawing = README.split("## The tree")[1].split("```")[1]
    for line in drawing.splitlines():
        if line.rstrip().endswith(".py"):
            pytest.fail(f"README's tree says nothing about {line.strip()}")


def test_readme_names_every_recipe_and_no_other() -> None:
    first_cells = re.findall(r"^\| (`[^|]+`) \|", README, flags=re.MULTILINE)
    named = re.findall(r"`([a-z0-9-]+)`", " ".join(first_cells))
    assert sorted(named) == shipped_recipes()


def test_readme_s_commands_exist() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    used = set(re.findall(r"\bhilum ([a-z]+) ", "".join(CODE)))
    assert used <= commands
    assert {"index", "audit", "split", "train", "evaluate", "predict"} <= used


def test_readme_s_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^    make ([a-z]+)", README, flags=re.MULTILINE):
        assert f"\n{target}: " in makefile


def test_readme_s_pictures_and_links_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (REPOSITORY / target).exists(), f"README links to {target}, which is not there"


def test_readme_says_what_hilum_is_not() -> None:
    assert "not a medical device" in README
