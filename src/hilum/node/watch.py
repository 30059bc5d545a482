"""How a node is: on the command line, and as health and metrics over HTTP, on loopback alone. No patient data."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hilum.errors import HilumError

Facts = dict[str, int | float]

_ABOUT = {
    "films_waiting": "Films that are not scored yet",
    "films_scored": "Films that were scored",
    "films_unfit": "Films without result: not frontal chest films, or unlike the training films",
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
