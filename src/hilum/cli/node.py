"""Commands of the node beside a PACS: run it, look at it, and do again what failed."""

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.console import Json, check_choice, print_json, print_table, say
from hilum.errors import BundleError, HilumError, MissingExtraError

if TYPE_CHECKING:
    from hilum.pacs.config import NodeConfig
    from hilum.pacs.queue import ListedFilm, Queue

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="The node's TOML file; see: hilum node example")]
Films = Annotated[
    list[str],
    typer.Argument(metavar="FILM...", help="Numbers in the queue, or SOP Instance UIDs; see: hilum node list"),
]

node = typer.Typer(
    rich_markup_mode=None,
    help="Beside the PACS: films in by C-STORE, reports and pictures out. Research software, not a medical device.",
    epilog="Example: hilum node example > node.toml",
    no_args_is_help=True,
)


@node.command()
def run(config: Config) -> None:
    """Run a node until SIGTERM or Ctrl-C. What waits is kept, and goes on at the next start. SIGHUP reloads the models.

    The exit code is 2 if configuration or model are wrong, and 1 if a port, the folder or the disk cannot be used now.

    Example: hilum node run node.toml
    """
    read = _load(config)
    from hilum.pacs.config import ConfigError
    from hilum.pacs.service import run_node

    try:
        run_node(read, path=config)
    except (ConfigError, BundleError, MissingExtraError):  # starting again would not help
        raise
    except (HilumError, OSError) as error:  # a port, a folder or a disk, which may be free later
        say(f"error: {error}")
        raise typer.Exit(1) from None


@node.command()
def check(
    config: Config,
    again: Annotated[bool, typer.Option("--choose", help="Measure the engines anew.")] = False,
    as_json: Json = False,
) -> None:
    """Try all that a node needs before the first film: models, disk, ports, secrets, TLS, and each PACS by C-ECHO.

    The engine of a model whose `engine` is auto is measured and written down here, if it was not. Exit code 1 if
    anything is wrong.

    Example: hilum node check node.toml
    """
    read = _load(config)
    from hilum.pacs.check import check_node

    found = check_node(read, choose=again)
    if as_json:
        print_json({"well": all(one.well for one in found), "checks": [one._asdict() for one in found]})
    else:
        print_table("Node", ["", "", ""], [["ok" if one.well else "WRONG", one.what, one.words] for one in found])
    if not all(one.well for one in found):
        raise typer.Exit(1)


@node.command()
def status(config: Config, as_json: Json = False) -> None:
    """Count films and results that wait, are done or failed, and say why films have no result. It may run or not.

    Example: hilum node status node.toml
    """
    folder = _load(config).store.folder
    from hilum.pacs.service import read_facts, read_reasons

    facts, reasons = read_facts(folder), read_reasons(folder)
    if as_json:
        print_json({**facts, "reasons": [one._asdict() for one in reasons]})
        return
    rows = [[name.replace("_", " "), f"{value:,.0f}"] for name, value in facts.items()]
    print_table("Node", ["", "count"], rows)
    if reasons:
        print_table(
            "Why films have no result, or a forced one",
            ["film", "SOP Instance UID", "state", "why"],
            [[str(one.number), one.film, one.state, one.why] for one in reasons],
        )


