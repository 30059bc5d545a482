"""A node beside Debian's Orthanc, with DCMTK's tools as the modality; and a node that is killed again and again."""

import gc
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from dicom_pacs import Orthanc, Pacs, film, free_port, send, until, with_orthanc
from fake_node import MODEL, SameScores, configured
from pydicom import dcmread

from hilum.pacs.results import scores_of
from hilum.pacs.service import Node

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see collected in test_node.py
]
KILLS, FILMS = int(os.environ.get("HILUM_KILLS", "4")), int(os.environ.get("HILUM_KILL_FILMS", "10"))


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    (tmp_path / "orthanc").mkdir()
    orthanc = Orthanc(tmp_path / "orthanc")
    yield orthanc
    orthanc.stop()


@with_orthanc
def test_film_by_storescu_to_report_and_picture_in_orthanc(orthanc: Orthanc, tmp_path: Path) -> None:
    """Orthanc is away while the film comes, and gets the results when it is there."""
    port = free_port()
    node = Node(configured(tmp_path, port=port, pacs=orthanc.dicom), engine=SameScores(), model=MODEL)
    node.start()
    try:
        near = ["-aet", "SENDER", "-aec", "HILUM", "127.0.0.1", str(port)]
        subprocess.run(["echoscu", *near], check=True)
        path = film(tmp_path, 2)
        subprocess.run(["storescu", *near, path], check=True)
        assert subprocess.run(["storescu", *near, path, "-aec", "OTHER"], capture_output=True, check=False).returncode
        until(lambda: node.facts()["most_tries"] > 1)
        orthanc.start()
        subprocess.run(["storescu", "-aec", "PACS", "127.0.0.1", str(orthanc.dicom), path], check=True)
        until(lambda: node.facts()["results_sent"] == 2)
    finally:
        node.stop()
    (study,) = orthanc.get("/studies")
    series = [orthanc.get(f"/series/{one}") for one in orthanc.get(f"/studies/{study}")["Series"]]
    kinds = {one["MainDicomTags"]["Modality"]: one["Instances"][0] for one in series}
    assert set(kinds) == {"CR", "SR", "OT"}
    for kind in ("SR", "OT"):
        (tmp_path / f"{kind}.dcm").write_bytes(orthanc.file(kinds[kind]))
        if shutil.which("dciodvfy"):
            said = subprocess.run(["dciodvfy", tmp_path / f"{kind}.dcm"], capture_output=True, text=True, check=False)
            assert "Error" not in said.stderr, said.stderr
    report = dcmread(tmp_path / "SR.dcm")
    assert scores_of(report) == {"Effusion": (0.25, None, ""), "Mass": (0.75, None, "")}
    assert str(report.PatientName) == "Planted^Name"
    assert dcmread(tmp_path / "OT.dcm").pixel_array.shape[2] == 3
    asked = ["-k", "QueryRetrieveLevel=SERIES", "-k", "StudyInstanceUID=1.2.4.1", "-k", "Modality=SR"]
    found = subprocess.run(
        ["findscu", "-S", "-aec", "PACS", *asked, "-k", "SeriesInstanceUID", "127.0.0.1", str(orthanc.dicom)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(report.SeriesInstanceUID) in found.stdout + found.stderr


@with_orthanc
def test_results_by_stow(orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.start()
    port = free_port()
    config = configured(tmp_path, port=port, pacs=1)
    stow = {"kind": "stow", "url": f"http://127.0.0.1:{orthanc.http}/dicom-web"}
    config = type(config).model_validate({**config.model_dump(), "send": stow})
    node = Node(config, engine=SameScores(), model=MODEL)
    node.start()
    try:
        assert send([film(tmp_path, 1)], port) == [0]
        until(lambda: node.facts()["results_sent"] == 2)
    finally:
        node.stop()
    assert {orthanc.get(f"/series/{one}")["MainDicomTags"]["Modality"] for one in orthanc.get("/series")} == {
        "SR",
        "OT",
    }


@with_orthanc
def test_films_of_a_dicomweb_server_and_results_back(
    orthanc: Orthanc, untrained_run: Path, tmp_path: Path, hilum: Any
) -> None:
    orthanc.start()
    path, other = film(tmp_path, 2, StudyDate="20260110"), film(tmp_path, 8, StudyDate="20250110")
    send_to = ["storescu", "-aec", "PACS", "127.0.0.1", str(orthanc.dicom)]
    subprocess.run([*send_to, path, other, film(tmp_path, 3, SeriesInstanceUID="1.2.9", Modality="OT")], check=True)
    url, out = f"http://127.0.0.1:{orthanc.http}/dicom-web", tmp_path / "predictions.json"
    january = ["--filter", "StudyDate=20260101-20260131", "--out", out]
    for _ in range(2):  # a repeat does not double
        said = hilum("dicomweb", untrained_run, url, *january, "--send", "--json")
        assert (said.code, json.loads(said.out)["films"]) == (0, 1), said.err
    (row,) = json.loads(out.read_text())
    assert row["film"] == "1.2.3.2"
    found = orthanc.get("/instances?expand")
    assert len(found) == 5
    (report,) = [one for one in map(dcmread, files(orthanc, tmp_path)) if one.Modality == "SR"]
    assert abs(scores_of(report)["Mass"][0] - row["Mass"]) < 1e-6
    orthanc.stop()
    said = hilum("dicomweb", untrained_run, url, *january)
    assert said.code == 2
    assert "server must answer as DICOMweb" in said.err


def files(orthanc: Orthanc, folder: Path) -> Iterator[Path]:
    """All that Orthanc has, as files."""
    for number, instance in enumerate(orthanc.get("/instances")):
        path = folder / f"got-{number}.dcm"
        path.write_bytes(orthanc.file(instance))
        yield path


def test_killed_again_and_again_every_accepted_film_gets_one_result(tmp_path: Path) -> None:
    """The whole run: HILUM_KILLS=50 HILUM_KILL_FILMS=200, see docs/experiments.md."""
    chance = random.Random(6)
    pacs = Pacs(free_port()).start()
    port = free_port()
    configured(tmp_path, port=port, pacs=pacs.port)
    films = [film(tmp_path, number) for number in range(FILMS)]
    accepted: list[Path] = []

    def deliver() -> None:
        for path in films:
            while path not in accepted:
                if send([path], port) == [0]:
                    accepted.append(path)
                else:
                    time.sleep(0.2)

    sender = threading.Thread(target=deliver)
    process = start_process(tmp_path, port)
    try:
        sender.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0, 4))
            process.kill()
            process.wait()
            process = start_process(tmp_path, port)
        sender.join(timeout=60 * 60)
        until(lambda: len(pacs.kept) == 2 * FILMS, seconds=30 * 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
        pacs.stop()
    assert len(accepted) == FILMS
    made: dict[str, list[str]] = {}
    for one in pacs.kept.values():
        source = one.SourceImageSequence[0] if one.Modality == "OT" else sources(one)
        made.setdefault(str(source.ReferencedSOPInstanceUID), []).append(str(one.Modality))
    assert {film: sorted(kinds) for film, kinds in made.items()} == {
        f"1.2.3.{number}": ["OT", "SR"] for number in range(FILMS)
    }
    leftover = [path for part in ("films", "results") for path in (tmp_path / "node" / part).iterdir()]
    assert leftover == []


def test_a_node_that_is_stopped_while_it_starts_ends(tmp_path: Path) -> None:
    """An event that a handler for SIGTERM sets is missed now and then at this moment."""
    for _ in range(5):
        port = free_port()
        configured(tmp_path, port=port, pacs=free_port())
        process = start_process(tmp_path, port)
        try:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
            process.wait()


def test_a_disk_that_is_really_full_loses_nothing(tmp_path: Path) -> None:
    """A disk of 24 MiB, which four films' results fill while the PACS is away."""
    (tmp_path / "node").mkdir()
    mount = f"mount -t tmpfs -o size=24m none {tmp_path / 'node'}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that is for root")
    port, watch, pacs = free_port(), free_port(), Pacs(free_port())
    configured(tmp_path, port=port, pacs=pacs.port, watch=watch)

    def facts() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{watch}/health") as answer:
            return json.load(answer)

    pixels = np.random.default_rng(0).integers(0, 255, (700, 700)).astype(np.uint8)
    waiting = []
    for number in range(30):
        ids: dict[str, Any] = {"SOPInstanceUID": f"1.2.3.{number}", "StudyInstanceUID": f"1.2.4.{number}"}
        waiting.append(written(tmp_path / f"{number}.dcm", pixels, **ids))
    process = start_process(tmp_path, port, within=["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"])
    try:
        waiting = [path for path in waiting if send([path], port) != [0]]
        until(lambda: facts()["free_mb"] < 3.6)  # a film's results have more
        assert facts()["films_waiting"] > 0
        pacs.start()

        def all_sent() -> bool:
            waiting[:] = [path for path in waiting if send([path], port) != [0]]
            return bool(facts()["results_sent"] == 60)

        until(all_sent, seconds=600)
        assert facts()["films_waiting"] == facts()["films_failed"] == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()
        pacs.stop()
    assert set(pacs.times.values()) == {1}


def sources(report: Any) -> Any:
    """The film that a report is about."""
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    return evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]


def start_process(folder: Path, port: int, *, within: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """A node of its own process, that listens; the command stands after `within`."""
    here = Path(__file__).resolve().parent.parent
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*within, sys.executable, str(here / "support" / "fake_node.py"), str(folder / "node.toml")],
            stderr=log,
            stdout=log,
        )

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    until(listens)
    return process
