"""Commands that serve: the reading room, the node beside a PACS, DICOMweb; and the benchmark of this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.cli.console import (
    ENGINES,
    Bits,
    Changes,
    DeviceChoice,
    EngineChoice,
    Force,
    Json,
    PrecisionChoice,
    check_choice,
    print_json,
    print_table,
    say,
)
from hilum.errors import HilumError
from hilum.metrics.operating_points import POINT_NAMES


def serve(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Folder of a bundle; demo/run, if absent.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; off loopback, a token is demanded.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 8000,
    names: Annotated[
        list[str] | None, typer.Option("--name", help="Another name that clients may call it by; repeatable.")
    ] = None,
    engine: EngineChoice = "auto",
    precision: PrecisionChoice = None,
    report: Annotated[
        Path | None, typer.Option(help="Report on these weights; RUN/report or the one beside RUN, if not given.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="SQLite file for results that clients ask to keep.")] = None,
    bits: Bits = None,
    as_json: Json = False,
) -> None:
    """Start the reading room, a web viewer of films, and its REST API. Ctrl-C closes it.

    Nothing leaves this machine. Off loopback, put TLS before it: docs/serving.md says how.

    Example: hilum serve runs/nih-small
    """
    from typing import get_args

    from hilum.messages import log_own_words
    from hilum.model.engines import EngineName, Precision
    from hilum.serve.server import open_room

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
        bits=bits,
    )
    if as_json:
        print_json({"url": opened.url, "token": opened.token if opened.generated else None})
    say(f"The reading room is open: {opened.url}  Research software, not a medical device. Ctrl-C closes it.")
    if opened.token is not None:
        say("Others on the network can read what is sent. Put TLS before it: docs/serving.md")
    if opened.generated and not as_json:
        say(f"Its token, shown this once: {opened.token}\nWith it in the page: {opened.url}/#{opened.token}")
    opened.serve()


if TYPE_CHECKING:
    from hilum.predict.files import Row


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
        typer.Option(metavar="POINT", help=f"Add calls at {POINT_NAMES}."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Heatmaps in a picture.")] = 3,
    bits: Bits = None,
    force: Force = False,
    user: Annotated[str | None, typer.Option(help="The password is read from HILUM_WEB_PASSWORD.")] = None,
    as_json: Json = False,
) -> None:
    """Score the CR and DX films of a DICOMweb server. A bad film is a row with the reason; the exit code is then 1.

    Example: hilum dicomweb runs/nih-small http://127.0.0.1:8042/dicom-web --filter StudyDate=20260101- --out a.csv
    """
    from hilum.pacs.writer import check_installed

    check_installed()
    from hilum.files import unfinished
    from hilum.messages import track
    from hilum.model.engines import open_engine, state_bits
    from hilum.pacs.dicomweb import Found, find_films, open_client, predict_from_web
    from hilum.pacs.results import result_model
    from hilum.predict.files import Table, check_out, write_rows
    from hilum.predict.scoring import is_fit

    check_out(out)
    asked = dict(one.partition("=")[::2] for one in filters)
    if "" in asked or "" in asked.values():
        raise HilumError(f"filter must be KEY=VALUE such as StudyDate=20260101-, got {', '.join(filters)!r}")
    client = open_client(url, user)
    engine = state_bits(open_engine(run), bits)
    model = result_model(run, calls, bits=bits, engine=engine)
    found = Found()
    films = find_films(client, asked, found)
    rows = predict_from_web(client, films, engine, model, send=send, top=top, found=found, force=force)
    counts = {"films": 0, "bad": 0, "unfit": 0}

    def counted() -> Iterator["Row"]:
        for row in track(rows, "scoring films"):
            counts["films"] += 1
            counts["bad"] += bool(row.error)
            counts["unfit"] += not is_fit(row.fit) and not row.forced
            yield row

    with unfinished(out) as beside:
        write_rows(Table(model.description.findings, counted(), True, calls is not None, True, force), beside)
    if as_json:
        print_json({"out": str(out), **counts, "left_out": found.sentences})
    for sentence in found.sentences:
        say(sentence)
    unfit = f"{counts['unfit']:,} not analysed (the column fit says why), " if counts["unfit"] else ""
    say(
        f"{counts['films']:,} films, {unfit}{counts['bad']:,} bad. They are in {out}. "
        "Research software, not a medical device."
    )
    if counts["bad"] or found.repeated:
        raise typer.Exit(1)


def bench(
    sizes: Annotated[list[int] | None, typer.Option("--size", min=32, help="Pixels of the input; repeatable.")] = None,
    engines: Annotated[
        list[str] | None, typer.Option("--engine", help=f"{ENGINES}; repeatable, all if not given.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="PNG films; 32 phantom films of 1024 px if not given.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long each rate is counted.")] = 4.0,
    training: Annotated[
        bool, typer.Option("--training", help="Training loops, at 224 and 512 px, and how fast films are fed.")
    ] = False,
    runs: Annotated[
        list[Path] | None, typer.Option("--run", help="A bundle instead, and the exports in its folder; repeatable.")
    ] = None,
    device: DeviceChoice = "auto",
    as_json: Json = False,
) -> None:
    """Measure this machine: films per second of every engine. Latency too; against torchxrayvision's network.

    The networks have random weights, and INT8 is made from a few phantom films: only the speeds mean something.

    Example: hilum bench --size 512 --engine openvino
    """
    from typing import get_args

    from hilum.model.devices import Device, device_of
    from hilum.model.engines import EngineName

    check_choice("device", device, get_args(Device))
    chosen = engines or list(get_args(EngineName))
    for engine in chosen:
        check_choice("engine", engine, get_args(EngineName))
    lines: list[Any]
    if training:
        from hilum.bench.feeding import measure_feeding
        from hilum.bench.training import measure_training

        where = device_of(device)  # type: ignore[arg-type]
        fed = [line._asdict() for line in measure_feeding(sizes or [224, 512])]
        lines = measure_training(sizes or [224, 512], device=where)
    elif runs:
        from hilum.bench.engines import measure_runs

        lines = measure_runs(runs, images=images, seconds=seconds)
    else:
        from hilum.bench.engines import measure

        lines = measure(sizes or [224, 512], chosen, images=images, seconds=seconds)
    rows = [line._asdict() for line in lines]
    if as_json:
        print_json({"rows": rows, **({"device": where, "feeding": fed} if training else {})})
        return
    if training:
        print_table("Films fed by one core", [name.replace("_", " ") for name in fed[0]], [_cells(row) for row in fed])
    print_table("This machine", [name.replace("_", " ") for name in rows[0]], [_cells(row) for row in rows])
    if runs:
        say("Ratios are to the first line.")
    else:
        say("Ratios are to the baseline's faster form in this run. Weights are random: only speed is measured.")


def doctor(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe whose speed here is measured too.")
    ] = None,
    changes: Changes = None,
    folder: Annotated[Path, typer.Option(help="Where films, packs and runs would lie.")] = Path(),
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long the recipe is measured.")] = 30.0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; the fastest there is if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Show what this machine can do: devices, precision, memory, disk, engines, and what missing extras would enable.

    With a recipe, it also measures how many films a second the network trains on and scores, in about 30 seconds.

    Example: hilum doctor nih-small
    """
    from hilum.bench.doctor import ENABLES, advice, examine, measure_recipe

    check_choice("device", device, (None, "cpu", "cuda", "mps"))
    if not folder.is_dir():
        raise HilumError(f"folder must be one that exists, got {folder}. Make it first")
    facts = examine(folder)
    facts["advice"] = advice(facts)
    if recipe is not None:
        from hilum.recipe import load_recipe

        facts["speed"] = measure_recipe(load_recipe(recipe, changes or []), seconds=seconds, device=device)
    if as_json:
        print_json(facts)
        return
    shown = ("hilum", "python", "system", "processor", "cores", "memory_gib", "memory_free_gib", "disk_free_gib")
    rows = [[key.replace("_gib", " (GiB)").replace("_", " "), f"{facts[key]}"] for key in shown]
    for found in facts["devices"]:
        memory = "" if found["memory_gib"] is None else f", {found['memory_gib']} GiB"
        rows.append([found["device"], found["name"] + memory])
    rows.append(["GPU", "none"] if not facts["devices"] else ["GPUs", f"{len(facts['devices'])}"])
    rows.append(["precision auto", {True: "bf16", False: "fp32", None: "unknown without [train]"}[facts["bf16"]]])
    print_table("This machine", ["", ""], rows)
    print_table("Engines", ["", ""], [[name, found or "not installed"] for name, found in facts["engines"].items()])
    missing = [
        [f"hilum[{extra}]", ENABLES[extra], ", ".join(modules)] for extra, modules in facts["extras"].items() if modules
    ]
    if missing:
        print_table("Extras that are missing", ["extra", "what it would enable", "not installed"], missing)
    if "speed" in facts:
        speed = {key.replace("_", " "): f"{value}" for key, value in facts["speed"].items()}
        print_table("Speed, on films in memory", ["", ""], [list(item) for item in speed.items()])
    for sentence in facts["advice"]:
        say(sentence)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value) for value in row.values()
    ]
