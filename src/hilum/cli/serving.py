"""The command that opens the reading room."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.options import Json, check_choice
from hilum.console import print_json, say


def serve(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Folder of a bundle; demo/run, if absent.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; off loopback, a token is demanded.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 8000,
    names: Annotated[
        list[str] | None, typer.Option("--name", help="Another name that clients may call it by; repeatable.")
    ] = None,
    engine: Annotated[str, typer.Option(help="torch, onnx, openvino, or auto: the fastest that is here.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or int8; the engine's own if not given.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Report on these weights; RUN/report or the one beside RUN, if not given.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="SQLite file for results that clients ask to keep.")] = None,
    as_json: Json = False,
) -> None:
    """Open the reading room, a page where films are read in seconds. Programs have the same. Ctrl-C closes it.

    Nothing leaves this machine. Off loopback, put TLS before it: docs/serving.md says how.

    Example: hilum serve runs/nih-small
    """
    from typing import get_args

    from hilum.engines import EngineName, Precision
    from hilum.quiet import log_own_words
    from hilum.serve.listen import open_room

    check_choice("engine", engine, ("auto", *get_args(EngineName)))
    check_choice("precision", precision, (None, *get_args(Precision)))
    log_own_words("%(asctime)s %(message)s")
    opened = open_room(
        run,
        host=host,
        port=port,
        names=tuple(names or ()),
        engine=engine,
        precision=precision,
        report=report,
        keep=keep,
    )
    if as_json:
        print_json({"url": opened.url, "token": opened.token if opened.generated else None})
    say(f"The reading room is open: {opened.url}  Research software, not a medical device. Ctrl-C closes it.")
    if opened.token is not None:
        say("Others on the network can read what is sent. Put TLS before it: docs/serving.md")
    if opened.generated and not as_json:
        say(f"Its token, shown this once: {opened.token}\nWith it in the page: {opened.url}/#{opened.token}")
    opened.serve()
