"""The node's store: folders of films and results written safely, and the SQLite queue of what waits."""

import json
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hilum.errors import HilumError
from hilum.pacs.results import is_uid


class Places:
    """A node's folders: films that wait or failed, results that wait or were sent; only their owner may look.

    Raises:
        HilumError: if they cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder, self.films, self.results = folder, folder / "films", folder / "results"
        self.sent, self.models = folder / "sent", folder / "models"
        try:
            for place in (folder, self.films, self.results, self.sent, self.models):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HilumError(f"store.folder must be writable, got {error.strerror!r} at {folder}") from None

    def film(self, file: str) -> Path:
        """Where a film waits."""
        return _below(self.films, file)

    def result(self, uid: str) -> Path:
        """Where a result waits."""
        return _below(self.results, uid)

    def sent_result(self, uid: str) -> Path:
        """Where a result is kept after it was sent."""
        return _below(self.sent, uid)

    def free_mb(self) -> float:
        """Free disk."""
        return shutil.disk_usage(self.folder).free / (1 << 20)

    def keep_reserve(self) -> bool:
        """Whether some disk is held back, so that what was sent can be noted on a full one; held now if it can be.

        Nothing is taken in or scored without it.
        """
        return _hold_back(self.folder)

    def tidy(self, films: set[str], results: set[str]) -> None:
        """Delete what no queue knows: files of a process that ended between a file and its entry, or after one."""
        for place, known in ((self.films, films), (self.results, results)):
            for path in place.iterdir():
                if path.suffix != ".dcm" or path.stem not in known:
                    path.unlink()


RESERVE_MB = 2
"""What a node holds back of its disk for its queue, however little `store.keep_free_mb` leaves."""


def _hold_back(folder: Path) -> bool:
    path, size = folder / "reserve", RESERVE_MB << 20
    if path.is_file() and path.stat().st_size == size:
        return True
    if shutil.disk_usage(folder).free < 1.25 * size:
        return False
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        return False
    return True


def _give_back(folder: Path) -> None:
    """Let the queue have what was held back if it has next to nothing left."""
    if shutil.disk_usage(folder).free < RESERVE_MB << 18:
        (folder / "reserve").unlink(missing_ok=True)


def _below(folder: Path, name: str) -> Path:
    uid, _, content = name.partition("-")
    if not is_uid(uid) or (content and not re.fullmatch("[0-9a-f]+", content)):
        raise ValueError("uid must be digits and dots, at most 64")
    return folder / f"{name}.dcm"


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
REFUSED, ASIDE, REPLACED = "refused", "aside", "replaced"
FILM_STATES = (WAITING, SCORED, UNFIT, FAILED, ASIDE, REPLACED)
LISTED_STATES = (*FILM_STATES, SENT, REFUSED)
"""What films can be listed by; `sent` are those all of whose results are sent."""
DATABASE = "queue.sqlite"
FIRST_TARGET = "pacs"
MOST_TRIES = 10
"""After so many tries that ended the process, a film is given up: it would end every process."""
LONGEST_WAIT_S = 600.0
"""Nothing waits longer for its next try; what seems to, waits for a time before the clock was set back."""
_MOST_REFUSALS = 10_000
_CONTENT_DAYS = 5 * 366
"""For how long a film's first content is remembered, in a hundred bytes, to know another one by."""

