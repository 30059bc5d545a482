"""A node between a sender and a PACS, all in this process on loopback, and what goes wrong there."""

import contextlib
import errno
import gc
import json
import logging
import resource
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from dicom_pacs import Pacs, film, free_port, send, until
from fake_node import MODEL, SameScores, configured
from pynetdicom import AE

from hilum.errors import HilumError
from hilum.pacs.config import Dimse
from hilum.pacs.queue import ASIDE, FAILED, SCORED, UNFIT, WAITING, Places, Queue, WaitingResult
from hilum.pacs.results import fit_in, scores_of
from hilum.pacs.send import NotSentError, Sender
from hilum.pacs.service import Node, ask_reload, queue_of, read_facts, read_reasons

pytestmark = [
    pytest.mark.slow,  # servers
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),  # pydicom, in the threads of the sender
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see collected
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """pynetdicom forgets to close a socket where nobody listens: it is closed, and said, in the test that left it."""
    yield
    gc.collect()


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    pacs = Pacs(free_port()).start()
    yield pacs
    pacs.stop()


@pytest.fixture
def start(tmp_path: Path, pacs: Pacs) -> Iterator[Callable[..., tuple[Node, int]]]:
    """Starts a node, and stops it at the end."""
    nodes: list[Node] = []

    def start(**changes: Any) -> tuple[Node, int]:
        port = free_port()
        config = configured(tmp_path, port=port, pacs=pacs.port, **changes)
        nodes.append(Node(config, engine=SameScores(), model=MODEL))
        nodes[-1].start()
        return nodes[-1], port

    yield start
    for node in nodes:
        node.stop()


