"""The node as a service: receiver, scorer and senders, started and stopped together, and what an operator asks it."""

import fcntl
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from pynetdicom import _config as pynetdicom_config

from hilum.errors import HilumError
from hilum.messages import log_own_words
from hilum.model.engines import Engine
from hilum.pacs.commit import Peer, tell
from hilum.pacs.config import BusyError, Dimse, NodeConfig, load_config
from hilum.pacs.models import Loaded, Models
from hilum.pacs.page import Page
from hilum.pacs.queue import DATABASE, WAITING, Places, Queue, Reason
from hilum.pacs.receive import OUT_OF_RESOURCES, Receiver
from hilum.pacs.results import ResultModel
from hilum.pacs.send import NotSentError, Sender, ask_for_study
from hilum.pacs.watch import Counted, Facts, Health, Watch, problems
from hilum.pacs.work import Loop, Scorer

_LOG = logging.getLogger("hilum.node")
_LOCK = "lock"
_FIRST_ASK_S = 10.0


class Node:
    """A node that is ready to start.

    Args:
        engine: what scores, and `model`, what results say of it, instead of the configuration's own; for tests.
        path: of the configuration, which a reload reads again; without it nothing is reloaded.

    Raises:
        HilumError: if the model, the folder or a port cannot be used, or another node uses the folder.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        engine: Engine | None = None,
        model: ResultModel | None = None,
        path: Path | None = None,
    ):
        self._config, self._path = config, path
        self._places = Places(config.store.folder)
        self._lock = _only_one(config.store.folder)
        self._queue = Queue(config.store.folder)
        self._places.tidy(self._queue.kept_files(), self._queue.results_of(WAITING))
        for target in sorted(self._queue.adopt([one.name for one in config.send])):
            _LOG.warning(
                "results wait for %s, which is no [send] any more: hilum node forget --target %s", target, target
            )
        self._models = Models(self._places.models)
        if engine is not None and model is not None:
            asked = config.model
            loaded = Loaded("given", engine, model, asked.heatmaps, asked.force)
            self._models.use(tuple(config.route), dict.fromkeys(config.models(), loaded))
        else:
            for words in self._models.load(config):
                _LOG.info("model %s", words)
        self._receiver = Receiver(config.receive, config.store, self._places, self._queue)
        self._worker = Scorer(self._models, config.store, config.send, self._places, self._queue)
        self._senders = [
            Sender(
                one,
                self._places,
                self._queue,
                caller=config.receive.ae_title,
                keep=config.store.keep_sent_days > 0,
            )
            for one in config.send
        ]
        self._operator = Operator(self)
        self._watch = None if config.watch is None else Watch(config.watch, self.health, Page(self._queue))
        self._begun = time.time()

    @property
    def queue(self) -> Queue:
        """The node's queue."""
        return self._queue

    def facts(self) -> Facts:
        """How the node is, in numbers."""
        senders_alive = all(sender.alive for sender in self._senders)
        return {
            **stored_facts(self._queue, self._places),
            "received": self._receiver.received,
            "refused": self._receiver.refused,
            "set_aside": self._receiver.aside,
            "scoring_s": self._worker.scored_s,
            "receiver_alive": int(self._receiver.alive),
            "worker_alive": int(self._worker.alive),
            "sender_alive": int(senders_alive),
        }

    def health(self) -> Health:
        """How the node is: numbers, counts by reason, models, and what is wrong in words."""
        facts, now = self.facts(), time.time()
        uptime = time.monotonic()  # a clock that is set makes no PACS seem away
        away = {
            sender.target: uptime - sender.failing_since for sender in self._senders if sender.failing_since is not None
        }
        watch = self._config.watch
        wrong = problems(
            facts,
            away=away,
            no_space_since=self._receiver.no_space_since,
            worker_failed=self._worker.failed,
            worker_silent_s=time.monotonic() - self._worker.last_step,
            store=self._config.store,
            watch=watch,
            now=now,
        )
        waits = self._queue.waiting_by_target()
        counted = [
            Counted("turned_away", {"reason": why}, count) for why, count in sorted(self._receiver.turned_away.items())
        ]
        counted += [
            Counted("films_refused", {"reason": why, "sender": sender}, count)
            for (why, sender), count in sorted(self._receiver.refusals.items())
        ]
        counted += [
            Counted("films_with_reason", {"state": state, "reason": why, "sender": sender}, count)
            for (state, why, sender), count in sorted(self._worker.reasons.items())
        ]
        for sender in self._senders:
            labels = {"target": sender.target}
            counted += [
                Counted("target_results_waiting", labels, waits.get(sender.target, 0)),
                Counted("target_away_s", labels, away.get(sender.target, 0.0)),
                Counted("target_sent", labels, sender.taken),
            ]
            counted += [
                Counted("target_failures", {**labels, "kind": kind}, count)
                for kind, count in sorted(sender.failures.items())
            ]
        models = {
            route: {"name": one.name, "version": one.results.version, "engine": one.engine.name}
            | {"precision": one.engine.precision}
            for route, one in self._models.loaded.items()
        }
        counted += [Counted("model", {"route": route, **model}, 1) for route, model in models.items()]
        return Health(facts, counted, models, wrong, self._receiver.alive and self.has_room())

    def reload(self, to: dict[str, str] | None = None) -> list[str]:
        """Read the configuration's models again and switch to them; what changed, in words. Scoring goes on meanwhile.

        Args:
            to: see Models.load.

        Raises:
            HilumError: if anything is wrong with any of them; then all stay what they were.
        """
        if self._path is None:
            raise HilumError(
                "node must have been started from a file to read its models again. Start it: hilum node run"
            )
        config = load_config(self._path)
        said = self._models.load(config, to=to)
        running, new = (one.model_dump(exclude={"model", "route"}) for one in (self._config, config))
        changed = [section for section in new if new[section] != running[section]]
        if changed:
            said.append(f"changes of {', '.join(changed)} wait for a restart")
        return said

    def commit(self, what: dict[str, Any]) -> str:
        """Answer a sender's storage commitment; that it was, in words.

        Raises:
            HilumError: if nobody knows where the sender is, or it does not answer.
        """
        peer = self._config.peer(what["to"])
        if peer is None:
            raise HilumError(f"sender must have an address, got none for {what['to']}. Set [[receive.committed]]")
        there = Peer(peer.ae_title, peer.host, peer.port, peer.tls)
        return tell(what, self._queue, there, caller=self._config.receive.ae_title)

    def ask_again(self) -> int:
        """Ask a PACS for a study of which films were refused for lack of space, if there is room; how many it sent."""
        name, now = self._config.receive.ask_again, time.time()
        send = next((one for one in self._config.send if isinstance(one, Dimse) and one.name == name), None)
        if send is None or not self.has_room():
            return 0
        for study, asked in self._queue.to_ask_for(status=OUT_OF_RESOURCES, now=now, most=1):
            self._queue.asked_for(study, next_ask=now + _FIRST_ASK_S * 2**asked)
            try:
                ask_for_study(send, study, caller=self._config.receive.ae_title)
            except NotSentError as error:
                _LOG.warning("a study of which films were refused was asked for again: %s", error)
                return 0
            _LOG.info("a study of which films were refused came again")
            return 1
        return 0

    def has_room(self) -> bool:
        """Whether a film would be taken now."""
        store = self._config.store
        room = self._places.free_mb() >= store.keep_free_mb and self._places.keep_reserve()
        return room and self._queue.waiting() < store.most_waiting

    def start(self) -> None:
        """Start all parts."""
        for part in (self._worker, *self._senders, self._operator, self._receiver, self._watch):
            if part is not None:
                part.start()

    def stop(self) -> None:
        """Stop all parts; what is under way is finished, what waits is kept."""
        for part in (self._receiver, self._watch, self._operator, self._worker, *self._senders):
            if part is not None:
                part.stop()
        self._queue.close()
        self._lock.close()