_FORMAT = 2
_TABLES = """
create table if not exists films (
    number integer primary key autoincrement, film text not null, content text not null default '', file text not null,
    study text not null, sender text not null default '', received real not null, state text not null,
    tries integer not null default 0, why text not null default '', model text not null default '',
    ended real, kept integer not null default 1, unique (film, content)
) strict;
create table if not exists results (
    number integer primary key autoincrement, result text not null, film integer not null references films (number),
    target text not null default 'pacs', kind text not null default '', series text not null default '',
    state text not null, tries integer not null default 0, next_try real not null, done real,
    why text not null default '', unique (result, target)
) strict;
create table if not exists contents (film text primary key, content text not null, seen real not null) strict;
create table if not exists refusals (
    number integer primary key autoincrement, film text not null, study text not null, sender text not null,
    refused real not null, status integer not null, why text not null, asked integer not null default 0,
    next_ask real not null default 0
) strict;
create table if not exists requests (
    number integer primary key autoincrement, asked real not null, what text not null, done real,
    well integer not null default 0, words text not null default ''
) strict;
create index if not exists films_by_state on films (state, study);
create index if not exists results_by_state on results (state, target, next_try);
create index if not exists results_by_film on results (film);
"""
_UPGRADE = """
drop index if exists films_by_state;
drop index if exists results_by_state;
alter table films rename to films_1;
alter table results rename to results_1;
"""
_MOVE = """
insert into films (number, film, file, study, received, state, tries, why, ended, kept)
    select number, film, film, study, received, state, tries, why, received, state = 'waiting' from films_1;
insert into results (number, result, film, state, tries, next_try, done)
    select number, result, film, state, tries, next_try, done from results_1;
drop table results_1;
drop table films_1;
"""


class WaitingFilm(NamedTuple):
    """A film that waits."""

    number: int
    film: str  # SOP Instance UID
    tries: int
    file: str = ""
    sender: str = ""
    content: str = ""  # what tells it from an earlier film of the same identifier; empty for the first


class Reason(NamedTuple):
    """Why a film was not analysed, failed, or does not fit although it was scored.

    It is for the operator's eyes: `why` can hold what stands in the film's header, and stands in no log.
    """

    number: int
    film: str  # SOP Instance UID
    state: str
    why: str


class ListedFilm(NamedTuple):
    """A film as the operator sees it. Times are seconds since 1970; `number` is 0 for one that was refused."""

    number: int
    film: str
    study: str
    sender: str
    received: float
    state: str
    tries: int
    why: str
    model: str
    kept: bool  # whether the node still has the film itself


class ListedResult(NamedTuple):
    """A result as the operator sees it."""

    result: str
    kind: str
    target: str
    state: str
    tries: int
    next_try: float
    done: float | None
    why: str


class MadeResult(NamedTuple):
    """A result that was made: its identifiers, its kind, and the targets that it goes to."""

    result: str
    kind: str
    series: str
    targets: Sequence[str]


class WaitingResult(NamedTuple):
    """A result that waits to be sent."""

    number: int
    result: str  # SOP Instance UID
    tries: int
    film: int = 0


class Request(NamedTuple):
    """What an operator asked a running node for."""

    number: int
    what: dict[str, Any]


