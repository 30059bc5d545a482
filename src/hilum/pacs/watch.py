"""How a node is, told over HTTP: /health and /ready for people and balancers, /metrics for Prometheus."""

import hmac
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Protocol, runtime_checkable

from hilum.pacs import config
from hilum.pacs.config import BusyError

Facts = dict[str, int | float]

_ABOUT = {
    "films_waiting": "Films that are not scored yet",
    "films_scored": "Films that were scored",
    "films_unfit": "Films that were not analysed: no frontal chest films of adults, or unlike the training films",
    "films_failed": "Films without result: they cannot be read",
    "films_aside": "Objects that came with films and are none, of which nothing is kept",
    "films_replaced": "Films that came again with other content before they were scored",
    "results_waiting": "Results that are not with the PACS yet",
    "results_sent": "Results that the PACS took",
    "received": "Films received since the start",
    "refused": "Films refused, and connections ended, since the start",
    "set_aside": "Objects set aside since the start",
    "scoring_s": "Seconds spent scoring since the start",
    "oldest_waiting_s": "Seconds that the oldest waiting film has waited",
    "most_tries": "Tries of the waiting result that was tried most; above 0 the PACS is away",
    "free_mb": "Free disk",
    "receiver_alive": "1 if films are received",
    "worker_alive": "1 if films are scored",
    "sender_alive": "1 if results are sent",
    "healthy": "1 if nothing is wrong",
    "turned_away": "Connections, associations and objects turned away since the start, by reason",
    "films_refused": "Films refused since the start, by reason and sender",
    "films_with_reason": "Films since the start that failed, do not fit or were forced, by reason and sender",
    "target_results_waiting": "Results that wait for a target",
    "target_away_s": "Seconds since a target last took what was sent; 0 while it takes it",
    "target_sent": "Results that a target took since the start",
    "target_failures": "Tries to send that failed since the start, by kind: Away, NotSent, NotTaken",
    "model": "1 for each model that scores, by route",
}
_SINCE_START = (
    *("turned_away", "films_refused", "films_with_reason", "target_sent", "target_failures"),
    *("received", "refused", "set_aside", "scoring_s"),
)
_MIB = 1 << 20


def _metric(name: str) -> str:
    """A number's name as Prometheus wants it: whole units, and `total` behind what only grows."""
    whole = re.sub("_mb$", "_bytes", re.sub("_s$", "_seconds", name))
    return f"hilum_node_{whole}{'_total' if name in _SINCE_START else ''}"


METRICS = tuple(_metric(name) for name in _ABOUT)


class Counted(NamedTuple):
    """A number with labels."""

    name: str
    labels: Mapping[str, str]
    value: int | float


@dataclass(frozen=True)
class Health:
    """How a node is.

    Attributes:
        facts: numbers.
        counted: numbers by reason, sender and target.
        models: by route, the name of its copy, version, engine and precision.
        problems: what is wrong, in words; empty if the node is healthy.
        ready: whether it would take a film now.
    """

    facts: Facts
    counted: list[Counted]
    models: dict[str, dict[str, str]]
    problems: list[str]
    ready: bool


def problems(
    facts: Facts,
    *,
    away: Mapping[str, float],
    no_space_since: float | None,
    worker_failed: str,
    worker_silent_s: float,
    store: config.Store,
    watch: config.Watch | None,
    now: float,
) -> list[str]:
    """What is wrong with a node, in words.

    Args:
        away: for how many seconds each target has taken nothing that it was sent.
        no_space_since: when a film was last refused for lack of space, if none was taken since.
        worker_failed: the kind of error that the scorer's last step ended with; empty if with none.
        worker_silent_s: for how long the scorer has finished nothing.
        watch: its limits; the usual ones if None.
    """
    limits = watch or config.Watch(port=1)
    wrong = [f"the {name.removesuffix('_alive')} has ended" for name, value in facts.items() if _ended(name, value)]
    wrong += [
        f"{target} has taken nothing for {seconds:.0f} s" for target, seconds in away.items() if seconds > limits.away_s
    ]
    if facts["free_mb"] < store.keep_free_mb:
        wrong.append(
            f"films are refused: {facts['free_mb']:.0f} MiB are free, store.keep_free_mb is {store.keep_free_mb}"
        )
    elif facts["films_waiting"] >= store.most_waiting:
        wrong.append(
            f"films are refused: {facts['films_waiting']:.0f} wait, store.most_waiting is {store.most_waiting}"
        )
    elif no_space_since is not None and now - no_space_since < limits.refused_s:
        wrong.append(f"a film was refused for lack of space {now - no_space_since:.0f} s ago, and none was taken since")
    if worker_failed:
        wrong.append(f"the worker fails: {worker_failed}")
    if worker_silent_s > limits.stuck_s:
        wrong.append(f"the worker has finished nothing for {worker_silent_s:.0f} s")
    return wrong


