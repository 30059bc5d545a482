"""The command that measures this machine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hilum.cli.options import Json, check_choice
from hilum.console import print_json, print_table, say


def bench(
    sizes: Annotated[list[int] | None, typer.Option("--size", min=32, help="Pixels of the input; repeatable.")] = None,
    engines: Annotated[
        list[str] | None, typer.Option("--engine", help="torch, onnx or openvino; repeatable, all if not given.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="PNG films; 32 phantom films of 1024 px if not given.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long each rate is counted.")] = 4.0,
    training: Annotated[bool, typer.Option("--training", help="Training loops, at 224 and 512 px.")] = False,
    as_json: Json = False,
) -> None:
    """Measure this machine: films per second of every engine. Latency too; against torchxrayvision's network.

    The networks have random weights, and INT8 is made from a few phantom films: only the speeds mean something.

    Example: hilum bench --size 512 --engine openvino
    """
    from typing import get_args

    from hilum.engines import EngineName

    chosen = engines or list(get_args(EngineName))
    for engine in chosen:
        check_choice("engine", engine, get_args(EngineName))
    lines: list[Any]
    if training:
        from hilum.bench.training import measure_training

        lines = measure_training(sizes or [224, 512])
    else:
        from hilum.bench.table import measure

        lines = measure(sizes or [224, 512], chosen, images=images, seconds=seconds)
    rows = [line._asdict() for line in lines]
    if as_json:
        print_json({"rows": rows})
        return
    print_table("This machine", [name.replace("_", " ") for name in rows[0]], [_cells(row) for row in rows])
    say("Ratios are to the anchor's faster form in this run. The networks' weights are random: only speed is measured.")


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value) for value in row.values()
    ]
