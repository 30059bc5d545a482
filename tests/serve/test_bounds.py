"""How much the server takes on: what is too much or too slow is told so, and the server is alive after."""

import io
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image
from servers import HeldEngine, ask, png, running, wait_until

from hilum.serve.security import CORES, Limits

from .test_load import peak_bytes
from .test_server import post

OpenRun = Callable[..., Any]


def waiting(url: str) -> int:
    """How many films the server holds."""
    [line] = [one for one in ask("GET", f"{url}/metrics").text.splitlines() if one.startswith("hilum_films_waiting")]
    return int(line.split()[1])


def test_more_films_than_can_wait_are_told_when_to_come_back(open_run: OpenRun, held: list[HeldEngine]) -> None:
    films = [(f"{k}.png", png(seed=k)) for k in range(4)]
    with open_run(limits=Limits(waiting=5)) as room, ThreadPoolExecutor(2) as clients:
        first = clients.submit(post, room.url, *films)
        wait_until(lambda: waiting(room.url) == 4)
        refused = post(room.url, *films)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        second = clients.submit(post, room.url, films[0])
        wait_until(lambda: waiting(room.url) == 5)
        ready = ask("GET", f"{room.url}/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "busy"})
        assert ask("GET", f"{room.url}/health").status_code == 200
        held[0].go.set()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
        assert waiting(room.url) == 0
        assert post(room.url, *films).status_code == 200
        assert ask("GET", f"{room.url}/ready").status_code == 200


def test_more_requests_than_can_be_under_way_are_told_when_to_come_back(
    open_run: OpenRun, held: list[HeldEngine]
) -> None:
    with open_run(limits=Limits(requests=1)) as room, ThreadPoolExecutor(1) as client:
        first = client.submit(post, room.url, ("a.png", png()))
        wait_until(lambda: waiting(room.url) == 1)
        refused = post(room.url, ("b.png", png()))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        held[0].go.set()
        assert first.result().status_code == 200
        assert post(room.url, ("b.png", png())).status_code == 200


def test_more_bytes_than_can_be_under_way_are_told_when_to_come_back(open_run: OpenRun, held: list[HeldEngine]) -> None:
    with open_run(limits=Limits(held_bytes=60_000)) as room, ThreadPoolExecutor(1) as client:
        large = ("a.png", png(200))
        assert 30_000 < len(large[1]) < 55_000
        first = client.submit(post, room.url, large)
        wait_until(lambda: waiting(room.url) == 1)
        refused = post(room.url, large)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        held[0].go.set()
        assert first.result().status_code == 200
        assert post(room.url, large).status_code == 200


def test_films_that_take_too_long_are_given_up(open_run: OpenRun, held: list[HeldEngine]) -> None:
    with open_run(limits=Limits(answer_s=0.5)) as room:
        late = post(room.url, ("a.png", png()), ("b.png", png()))
        assert late.status_code == 503
        assert "within 0.5 s" in late.json()["detail"]
        assert waiting(room.url) == 0
        held[0].go.set()
        wait_until(lambda: post(room.url, ("a.png", png())).status_code == 200)


def test_a_slow_upload_is_ended(open_run: OpenRun) -> None:
    with open_run(limits=Limits(receive_s=0.5)) as room:
        host, port = room.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n"
            connection.sendall((head + "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x").encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        assert ask("GET", f"{room.url}/health").status_code == 200


def large_film(side: int) -> bytes:
    """Many pixels in few bytes."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(file, format="PNG")
    return file.getvalue()


@contextmanager
def asked_for_pixels(url: str, film: bytes) -> Iterator[socket.socket]:
    """A connection on which a film's greys were asked for, and not taken yet."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        form = b'--x\r\nContent-Disposition: form-data; name="film"; filename="a.png"\r\n\r\n' + film + b"\r\n--x--\r\n"
        head = f"POST /v1/pixels HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(form)}\r\nConnection: close\r\n"
        connection.sendall((head + "Content-Type: multipart/form-data; boundary=x\r\n\r\n").encode() + form)
        yield connection


@pytest.mark.slow
def test_greys_that_nobody_takes_are_bounded_in_memory_and_time(calling_run: Any) -> None:
    side = 8000
    film = large_film(side)
    assert len(film) < 100_000
    with running(calling_run, limits={"receive_s": 2}) as (url, server), ExitStack() as stack:
        before = peak_bytes(server.pid)
        for _ in range(3 * CORES):
            stack.enter_context(asked_for_pixels(url, film))
        wait_until(lambda: len(ask("POST", f"{url}/v1/pixels", files={"film": ("a.png", film)}).content) == side * side)
        grown = peak_bytes(server.pid) - before
        assert grown < 3.5 * CORES * side * side  # three for each while it is decoded
        assert ask("GET", f"{url}/ready").json() == {"status": "ok"}
