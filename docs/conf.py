"""Settings of the site: Markdown pages, and reference pages made from the docstrings and the command line."""

import importlib
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
sys.path.insert(0, str(SOURCE))

project = "Hilum"
author = "The Hilum developers"
copyright = "The Hilum developers, Apache License 2.0"
release = version = importlib.metadata.version("hilum")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
highlight_language = "text"
html_theme = "furo"
html_title = "Hilum"
html_show_sphinx = False
html_copy_source = False
smartquotes = False
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a decision may start with what it decided, in bold
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_use_rtype = False


def module_names(folder: Path) -> list[str]:
    """The modules of a folder of the source, with their dotted names; packages below it too."""
    return [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for path in sorted(folder.rglob("*.py") if folder != SOURCE / "hilum" else folder.glob("*.py"))
        if not path.name.startswith("_")
    ]


def reference_page(title: str, names: list[str], intro: str = "") -> str:
    """The page of some modules: each under its own heading, documented from its docstrings."""
    parts = [f"# {title}", intro]
    for name in names:
        importlib.import_module(name)  # before autodoc writes into the annotations of pydantic's classes
        parts.append(f"## {name.removeprefix('hilum.')}")
        parts.append(f"```{{eval-rst}}\n.. automodule:: {name}\n```")
    return "\n\n".join(filter(None, parts)) + "\n"


def command_help(command: Any, name: str, parent: Any = None) -> Iterator[str]:
    """The help of a command and of those below it, as `--help` prints it on a terminal of so many columns."""
    columns = {"max_content_width": 90, "terminal_width": 90}
    context = command.context_class(command, info_name=name, parent=parent, **command.context_settings | columns)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context).strip()}\n```"
    for below in getattr(command, "commands", {}):
        yield from command_help(command.commands[below], below, context)


def write_reference(_app: Any) -> None:
    """Write the pages that are made from the source; a page that has not changed is left alone."""
    from hilum.cli import app as commands

    pages = {"modules": reference_page("Top-level modules", module_names(SOURCE / "hilum"))}
    packages = sorted(face.parent.name for face in (SOURCE / "hilum").glob("*/__init__.py"))
    for package in packages:
        face = importlib.import_module(f"hilum.{package}")
        pages[f"hilum.{package}"] = reference_page(
            f"hilum.{package}", module_names(SOURCE / "hilum" / package), face.__doc__ or ""
        )
    pages.pop("hilum.cli")  # commands.md shows what it offers
    head = "# Commands\n\nEvery command as its `--help` prints it."
    pages["commands"] = "\n\n".join([head, *command_help(typer.main.get_command(commands), "hilum")]) + "\n"
    for name, text in pages.items():
        path = HERE / "reference" / "made" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def plain_docstring(_app: Any, _what: str, _name: str, _about: Any, _options: Any, lines: list[str]) -> None:
    """Make a docstring reStructuredText.

    `name` is code, an indented block is kept as it is, Source is a paragraph; no other sign means anything.
    """
    if lines and lines[0].startswith("Alias for field number"):  # what NamedTuple writes
        lines.clear()
    made: list[str] = []
    section, verbatim = "", False
    for line in lines:
        if heading := re.match(r"(Args|Attributes|Raises|Returns|Source|Yields):", line):
            section, verbatim = heading.group(1), False
            made.append("")
        elif line.strip() and not line.startswith(" ") and not section:
            made += [""] * verbatim
            verbatim = False
        elif line.strip() and not section and not verbatim:
            made += ["", "::", ""]
            verbatim = True
        if section == "Source":
            line = line.strip()
        made.append(line if verbatim else escaped(line))
    lines[:] = made


def escaped(line: str) -> str:
    """A line in which `name` is code and every other sign stands for itself."""
    pieces = re.split(r"(`[^`]+`)", line)
    return "".join(
        f"``{piece[1:-1]}``" if number % 2 else re.sub(r"([*|`\\]|_(?=\W|$))", r"\\\1", piece)
        for number, piece in enumerate(pieces)
    )


def setup(app: Any) -> None:
    """Tell Sphinx what to call, and when."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)  # before napoleon's, at 500
