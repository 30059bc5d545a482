"""The node's store: folders of films and results written safely, and the SQLite queue of what waits."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hilum.errors import HilumError
from hilum.pacs.results import is_uid


class Places:
    """A node's folders: films that wait, and results that wait; only their owner may look.

    Raises:
        HilumError: if they cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder, self.films, self.results = folder, folder / "films", folder / "results"
        try:
            for place in (folder, self.films, self.results):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HilumError(f"store.folder must be writable, got {error.strerror!r} at {folder}") from None

    def film(self, uid: str) -> Path:
        """Where a film waits."""
        return _below(self.films, uid)

    def result(self, uid: str) -> Path:
        """Where a result waits."""
        return _below(self.results, uid)

    def free_mb(self) -> float:
        """Free disk."""
        return shutil.disk_usage(self.folder).free / (1 << 20)

    def tidy(self, films: set[str], results: set[str]) -> None:
        """Delete what no queue knows: files of a process that ended between a file and its entry, or after one."""
        for place, known in ((self.films, films), (self.results, results)):
            for path in place.iterdir():
                if path.suffix != ".dcm" or path.stem not in known:
                    path.unlink()


def _below(folder: Path, uid: str) -> Path:
    if not is_uid(uid):
        raise ValueError("uid must be digits and dots, at most 64")
    return folder / f"{uid}.dcm"


def write_safely(path: Path, content: bytes) -> None:
    """Write a file and return when it is on the disk under its name, or not at all.

    Raises:
        OSError: if the disk is full or broken; then no part of the file is left.
    """
    beside = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too
    finally:
        os.close(folder)


WAITING, SCORED, UNFIT, FAILED, SENT = "waiting", "scored", "unfit", "failed", "sent"
DATABASE = "queue.sqlite"
MOST_TRIES = 10
"""After so many tries that ended the process, a film is given up: it would end every process."""

_FORMAT = 1
_TABLES = """
create table if not exists films (
    number integer primary key, film text not null unique, study text not null, received real not null,
    state text not null, tries integer not null default 0, why text not null default ''
) strict;
create table if not exists results (
    number integer primary key, result text not null unique, film integer not null references films (number),
    state text not null, tries integer not null default 0, next_try real not null, done real
) strict;
create index if not exists films_by_state on films (state, study);
create index if not exists results_by_state on results (state, next_try);
"""


class WaitingFilm(NamedTuple):
    """A film that waits. Its number is all that may stand in a log."""

    number: int
    film: str  # SOP Instance UID
    tries: int


class Reason(NamedTuple):
    """Why a film was not analysed, failed, or does not fit although it was scored.

    It is for the operator's eyes: the identifier finds the film in the PACS, and stands in no log.
    """

    number: int
    film: str  # SOP Instance UID
    state: str
    why: str


class WaitingResult(NamedTuple):
    """A result that waits to be sent."""

    number: int
    result: str  # SOP Instance UID
    tries: int