@node.command("list")
def list_films(
    config: Config,
    state: Annotated[
        str | None,
        typer.Option(
            help="waiting, scored, sent, unfit, failed, refused, aside or replaced; all but refused, if absent."
        ),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List films by state, the newest first, with sender and reason. `sent`: all of a film's results are.

    Example: hilum node list node.toml --state failed
    """
    folder = _load(config).store.folder
    from hilum.pacs.queue import LISTED_STATES
    from hilum.pacs.service import queue_of

    check_choice("state", state, (None, *LISTED_STATES))
    with queue_of(folder) as queue:
        films = queue.films(state, most=most)
    if as_json:
        print_json({"films": [one._asdict() for one in films]})
        return
    print_table(
        f"Films{f': {state}' if state else ''}",
        ["film", "SOP Instance UID", "received", "sender", "state", "why"],
        [[str(one.number or ""), one.film, _time(one.received), one.sender, one.state, one.why] for one in films],
    )


@node.command()
def show(config: Config, film: Annotated[str, typer.Argument(metavar="FILM")], as_json: Json = False) -> None:
    """Show a film, by its number or its SOP Instance UID: sender, state, reason, model, and each of its results.

    Example: hilum node show node.toml 17
    """
    folder = _load(config).store.folder
    from hilum.pacs.service import queue_of

    with queue_of(folder) as queue:
        found = [(one, queue.results_for(one.number)) for one in _found(queue, film)]
    if as_json:
        print_json({"films": [{**one._asdict(), "results": [r._asdict() for r in results]} for one, results in found]})
        return
    for one, results in found:
        facts = {**one._asdict(), "received": _time(one.received)}
        print_table(f"Film {one.number}", ["", ""], [[name, str(value)] for name, value in facts.items()])
        print_table(
            "Its results",
            ["kind", "SOP Instance UID", "target", "state", "tries", "why"],
            [[r.kind, r.result, r.target, r.state, str(r.tries), r.why] for r in results],
        )


@node.command()
def retry(
    config: Config,
    films: Annotated[
        list[str] | None, typer.Argument(metavar="[FILM...]", help="Numbers or SOP Instance UIDs.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All failed films, and all results that wait.")] = False,
) -> None:
    """Score failed films again, and send waiting results now. Failed films are kept for store.keep_failed_days.

    Example: hilum node retry node.toml --all
    """
    folder = _load(config).store.folder
    from hilum.pacs.queue import FAILED, SCORED
    from hilum.pacs.service import queue_of

    if bool(films) == everything:
        raise HilumError("films must be named, or --all given. See: hilum node list CONFIG --state failed")
    with queue_of(folder) as queue:
        if everything:
            chosen = [one for state in (FAILED, SCORED) for one in queue.films(state, most=1 << 30)]
        else:
            chosen = [one for film in films or [] for one in _found(queue, film)]
        done = [one for one in chosen if queue.retry(one.number, now=time.time())]
        lost = [one for one in chosen if one not in done]
    say(f"{len(done):,} films are done again.")
    if lost and not everything:
        raise HilumError(
            f"film must have failed and be kept, or have results that wait, got {_names(lost)}. "
            "Have the PACS send it again, after: hilum node forget"
        )


@node.command()
def forget(
    config: Config,
    films: Annotated[
        list[str] | None, typer.Argument(metavar="[FILM...]", help="Numbers or SOP Instance UIDs.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Instead: give up all results that wait for a target that is no more.")
    ] = None,
) -> None:
    """Forget films, with all that waits for them, so that they are new when they come again.

    Example: hilum node forget node.toml 17
    """
    read = _load(config)
    from hilum.pacs.queue import Places
    from hilum.pacs.service import queue_of

    if bool(films) == bool(target):
        raise HilumError("films must be named, or --target given. See: hilum node list CONFIG")
    with queue_of(read.store.folder) as queue:
        places = Places(read.store.folder)
        if target is not None:
            if target in [one.name for one in read.send]:
                raise HilumError(f"target must be one that is no [send] any more, got {target}. Take it out first")
            say(f"{queue.drop_target(target):,} results are given up.")
            return
        numbers = [one.number for film in films or [] for one in _found(queue, film)]
        for number in numbers:
            file, results = queue.remove(number)
            if file:
                places.film(file).unlink(missing_ok=True)
            for result in results:
                places.result(result).unlink(missing_ok=True)
                places.sent_result(result).unlink(missing_ok=True)
    say(f"{len(numbers):,} films are forgotten.")


@node.command()
def resend(config: Config, films: Films) -> None:
    """Send a film's results again, to all targets. They are kept for store.keep_sent_days.

    Example: hilum node resend node.toml 17
    """
    folder = _load(config).store.folder
    from hilum.pacs.queue import Places
    from hilum.pacs.service import queue_of

    sent, lost = 0, []
    with queue_of(folder) as queue:
        places = Places(folder)
        for one in [one for film in films for one in _found(queue, film)]:
            uids = {result.result for result in queue.results_for(one.number)}
            for uid in uids:
                if places.sent_result(uid).is_file():
                    places.sent_result(uid).rename(places.result(uid))
            here = [uid for uid in uids if places.result(uid).is_file()]
            sent += queue.send_again(one.number, here, now=time.time())
            if not here:
                lost.append(one)
    say(f"{sent:,} results are sent again.")
    if lost:
        raise HilumError(
            f"film must have results that are kept, got {_names(lost)}. Have the PACS send it again, after: "
            "hilum node forget"
        )


@node.command()
def reload(
    config: Config,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to", metavar="[ROUTE=]NAME", help="Go back to a kept model; see: hilum node models. Repeatable."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Switch a running node to the models of its configuration as they are now, all or none; SIGHUP does the same.

    They are copied, verified and tried first; on any fault all stay as they were. With --to, a kept model is taken
    instead, until the next reload without it. If no node runs, its next start does it.

    Example: hilum node reload node.toml --to 3f2a91c04b7e-openvino-int8
    """
    read = _load(config)
    from hilum.pacs.config import MAIN
    from hilum.pacs.service import ask_reload

    pairs = [one.rpartition("=")[::2] for one in to or []]
    answer = ask_reload(read, {route or MAIN: name for route, name in pairs})
    if as_json:
        print_json(answer._asdict())
    elif answer.well:
        say(answer.words)
    if not answer.well:
        raise HilumError(answer.words)


@node.command()
def models(config: Config, as_json: Json = False) -> None:
    """List the models that the node keeps copies of, the newest first: any can be gone back to.

    Example: hilum node models node.toml
    """
    folder = _load(config).store.folder
    from hilum.pacs.models import Models
    from hilum.pacs.queue import Places

    there = Models(Places(folder).models)
    kept, pins = there.kept(), there.pins()
    if as_json:
        print_json({"models": [one._asdict() for one in kept], "gone_back_to": pins})
        return
    rows = [[one.name, one.source, ", ".join(r for r, name in pins.items() if name == one.name)] for one in kept]
    print_table("Models", ["name", "copied from", "gone back to for"], rows)


@node.command()
def conformance() -> None:
    """Print the node's DICOM conformance statement, in Markdown: what to tell the vendor of a PACS.

    Example: hilum node conformance > conformance.md
    """
    from hilum.pacs.writer import check_installed

    check_installed()
    from hilum.pacs.conformance import statement

    typer.echo(statement(), nl=False)


@node.command()
def example(
    unit: Annotated[bool, typer.Option("--unit", help="Print a systemd unit instead.")] = False,
) -> None:
    """Print a configuration, to be saved and changed. Each key has a word beside it.

    Example: hilum node example > node.toml
    """
    from hilum.pacs.config import EXAMPLE, UNIT

    typer.echo((UNIT if unit else EXAMPLE).read_text(encoding="utf-8"), nl=False)


def _load(path: Path) -> "NodeConfig":
    from hilum.pacs.writer import check_installed

    check_installed()
    from hilum.pacs.config import load_config

    return load_config(path)


def _found(queue: "Queue", film: str) -> "list[ListedFilm]":
    found = queue.find(film)
    if not found:
        raise HilumError(f"film must be a number or a SOP Instance UID in the queue, got {film}. See: hilum node list")
    return found


def _names(films: "list[ListedFilm]") -> str:
    return ", ".join(str(one.number) for one in films[:10])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
