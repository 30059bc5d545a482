"""What the server keeps: counts for Prometheus, and results that clients ask to keep, in an SQLite file."""

import json
import sqlite3
import uuid
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from hilum.errors import HilumError


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


def _read(content: str) -> dict[str, Any]:
    """A kept result; those of earlier releases say `unsure` for indeterminate."""
    result: dict[str, Any] = json.loads(content.replace('"call": "unsure"', '"call": "indeterminate"'))
    return result


class Kept:
    """The file of kept results: names and scores, never pixels.

    Raises:
        HilumError: if it cannot be opened as such a file.
    """

    def __init__(self, path: Path):
        self._lock = Lock()
        try:
            path.touch(mode=0o600)  # names of films may be patients'
            path.chmod(0o600)
            self._file = sqlite3.connect(path, check_same_thread=False)
            self._file.execute("PRAGMA secure_delete = ON")  # what is deleted is gone from the file, too
            self._file.execute("CREATE TABLE IF NOT EXISTS results (id TEXT PRIMARY KEY, kept TEXT, content TEXT)")
            self._file.commit()
        except (sqlite3.Error, OSError) as error:
            raise HilumError(f"keep must be a file for kept results, got {path}: {error}") from None

    def add(self, content: dict[str, Any]) -> str:
        """Keep a film's result; return its id."""
        name = uuid.uuid4().hex
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock, self._file:
            self._file.execute("INSERT INTO results VALUES (?, ?, ?)", (name, now, json.dumps(content)))
        return name

    def all(self, *, most: int, after: int) -> list[dict[str, Any]]:
        """Kept results, newest first."""
        with self._lock, closing(self._file.cursor()) as cursor:
            rows = cursor.execute(
                "SELECT id, kept, content FROM results ORDER BY rowid DESC LIMIT ? OFFSET ?", (most, after)
            ).fetchall()
        return [{"id": name, "kept": kept, **_read(content)} for name, kept, content in rows]

    def delete(self, name: str | None) -> int:
        """Delete one result, or all if none is named; return how many there were."""
        with self._lock, self._file:
            if name is None:
                return self._file.execute("DELETE FROM results").rowcount
            return self._file.execute("DELETE FROM results WHERE id = ?", (name,)).rowcount

    def close(self) -> None:
        """Close the file."""
        self._file.close()
