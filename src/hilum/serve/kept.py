"""Results that a client asked to keep, in one SQLite file, until it deletes them."""

import json
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from hilum.errors import HilumError


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
        return [{"id": name, "kept": kept, **json.loads(content)} for name, kept, content in rows]

    def delete(self, name: str | None) -> int:
        """Delete one result, or all if none is named; return how many there were."""
        with self._lock, self._file:
            if name is None:
                return self._file.execute("DELETE FROM results").rowcount
            return self._file.execute("DELETE FROM results WHERE id = ?", (name,)).rowcount

    def close(self) -> None:
        """Close the file."""
        self._file.close()