def _ended(name: str, value: int | float) -> bool:
    return name.endswith("_alive") and value != 1


def metrics(health: Health) -> str:
    """Health in Prometheus's text format.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    rows = [Counted(name, {}, value) for name, value in health.facts.items()]
    rows += [Counted("healthy", {}, int(not health.problems)), *health.counted]
    lines, said = [], set[str]()
    for name, labels, value in rows:
        if name not in said:
            said.add(name)
            kind = "counter" if name in _SINCE_START else "gauge"
            lines += [f"# HELP {_metric(name)} {_ABOUT[name]}", f"# TYPE {_metric(name)} {kind}"]
        pairs = ",".join(f'{key}="{_quoted(text)}"' for key, text in labels.items())
        number = value * _MIB if name.endswith("_mb") else value
        lines.append(f"{_metric(name)}{'{' + pairs + '}' if pairs else ''} {number:.10g}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@runtime_checkable
class Operators(Protocol):
    """The operator's page; see hilum.pacs.page."""

    def html(self, query: str, health: Health) -> str:
        """The page for a query such as `state=failed`."""

    def retry(self, form: str) -> bool:
        """Do what a form asks for; whether it could be done."""


_LONGEST_FORM = 1000
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


class Watch:
    """Answers GET /health (200, or 503 with what is wrong), /ready (503 while a film would be refused) and /metrics.

    On loopback and without a token, / is the operator's page. Where a token is set, who does not send it is told of
    /health and /ready the status alone, and of /metrics nothing.

    Raises:
        BusyError: if the port is taken.
        ConfigError: if a token must be there and is not.
    """

    def __init__(self, watch: config.Watch, health: Callable[[], Health], page: "Operators | None" = None):
        token = watch.token()
        page = page if watch.on_loopback and token is None else None
        names = {f"{name}:{watch.port}" for name in ("localhost", "127.0.0.1", "[::1]")}

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                now = health()
                knows = token is None or hmac.compare_digest(
                    self.headers.get("Authorization", "").encode(), f"Bearer {token}".encode()
                )
                kind, status = "application/json", 200
                match self.path:
                    case "/health":
                        status = 503 if now.problems else 200
                        content = {"healthy": not now.problems}
                        more = {"problems": now.problems, "models": now.models, **now.facts}
                        body = json.dumps({**content, **(more if knows else {})})
                    case "/ready":
                        status = 200 if now.ready else 503
                        body = json.dumps({"ready": now.ready})
                    case "/metrics" if knows:
                        body, kind = metrics(now), "text/plain; version=0.0.4"
                    case "/metrics":
                        body, kind, status = "send the token: Authorization: Bearer ...\n", "text/plain", 401
                    case path if page is not None and path.partition("?")[0] == "/" and self._is_named():
                        body, kind = page.html(path.partition("?")[2], now), "text/html; charset=utf-8"
                    case _:
                        body, kind, status = "see /health, /ready and /metrics\n", "text/plain", 404
                self._answer(status, kind, body)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0") or 0)
                if page is None or self.path != "/retry" or not self._is_named() or not 0 < length <= _LONGEST_FORM:
                    self._answer(404, "text/plain", "see /health, /ready and /metrics\n")
                elif page.retry(self.rfile.read(length).decode("ascii", "replace")):
                    self.send_response(303)
                    self.send_header("Location", "/?state=failed")
                    self.end_headers()
                else:
                    self._answer(409, "text/plain", "this film cannot be done again: load the page anew\n")

            def _is_named(self) -> bool:
                """Whether a browser asks for this machine by a name of its own, and not by one of another site's."""
                return self.headers.get("Host", "") in names

            def _answer(self, status: int, kind: str, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Security-Policy", _POLICY)
                self.send_header("X-Content-Type-Options", "nosniff")
                if status == 401:
                    self.send_header("WWW-Authenticate", "Bearer")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: who asks how it is, is not worth a line."""

        try:
            self._server = ThreadingHTTPServer((watch.address, watch.port), Handler)
        except OSError as error:
            raise BusyError(f"watch.port must be free, got {watch.port}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="watch", daemon=True)

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
