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
from hilum.pacs.dicomweb import find_films, open_client, predict_from_web
from hilum.predict.files import Row

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


class Server:
    """QIDO, WADO and STOW; a film in `broken` is answered with that status, one in `other` with that film."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}
        self.other: dict[str, str] = {}
        self.refuses = False
        self.got: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                match parts.path.strip("/").split("/"):
                    case ["series"]:
                        asked = parse_qs(parts.query)["Modality"]
                        self.answer_json([one for one in server.headers() if one.Modality in asked])
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
                content = json.dumps([one.to_json_dict() for one in found[start:]])
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


def rows(server: Server, engine: Any, *, send: bool = True, model: Any = MODEL, top: int = 3) -> list[Row]:
    films = find_films(server.client, {"StudyDate": "20240101-"})
    return list(predict_from_web(server.client, films, engine, model, send=send, top=top))


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
            return outputs._replace(scores=np.tile(np.float32(0.7), (len(grey), 14)), maps=maps)

    first = rows(server, Fourteen(), model=model_with_calls())
    again = rows(server, Fourteen(), model=model_with_calls())
    assert again == first
    assert first[0].calls[:2] == ["present", "present"]


def test_a_server_that_is_away_is_named() -> None:
    client = open_client("http://127.0.0.1:9", None)
    with pytest.raises(HilumError, match=r"server must answer as DICOMweb at http://127.0.0.1:9, got ConnectionError"):
        next(find_films(client, {}))
