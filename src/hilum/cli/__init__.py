"""The command line. Each command reads its files, calls one function, and prints; heavy imports wait inside."""

from typing import Annotated

import typer

from hilum import __version__
from hilum.cli import films, hospital, judging, models, serving, speed
from hilum.console import run

app = typer.Typer(
    rich_markup_mode=None,
    help="Train, judge, explain and run chest X-ray classifiers. Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    run(app)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Train, judge, explain and run chest X-ray classifiers. Research software, not a medical device."""
    if show:
        typer.echo(f"hilum {__version__}")
        raise typer.Exit


for command in (
    models.demo,
    films.phantom,
    films.index,
    films.audit,
    films.split,
    models.train,
    models.calibrate,
    models.predict,
    judging.evaluate,
    judging.report,
    judging.compare,
    judging.reproduce,
    models.export,
    models.info,
    serving.serve,
    hospital.dicomweb,
    speed.bench,
):
    app.command()(command)
app.add_typer(hospital.node, name="node")
