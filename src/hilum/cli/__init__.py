"""The command line. Each command reads its files, calls one function, and prints; heavy imports wait inside."""

from typing import Annotated

import typer

from hilum import __version__
from hilum.cli import data, evaluation, model, node, services
from hilum.cli.console import run

app = typer.Typer(
    rich_markup_mode=None,
    help="Train, evaluate, explain and run chest X-ray classifiers. Research software, not a medical device.",
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
    """Train, evaluate, explain and run chest X-ray classifiers. Research software, not a medical device."""
    if show:
        typer.echo(f"hilum {__version__}")
        raise typer.Exit


for command in (
    model.demo,
    data.phantom,
    data.index,
    data.audit,
    data.merge,
    data.split,
    data.pack,
    model.train,
    model.tune,
    model.calibrate,
    model.predict,
    evaluation.evaluate,
    evaluation.report,
    evaluation.compare,
    evaluation.plan,
    evaluation.readers,
    evaluation.matrix,
    evaluation.reproduce,
    model.ensemble,
    model.distil,
    model.export,
    model.push,
    model.pull,
    model.info,
    services.serve,
    services.dicomweb,
    services.bench,
    services.doctor,
):
    app.command()(command)
app.command("import")(model.import_)
app.add_typer(node.node, name="node")
