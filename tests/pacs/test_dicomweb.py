"""Films of a DICOMweb server, where the server is a small one of this file that can fail."""

import email
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from dicom_pacs import film
from fake_node import MODEL, SameScores, model_with_calls
from pydicom import Dataset, dcmread

from hilum.errors import HilumError
from hilum.pacs.dicomweb import Found, find_films, open_client, predict_from_web
from hilum.predict.files import Row

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


class Server:
    """QIDO, WADO and STOW; a film in `broken` is answered with that status, one in `other` with that film."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}
        self.other: dict[str, str] = {}
        self.refuses = self.ignores_filters = self.ignores_offset = False
        self.unsaid: tuple[str, ...] = ()  # elements that answers do not have
        self.page, self.asked = 1000, 0
        self.got: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                match parts.path.strip("/").split("/"):
                    case ["series"]:
                        asked = parse_qs(parts.query)["Modality"]
                        found = [one for one in server.headers() if server.ignores_filters or one.Modality in asked]
                        self.answer_json(found)
                    case ["studies", study, "instances"]:
                        self.answer_json([one for one in server.headers() if one.StudyInstanceUID == study])
                    case ["studies", _, "series", series, "instances"]:
                        self.answer_json([one for one in server.headers() if one.SeriesInstanceUID == series])
                    case ["studies", _, "series", _, "instances", instance]:
                        server.got.append(instance)
                        if instance in server.broken:
                            self.answer(server.broken[instance], "text/plain", b"Planted^Name is not here")
                            return
                        content = server.stored[server.other.get(instance, instance)]
                        part = b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--cut--\r\n"
                        self.answer(200, 'multipart/related; type="application/dicom"; boundary=cut', part)

            def do_POST(self) -> None:
                body = b"".join(self.chunks())
                head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                if server.refuses:
                    self.answer(503, "text/plain", b"Planted^Name")
                    return
                for part in email.message_from_bytes(head + body).walk():
                    if part.get_content_type() == "application/dicom":
                        server.keep(bytes(part.get_payload(decode=True)))
                self.answer(200, "application/dicom+json", b"{}")

            def chunks(self) -> Iterator[bytes]:
                if "Content-Length" in self.headers:
                    yield self.rfile.read(int(self.headers["Content-Length"]))
                    return
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()

            def answer_json(self, found: list[Dataset]) -> None:
                start = int(parse_qs(urlsplit(self.path).query).get("offset", ["0"])[0])
                server.asked += 1
                shown = found[0 if server.ignores_offset else start :][: server.page]
                for one in shown:
                    for name in server.unsaid:
                        one.pop(name, None)
                content = json.dumps([one.to_json_dict() for one in shown])
                self.answer(200, "application/dicom+json", content.encode())

            def answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status, "Planted^Reason")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.client = open_client(f"http://127.0.0.1:{self._server.server_port}", None)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def keep(self, content: bytes) -> None:
        self.stored[str(dcmread(BytesIO(content)).SOPInstanceUID)] = content

    def headers(self) -> list[Dataset]:
        return [dcmread(BytesIO(content), stop_before_pixels=True) for content in self.stored.values()]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.client._session.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with three films, each of a study of its own."""
    server = Server()
    for number in (2, 4, 6):
        server.keep(film(tmp_path, number, SeriesInstanceUID=f"1.2.5.{number}").read_bytes())
    yield server
    server.stop()


class CountingScores(SameScores):
    """The same scores for every film, and how many films that were."""

    def __init__(self) -> None:
        self.films = 0

    def run(self, grey: Any) -> Any:
        self.films += len(grey)
        return super().run(grey)


def rows(
    server: Server, engine: Any, *, send: bool = True, model: Any = MODEL, top: int = 3, force: bool = False
) -> list[Row]:
    films = find_films(server.client, {"StudyDate": "20240101-"})
    return list(predict_from_web(server.client, films, engine, model, send=send, top=top, force=force))


def test_films_are_scored_and_results_stored(server: Server) -> None:
    scored = rows(server, SameScores())
    assert [row.film for row in scored] == ["1.2.3.2", "1.2.3.4", "1.2.3.6"]
    assert [row.error for row in scored] == [""] * 3
    assert [one.Modality for one in server.headers()[3:]] == ["SR", "OT"] * 3


