"""What a command line says: results to standard output, all else to standard error, and the exit code."""

import json
import sys
from typing import Any, NoReturn

import typer

from hilum.errors import HilumError, TrainingStoppedError

_UsageError: type[BaseException] = typer.BadParameter.__bases__[0]
"""What a wrong option or argument raises; where it is imported from depends on typer's version."""
_CTRL_C = 130  # as typer reports it


def run(app: typer.Typer) -> NoReturn:
    """Run the command line: exit code 0 if all went well, 1 if stopped or a film was bad, 2 for a named mistake."""
    try:
        code = app(prog_name="hilum", standalone_mode=False)
    except TrainingStoppedError as stopped:
        say(str(stopped))
        code = 1
    except HilumError as error:
        say(f"error: {' '.join(str(error).split())}")
        code = 2
    except _UsageError as error:
        _say_usage(error)
        code = 2
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        code = 1
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
    """A table to standard output; its cells are plain text."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*map(escape, header), title=escape(title), title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def print_report(report: dict[str, Any]) -> None:
    """The figures of report.json as a table."""
    rows = [[name, *_measures(one), f"{one['positives']:,}"] for name, one in report["findings"].items()]
    rows.append(["mean", *_measures(report["mean"]), ""])
    judged = f"{report['films']:,} films of {report['patients']:,} patients, split by {report['protocol']}"
    print_table(f"{report['system']}: {judged}", ["finding", "AUROC [95 %]", "AP", "positives"], rows)


def _measures(result: dict[str, Any]) -> list[str]:
    auroc, precision = result["auroc"], result["average_precision"]["value"]
    if auroc["value"] is None:
        return ["undefined", "undefined"]
    low, high = (f"{bound:.3f}" if bound is not None else "?" for bound in (auroc["low"], auroc["high"]))
    return [f"{auroc['value']:.4f} [{low}, {high}]", f"{precision:.4f}" if precision is not None else "undefined"]
