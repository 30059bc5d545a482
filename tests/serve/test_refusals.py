"""What the server refuses, and that it is alive after."""

import logging
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from commands import Hilum
from dicom_files import written
from servers import ask, png, running

from hilum.serve.inference import Batches, FullError
from hilum.serve.security import Limits

from .test_server import packed, post

OpenRun = Callable[..., Any]


@pytest.fixture(autouse=True)
def alive_after(request: pytest.FixtureRequest) -> Iterator[None]:
    """The server that all share answers as before, whatever it was sent."""
    yield
    if "url" in request.fixturenames:
        url = request.getfixturevalue("url")
        assert ask("GET", f"{url}/ready").json() == {"status": "ok"}
        assert post(url, ("a.png", png())).json()["films"][0]["error"] == ""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "films.example.org"}, 421),
        ({"Host": "127.0.0.1.example.org:80"}, 421),
        ({"Host": "localhost@example.org"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_only_its_own_page_and_programs_may_ask(url: str, headers: dict[str, str], status: int) -> None:
    answer = ask("GET", f"{url}/v1/model", headers=headers)
    assert answer.status_code == status
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_link_on_another_page_may_lead_to_the_page(url: str) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert ask("GET", url, headers=headers).status_code == 200
    assert ask("POST", f"{url}/v1/predict", files={"films": ("a.png", png())}, headers=headers).status_code == 403


def test_off_loopback_a_token_is_demanded(open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_TOKEN", "right")
    with open_run(host="0.0.0.0", names=("films.example.org",)) as room:
        url = room.url.replace("0.0.0.0", "127.0.0.1")
        assert not room.generated
        for header in ("", "Bearer", "Bearer wrong", "Basic right", "Bearer right\u00e9"):
            answer = ask("GET", f"{url}/v1/model", headers={b"Authorization": header.encode()})
            assert answer.status_code == 401
        for path in ("/metrics", "/openapi.json", "/v1/results", "/v1/examples/0"):
            assert ask("GET", url + path).status_code == 401
        assert post(url, ("a.png", png())).status_code == 401
        right = {"Authorization": "Bearer right", "Host": "films.example.org"}
        assert ask("GET", f"{url}/v1/model", headers=right).status_code == 200
        assert ask("GET", f"{url}/health").status_code == 200
    monkeypatch.delenv("HILUM_TOKEN")
    with open_run(host="0.0.0.0", names=("films.example.org",)) as room:
        assert room.generated
        assert len(room.token) >= 24


def test_a_new_token_is_shown_once_with_what_to_put_before(
    calling_run: Path, hilum: Hilum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HILUM_TOKEN", raising=False)
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: sockets[0].close())
    options = ("--engine", "torch", "--port", 0, "--name", "films.example.org")
    said = hilum("serve", calling_run, *options)
    assert "Put TLS before it: docs/serving.md" in said.err
    [token] = re.findall(r"shown this once: (\S+)", said.err)
    assert said.err.count(token) == 2  # once more in the page's address
    monkeypatch.setenv("HILUM_TOKEN", "right")
    assert "right" not in hilum("serve", calling_run, *options).err


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/v1/examples/-1"]
)
def test_no_path_leads_out(url: str, path: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 404")


def test_encrypted_and_damaged_archives_are_refused(url: str) -> None:
    whole = packed({"a.png": png()})
    locked = bytearray(whole)
    locked[locked.index(b"PK\1\2") + 8] |= 1
    for content in (bytes(locked), whole[:-30], b"PK\3\4" + bytes(200)):
        answer = post(url, ("films.zip", content))
        assert answer.status_code == 422
        assert "archive" in answer.json()["detail"]
    broken = bytearray(whole)
    broken[60] ^= 0xFF
    assert post(url, ("films.zip", bytes(broken))).json()["films"][0]["error"]


def test_a_file_that_is_two_things_at_once_is_the_first_or_none(url: str) -> None:
    film, archive = png(), packed({"inner.png": png()})
    rows = post(url, ("a.png", film + archive), ("b.zip", archive[:2] + film)).json()["films"]
    assert [row["film"] for row in rows] == ["a.png", "b.zip"]
    assert rows[1]["error"]
    page = b"<html><script>alert(1)</script></html>"
    assert post(url, ("<b>x</b>.png", page)).json()["films"][0]["error"]
    both = b"PK\3\4" + bytes(124) + b"DICM" + bytes(40)
    assert post(url, ("a.dcm", both)).json()["films"][0]["error"]


def test_a_preamble_makes_no_other_film_of_dicom(url: str, tmp_path: Path) -> None:
    film = written(tmp_path / "a.dcm", np.full((40, 40), 99, dtype=np.uint16)).read_bytes()
    small = png(16)[:120]
    preambles = {
        "PK": packed({"a.png": png()})[:128],
        "PNG": small.ljust(128, b"\0"),
        "JPEG": b"\xff\xd8\xff" * 42 + b"\0\0",
    }
    rows = post(url, *[(f"{name}.dcm", preamble + film[128:]) for name, preamble in preambles.items()]).json()["films"]
    assert [row["film"] for row in rows] == ["PK.dcm", "PNG.dcm", "JPEG.dcm"]
    assert rows[0]["error"] == ""  # DICOM, whatever its preamble seems to begin
    assert "PNG" in rows[1]["error"]
    assert rows[2]["error"]


def test_too_large_too_many_or_wrong_is_said(open_run: OpenRun) -> None:
    with open_run(limits=Limits(request_bytes=40_000, films=3, unpacked_bytes=100_000)) as room:
        assert post(room.url, ("a.png", bytes(50_000))).status_code == 413
        begun = b'--x\r\nContent-Disposition: form-data; name="films"; filename="a.png"\r\n\r\n'
        chunks = (part for part in (begun, *[bytes(10_000)] * 6))
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert ask("POST", f"{room.url}/v1/predict", content=chunks, headers=kind).status_code == 413
        assert post(room.url, *[(f"{k}.png", png(20, seed=k)) for k in range(4)]).status_code == 413
        assert post(room.url, ("a.png", png()), point="best").status_code == 422
        assert post(room.url, ("a.png", png()), keep="true").status_code == 422
        assert ask("POST", f"{room.url}/v1/predict").status_code == 422
        assert post(room.url, ("a.png", png())).status_code == 200


def test_no_name_of_a_film_is_in_the_log(open_run: OpenRun, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with open_run() as room:
        post(room.url, ("DOE^JANE.png", png()), ("DOE^JANE.txt", b"no film"))
        ask("GET", f"{room.url}/DOE^JANE")
        ask("DELETE", f"{room.url}/v1/results/DOE^JANE")
    said = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert any("POST /v1/predict 200" in line for line in said)
    assert not any("DOE" in line for line in said)


@pytest.mark.slow
def test_nothing_of_a_film_is_in_what_the_server_says(calling_run: Path, tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "StudyDate": "DOE^JANE",
        "PatientBirthDate": "DOE^JANE" * 9,
        "AccessionNumber": "DOE^JANE" * 9,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of what is odd in these
        grey = np.full((40, 40), 99, dtype=np.uint16)
        film = written(tmp_path / "a.dcm", grey, **odd).read_bytes()
        other = written(tmp_path / "b.dcm", grey, **odd, StudyInstanceUID="DOE^JANE").read_bytes()
    with (tmp_path / "said").open("wb") as said, running(calling_run, errors=said) as (url, _):
        for content in (film, other, b"PK\3\4", b"no film"):
            post(url, ("DOE^JANE.dcm", content))
            for path in ("pixels", "dicom"):
                ask("POST", f"{url}/v1/{path}?name=DOE", files={"film": ("DOE^JANE.dcm", content)})
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert ask("POST", f"{url}/v1/predict", content=b"--x\r\nDOE JANE", headers=kind).status_code == 400
    lines = (tmp_path / "said").read_text().splitlines()
    assert sum("POST /v1/" in line for line in lines) == 13
    assert not any("DOE" in line for line in lines)


class FaultyEngine:
    """An engine whose first run fails, after it was let go."""

    name, precision, description, batch, parallel, note = "torch", "fp32", None, 2, 1, ""

    def __init__(self) -> None:
        self.runs, self.go = 0, Event()

    def run(self, grey: Any) -> Any:
        from hilum.model.engines import Outputs

        self.go.wait(10)
        self.runs += 1
        if self.runs == 1:
            raise MemoryError("out of memory")
        return Outputs(*(grey.mean(axis=(1, 2))[:, None],) * 2, grey)


def test_a_fault_of_the_engine_is_that_batch_s_alone() -> None:
    import asyncio

    import numpy as np

    engine = FaultyEngine()
    batches = Batches(engine, waiting=3)  # type: ignore[arg-type]

    async def ask() -> list[Any]:
        films = [np.full((4, 4), k, dtype=np.float32) for k in range(5)]
        waiting = [asyncio.ensure_future(batches.outputs(film)) for film in films]
        await asyncio.sleep(0.05)
        engine.go.set()
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    answers = asyncio.run(ask())
    assert isinstance(answers[0], MemoryError)
    assert [float(answer.scores[0, 0]) for answer in answers[2:]] == [2, 3, 4]
    batches.take(3)
    with pytest.raises(FullError):
        batches.take(1)
    batches.give_back(3)
    batches.close()
    assert not batches.alive