class Operator(Loop):
    """Does what is asked for through the queue: `hilum node reload`, and answers to storage commitments."""

    def __init__(self, node: Node):
        super().__init__("operator")
        self._node = node

    def step(self) -> int:
        """Do what was asked for first, if anything was."""
        asked = self._node.queue.requested()
        if asked is None:
            return self._node.ask_again()
        try:
            words = self._node.commit(asked.what) if "commit" in asked.what else self._reloaded(asked.what["to"])
        except Exception as error:  # whatever it is, the models stay, and whoever asked is told or asks again
            said = str(error) if isinstance(error, HilumError) else type(error).__name__
            what = (
                "storage commitment was not answered" if "commit" in asked.what else "reload refused, all models stay"
            )
            _LOG.error("%s: %s", what, said)
            self._node.queue.answer(asked.number, well=False, words=said, now=time.time())
            return 1
        _LOG.info("%s", words)
        self._node.queue.answer(asked.number, well=True, words=words, now=time.time())
        return 1

    def _reloaded(self, to: dict[str, str] | None) -> str:
        return f"reloaded: {'; '.join(self._node.reload(to))}"


class Reloaded(NamedTuple):
    """What a node answered to a reload."""

    well: bool
    words: str


def ask_reload(config: NodeConfig, to: dict[str, str] | None, *, timeout_s: int | float = 300) -> Reloaded:
    """Have the node of a configuration reload its models; if none runs, only note what to go back to.

    Raises:
        HilumError: if there is no node's folder, a name is unknown, or the node does not answer in time.
    """
    folder = config.store.folder
    if not is_running(folder):
        words = Models(Places(folder).models).load(config, to=to)
        return Reloaded(True, "; ".join([*words, "no node runs: these are for its next start"]))
    with queue_of(folder) as queue:
        number = queue.request({"to": to}, now=time.time())
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            answer = queue.answered(number)
            if answer is not None:
                return Reloaded(*answer)
            time.sleep(0.1)
    raise HilumError(f"node must answer within {timeout_s:.0f} s, got nothing. Look at its log")


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
    with queue_of(folder) as queue:
        return stored_facts(queue, Places(folder))


