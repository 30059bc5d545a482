"""The client in Python, and what docs/serving.md tells to write in a shell and in Python."""

import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from pydicom import dcmread
from servers import HeldEngine, ask, png, wait_until

from hilum.errors import HilumError
from hilum.serve.client import Client
from hilum.serve.security import Limits

DOCS = (Path(__file__).resolve().parent.parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
EXAMPLE_URL = "http://127.0.0.1:8000"


def code(section: str) -> str:
    """The indented lines of a section of docs/serving.md."""
    text = DOCS.split(f"## {section}\n")[1].split("\n## ")[0]
    return "\n".join(line[4:] for line in re.findall(r"^(?:    .*|)$", text, flags=re.MULTILINE))


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the examples name, in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("film.png").write_bytes(png())
    pixels = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16)
    written(Path("film.dcm"), pixels, bits=12)
    with zipfile.ZipFile("more.zip", "w") as archive:
        archive.writestr("more.png", png(seed=1))


@pytest.mark.usefixtures("films")
def test_the_shell_s_lines_in_the_docs(url: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")
    lines = [line for line in code("From a shell").replace("\\\n", "").splitlines() if line.startswith("curl ")]
    assert len(lines) == 3
    for line in lines:
        command = shlex.split(line.replace(EXAMPLE_URL, url))
        said = subprocess.run([*command, "--silent", "--show-error", "--fail"], capture_output=True, check=True).stdout
        if "/v1/predict" in line:
            assert said.count(b'"error":""') == 2
    assert zipfile.ZipFile("results.zip").namelist() == ["result.sr.dcm", "result.sc.dcm"]
    assert dcmread("reading.sr.dcm").Modality == "SR"


@pytest.mark.usefixtures("films")
def test_the_python_lines_in_the_docs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(code("From Python").replace(EXAMPLE_URL, url), {})
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in said] == ["film.png", "film.dcm"]
    assert all("'Effusion': 0." in line for line in said)


@pytest.mark.usefixtures("films")
def test_while_the_server_is_busy_the_client_waits(open_run: Callable[..., Any], held: list[HeldEngine]) -> None:
    def refused(url: str) -> bool:
        return 'route="/v1/predict",status="429"' in ask("GET", f"{url}/metrics").text

    with open_run(limits=Limits(waiting=1)) as room, ThreadPoolExecutor(2) as clients, Client(room.url) as client:
        first = clients.submit(client.predict, [Path("film.png")])
        wait_until(lambda: "hilum_films_waiting 1" in ask("GET", f"{room.url}/metrics").text)
        second = clients.submit(client.predict, [Path("film.dcm")])
        wait_until(lambda: refused(room.url))
        held[0].go.set()
        assert [answer.result().films[0].error for answer in (first, second)] == ["", ""]


def test_what_the_client_cannot_do_it_says(open_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_TOKEN", "right")
    with open_run(names=("films.example.org",)) as room:
        with Client(room.url, token="right") as client:
            assert client.model().name == "tiny"
        with Client(room.url) as client, pytest.raises(HilumError, match="401: token must be"):
            client.model()
    with Client(room.url) as client, pytest.raises(HilumError, match="Is hilum serve up"):
        client.model()
