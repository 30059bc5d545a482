"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.errors import HilumError

FilmsFile = Annotated[Path, typer.Option("--films", help="The manifest that `hilum index` wrote.")]
FilmsArgument = Annotated[Path, typer.Argument(metavar="FILMS", help="The manifest that `hilum index` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else there.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a key of the recipe: optimizer.lr=3e-4")]


def check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Refuse an option's value that is none of its choices; None stands for an option that was not given.

    Raises:
        HilumError: naming the choices.
    """
    if value not in choices:
        raise HilumError(f"{name} must be {', '.join(filter(None, choices))}, got {value!r}")