class Queue:
    """The queue. Every change is on the disk when the call returns; calls may come from several threads.

    Args:
        upgrade: whether a queue of an earlier format may be brought to today's; a copy stays beside it. For the node
            itself, which alone has the folder then.

    Raises:
        HilumError: if the file is another program's or another version's.
    """

    def __init__(self, folder: Path, *, upgrade: bool = True):
        self._lock, self._folder = threading.Lock(), folder
        path = folder / DATABASE
        _give_back(folder)
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.execute("pragma wal_autocheckpoint = 64")  # pages of 4 KiB: a log of 4 MiB fills a full disk
            (found,) = self._database.execute("pragma user_version").fetchone()
            if found == 1:
                if not upgrade:
                    raise HilumError(
                        f"queue must be of format {_FORMAT}, got 1 in {folder}. Start the node, which brings it up"
                    )
                self._upgrade(path.with_name(f"{DATABASE}.1"))
            elif found not in (0, _FORMAT):
                raise HilumError(
                    f"queue must be of format {_FORMAT}, got {found} in {folder}. Use the Hilum that made it"
                )
            else:
                self._database.executescript(_TABLES + f"pragma user_version = {_FORMAT};")
        except sqlite3.Error as error:
            raise HilumError(f"queue must be a database that can be used, got {path}: {error}") from None

    def _upgrade(self, beside: Path) -> None:
        beside.unlink(missing_ok=True)
        self._database.execute("vacuum into ?", (str(beside),))
        parts = ("begin immediate;", _UPGRADE, _TABLES, _MOVE, f"pragma user_version = {_FORMAT};", "commit;")
        self._database.executescript("\n".join(parts))

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            _give_back(self._folder)
            self._database.execute("begin immediate")
            try:
                yield self._database
            except BaseException:
                self._database.execute("rollback")
                raise
            self._database.execute("commit")

    def _ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(question, values).fetchall()

    def add(
        self, film: str, study: str, *, now: float, sender: str = "", fingerprint: str = "", file: str = ""
    ) -> list[str]:
        """Take a film on; one whose content is known already stays what it is, another content is another film.

        What waits or failed with an earlier content is replaced: its files, which are needed no more.

        Args:
            fingerprint: of the content that results depend on; see hilum.pacs.receive.
            file: the name that the film waits under; its identifier if empty.
        """
        with self._change() as database:
            database.execute(
                "insert into contents values (?, ?, ?) on conflict (film) do nothing", (film, fingerprint, now)
            )
            content = self._content(database, film, fingerprint)
            added = database.execute(
                "insert into films (film, content, file, study, sender, received, state) values (?, ?, ?, ?, ?, ?, ?) "
                "on conflict (film, content) do nothing",
                (film, content, file or film, study, sender, now, WAITING),
            ).rowcount
            if not added:
                return []
            replaced = database.execute(
                "update films set state = ?, why = 'the film came again with other content', ended = ?, kept = 0 "
                "where film = ? and content != ? and state in (?, ?) returning file",
                (REPLACED, now, film, content, WAITING, FAILED),
            )
            return [str(one) for (one,) in replaced.fetchall()]

    @staticmethod
    def _content(database: sqlite3.Connection, film: str, fingerprint: str) -> str:
        """What tells a film from the first of its identifier: empty for that one, else the fingerprint."""
        found = database.execute("select content from contents where film = ?", (film,)).fetchone()
        return "" if found is None or not found[0] or found[0] == fingerprint else fingerprint

    def knows(self, film: str, fingerprint: str = "") -> bool:
        """Whether the film was taken on with this content, whatever became of it."""
        with self._lock:
            content = self._content(self._database, film, fingerprint)
            question = "select 1 from films where film = ? and content = ?"
            return bool(self._database.execute(question, (film, content)).fetchone())

    def has(self, film: str) -> bool:
        """Whether a film of this identifier was taken on."""
        return bool(self._ask("select 1 from films where film = ? and state != ?", film, ASIDE))

    def set_aside(self, film: str, study: str, *, why: str, sender: str, now: float) -> None:
        """Note an object that is no film, of which nothing is kept."""
        with self._change() as database:
            database.execute(
                "insert into films (film, file, study, sender, received, state, why, ended, kept) "
                "values (?, '', ?, ?, ?, ?, ?, ?, 0) on conflict (film, content) do nothing",
                (film, study, sender, now, ASIDE, why, now),
            )

    def refuse(self, film: str, study: str, *, sender: str, status: int, why: str, now: float) -> None:
        """Note a film that was refused; the newest ten thousand are kept."""
        with self._change() as database:
            number = database.execute(
                "insert into refusals (film, study, sender, refused, status, why) values (?, ?, ?, ?, ?, ?)",
                (film, study, sender, now, status, why),
            ).lastrowid
            database.execute("delete from refusals where number <= ?", ((number or 0) - _MOST_REFUSALS,))

    def to_ask_for(self, *, status: int, now: float, most: int) -> list[tuple[str, int]]:
        """Studies of films that were refused with a status and have not come since; how often they were asked for."""
        rows = self._ask(
            "select study, max(asked) from refusals where status = ? and study != '' and next_ask <= ? and asked < ? "
            "and film not in (select film from films) group by study order by min(number) limit ?",
            status,
            now,
            MOST_TRIES,
            most,
        )
        return [(str(study), int(asked)) for study, asked in rows]

    def asked_for(self, study: str, *, next_ask: float) -> None:
        """A study's refused films were asked for again."""
        with self._change() as database:
            database.execute("update refusals set asked = asked + 1, next_ask = ? where study = ?", (next_ask, study))

    def waiting(self) -> int:
        """How many films wait."""
        return int(self._ask("select count(*) from films where state = ?", WAITING)[0][0])

    def films_of(self, state: str) -> set[str]:
        """The films in a state."""
        return {str(film) for (film,) in self._ask("select film from films where state = ?", state)}

    def kept_files(self) -> set[str]:
        """The files of the films that the node still has."""
        return {str(file) for (file,) in self._ask("select file from films where kept")}

    def ready(self, *, quiet_s: float, now: float, most: int) -> list[WaitingFilm]:
        """Films whose study is complete: nothing came for `quiet_s` seconds. Those tried least come first.

        A film that came in the future, before the clock was set back, waits for no more than `quiet_s` either.
        """
        rows = self._ask(
            "select number, film, tries, file, sender, content from films where state = ?1 and study not in "
            "(select study from films where received > ?2 and received <= ?3) order by tries, number limit ?4",
            WAITING,
            now - quiet_s,
            now,
            most,
        )
        return [WaitingFilm(*row) for row in rows]

    def try_film(self, film: WaitingFilm) -> bool:
        """Count a try before it is made; false, and the film given up, if there were too many."""
        return bool(self.try_films([film]))

    def try_films(self, films: Sequence[WaitingFilm]) -> list[WaitingFilm]:
        """Count a try of each before it is made; those that are to be tried. The others had too many: given up."""
        tried = [film for film in films if film.tries < MOST_TRIES]
        with self._change() as database:
            for film in films:
                state, why = (WAITING, "") if film in tried else (FAILED, "ended the process or the worker")
                database.execute(
                    "update films set tries = tries + 1, state = ?, why = ? where number = ? and state = ?",
                    (state, why, film.number, WAITING),
                )
        return tried

    def put_back(self, film: WaitingFilm) -> None:
        """Do not count a try that failed for another reason than the film, such as a full disk."""
        with self._change() as database:
            database.execute("update films set tries = tries - 1 where number = ? and tries > 0", (film.number,))

    def finish(
        self,
        film: WaitingFilm,
        state: str,
        *,
        why: str = "",
        results: Sequence[MadeResult | str] = (),
        model: str = "",
        now: float,
    ) -> bool:
        """What became of a film, and the results that are to be sent: both or neither.

        False, and nothing changes, if the film was forgotten or replaced meanwhile.
        """
        made = [one if isinstance(one, MadeResult) else MadeResult(one, "", "", (FIRST_TARGET,)) for one in results]
        with self._change() as database:
            changed = database.execute(
                "update films set state = ?, why = ?, model = ?, ended = ?, kept = ? where number = ? and state = ?",
                (state, why, model, now, state == FAILED, film.number, WAITING),
            ).rowcount
            if changed:
                database.executemany(
                    "insert into results (result, film, target, kind, series, state, next_try) "
                    "values (?, ?, ?, ?, ?, ?, ?) on conflict (result, target) do nothing",
                    [
                        (one.result, film.number, target, one.kind, one.series, WAITING, now)
                        for one in made
                        for target in one.targets
                    ],
                )
        return bool(changed)

    def earlier_reports(self, film: WaitingFilm) -> list[tuple[str, str, str]]:
        """Study, series and identifier of the reports that were made of other contents of a film."""
        return self._ask(
            "select distinct films.study, results.series, results.result from results join films "
            "on films.number = results.film where films.film = ? and films.number != ? and results.kind = 'SR' "
            "order by results.number",
            film.film,
            film.number,
        )

    def adopt(self, targets: Sequence[str]) -> set[str]:
        """Give the results of a queue of format 1, which had one target, to the first; targets that are no more."""
        with self._change() as database:
            if FIRST_TARGET not in targets:
                database.execute(
                    "update or ignore results set target = ? where target = ? and kind = ''", (targets[0], FIRST_TARGET)
                )
            rows = database.execute("select distinct target from results where state = ?", (WAITING,)).fetchall()
        return {str(target) for (target,) in rows} - set(targets)

    def to_send(self, *, now: float, most: int, target: str = FIRST_TARGET) -> list[WaitingResult]:
        """Results whose turn has come; after the clock was set back, no wait is longer than the longest."""
        rows = self._ask(
            "select number, result, tries, film from results where state = ? and target = ? "
            "and (next_try <= ? or next_try > ?) order by next_try limit ?",
            WAITING,
            target,
            now,
            now + LONGEST_WAIT_S,
            most,
        )
        return [WaitingResult(*row) for row in rows]

    def sent(self, result: WaitingResult, *, now: float) -> bool:
        """A result is with a target; whether it is with all of them now."""
        with self._change() as database:
            database.execute(
                "update results set state = ?, done = ?, why = '' where number = ?", (SENT, now, result.number)
            )
            left = "select 1 from results where result = ? and state = ?"
            return database.execute(left, (result.result, WAITING)).fetchone() is None

    def not_sent(self, result: WaitingResult, *, next_try: float, why: str = "") -> None:
        """A result could not be sent."""
        with self._change() as database:
            database.execute(
                "update results set tries = tries + 1, next_try = ?, why = ? where number = ?",
                (next_try, why, result.number),
            )

    def results_of(self, state: str) -> set[str]:
        """The results in a state."""
        return {str(result) for (result,) in self._ask("select result from results where state = ?", state)}

    def forget(self, *, before: float) -> None:
        """Forget what was done before a time, and all of whose results are sent."""
        with self._change() as database:
            done = (
                "select number from films where state != ?1 and received < ?2 and not kept and not exists "
                "(select 1 from results where results.film = films.number and results.state = ?1)"
            )
            database.execute(f"delete from results where film in ({done})", (WAITING, before))
            database.execute(f"delete from films where number in ({done})", (WAITING, before))
            database.execute("delete from refusals where refused < ?", (before,))
            database.execute("delete from requests where asked < ?", (before,))
            database.execute("delete from contents where seen < ?", (before - _CONTENT_DAYS * 86400,))

    def let_go(self, *, before: float) -> list[str]:
        """Keep failed films no longer that ended before a time; their files."""
        with self._change() as database:
            rows = database.execute(
                "update films set kept = 0 where state = ? and kept and coalesce(ended, received) < ? returning file",
                (FAILED, before),
            ).fetchall()
        return [str(file) for (file,) in rows]

    def counts(self) -> dict[str, int]:
        """How many films and results are in each state, as `films_waiting`."""
        counts = {f"films_{state}": 0 for state in FILM_STATES}
        counts |= {f"results_{state}": 0 for state in (WAITING, SENT)}
        for table in ("films", "results"):
            for state, count in self._ask(f"select state, count(*) from {table} group by state"):
                counts[f"{table}_{state}"] = int(count)
        return counts

    def waiting_by_target(self) -> dict[str, int]:
        """How many results wait for each target for which any do."""
        return dict(self._ask("select target, count(*) from results where state = ? group by target", WAITING))

    def reasons(self, *, most: int) -> list[Reason]:
        """Why films are not what they should be, the newest first."""
        rows = self._ask(
            "select number, film, state, why from films where why != '' and state not in (?, ?) "
            "order by number desc limit ?",
            ASIDE,
            REPLACED,
            most,
        )
        return [Reason(*row) for row in rows]

    def films(self, state: str | None = None, *, most: int = 100) -> list[ListedFilm]:
        """Films of a state, or of all, the newest first. For the states see LISTED_STATES."""
        if state == REFUSED:
            rows = self._ask(
                "select 0, film, study, sender, refused, 'refused', 0, why, '', 0 from refusals "
                "order by number desc limit ?",
                most,
            )
        else:
            unsent = "exists (select 1 from results where film = films.number and state = 'waiting')"
            where = {
                None: "1",
                SENT: f"state in ('{SCORED}', '{UNFIT}') and not {unsent}",
                SCORED: f"state = '{SCORED}' and {unsent}",
            }.get(state, "state = ?")
            rows = self._ask(
                f"{_LISTED} where {where} order by number desc limit ?",
                *([state] if where == "state = ?" else []),
                most,
            )
        return [ListedFilm(*row)._replace(kept=bool(row[-1])) for row in rows]

    def find(self, film: str) -> list[ListedFilm]:
        """The films of a number or of a SOP Instance UID, the newest first."""
        where = "film = ?" if "." in film else "number = ?"
        rows = self._ask(f"{_LISTED} where {where} order by number desc", film)
        return [ListedFilm(*row)._replace(kept=bool(row[-1])) for row in rows]

    def results_for(self, number: int) -> list[ListedResult]:
        """The results of a film."""
        rows = self._ask(
            "select result, kind, target, state, tries, next_try, done, why from results where film = ? "
            "order by number",
            number,
        )
        return [ListedResult(*row) for row in rows]

    def retry(self, number: int, *, now: float) -> bool:
        """Score a failed film again, and send a film's waiting results now; whether there was anything to do."""
        with self._change() as database:
            again = database.execute(
                "update films set state = ?, tries = 0, why = '', ended = null where number = ? and state = ? and kept",
                (WAITING, number, FAILED),
            ).rowcount
            soon = database.execute(
                "update results set next_try = ? where film = ? and state = ?", (now, number, WAITING)
            ).rowcount
        return bool(again or soon)

    def remove(self, number: int) -> tuple[str, list[str]]:
        """Forget a film, its results and its content, so that it is new when it comes again; what files they had."""
        with self._change() as database:
            results = [str(uid) for (uid,) in database.execute("select result from results where film = ?", (number,))]
            database.execute("delete from results where film = ?", (number,))
            rows = database.execute("delete from films where number = ? returning film, file", (number,)).fetchall()
            for film, _ in rows:
                if not database.execute("select 1 from films where film = ?", (film,)).fetchone():
                    database.execute("delete from contents where film = ?", (film,))
        return (str(rows[0][1]) if rows else ""), results

    def send_again(self, number: int, results: Sequence[str], *, now: float) -> int:
        """Send results of a film again, to all their targets; how many that are."""
        with self._change() as database:
            return sum(
                database.execute(
                    "update results set state = ?, tries = 0, next_try = ?, why = '' where film = ? and result = ?",
                    (WAITING, now, number, result),
                ).rowcount
                for result in results
            )

    def drop_target(self, target: str) -> int:
        """Give up what waits for a target that is no more; how many results that were."""
        with self._change() as database:
            return database.execute("delete from results where target = ? and state = ?", (target, WAITING)).rowcount

    def request(self, what: dict[str, Any], *, now: float) -> int:
        """Ask the running node for something; the number of the request."""
        with self._change() as database:
            asked = database.execute("insert into requests (asked, what) values (?, ?)", (now, json.dumps(what)))
            return int(asked.lastrowid or 0)

    def requested(self) -> Request | None:
        """What was asked for first and is not done."""
        rows = self._ask("select number, what from requests where done is null order by number limit 1")
        return Request(rows[0][0], json.loads(rows[0][1])) if rows else None

    def answer(self, number: int, *, well: bool, words: str, now: float) -> None:
        """A request was done, or could not be."""
        with self._change() as database:
            database.execute(
                "update requests set done = ?, well = ?, words = ? where number = ?", (now, well, words, number)
            )

    def answered(self, number: int) -> tuple[bool, str] | None:
        """Whether a request was done, and what the node said; None while it waits."""
        rows = self._ask("select well, words from requests where number = ? and done is not null", number)
        return (bool(rows[0][0]), str(rows[0][1])) if rows else None

    def oldest_s(self, *, now: float) -> float:
        """For how many seconds the film waits that has waited longest."""
        oldest = self._ask("select min(received) from films where state = ?", WAITING)[0][0]
        return 0.0 if oldest is None else max(0.0, now - float(oldest))

    def most_tries(self) -> int:
        """How often the result that waits was tried that was tried most; above 0 the PACS is away or refuses."""
        most = self._ask("select max(tries) from results where state = ?", WAITING)[0][0]
        return 0 if most is None else int(most)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


_LISTED = "select number, film, study, sender, received, state, tries, why, model, kept from films"
