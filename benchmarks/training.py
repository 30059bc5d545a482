"""Films per second in training: the plain fp32 loop against Hilum's, in one run, as in `hilum bench --training`."""

import argparse
import json

import torch

from hilum.bench.training import measure_training

TARGET = 2.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2, help="the best round counts")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, which takes minutes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    loops = measure_training([options.size], compiled=options.compile, steps=options.steps, rounds=options.rounds)
    if options.json:
        print(json.dumps({"rows": [loop._asdict() for loop in loops], "target": TARGET}))
        return
    for loop in loops:
        print(f"{loop.loop:<30}{loop.films_per_second:7.1f} films/s {loop.ratio:6.2f}x")
    print(f"target: {TARGET}x")


if __name__ == "__main__":
    main()