def test_a_film_becomes_a_report_and_a_picture_in_its_study(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    node, port = start()
    assert send([film(tmp_path, 1), film(tmp_path, 2)], port) == [0, 0]
    until(lambda: len(pacs.kept) == 4)
    until(lambda: node.facts()["results_waiting"] == 0)
    assert {(one.Modality, one.StudyInstanceUID) for one in pacs.kept.values()} == {
        (modality, f"1.2.4.{study}") for modality in ("SR", "OT") for study in (0, 1)
    }
    report = next(one for one in pacs.kept.values() if one.Modality == "SR")
    assert scores_of(report) == {"Effusion": (0.25, None, ""), "Mass": (0.75, None, "")}
    assert node.facts()["films_scored"] == 2
    until(lambda: not [*(tmp_path / "node" / "films").iterdir(), *(tmp_path / "node" / "results").iterdir()])
    assert send([film(tmp_path, 1)], port) == [0]  # again: it is taken, and has no second result
    time.sleep(1)
    assert set(pacs.times.values()) == {1}


def test_it_answers_an_echo(start: Any) -> None:
    _, port = start()
    entity = AE(ae_title="SENDER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", port, ae_title="HILUM")
    assert association.send_c_echo().Status == 0
    association.release()


def test_a_pacs_that_is_away_gets_its_results_when_it_is_back(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    pacs.stop()
    node, port = start()
    assert send([film(tmp_path, n) for n in range(3)], port) == [0] * 3
    until(lambda: node.facts()["results_waiting"] == 6 and node.facts()["most_tries"] > 0)
    pacs.status = 0xA700
    pacs.start()
    until(lambda: node.facts()["most_tries"] > 1)  # back, but full
    assert not pacs.kept
    pacs.status = 0
    until(lambda: node.facts()["results_sent"] == 6)
    assert set(pacs.times.values()) == {1}


def test_who_may_not_send_is_turned_away(start: Any, tmp_path: Path) -> None:
    _, port = start()
    one = [film(tmp_path, 1)]
    assert send(one, port, caller="STRANGER") == []
    assert send(one, port, called="OTHER") == []
    _, elsewhere = start(store__folder="other", receive__hosts=["10.1.0.0/16"])
    assert send(one, elsewhere) == []


def test_lying_films_are_refused_and_damaged_ones_recorded(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    node, port = start()
    assert send([film(tmp_path, 1)], port, uid="1.2.3.999.not.a.uid") == [0xC000]
    assert send([film(tmp_path, 2, StudyInstanceUID="../../etc")], port) == [0xC000]
    assert send([film(tmp_path, 3, Rows=41)], port) == [0]
    assert send([film(tmp_path, 4, ViewPosition="LL")], port) == [0]
    assert send([film(tmp_path, 5, Manufacturer="Hilum")], port) == [0]
    until(lambda: node.facts()["films_waiting"] == 0 and node.facts()["results_waiting"] == 0)
    facts = node.facts()
    assert (facts["films_failed"], facts["films_unfit"], facts["films_scored"]) == (1, 2, 0)
    (report,) = pacs.kept.values()  # a film that Hilum made gets none: results would come back for ever
    assert scores_of(report) == {}
    assert fit_in(report) == "lateral: the header's View Position is LL"
    assert facts["refused"] == 2
    reasons = {one.film: (one.state, one.why) for one in read_reasons(tmp_path / "node")}
    assert set(reasons) == {"1.2.3.3", "1.2.3.4", "1.2.3.5"}
    assert reasons["1.2.3.3"][0] == FAILED
    assert "pixels" in reasons["1.2.3.3"][1]
    assert reasons["1.2.3.4"] == (UNFIT, "lateral: the header's View Position is LL")


def test_a_node_that_is_told_to_scores_films_that_do_not_fit(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    node, port = start(model__force=True)
    assert send([film(tmp_path, 4, ViewPosition="LL")], port) == [0]
    until(lambda: node.facts()["results_sent"] == 2)
    report = next(one for one in pacs.kept.values() if one.Modality == "SR")
    assert len(scores_of(report)) == 2
    assert fit_in(report) == "lateral: the header's View Position is LL"
    assert node.facts()["films_scored"] == 1
    assert [one.state for one in read_reasons(tmp_path / "node")] == [SCORED]


def test_a_full_disk_is_said_and_loses_nothing(
    start: Any, pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, port = start()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hilum.pacs.receive.write_safely", full)
        assert send([film(tmp_path, 1)], port) == [0xA700]
    with monkeypatch.context() as patch:
        patch.setattr("hilum.pacs.work.write_safely", full)
        assert send([film(tmp_path, 2)], port) == [0]
        time.sleep(1.5)
        assert node.facts()["films_waiting"] == 1
    assert send([film(tmp_path, 1)], port) == [0]
    until(lambda: node.facts()["results_sent"] == 4)
    _, port = start(store__folder="other", store__keep_free_mb=1 << 30)
    assert send([film(tmp_path, 3)], port) == [0xA700]
    _, port = start(store__folder="third", store__most_waiting=1, store__quiet_s=60)
    assert send([film(tmp_path, 4), film(tmp_path, 5)], port) == [0, 0xA700]


def test_the_last_of_the_disk_is_not_for_results(
    start: Any, pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [100.0]
    monkeypatch.setattr(Places, "free_mb", lambda _: free[0])
    node, port = start(store__keep_free_mb=80, store__quiet_s=1)
    assert send([film(tmp_path, 1)], port) == [0]
    free[0] = 39.0
    assert send([film(tmp_path, 2)], port) == [0xA700]
    time.sleep(2)
    assert node.facts()["films_waiting"] == 1
    free[0] = 41.0
    until(lambda: node.facts()["results_sent"] == 2)


def test_a_film_too_large_ends_its_association(start: Any, tmp_path: Path) -> None:
    node, port = start(receive__largest_film_mb=1)
    large = written(tmp_path / "large.dcm", np.zeros((1200, 1200), np.uint8), SOPInstanceUID="1.2.9")
    assert send([large], port) == [None]
    assert node.facts()["films_waiting"] == 0
    assert send([film(tmp_path, 1)], port) == [0]


def test_twenty_senders_at_once(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    node, port = start()
    films = [film(tmp_path, n) for n in range(20)]
    statuses: list[Any] = []
    threads = [threading.Thread(target=lambda one=one: statuses.extend(send([one], port))) for one in films]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 20
    until(lambda: node.facts()["results_sent"] == 40, seconds=120)
    assert set(pacs.times.values()) == {1}


def test_connections_that_ask_for_nothing_take_no_place(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    _, port = start(receive__most_associations=2)
    for _ in range(12):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    until(lambda: send([film(tmp_path, 1)], port) == [0], seconds=5)  # pynetdicom would hold them for 10


def test_a_pdu_that_says_it_is_enormous_ends_its_connection(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    """A peer announces 4 GiB and sends on: not even the part that came is kept."""
    node, port = start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind in (1, 4):  # a request, and data
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(bytes([kind, 0, 0xFF, 0xFF, 0xFF, 0xFF]))
            with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
                peer.sendall(bytes(1 << 28))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100
    assert node.facts()["refused"] == 2
    assert send([film(tmp_path, 1)], port) == [0]


def test_a_connection_that_falls_silent_in_the_middle_takes_no_place(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.pacs.receive._LONGEST_SILENCE_S", 0.5)
    _, port = start(receive__most_associations=1)
    with contextlib.ExitStack() as open_lines:
        for _ in range(3):
            line = open_lines.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            line.sendall(bytes([1, 0, 0, 0, 4, 0, 0, 1]))  # 1,024 bytes are to come, and do not
        assert line.recv(1) == b""  # the last of them
        until(lambda: send([film(tmp_path, 1)], port) == [0])  # send looks first whether somebody listens


def test_no_log_line_and_no_metric_has_a_patient_s_data(
    start: Any, pacs: Pacs, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, logger="hilum")
    watch = free_port()
    node, port = start(watch=watch)
    send([film(tmp_path, 1), film(tmp_path, 2, Rows=41), film(tmp_path, 3, StudyInstanceUID="x")], port)
    send([film(tmp_path, 4, PatientBirthDate="1950-13-99", PatientSex="??")], port)
    pacs.stop()
    send([film(tmp_path, 6)], port)
    until(lambda: node.facts()["films_waiting"] == 0 and node.facts()["most_tries"] > 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{watch}/metrics") as answer:
        metrics = answer.read().decode()
    with urllib.request.urlopen(f"http://127.0.0.1:{watch}/health") as answer:
        assert json.load(answer)["healthy"]
    with pytest.raises(urllib.error.HTTPError) as wrong:
        urllib.request.urlopen(f"http://127.0.0.1:{watch}/films")
    wrong.value.close()
    assert "hilum_node_films_failed 1\n" in metrics
    own = "".join(f"{one.levelname} {one.getMessage()}\n" for one in caplog.records if one.name.startswith("hilum"))
    assert "film 1 is scored" in own
    planted = ("Planted", "P-0815", "19500102", "20240203", "A-77", "1.2.3.", "1.2.4.")
    for text in (own, metrics, *capfd.readouterr()):
        assert not [word for word in planted if word in text]
    beside = {str(one.__dict__.get("film")): one for one in caplog.records if "film" in one.__dict__}
    assert beside["1.2.3.2"].__dict__["sender"] == "SENDER"  # by which an operator finds it: in JSON lines alone
    assert 'hilum_node_films_refused_total{reason="study",sender="SENDER"} 1\n' in metrics
    assert 'hilum_node_films_with_reason_total{state="failed",reason="' in metrics


# the queue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(Places(tmp_path / "queue").folder)
    yield queue
    queue.close()


def test_a_study_is_ready_when_nothing_came_for_a_while(queue: Queue) -> None:
    queue.add("1.1", "1.9", now=100.0)
    queue.add("1.2", "1.9", now=108.0)
    queue.add("1.3", "1.8", now=101.0)
    queue.add("1.1", "1.9", now=120.0)  # again
    assert [one.film for one in queue.ready(quiet_s=10.0, now=112.0, most=9)] == ["1.3"]
    assert [one.film for one in queue.ready(quiet_s=10.0, now=118.0, most=9)] == ["1.1", "1.2", "1.3"]
    assert queue.oldest_s(now=112.0) == 12


def test_a_film_that_ends_every_process_is_given_up_and_others_come_first(queue: Queue) -> None:
    queue.add("1.1", "1.9", now=0.0)
    queue.add("1.2", "1.9", now=0.0)
    for _ in range(10):
        (poison,) = [one for one in queue.ready(quiet_s=0.0, now=1.0, most=9) if one.film == "1.1"]
        assert queue.try_film(poison)
    assert [one.film for one in queue.ready(quiet_s=0.0, now=1.0, most=9)] == ["1.2", "1.1"]
    assert not queue.try_film(queue.ready(quiet_s=0.0, now=1.0, most=9)[1])
    assert queue.films_of(FAILED) == {"1.1"}


def test_what_is_done_and_sent_is_forgotten_in_the_end(queue: Queue) -> None:
    for number, state in ((1, SCORED), (2, UNFIT), (3, SCORED)):
        queue.add(f"1.{number}", "1.9", now=0.0)
        (one,) = queue.ready(quiet_s=0.0, now=1.0, most=1)
        queue.finish(one, state, results=[f"2.{number}"] if state == SCORED else [], now=1.0)
    queue.add("1.4", "1.9", now=0.0)
    queue.sent(queue.to_send(now=2.0, most=1)[0], now=2.0)
    queue.forget(before=10.0)
    assert (queue.films_of(SCORED), queue.films_of(UNFIT), queue.films_of(WAITING)) == ({"1.3"}, set(), {"1.4"})
    assert queue.results_of(WAITING) == {"2.3"}


def test_a_sender_that_is_stopped_tries_no_other_result(queue: Queue, pacs: Pacs, tmp_path: Path) -> None:
    places = Places(tmp_path / "queue")
    send_to = Dimse(kind="dimse", ae_title="PACS", host="127.0.0.1", port=pacs.port)
    queue.add("1.1", "1.9", now=0.0)
    (one,) = queue.ready(quiet_s=0.0, now=1.0, most=1)
    results = [f"1.2.3.{number}" for number in range(5)]
    for number, uid in enumerate(results):
        film(tmp_path, number).rename(places.result(uid))
    queue.finish(one, SCORED, results=results, now=1.0)

    class Stopped(Sender):
        def _later(self, results: list[WaitingResult], error: NotSentError) -> None:
            super()._later(results, error)
            self._ended.set()

    sender = Stopped(send_to, places, queue, caller="HILUM")
    assert sender.step() == 0  # a film is nothing that the PACS takes
    assert len(queue.to_send(now=time.time(), most=9)) == 4


def test_a_result_whose_file_is_gone_does_not_hold_up_the_others(
    queue: Queue, pacs: Pacs, tmp_path: Path, start: Any
) -> None:
    node, port = start(store__folder="other")
    pacs.status = 0xA700
    send([film(tmp_path, 1)], port)
    until(lambda: node.facts()["most_tries"] > 0)
    gone, _ = sorted((tmp_path / "other" / "results").iterdir())
    gone.unlink()
    pacs.status = 0
    until(lambda: node.facts()["results_sent"] == 1)
    assert node.facts()["results_waiting"] == 1
    assert node.facts()["sender_alive"]


def test_a_folder_is_one_node_s_alone(start: Any, tmp_path: Path) -> None:
    start()
    with pytest.raises(HilumError, match="another node uses"):
        start()
    assert read_facts(tmp_path / "node")["films_waiting"] == 0
    with pytest.raises(HilumError, match="Was the node started"):
        read_facts(tmp_path)


def test_files_without_an_entry_are_deleted_at_the_start(tmp_path: Path) -> None:
    places = Places(tmp_path / "node")
    for name in ("1.2.dcm", "1.3.dcm", "1.2.123-abc", "x"):
        (places.films / name).write_bytes(b"")
    places.tidy({"1.2"}, set())
    assert [path.name for path in places.films.iterdir()] == ["1.2.dcm"]
    with pytest.raises(ValueError, match="uid must be"):
        places.film("../1.2")


# other systems


def test_what_comes_with_films_and_is_none_is_set_aside(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    node, port = start()
    other = film(tmp_path, 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT")
    assert send([other, film(tmp_path, 2)], port) == [0, 0]
    until(lambda: node.facts()["results_sent"] == 2)
    facts = node.facts()
    assert (facts["films_aside"], facts["films_scored"], facts["set_aside"]) == (1, 1, 1)
    with queue_of(tmp_path / "node") as queue:
        (aside,) = queue.films(ASIDE)
    assert (aside.film, aside.why) == ("1.2.3.1", "a film is CR, DX or Secondary Capture, this is CT Image Storage")
    assert not [*(tmp_path / "node" / "films").iterdir()]


def test_a_film_that_comes_again_with_other_content_is_done_again(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    node, port = start()
    assert send([film(tmp_path, 1)], port) == [0]
    until(lambda: node.facts()["results_sent"] == 2)
    assert send([film(tmp_path, 1, PatientName="Corrected^Name")], port) == [0]
    until(lambda: node.facts()["results_sent"] == 4)
    assert send([film(tmp_path, 1), film(tmp_path, 1, PatientName="Corrected^Name")], port) == [0, 0]
    assert node.facts()["films_waiting"] == 0
    first, second = (one for one in pacs.kept.values() if one.Modality == "SR")
    assert (str(first.PatientName), str(second.PatientName)) == ("Planted^Name", "Corrected^Name")
    (before,) = second.PredecessorDocumentsSequence
    assert before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert len(pacs.kept) == 4


def test_several_targets_each_get_what_they_take(start: Any, pacs: Pacs, tmp_path: Path) -> None:
    """One takes Enhanced SR alone and no pictures, one is away; the third has all meanwhile."""
    narrow = Pacs(free_port(), kinds=("1.2.840.10008.5.1.4.1.1.88.22",)).start()
    port = free_port()
    config = configured(tmp_path, port=port, pacs=pacs.port)
    to = {"kind": "dimse", "ae_title": "PACS", "host": "127.0.0.1"}
    targets = [
        {**to, "name": "all", "port": pacs.port},
        {**to, "name": "narrow", "port": narrow.port},
        {**to, "name": "away", "port": free_port(), "sr": "none"},
    ]
    node = Node(type(config).model_validate({**config.model_dump(), "send": targets}), engine=SameScores(), model=MODEL)
    node.start()
    try:
        assert send([film(tmp_path, 1)], port) == [0]
        until(lambda: len(pacs.kept) == 2 and len(narrow.kept) == 1)
        with queue_of(tmp_path / "node") as queue:
            until(lambda: sum(one.tries for one in queue.results_for(1)) >= 2)
            until(lambda: sum(one.state == "sent" for one in queue.results_for(1)) == 3)  # noted after it was kept
            states = {(one.target, one.kind, one.state): one.why for one in queue.results_for(1)}
        assert set(states) == {
            *(("all", "SR", "sent"), ("all", "SC", "sent"), ("narrow", "SR", "sent")),
            *(("narrow", "SC", "waiting"), ("away", "SC", "waiting")),
        }
        assert "Secondary Capture" in states["narrow", "SC", "waiting"]
        assert "got no association" in states["away", "SC", "waiting"]
        waits = {
            one.labels["target"]: one.value for one in node.health().counted if one.name.endswith("results_waiting")
        }
        assert waits == {"all": 0, "narrow": 1, "away": 1}
    finally:
        node.stop()
        narrow.stop()
    (report,) = narrow.kept.values()
    whole = next(one for one in pacs.kept.values() if one.Modality == "SR")
    assert scores_of(report) == scores_of(whole)
    assert report.SOPInstanceUID != whole.SOPInstanceUID


def test_who_is_turned_away_is_counted_by_reason(start: Any, tmp_path: Path) -> None:
    node, port = start()
    one = [film(tmp_path, 1)]
    send(one, port, caller="STRANGER")
    send(one, port, called="OTHER")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(b"\x16\x03\x01\x02\x00\x01" + bytes(64))
        with contextlib.suppress(OSError):
            line.recv(1)
    entity = AE(ae_title="SENDER")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")  # a query
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", port, ae_title="HILUM")
    association.release()

    def counted() -> dict[str, Any]:
        return {one.labels["reason"]: one.value for one in node.health().counted if one.name == "turned_away"}

    wanted = {"calling_ae_title": 1, "called_ae_title": 1, "tls_unexpected": 1, "sop_class": 1}
    until(lambda: {**counted(), **wanted} == counted())


def test_models_of_a_running_node_are_switched_whole(pacs: Pacs, untrained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(untrained_run, tmp_path / "model")
    port = free_port()
    config = configured(tmp_path, port=port, pacs=pacs.port)
    node = Node(config, path=tmp_path / "node.toml")
    node.start()

    def software() -> set[tuple[str, ...]]:
        return {tuple(one.SoftwareVersions) for one in pacs.kept.values()}

    try:
        first = node.health().models["main"]
        assert (first["engine"], first["precision"]) == ("torch", "fp32")
        send([film(tmp_path, 1)], port)
        until(lambda: len(pacs.kept) == 2)
        assert software() == {(first["version"], "torch fp32")}
        weights = tmp_path / "model" / "weights.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:99])
        answer = ask_reload(config, None, timeout_s=60)
        assert not answer.well
        assert "weights.safetensors" in answer.words
        assert node.health().models["main"] == first
        weights.write_bytes(whole)
        described = json.loads((tmp_path / "model" / "bundle.json").read_text())
        (tmp_path / "model" / "bundle.json").write_text(json.dumps({**described, "films": "others"}))
        assert ask_reload(config, None, timeout_s=60).well
        second = node.health().models["main"]
        assert second["version"] != first["version"]
        send([film(tmp_path, 3)], port)
        until(lambda: len(software()) == 2)
        assert ask_reload(config, {"main": first["name"]}, timeout_s=60).well
        assert node.health().models["main"] == first
    finally:
        node.stop()
