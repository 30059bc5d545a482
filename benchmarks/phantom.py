"""Phantom films per second on one core, PNG writing included; promised: 30 at 320 px.

Run: python benchmarks/phantom.py [films] [size]
"""

import sys
import tempfile
import time
from pathlib import Path

from hilum.phantom.dataset import write_phantom


def main(films: int = 300, size: int = 320) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        write_phantom(Path(scratch) / "warm-up", films=5, size=size)
        started, busy = time.perf_counter(), time.process_time()
        write_phantom(Path(scratch) / "phantom", films=films, size=size)
        elapsed, busy = time.perf_counter() - started, time.process_time() - busy
    print(
        f"{films} films of {size} px: {films / elapsed:.1f} per second, {films / busy:.1f} per second of processor time"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
