"""A node as a whole: its parts, started and stopped together."""

import fcntl
import logging
import os
import signal
import time
from pathlib import Path
from typing import IO

from pynetdicom import _config as pynetdicom_config

from hilum.dicom.model import ResultModel, result_model
from hilum.engines import Engine, open_engine
from hilum.errors import HilumError
from hilum.node.config import NodeConfig
from hilum.node.places import Places
from hilum.node.queue import DATABASE, WAITING, Queue
from hilum.node.receive import Receiver
from hilum.node.send import Sender
from hilum.node.watch import Facts, Watch
from hilum.node.work import Worker
from hilum.quiet import log_own_words

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
        used = engine or open_engine(config.model.run, engine=config.model.engine)
        said = model or result_model(config.model.run, config.model.operating_point)
        self._receiver = Receiver(config.receive, config.store, self._places, self._queue)
        self._worker = Worker(used, said, config.store, self._places, self._queue, heatmaps=config.model.heatmaps)
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
    if not (folder / DATABASE).is_file():
        raise HilumError(f"store.folder must be a node's, but there is no {folder / DATABASE}. Was the node started?")
    queue = Queue(folder)
    try:
        return stored_facts(queue, Places(folder))
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
