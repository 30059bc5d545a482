"""A server of one's own, as a thread or as a process, and what is sent to it."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
import numpy as np
from PIL import Image


@contextmanager
def opened(run: Path, **options: Any) -> Iterator[Any]:
    """A real server on a free port of loopback, in a thread."""
    from hilum.serve.server import open_room

    room = open_room(run, port=0, engine="torch", **options)
    thread = Thread(target=room.serve)
    thread.start()
    try:
        yield room
    finally:
        room.stop()
        thread.join(30)
        assert not thread.is_alive()


class HeldEngine:
    """An engine whose runs wait until they are let go."""

    def __init__(self, engine: Any):
        self.engine, self.go = engine, Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, grey: Any) -> Any:
        assert self.go.wait(60)
        return self.engine.run(grey)


def ask(method: str, url: str, **options: Any) -> httpx2.Response:
    """One request, for as long as it may take on a busy machine."""
    return httpx2.request(method, url, timeout=120, **options)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Ask again and again, for as long as it may take on a busy machine."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.02)


WITH_LIMITS = """
import json, sys
from pathlib import Path
from hilum.serve.security import Limits
from hilum.serve.server import open_room
room = open_room(Path(sys.argv[1]), port=0, engine="torch", limits=Limits(**json.loads(sys.argv[2])))
print(json.dumps({"url": room.url}, indent=2), flush=True)
room.serve()
"""


@contextmanager
def running(
    run: Path, port: int = 0, *, limits: dict[str, float] | None = None, errors: Any = subprocess.DEVNULL
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A server as a process of its own: its address, and the process."""
    command = [sys.executable, "-c", "from hilum.cli import main; main()", "serve", str(run), "--json"]
    command += ["--engine", "torch", "--port", str(port)]
    if limits is not None:
        command = [sys.executable, "-c", WITH_LIMITS, str(run), json.dumps(limits)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
    try:
        assert server.stdout is not None
        said = b"".join(iter(server.stdout.readline, b"}\n")) + b"}"
        yield json.loads(said)["url"], server
    finally:
        server.terminate()
        server.communicate(timeout=30)


def png(side: int = 80, seed: int = 0, *, bits: int = 8) -> bytes:
    """A film of noise."""
    kind: Any = np.uint8 if bits == 8 else np.uint16
    pixels = np.random.default_rng(seed).integers(0, 1 << bits, (side, side + 4)).astype(kind)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