@pytest.mark.parametrize("send", [False, True])
def test_a_film_that_the_server_does_not_give_is_a_row_that_says_what_it_answered(server: Server, send: bool) -> None:
    server.broken = {"1.2.3.2": 404, "1.2.3.6": 500}
    missing, good, broken = rows(server, SameScores(), send=send)
    assert missing.error == ("film must come from the server, got HTTP status 404 for 1.2.3.2. Run the command again.")
    assert "got HTTP status 500 for 1.2.3.6" in broken.error
    assert np.isnan([*missing.scores, *broken.scores]).all()
    assert (good.film, good.error, good.scores) == ("1.2.3.4", "", [0.25, 0.75])


def test_another_film_than_was_asked_for_is_refused(server: Server) -> None:
    server.other = {"1.2.3.4": "1.2.3.6"}
    _, wrong, _ = rows(server, SameScores())
    assert wrong.error == ("film must be the one that was asked for, got another for 1.2.3.4. Look at the server.")


def test_a_server_that_takes_no_results_is_named(server: Server) -> None:
    server.refuses = True
    assert {row.error for row in rows(server, SameScores())} == {
        "server must store the results, got HTTP status 503. Run the command again."
    }


def test_a_repeat_scores_only_what_has_no_results(server: Server) -> None:
    server.broken = {"1.2.3.4": 503}
    first = rows(server, SameScores())
    assert [bool(row.error) for row in first] == [False, True, False]
    server.broken, server.got, engine = {}, [], CountingScores()
    again = rows(server, engine)
    assert engine.films == 1
    assert [row.film for row in again] == ["1.2.3.2", "1.2.3.4", "1.2.3.6"]
    assert [again[0], again[2]] == [first[0], first[2]]
    assert again[1].scores == first[0].scores
    assert not {"1.2.3.2", "1.2.3.6"} & set(server.got)
    assert len(server.stored) == 9


def test_results_of_another_kind_do_not_count(server: Server) -> None:
    rows(server, SameScores())
    engine = CountingScores()
    rows(server, engine, top=1)
    assert engine.films == 3
    rows(server, engine, send=False)
    assert engine.films == 6
    report = next(one.SOPInstanceUID for one in server.headers() if one.Modality == "SR")
    server.broken = {report: 500}  # the film is scored and the report sent again
    assert [row.error for row in rows(server, engine)] == [""] * 3
    assert engine.films == 7


def test_a_report_s_row_has_calls(server: Server) -> None:
    class Fourteen(SameScores):
        description = model_with_calls().description

        def run(self, grey: Any) -> Any:
            outputs = super().run(grey)
            maps = np.full((len(grey), 14, 4, 4), 0.5, np.float32)
            scores, logits = (np.tile(np.float32(value), (len(grey), 14)) for value in (0.7, 0.8473))
            return outputs._replace(scores=scores, logits=logits, maps=maps)

    first = rows(server, Fourteen(), model=model_with_calls())
    again = rows(server, Fourteen(), model=model_with_calls())
    assert again == first
    assert first[0].calls[:2] == ["present", "present"]


def test_a_film_that_does_not_fit_is_stored_as_not_analysed_and_known_again(tmp_path: Path) -> None:
    server = Server()
    server.keep(film(tmp_path, 2, SeriesInstanceUID="1.2.5.2", ViewPosition="LL").read_bytes())
    engine, why = CountingScores(), "lateral: the header's View Position is LL"
    try:
        (row,) = rows(server, engine)
        assert (row.error, row.fit, row.forced) == ("", why, False)
        assert np.isnan(row.scores).all()
        assert [one.Modality for one in server.headers()[1:]] == ["SR"]
        for _ in range(2):
            server.got = []
            (again,) = rows(server, engine)
            assert (again.fit, again.forced, bool(np.isnan(again.scores).all())) == (why, False, True)
            assert "1.2.3.2" not in server.got
        assert engine.films == 0
        for _ in range(2):  # the second is read from the server
            (forced,) = rows(server, engine, force=True)
            assert (forced.fit, forced.forced, forced.scores) == (why, True, [0.25, 0.75])
        assert engine.films == 1
        assert [one.Modality for one in server.headers()[1:]] == ["SR", "SR", "OT"]
    finally:
        server.stop()


