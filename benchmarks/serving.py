"""What the reading room keeps of an engine's speed: films per second under load, and the way of one film.

Both are compared, in the same run and on the same files, with `hilum bench`'s pipeline from files.
The clients are threads of this process that send bodies made before; what they cost is printed too, and not taken off.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from hilum.bench.engines import exported_bundles, in_a_process
from hilum.phantom.dataset import write_phantom

TARGET, MOST_SECONDS_MORE = 0.8, 0.3
BOUNDARY = "films-and-nothing-else"
KIND = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
WARM_UP_S = 1.0
ALONE = 20  # films that are sent one after another


class Load(NamedTuple):
    """What came of a while under load; processor seconds are those of all threads of a process.

    Attributes:
        server_s, clients_s: processor seconds a film.
        others: share of the machine's processors that neither of the two used.
    """

    films_per_second: float
    server_s: float
    clients_s: float
    others: float


def body(paths: Sequence[Path], **fields: str) -> bytes:
    """A form with films, as any client sends it."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="films"; filename="{path.name}"\r\n\r\n'.encode()
        + path.read_bytes()
        for path in paths
    ]
    parts += [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in fields.items()
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


@contextmanager
def serving(run: Path, precision: str) -> Iterator[tuple[str, int]]:
    """A server as a process of its own: host and port, and the number of the process."""
    command = [sys.executable, "-c", "from hilum.cli import main; main()", "serve", str(run), "--json", "--port", "0"]
    command += ["--engine", "openvino", "--precision", precision]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if server.stdout is None:
            raise RuntimeError("server must have a standard output")
        said = b"".join(iter(server.stdout.readline, b"}\n")) + b"}"
        yield urlsplit(json.loads(said)["url"]).netloc, server.pid
    finally:
        server.terminate()
        server.communicate(timeout=60)


def ask(connection: HTTPConnection, content: bytes) -> None:
    """Send films and read the answer."""
    connection.request("POST", "/v1/predict", content, KIND)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200 or any(film["error"] for film in json.loads(text)["films"]):
        raise RuntimeError(f"server must score all films, got {answer.status}: {text[:300]!r}")


def press(place: str, process: int, bodies: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Let clients send, each the next body when the last was answered; the server's count of films is read twice."""
    end = time.perf_counter() + WARM_UP_S + seconds

    def client(number: int) -> None:
        connection, coming = HTTPConnection(place), islice(cycle(bodies), number, None)
        while time.perf_counter() < end:
            ask(connection, next(coming))
        connection.close()

    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(client, number) for number in range(clients)]
        time.sleep(WARM_UP_S)
        films, server_s, clients_s = scored(place), processor_seconds(process), time.process_time()
        start = time.perf_counter()
        time.sleep(seconds)
        films, passed = scored(place) - films, time.perf_counter() - start
        server_s, clients_s = processor_seconds(process) - server_s, time.process_time() - clients_s
        for one in running:
            one.result()
    left = 1 - (server_s + clients_s) / passed / (os.cpu_count() or 1)
    return Load(films / passed, server_s / films, clients_s / films, left)


def scored(place: str) -> int:
    """Films that the server has scored so far."""
    connection = HTTPConnection(place)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(int(line.split()[1]) for line in lines if line.startswith('hilum_films_total{outcome="scored"}'))


def processor_seconds(process: int) -> float:
    """What a process has computed so far, as Linux tells it."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def alone(place: str, bodies: Sequence[bytes]) -> dict[str, float]:
    """Milliseconds from sending a film to having its answer, while nobody else asks."""
    connection = HTTPConnection(place)
    ask(connection, bodies[0])
    times = []
    for content in islice(cycle(bodies), ALONE):
        start = time.perf_counter()
        ask(connection, content)
        times.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


def measure(run: Path, precision: str, paths: Sequence[Path], seconds: float, rounds: int) -> dict[str, Any]:
    """The pipeline and the server by turns, so that what else the machine does meets both; the best round counts."""
    task = {"engine": "openvino", "precision": precision, "run": str(run), "seconds": seconds}
    task["paths"] = [str(path) for path in paths]
    single = [body([path]) for path in paths]
    many = [body([*islice(cycle(paths), first, first + 24)]) for first in range(0, 96, 24)]
    found: dict[str, list[Any]] = {"pipeline": [], "16 clients, 1 film": [], "4 clients, 24 films": []}
    with serving(run, precision) as (place, process):
        loads: list[tuple[str, Callable[[], Load]]] = [
            ("16 clients, 1 film", lambda: press(place, process, single, 16, seconds)),
            ("4 clients, 24 films", lambda: press(place, process, many, 4, seconds)),
        ]
        for _ in range(rounds):
            found["pipeline"].append(in_a_process({**task, "what": "throughput"})["films_per_second"])
            for name, load in loads:
                found[name].append(load())
        warm = in_a_process({**task, "what": "latency"})
        sent = {"scores": alone(place, single), "heatmaps": alone(place, [body([p], heatmaps="true") for p in paths])}
    pipeline = max(found["pipeline"])
    best = {name: max(found[name], key=lambda load: load.films_per_second) for name, _ in loads}
    return {
        "precision": precision,
        "pipeline_films_per_second": pipeline,
        "loads": {name: {**load._asdict(), "ratio": load.films_per_second / pipeline} for name, load in best.items()},
        "predict": {"p50_ms": warm["warm_p50_ms"], "p95_ms": warm["warm_p95_ms"]},
        "served": sent,
        "seconds_more": {name: (one["p50_ms"] - warm["warm_p50_ms"]) / 1000 for name, one in sent.items()},
        "target": TARGET,
        "most_seconds_more": MOST_SECONDS_MORE,
        "rounds": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="a folder of PNG films; phantom films of 1024 px if absent")
    parser.add_argument(
        "--run", type=Path, help="a bundle exported to OpenVINO; AM_DenseNet with random weights if absent"
    )
    parser.add_argument("--size", type=int, default=512, help="pixels a side of the random network's input")
    parser.add_argument("--precision", default="int8", help="fp32, bf16 or int8")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the best round counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch, images, run = Path(folder), options.images, options.run
        if images is None:
            images = scratch / "films" / "images"
            write_phantom(images.parent, films=32, size=1024)
        if run is None:
            [(*_, run)] = exported_bundles([("am-densenet", "openvino", options.precision)], options.size, scratch)
        found = measure(run, options.precision, sorted(images.glob("*.png")), options.seconds, options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    print(f"pipeline from files, OpenVINO {options.precision}: {found['pipeline_films_per_second']:.1f} films/s")
    for name, load in found["loads"].items():
        print(
            f"{name + ' a request':<30}{load['films_per_second']:6.1f} films/s {load['ratio']:6.0%}; a film costs the "
            f"server {1000 * load['server_s']:.0f} ms of processor time, the clients {1000 * load['clients_s']:.1f}; "
            f"{load['others']:.0%} of the processors not theirs"
        )
    print(f"target: {TARGET:.0%}")
    print(
        "a film alone, warm: p50 {p50_ms:.0f}, p95 {p95_ms:.0f} ms by hilum predict's engine".format(**found["predict"])
    )
    for name, one in found["served"].items():
        print("{:>18}, served: p50 {p50_ms:.0f}, p95 {p95_ms:.0f} ms".format(name, **one))
    print(f"target: at most {MOST_SECONDS_MORE} s more")


if __name__ == "__main__":
    main()