def read_reasons(folder: Path, *, most: int = 20) -> list[Reason]:
    """Why films have no scores, or have them although they do not fit: the newest, read as by `read_facts`.

    Raises:
        HilumError: if there is no node's folder.
    """
    with queue_of(folder) as queue:
        return queue.reasons(most=most)


@contextmanager
def queue_of(folder: Path) -> Iterator[Queue]:
    """The queue of a node, whether it runs or not.

    Raises:
        HilumError: if there is no node's folder, or its queue is of another format.
    """
    if not (folder / DATABASE).is_file():
        raise HilumError(f"store.folder must be a node's, but there is no {folder / DATABASE}. Was the node started?")
    queue = Queue(folder, upgrade=False)
    try:
        yield queue
    finally:
        queue.close()


def notify(words: str) -> None:
    """Tell systemd how the process is; nothing happens where it does not ask (`Type=notify`).

    Source: sd_notify(3), "Standalone Implementations".
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
        line.connect("\0" + address[1:] if address.startswith("@") else address)
        line.sendall(words.encode())


def run_node(
    config: NodeConfig, *, engine: Engine | None = None, model: ResultModel | None = None, path: Path | None = None
) -> None:
    """Run a node until SIGTERM or Ctrl-C, and end the process. SIGHUP reloads the models."""
    log_own_words("%(asctime)s %(levelname)s %(message)s", as_json=config.log.form == "json")
    pynetdicom_config.LOG_HANDLER_LEVEL = "none"
    # a byte in a pipe waits until it is read; an event that a handler sets was missed while threads started
    asked, ask = os.pipe()
    os.set_blocking(ask, False)
    signal.set_wakeup_fd(ask)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    node = Node(config, engine=engine, model=model, path=path)
    node.start()
    _LOG.info("the node listens. Research software, not a medical device")
    notify("READY=1")
    threading.Thread(target=watchdog, args=(node.facts,), name="watchdog", daemon=True).start()
    while os.read(asked, 1)[0] == signal.SIGHUP:
        node.queue.request({"to": None}, now=time.time())
    notify("STOPPING=1")
    node.stop()
    _LOG.info("the node has stopped")
    logging.shutdown()
    os._exit(0)  # pynetdicom's threads for connections that broke may live on, and Python would wait for them for ever


def watchdog(told: Callable[[], Facts]) -> None:
    """Tell systemd that the node lives, for as long as all its threads do."""
    microseconds = int(os.environ.get("WATCHDOG_USEC", "0") or 0)
    while microseconds:
        facts = told()
        if all(value for name, value in facts.items() if name.endswith("_alive")):
            notify("WATCHDOG=1")
        time.sleep(microseconds / 2e6)


def is_running(folder: Path) -> bool:
    """Whether a node uses a folder."""
    if not (folder / _LOCK).is_file():
        return False
    with (folder / _LOCK).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _only_one(folder: Path) -> IO[str]:
    lock = (folder / _LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise BusyError(f"store.folder must be one node's alone, but another node uses {folder}") from None
    return lock
