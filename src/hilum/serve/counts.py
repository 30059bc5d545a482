"""What /metrics tells: counts and seconds since the start, in Prometheus' text format. Nothing of any film."""

from collections import Counter
from threading import Lock


class Counts:
    """Requests by route and status, films by outcome, and the seconds that answers took."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._films: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]

    def film(self, outcome: str) -> None:
        """A film was scored or refused."""
        with self._lock:
            self._films[outcome] += 1

    def text(self, *, waiting: int) -> str:
        """All of it.

        Source: Prometheus, "Exposition formats". https://prometheus.io/docs/instrumenting/exposition_formats/
        """
        with self._lock:
            lines = ["# TYPE hilum_requests_total counter"]
            lines += [
                f'hilum_requests_total{{route="{route}",status="{status}"}} {count}'
                for (route, status), count in sorted(self._requests.items())
            ]
            lines += ["# TYPE hilum_request_seconds_total counter"]
            lines += [
                f'hilum_request_seconds_total{{route="{route}"}} {seconds:.6f}'
                for route, seconds in sorted(self._seconds.items())
            ]
            lines += ["# TYPE hilum_films_total counter"]
            lines += [
                f'hilum_films_total{{outcome="{outcome}"}} {count}' for outcome, count in sorted(self._films.items())
            ]
        return "\n".join([*lines, "# TYPE hilum_films_waiting gauge", f"hilum_films_waiting {waiting}", ""])