def test_a_server_that_is_away_is_named() -> None:
    client = open_client("http://127.0.0.1:9", None)
    with pytest.raises(HilumError, match=r"server must answer as DICOMweb at http://127.0.0.1:9, got ConnectionError"):
        next(find_films(client, {}))


def found_and_rows(server: Server, filters: dict[str, str]) -> tuple[Found, list[Row]]:
    found = Found()
    films = find_films(server.client, filters, found)
    return found, list(predict_from_web(server.client, films, SameScores(), MODEL, send=False, found=found))


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_a_server_that_ignores_the_offset_ends_with_a_sentence(server: Server, page: int) -> None:
    server.ignores_offset, server.page = True, page
    found, scored = found_and_rows(server, {"StudyDate": "20240101-"})
    assert len(scored) == min(page, 3)
    assert "The server gave the same" in found.sentences[0]
    assert server.asked < 20


def test_pages_are_put_together_and_each_film_is_there_once(server: Server) -> None:
    server.page = 1
    found, scored = found_and_rows(server, {"StudyDate": "20240101-"})
    assert [row.film for row in scored] == ["1.2.3.2", "1.2.3.4", "1.2.3.6"]
    assert found.sentences == []


@pytest.mark.parametrize("unsaid", [(), ("StudyDate",), ("StudyDate", "Modality")])
@pytest.mark.parametrize(
    ("filters", "films"),
    [
        ({"StudyDate": "20990101"}, 0),
        ({"StudyDate": "20240203"}, 3),
        ({"00080020": "-20240203"}, 3),
        ({"StudyDate": "20240204-20250101"}, 0),
        ({"StudyDate": "20240203", "StudyInstanceUID": "1.2.4.1,1.2.4.3"}, 2),
        ({"StudyDate": "20240203", "PatientID": "p-*"}, 3),
        ({"StudyDate": "20240203", "PatientID": "P-081?"}, 3),
        ({"StudyDate": "20240203", "PatientID": "X*"}, 0),
        ({"StudyDate": "20240203", "Modality": "DX"}, 0),
    ],
)
def test_what_a_server_answers_is_held_against_the_filter(
    server: Server, unsaid: tuple[str, ...], filters: dict[str, str], films: int
) -> None:
    server.ignores_filters, server.unsaid = True, unsaid
    found, scored = found_and_rows(server, filters)
    assert len({row.film for row in scored}) == len(scored) == films
    assert all(row.error == "" for row in scored)
    assert films == 3 or "do not fit --filter" in " ".join(found.sentences)


def test_a_film_whose_class_no_answer_says_is_fetched(server: Server, tmp_path: Path) -> None:
    server.unsaid = ("SOPClassUID",)
    other = film(tmp_path, 8, SeriesInstanceUID="1.2.5.2", SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1")
    server.keep(other.read_bytes())
    found, scored = found_and_rows(server, {"StudyDate": "20240101-"})
    assert [row.film for row in scored] == ["1.2.3.2", "1.2.3.4", "1.2.3.6"]
    assert found.others == 1
    server.unsaid = ("SOPInstanceUID",)
    found, scored = found_and_rows(server, {"StudyDate": "20240101-"})
    assert scored == []
    assert "without identifiers" in found.sentences[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@127.0.0.1:1/dw",
        "http://user:s3#cret@host/dw",
        "ftp://user:s3cret@host",
        "http://user:s3cret@",
    ],
)
def test_a_password_in_the_address_reaches_no_message(url: str) -> None:
    with pytest.raises(HilumError) as caught:
        list(find_films(open_client(url, None), {"StudyDate": "20240101-"}))
    assert "s3" not in str(caught.value)
    assert "cret" not in str(caught.value)


def test_a_filter_for_other_films_is_refused(server: Server) -> None:
    with pytest.raises(HilumError, match="filter Modality must be CR or DX, got 'CT'"):
        list(find_films(server.client, {"Modality": "CT"}))
