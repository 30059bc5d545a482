"""Many clients at once: each is answered properly, memory is bounded, and the server is alive after."""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest
from servers import ask, png, running

pytestmark = pytest.mark.slow

CLIENTS = 200
SECONDS = float(os.environ.get("HILUM_LOAD_SECONDS", "6"))
FILMS, WAITING = 4, 100  # so that most clients are told to come back
MOST_GROWTH_MB = 400


async def press(url: str) -> Counter[int]:
    """What the answers were, by status."""
    statuses: Counter[int] = Counter()
    until = time.monotonic() + SECONDS
    film = png(300)

    async def client(http: httpx2.AsyncClient) -> None:
        while time.monotonic() < until:
            answer = await http.post(f"{url}/v1/predict", files=[("films", (f"{k}.png", film)) for k in range(FILMS)])
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                assert [one["error"] for one in answer.json()["films"]] == [""] * FILMS
            else:
                assert int(answer.headers["retry-after"]) >= 1
                await asyncio.sleep(0.5)

    limits = httpx2.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
    return statuses


def peak_bytes(process: int) -> int:
    """The most memory that a process has held, as Linux tells it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def test_two_hundred_clients(calling_run: Path) -> None:
    with running(calling_run, limits={"waiting": WAITING}) as (url, server):
        ask("POST", f"{url}/v1/predict", files={"films": ("a.png", png(300))})
        before = peak_bytes(server.pid)
        statuses = asyncio.run(press(url))
        peak = peak_bytes(server.pid)
        grown = (peak - before) / 1e6
        assert set(statuses) == {200, 429}
        assert statuses[200] >= WAITING // FILMS
        assert grown < MOST_GROWTH_MB
        assert ask("GET", f"{url}/ready").json() == {"status": "ok"}
        assert "hilum_films_waiting 0" in ask("GET", f"{url}/metrics").text
        print(f"{statuses}; at most {peak / 1e6:.0f} MB, {grown:.0f} more than for one client")