class Queue:
    """The queue. Every change is on the disk when the call returns; calls may come from several threads.

    Raises:
        HilumError: if the file is another program's or another version's.
    """

    def __init__(self, folder: Path):
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(
                folder / DATABASE, check_same_thread=False, isolation_level=None, timeout=30
            )
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            (found,) = self._database.execute("pragma user_version").fetchone()
            if found not in (0, _FORMAT):
                raise HilumError(
                    f"queue must be of format {_FORMAT}, got {found} in {folder}. Use the Hilum that made it"
                )
            self._database.executescript(_TABLES + f"pragma user_version = {_FORMAT};")
        except sqlite3.Error as error:
            raise HilumError(f"queue must be a database that can be used, got {folder / DATABASE}: {error}") from None

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("begin immediate")
            try:
                yield self._database
            except BaseException:
                self._database.execute("rollback")
                raise
            self._database.execute("commit")

    def _ask(self, question: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock:
            return self._database.execute(question, values).fetchall()

    def add(self, film: str, study: str, *, now: float) -> None:
        """Take a film on; one that is known already stays what it is."""
        with self._change() as database:
            database.execute(
                "insert into films (film, study, received, state) values (?, ?, ?, ?) on conflict (film) do nothing",
                (film, study, now, WAITING),
            )

    def knows(self, film: str) -> bool:
        """Whether the film was taken on, whatever became of it."""
        return bool(self._ask("select 1 from films where film = ?", film))

    def waiting(self) -> int:
        """How many films wait."""
        return int(str(self._ask("select count(*) from films where state = ?", WAITING)[0][0]))

    def films_of(self, state: str) -> set[str]:
        """The films in a state."""
        return {str(film) for (film,) in self._ask("select film from films where state = ?", state)}

    def ready(self, *, quiet_s: float, now: float, most: int) -> list[WaitingFilm]:
        """Films whose study is complete: nothing came for `quiet_s` seconds. Those tried least come first."""
        rows = self._ask(
            "select number, film, tries from films where state = ?1 and study not in "
            "(select study from films where received > ?2) order by tries, number limit ?3",
            WAITING,
            now - quiet_s,
            most,
        )
        return [WaitingFilm(*row) for row in rows]  # type: ignore[arg-type]

    def try_film(self, film: WaitingFilm) -> bool:
        """Count a try before it is made; false, and the film given up, if there were too many."""
        given_up = film.tries >= MOST_TRIES
        with self._change() as database:
            database.execute(
                "update films set tries = tries + 1, state = ?, why = ? where number = ?",
                (FAILED if given_up else WAITING, "ended the process or the worker" if given_up else "", film.number),
            )
        return not given_up

    def put_back(self, film: WaitingFilm) -> None:
        """Do not count a try that failed for another reason than the film, such as a full disk."""
        with self._change() as database:
            database.execute("update films set tries = tries - 1 where number = ? and tries > 0", (film.number,))

    def finish(self, film: WaitingFilm, state: str, *, why: str = "", results: Sequence[str] = (), now: float) -> None:
        """What became of a film, and the results that are to be sent: both or neither."""
        with self._change() as database:
            database.execute("update films set state = ?, why = ? where number = ?", (state, why, film.number))
            database.executemany(
                "insert into results (result, film, state, next_try) values (?, ?, ?, ?) "
                "on conflict (result) do nothing",
                [(result, film.number, WAITING, now) for result in results],
            )

    def to_send(self, *, now: float, most: int) -> list[WaitingResult]:
        """Results whose turn has come."""
        rows = self._ask(
            "select number, result, tries from results where state = ? and next_try <= ? order by next_try limit ?",
            WAITING,
            now,
            most,
        )
        return [WaitingResult(*row) for row in rows]  # type: ignore[arg-type]

    def sent(self, result: WaitingResult, *, now: float) -> None:
        """A result is with the PACS."""
        with self._change() as database:
            database.execute("update results set state = ?, done = ? where number = ?", (SENT, now, result.number))

    def not_sent(self, result: WaitingResult, *, next_try: float) -> None:
        """A result could not be sent."""
        with self._change() as database:
            database.execute(
                "update results set tries = tries + 1, next_try = ? where number = ?", (next_try, result.number)
            )

    def results_of(self, state: str) -> set[str]:
        """The results in a state."""
        return {str(result) for (result,) in self._ask("select result from results where state = ?", state)}

    def forget(self, *, before: float) -> None:
        """Forget what was done before a time, and all of whose results are sent."""
        with self._change() as database:
            done = (
                "select number from films where state != ?1 and received < ?2 and not exists "
                "(select 1 from results where results.film = films.number and results.state = ?1)"
            )
            database.execute(f"delete from results where film in ({done})", (WAITING, before))
            database.execute(f"delete from films where number in ({done})", (WAITING, before))

    def counts(self) -> dict[str, int]:
        """How many films and results are in each state, as `films_waiting`."""
        counts = {f"films_{state}": 0 for state in (WAITING, SCORED, UNFIT, FAILED)}
        counts |= {f"results_{state}": 0 for state in (WAITING, SENT)}
        for table in ("films", "results"):
            for state, count in self._ask(f"select state, count(*) from {table} group by state"):
                counts[f"{table}_{state}"] = int(str(count))
        return counts

    def reasons(self, *, most: int) -> list[Reason]:
        """Why films are not what they should be, the newest first."""
        rows = self._ask(
            "select number, film, state, why from films where why != '' order by number desc limit ?", most
        )
        return [Reason(*row) for row in rows]  # type: ignore[arg-type]

    def oldest_s(self, *, now: float) -> float:
        """For how many seconds the film waits that has waited longest."""
        oldest = self._ask("select min(received) from films where state = ?", WAITING)[0][0]
        return 0.0 if oldest is None else max(0.0, now - float(str(oldest)))

    def most_tries(self) -> int:
        """How often the result that waits was tried that was tried most; above 0 the PACS is away or refuses."""
        most = self._ask("select max(tries) from results where state = ?", WAITING)[0][0]
        return 0 if most is None else int(str(most))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
