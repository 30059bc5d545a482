"""Commands beside a PACS: the node, a service, and DICOMweb."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.options import Json
from hilum.console import print_json, print_table, say
from hilum.errors import HilumError

if TYPE_CHECKING:
    from hilum.predict.rows import Row

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="The node's TOML file; see: hilum node example")]

node = typer.Typer(
    rich_markup_mode=None,
    help="Beside the PACS: films in by C-STORE, reports and pictures out. Research software, not a medical device.",
    epilog="Example: hilum node example > node.toml",
    no_args_is_help=True,
)


def dicomweb(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a bundle.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="The server's DICOMweb address.")],
    filters: Annotated[
        list[str], typer.Option("--filter", metavar="KEY=VALUE", help="Which series: StudyDate=20260101-20260131")
    ],
    out: Annotated[Path, typer.Option(help="predictions.csv, .json or .parquet.")],
    send: Annotated[bool, typer.Option("--send", help="Store a report and a picture beside each film.")] = False,
    calls: Annotated[
        str | None,
        typer.Option(metavar="POINT", help="Add calls at youden, sensitivity-90, specificity-90 or alarms-10."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Heatmaps in a picture.")] = 3,
    user: Annotated[str | None, typer.Option(help="The password is read from HILUM_WEB_PASSWORD.")] = None,
    as_json: Json = False,
) -> None:
    """Score the CR and DX films of a DICOMweb server. A bad film is a row with the reason; the exit code is then 1.

    Example: hilum dicomweb runs/nih-small http://127.0.0.1:8042/dicom-web --filter StudyDate=20260101- --out a.csv
    """
    from hilum.dicom.writer import check_installed

    check_installed()
    from hilum.dicom.model import result_model
    from hilum.dicom.web import find_films, open_client, predict_from_web
    from hilum.engines import open_engine
    from hilum.files import unfinished
    from hilum.predict.rows import Table, check_out, write_rows
    from hilum.progress import track

    check_out(out)
    asked = dict(one.partition("=")[::2] for one in filters)
    if "" in asked or "" in asked.values():
        raise HilumError(f"filter must be KEY=VALUE such as StudyDate=20260101-, got {', '.join(filters)!r}")
    model, engine, client = result_model(run, calls), open_engine(run), open_client(url, user)
    rows = predict_from_web(client, find_films(client, asked), engine, model, send=send, top=top)
    counts = {"films": 0, "bad": 0}

    def counted() -> Iterator["Row"]:
        for row in track(rows, "scoring films"):
            counts["films"] += 1
            counts["bad"] += bool(row.error)
            yield row

    gated = model.description.gate is not None
    with unfinished(out) as beside:
        write_rows(Table(model.description.findings, counted(), True, calls is not None, gated), beside)
    if as_json:
        print_json({"out": str(out), **counts})
    say(
        f"{counts['films']:,} films, {counts['bad']:,} bad. They are in {out}. Research software, not a medical device."
    )
    if counts["bad"]:
        raise typer.Exit(1)


@node.command()
def run(config: Config) -> None:
    """Run a node until SIGTERM or Ctrl-C. What waits is kept, and goes on at the next start.

    Example: hilum node run node.toml
    """
    from hilum.dicom.writer import check_installed

    check_installed()
    from hilum.node.config import load_config
    from hilum.node.service import run_node

    run_node(load_config(config))


@node.command()
def status(config: Config, as_json: Json = False) -> None:
    """Count films and results that wait, are done or failed. The node may run or not.

    Example: hilum node status node.toml
    """
    from hilum.dicom.writer import check_installed

    check_installed()
    from hilum.node.config import load_config
    from hilum.node.service import read_facts

    facts = read_facts(load_config(config).store.folder)
    if as_json:
        print_json(facts)
        return
    rows = [[name.replace("_", " "), f"{value:,.0f}"] for name, value in facts.items()]
    print_table("Node", ["", "count"], rows)


@node.command()
def example(
    unit: Annotated[bool, typer.Option("--unit", help="Print a systemd unit instead.")] = False,
) -> None:
    """Print a configuration, to be saved and changed. Each key has a word beside it.

    Example: hilum node example > node.toml
    """
    from hilum.node.config import EXAMPLE, UNIT

    typer.echo((UNIT if unit else EXAMPLE).read_text(encoding="utf-8"), nl=False)
