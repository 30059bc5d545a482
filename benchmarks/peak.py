"""What this processor could do at best: a plain matrix product's multiply-adds per second, in films per second."""

import argparse
import json
import time
from collections.abc import Callable

import torch

from hilum.model.info import cost
from hilum.recipe import load_recipe

SIDE = 2048
ROUNDS = 8


def multiply_adds_per_second(product: Callable[[], object]) -> float:
    """The best of several products of two square matrices."""
    product()
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return SIDE**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="height and width of a film in pixels")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    recipe = load_recipe("densenet", ["preprocessing.channels=1", "preprocessing.interpolation=area", "weights=none"])
    per_film = cost(recipe, 14, size=options.size).multiply_adds
    single = torch.rand(SIDE, SIDE)
    half, eight = single.bfloat16(), (single * 200 - 100).to(torch.int8)
    rows = {
        "fp32": multiply_adds_per_second(lambda: single @ single),
        "bf16": multiply_adds_per_second(lambda: half @ half),
        "int8": multiply_adds_per_second(lambda: torch._int_mm(eight, eight)),
    }
    if options.json:
        print(json.dumps({"multiply_adds_per_film": per_film, "multiply_adds_per_second": rows}))
        return
    print(f"DenseNet-121 at {options.size} px: {per_film / 1e9:.1f} G multiply-adds a film")
    for precision, rate in rows.items():
        print(
            f"{precision}: {rate / 1e9:.0f} G multiply-adds a second, so at most {rate / per_film:.1f} films a second"
        )


if __name__ == "__main__":
    main()
