"""Output, exit codes, and options that several commands share."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from hilum.errors import ElsewhereError, HilumError, TrainingStoppedError, extras_named

_UsageError: type[BaseException] = typer.BadParameter.__bases__[0]
"""What a wrong option or argument raises; where it is imported from depends on typer's version."""
_REMEDY = "Check the disk's free space and the permissions"
_CTRL_C = 130  # as typer reports it


def run(app: typer.Typer) -> NoReturn:
    """Run the command line: exit code 0 if all went well, 1 if stopped or a film was bad, 2 for a named mistake."""
    try:
        with extras_named():
            code = app(prog_name="hilum", standalone_mode=False)
    except TrainingStoppedError as stopped:
        say(str(stopped))
        code = 1
    except ElsewhereError as error:
        code = error.code
    except HilumError as error:
        say(f"error: {' '.join(str(error).split())}")
        code = 2
    except _UsageError as error:
        _say_usage(error)
        code = 2
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        code = 1
    except OSError as error:
        where = f" in {error.filename}" if error.filename else ""
        say(f"error: files must be open to reading and writing, got {error.strerror or error}{where}. {_REMEDY}")
        code = 2
    except UnicodeEncodeError as error:
        got = ascii(error.object[error.start : error.end])
        say(f"error: output must fit its encoding, {error.encoding}, got {got}. Set PYTHONIOENCODING=utf-8")
        code = 2
    if code == _CTRL_C:
        say("stopped")
        code = 1
    sys.exit(code)


def _say_usage(error: Any) -> None:
    """Say in one line what is wrong with an option or argument; nothing if help was printed instead."""
    problem = " ".join(error.format_message().split()).rstrip(".")
    if problem:
        say(f"error: {problem}. See: {error.ctx.command_path if error.ctx else 'hilum'} --help")


def say(message: str) -> None:
    """A message to standard error."""
    typer.echo(message, err=True)


def print_json(content: Any) -> None:
    """JSON to standard output."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table to standard output; its cells are plain text, and no word of them is ever cut.

    A header of empty words is left out. A table that needs more room than the terminal has goes on to the right.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, show_header=any(header))
    least = 0
    for column, name in enumerate(header):
        words = " ".join([name, *(row[column] for row in rows)]).split()
        longest = max(map(len, words), default=0)
        table.add_column(escape(name), no_wrap=column == 0, min_width=longest)
        least += longest + 2
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False, width=max(console.width, least)).print(table, "", crop=False)


def print_report(report: dict[str, Any]) -> None:
    """The figures of report.json as a table, and to standard error what its reader should know."""
    rows = [
        [name, *_measures(one), f"{one['positives']:,}", f"{one['positive_patients']:,}"]
        for name, one in report["findings"].items()
    ]
    rows.append(["mean", *_measures(report["mean"]), "", ""])
    evaluated = f"{report['films']:,} films of {report['patients']:,} patients, split by {report['protocol']}"
    print_table(
        f"{report['system']}: {evaluated}",
        ["finding", "AUROC [95 %]", "AP", "films\nwith it", "patients\nwith it"],
        rows,
    )
    if report["not_judged"]:
        say(f"Not evaluated, because there are no scores: {', '.join(report['not_judged'])}.")
    for note in report["notes"]:
        say(note)


def _measures(result: dict[str, Any]) -> list[str]:
    auroc, precision = result["auroc"], result["average_precision"]["value"]
    if auroc["value"] is None:
        return ["undefined", "undefined"]
    if auroc["low"] is None:
        ends = str(auroc.get("why") or "no interval")
    else:
        ends = f"{auroc['low']:.3f}, {auroc['high']:.3f}"
    return [f"{auroc['value']:.4f} [{ends}]", f"{precision:.4f}" if precision is not None else "undefined"]


FilmsFile = Annotated[Path, typer.Option("--films", help="The manifest that `hilum index` wrote.")]
FilmsArgument = Annotated[Path, typer.Argument(metavar="FILMS", help="The manifest that `hilum index` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else there.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Bits = Annotated[
    int | None,
    typer.Option(min=8, max=16, help="Bits of films whose files have room for more and do not say it, such as 12."),
]
ENGINES = "torch, onnx or openvino"
EngineChoice = Annotated[
    str, typer.Option("--engine", help=f"{ENGINES}; auto takes the one that was chosen at the export.")
]
PrecisionChoice = Annotated[
    str | None, typer.Option("--precision", help="fp32, bf16 or int8; the engine's own if not given.")
]
DeviceChoice = Annotated[
    str, typer.Option("--device", help="Where torch computes: cpu, cuda or mps; auto takes a GPU if there is one.")
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Score films that do not fit the model too; every output says so."),
]
ViewsChoice = Annotated[str, typer.Option("--views", help="Views to take, with commas between; others are counted.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a key of the recipe: optimizer.lr=3e-4")]


def numbers(name: str, text: str | None) -> list[float] | None:
    """The numbers that an option lists with commas; None if it was not given.

    Raises:
        HilumError: if one is no number.
    """
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise HilumError(f"{name} must be numbers with commas between them, got {text!r}") from None


def check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Refuse an option's value that is none of its choices; None stands for an option that was not given.

    Raises:
        HilumError: naming the choices.
    """
    if value not in choices:
        raise HilumError(f"{name} must be {', '.join(filter(None, choices))}, got {value!r}")
