import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from serve.browsing import opened_page


@pytest.fixture(scope="session")
def calling_run(untrained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained bundle with thresholds: half of the findings are always present, the others never."""
    from hilum.bundle import binding_of, load_bundle, save_bundle
    from hilum.metrics.thresholds import RULES, Threshold
    from hilum.operating import OperatingPoints

    bundle = load_bundle(untrained_run)
    at = {name: Threshold(*([0.0001] * 3 if k % 2 else [0.9999] * 3)) for k, name in enumerate(bundle.findings)}
    points = OperatingPoints(binding_of(bundle), {name: dict(at) for name in RULES})
    out = tmp_path_factory.mktemp("calling") / "run"
    save_bundle(replace(bundle, thresholds=points), out)
    return out


@pytest.fixture(scope="session")
def gated_run(calling_run: Path, phantom_films: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with a gate that knows phantom films."""
    from hilum.bundle import load_bundle, save_bundle
    from hilum.data.fit import fit_gate
    from hilum.data.images import Preprocessing

    read = Preprocessing(64)
    gate = fit_gate(lambda row: read.read(phantom_films.path(row))[0], len(phantom_films), seed=0)
    out = tmp_path_factory.mktemp("gated") / "run"
    save_bundle(replace(load_bundle(calling_run), gate=gate), out)
    return out


@contextmanager
def opened(run: Path, **options: Any) -> Iterator[Any]:
    """A real server on a free port of loopback, in a thread."""
    from hilum.serve.listen import open_room

    room = open_room(run, port=0, engine="torch", **options)
    thread = Thread(target=room.serve)
    thread.start()
    try:
        yield room
    finally:
        room.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def open_run(calling_run: Path) -> Callable[..., Any]:
    """Open a server of one's own: for tests of what it refuses."""
    return lambda **options: opened(calling_run, **options)


@pytest.fixture(scope="session")
def url(calling_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that all tests share; it keeps what it is asked to keep."""
    with opened(calling_run, keep=tmp_path_factory.mktemp("kept") / "kept.db") as room:
        yield room.url


class HeldEngine:
    """An engine whose runs wait until they are let go."""

    def __init__(self, engine: Any):
        self.engine, self.go = engine, Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, grey: Any) -> Any:
        assert self.go.wait(60)
        return self.engine.run(grey)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[HeldEngine]]:
    """The engines of servers that this test opens; none runs a film before it is let go."""
    from hilum.engines import open_engine
    from hilum.serve import listen

    engines: list[HeldEngine] = []

    def opened_engine(*arguments: Any, **options: Any) -> Any:
        engines.append(HeldEngine(open_engine(*arguments, **options)))
        return engines[-1]

    monkeypatch.setattr(listen, "open_engine", opened_engine)
    yield engines
    for engine in engines:
        engine.go.set()


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
from hilum.serve.limits import Limits
from hilum.serve.listen import open_room
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page, freshly opened; it fails the test if it asks anything of another host or complains."""
    page = opened_page(browser)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    yield page
    assert page.asked <= {url}, "a request left loopback"
    assert page.complaints == []
    page.close()
