"""The node as a service: receiver, scorer and sender, started and stopped together; health and metrics over HTTP."""

import fcntl
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

from pynetdicom import _config as pynetdicom_config

from hilum.errors import HilumError
from hilum.messages import log_own_words
from hilum.model.engines import Engine, open_engine, state_bits
from hilum.pacs.config import NodeConfig
from hilum.pacs.queue import DATABASE, WAITING, Places, Queue, Reason
from hilum.pacs.receive import Receiver
from hilum.pacs.results import ResultModel, result_model
from hilum.pacs.send import Sender
from hilum.pacs.work import Scorer

Facts = dict[str, int | float]

_ABOUT = {
    "films_waiting": "Films that are not scored yet",
    "films_scored": "Films that were scored",
    "films_unfit": "Films that were not analysed: no frontal chest films of adults, or unlike the training films",
    "films_failed": "Films without result: they cannot be read",
    "results_waiting": "Results that are not with the PACS yet",
    "results_sent": "Results that the PACS took",
    "received": "Films received since the start",
    "refused": "Films refused since the start",
    "oldest_waiting_s": "Seconds that the oldest waiting film has waited",
    "most_tries": "Tries of the waiting result that was tried most; above 0 the PACS is away",
    "free_mb": "Free disk in MiB",
    "receiver_alive": "1 if films are received",
    "worker_alive": "1 if films are scored",
    "sender_alive": "1 if results are sent",
}


def metrics(facts: Facts) -> str:
    """Facts in Prometheus's text format."""
    lines = []
    for name, value in facts.items():
        lines += [f"# HELP hilum_node_{name} {_ABOUT[name]}", f"# TYPE hilum_node_{name} gauge"]
        lines.append(f"hilum_node_{name} {value:g}")
    return "\n".join(lines) + "\n"


def is_healthy(facts: Facts) -> bool:
    """Whether all parts work."""
    return all(value == 1 for name, value in facts.items() if name.endswith("_alive"))


class Watch:
    """Answers GET /health (200, or 503 if a part has ended) and GET /metrics.

    Raises:
        HilumError: if the port is taken.
    """

    def __init__(self, port: int, facts: Callable[[], Facts]):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                now = facts()
                match self.path:
                    case "/health":
                        body, kind = json.dumps({"healthy": is_healthy(now), **now}), "application/json"
                        status = 200 if is_healthy(now) else 503
                    case "/metrics":
                        body, kind, status = metrics(now), "text/plain; version=0.0.4", 200
                    case _:
                        body, kind, status = "see /health and /metrics\n", "text/plain", 404
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: who asks how it is, is not worth a line."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise HilumError(f"watch.port must be free, got {port}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="watch", daemon=True)

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


_LOG = logging.getLogger("hilum.node")


class Node:
    """A node that is ready to start.

    Args:
        engine: what scores; the configuration's own if None.
        model: what results say of it; likewise.

    Raises:
        HilumError: if the model, the folder or a port cannot be used, or another node uses the folder.
    """

    def __init__(self, config: NodeConfig, *, engine: Engine | None = None, model: ResultModel | None = None):
        self._places = Places(config.store.folder)
        self._lock = _only_one(config.store.folder)
        self._queue = Queue(config.store.folder)
        self._places.tidy(self._queue.films_of(WAITING), self._queue.results_of(WAITING))
        asked = config.model
        used = engine or state_bits(open_engine(asked.run, engine=asked.engine), asked.bits)
        said = model or result_model(asked.run, asked.operating_point, bits=asked.bits)
        self._receiver = Receiver(config.receive, config.store, self._places, self._queue)
        self._worker = Scorer(
            used, said, config.store, self._places, self._queue, heatmaps=asked.heatmaps, force=asked.force
        )
        self._sender = Sender(config.send, self._places, self._queue, caller=config.receive.ae_title)
        self._watch = None if config.watch is None else Watch(config.watch.port, self.facts)

    def facts(self) -> Facts:
        """How the node is."""
        return {
            **stored_facts(self._queue, self._places),
            "received": self._receiver.received,
            "refused": self._receiver.refused,
            "receiver_alive": int(self._receiver.alive),
            "worker_alive": int(self._worker.alive),
            "sender_alive": int(self._sender.alive),
        }

    def start(self) -> None:
        """Start all parts."""
        for part in (self._worker, self._sender, self._receiver, self._watch):
            if part is not None:
                part.start()

    def stop(self) -> None:
        """Stop all parts; what is under way is finished, what waits is kept."""
        for part in (self._receiver, self._watch, self._worker, self._sender):
            if part is not None:
                part.stop()
        self._queue.close()
        self._lock.close()


def stored_facts(queue: Queue, places: Places) -> Facts:
    """What the disk alone tells of a node."""
    return {
        **queue.counts(),
        "oldest_waiting_s": queue.oldest_s(now=time.time()),
        "most_tries": queue.most_tries(),
        "free_mb": places.free_mb(),
    }


def read_facts(folder: Path) -> Facts:
    """How a node is, read from its folder, whether it runs or not.

    Raises:
        HilumError: if there is no node's folder.
    """
    with _queue_of(folder) as queue:
        return stored_facts(queue, Places(folder))


def read_reasons(folder: Path, *, most: int = 20) -> list[Reason]:
    """Why films have no scores, or have them although they do not fit: the newest, read as by `read_facts`.

    Raises:
        HilumError: if there is no node's folder.
    """
    with _queue_of(folder) as queue:
        return queue.reasons(most=most)


@contextmanager
def _queue_of(folder: Path) -> Iterator[Queue]:
    if not (folder / DATABASE).is_file():
        raise HilumError(f"store.folder must be a node's, but there is no {folder / DATABASE}. Was the node started?")
    queue = Queue(folder)
    try:
        yield queue
    finally:
        queue.close()


def run_node(config: NodeConfig, *, engine: Engine | None = None, model: ResultModel | None = None) -> None:
    """Run a node until SIGTERM or Ctrl-C, and end the process."""
    log_own_words("%(asctime)s %(levelname)s %(message)s")
    pynetdicom_config.LOG_HANDLER_LEVEL = "none"
    # a byte in a pipe waits until it is read; an event that a handler sets was missed while threads started
    asked, ask = os.pipe()
    os.set_blocking(ask, False)
    signal.set_wakeup_fd(ask)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    node = Node(config, engine=engine, model=model)
    node.start()
    _LOG.info("the node listens. Research software, not a medical device")
    os.read(asked, 1)
    node.stop()
    _LOG.info("the node has stopped")
    logging.shutdown()
    os._exit(0)  # pynetdicom's threads for connections that broke may live on, and Python would wait for them for ever


def _only_one(folder: Path) -> IO[str]:
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise HilumError(f"store.folder must be one node's alone, but another node uses {folder}") from None
    return lock
