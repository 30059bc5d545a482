"""The queue: films of other content, an earlier format, what an operator does, clocks that are set back."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from hilum.errors import HilumError
from hilum.pacs.queue import (
    ASIDE,
    DATABASE,
    FAILED,
    REFUSED,
    REPLACED,
    SCORED,
    SENT,
    WAITING,
    MadeResult,
    Places,
    Queue,
    WaitingFilm,
)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(Places(tmp_path).folder)
    yield queue
    queue.close()


def next_film(queue: Queue) -> WaitingFilm:
    return queue.ready(quiet_s=0.0, now=1e6, most=1)[0]


def test_another_content_is_another_film_and_the_same_is_not(queue: Queue) -> None:
    queue.add("1.1", "1.9", now=1.0, fingerprint="a")
    first = next_film(queue)
    assert first.content == ""
    report = MadeResult("2.1", "SR", "2.9", ("pacs",))
    assert queue.finish(first, SCORED, results=[report], now=2.0)
    assert queue.add("1.1", "1.9", now=3.0, fingerprint="a") == []
    assert queue.knows("1.1", "a")
    assert queue.waiting() == 0
    assert not queue.knows("1.1", "b")
    queue.add("1.1", "1.9", now=4.0, fingerprint="b")
    second = next_film(queue)
    assert second.content == "b"
    assert queue.earlier_reports(second) == [("1.9", "2.9", "2.1")]
    queue.forget(before=1e9)  # the first is known by its content for years
    assert queue.knows("1.1", "b")
    queue.remove(second.number)
    queue.sent(queue.to_send(now=1e6, most=1)[0], now=5.0)
    queue.forget(before=1e9)
    queue.add("1.1", "1.9", now=6.0, fingerprint="b")
    assert next_film(queue).content in ("", "b")


def test_a_film_that_waits_is_replaced_and_its_results_are_not_made(queue: Queue) -> None:
    queue.add("1.1", "1.9", now=1.0, fingerprint="a", file="1.1-aa")
    under_way = next_film(queue)
    assert queue.add("1.1", "1.9", now=2.0, fingerprint="b", file="1.1-bb") == ["1.1-aa"]
    assert not queue.finish(under_way, SCORED, results=["2.1"], now=3.0)
    assert queue.results_of(WAITING) == set()
    assert [(one.state, one.kept) for one in queue.find("1.1")] == [(WAITING, True), (REPLACED, False)]
    assert queue.kept_files() == {"1.1-bb"}


def test_a_queue_of_the_first_format_is_brought_up_by_the_node_alone(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / DATABASE)
    old.executescript(
        """
        create table films (number integer primary key, film text not null unique, study text not null,
            received real not null, state text not null, tries integer not null default 0,
            why text not null default '') strict;
        create table results (number integer primary key, result text not null unique,
            film integer not null references films (number), state text not null,
            tries integer not null default 0, next_try real not null, done real) strict;
        create index films_by_state on films (state, study);
        create index results_by_state on results (state, next_try);
        insert into films values (7, '1.1', '1.9', 5, 'waiting', 2, ''), (8, '1.2', '1.9', 6, 'failed', 1, 'bad');
        insert into films values (9, '1.3', '1.9', 6, 'scored', 1, '');
        insert into results values (3, '2.1', 9, 'waiting', 4, 7, null);
        pragma user_version = 1;
        """
    )
    old.close()
    with pytest.raises(HilumError, match="Start the node"):
        Queue(tmp_path, upgrade=False)
    queue = Queue(tmp_path)
    assert next_film(queue) == WaitingFilm(7, "1.1", 2, "1.1")
    assert queue.kept_files() == {"1.1"}  # failed films were not kept
    assert queue.adopt(["archive"]) == set()
    assert [one.result for one in queue.to_send(now=8.0, most=9, target="archive")] == ["2.1"]
    assert queue.knows("1.3", "any")  # its content was not known
    queue.add("1.4", "1.9", now=9.0)
    assert queue.find("1.4")[0].number == 10
    queue.close()
    Queue(tmp_path, upgrade=False).close()
    assert sqlite3.connect(tmp_path / f"{DATABASE}.1").execute("select count(*) from films").fetchone() == (3,)


def test_what_an_operator_sees_and_does(queue: Queue) -> None:
    for number in range(4):
        queue.add(f"1.{number}", "1.9", now=float(number), sender="CT1", fingerprint=str(number))
    failed, sent, unsent, _ = queue.ready(quiet_s=0.0, now=1e6, most=9)
    queue.finish(failed, FAILED, why="bad", now=5.0)
    queue.finish(sent, SCORED, results=["2.1"], now=5.0)
    queue.sent(queue.to_send(now=6.0, most=9)[0], now=6.0)
    queue.finish(unsent, SCORED, results=["2.2"], now=5.0)
    queue.refuse("1.7", "1.9", sender="CT1", status=0xA700, why="full", now=7.0)
    queue.set_aside("1.8", "1.9", why="CT Image Storage", sender="CT1", now=8.0)

    def listed(state: str | None) -> list[str]:
        return [one.film for one in queue.films(state)]

    assert listed(FAILED) == ["1.0"]
    assert listed(SENT) == ["1.1"]
    assert listed(SCORED) == ["1.2"]
    assert listed(WAITING) == ["1.3"]
    assert listed(ASIDE) == ["1.8"]
    assert [(one.film, one.why, one.sender) for one in queue.films(REFUSED)] == [("1.7", "full", "CT1")]
    assert len(queue.films()) == 5
    assert queue.find(str(failed.number)) == queue.find("1.0")
    assert queue.retry(failed.number, now=9.0)
    assert not queue.retry(sent.number, now=9.0)
    assert listed(FAILED) == []
    assert queue.send_again(sent.number, ["2.1"], now=9.0) == 1
    assert {one.result for one in queue.to_send(now=9.0, most=9)} == {"2.1", "2.2"}
    assert queue.remove(sent.number) == ("1.1", ["2.1"])
    assert not queue.knows("1.1", "1")
    assert queue.drop_target("pacs") == 1


def test_failed_films_are_kept_for_a_time(queue: Queue) -> None:
    queue.add("1.1", "1.9", now=1.0)
    queue.finish(next_film(queue), FAILED, why="bad", now=100.0)
    queue.forget(before=200.0)
    assert queue.let_go(before=100.0) == []
    assert queue.let_go(before=101.0) == ["1.1"]
    assert not queue.retry(1, now=102.0)


def test_a_target_has_a_queue_of_its_own(queue: Queue) -> None:
    queue.add("1.1", "1.9", now=1.0)
    queue.finish(next_film(queue), SCORED, results=[MadeResult("2.1", "SR", "2.9", ("a", "b"))], now=1.0)
    (to_a,) = queue.to_send(now=2.0, most=9, target="a")
    queue.not_sent(to_a, next_try=50.0, why="away")
    (to_b,) = queue.to_send(now=2.0, most=9, target="b")
    assert not queue.sent(to_b, now=2.0)
    assert queue.waiting_by_target() == {"a": 1}
    assert queue.adopt(["b"]) == {"a"}
    assert queue.sent(to_a, now=60.0)


def test_a_clock_that_is_set_back_holds_nothing_up(queue: Queue) -> None:
    queue.add("1.1", "1.9", now=1e9)
    assert queue.ready(quiet_s=10.0, now=1000.0, most=9)
    queue.finish(next_film(queue), SCORED, results=["2.1"], now=1e9)
    assert queue.to_send(now=1000.0, most=9)


def test_requests_are_answered_once(queue: Queue) -> None:
    number = queue.request({"to": None}, now=1.0)
    asked = queue.requested()
    assert asked is not None
    assert asked.number == number
    assert queue.answered(number) is None
    queue.answer(number, well=True, words="done", now=2.0)
    assert queue.answered(number) == (True, "done")
    assert queue.requested() is None


def test_refused_films_are_asked_for_until_they_come(queue: Queue) -> None:
    for number, status in ((1, 0xA700), (2, 0xA700), (3, 0xC000)):
        queue.refuse(f"1.{number}", f"1.9.{number}", sender="CT1", status=status, why="full", now=1.0)
    queue.refuse("1.1", "1.9.1", sender="CT1", status=0xA700, why="full", now=2.0)
    assert queue.to_ask_for(status=0xA700, now=3.0, most=9) == [("1.9.1", 0), ("1.9.2", 0)]
    queue.asked_for("1.9.1", next_ask=100.0)
    assert queue.to_ask_for(status=0xA700, now=3.0, most=9) == [("1.9.2", 0)]
    queue.add("1.2", "1.9.2", now=4.0)
    assert queue.to_ask_for(status=0xA700, now=100.0, most=9) == [("1.9.1", 1)]
    for _ in range(9):
        queue.asked_for("1.9.1", next_ask=0.0)
    assert queue.to_ask_for(status=0xA700, now=100.0, most=9) == []
