"""A node beside Debian's Orthanc, with DCMTK's tools as the modality; and a node that is killed again and again."""

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from dicom_pacs import Orthanc, Pacs, film, free_port, send, until, with_orthanc
from fake_node import MODEL, SameScores, configured, start_process
from pydicom import dcmread

from hilum.pacs.check import check_node
from hilum.pacs.queue import REFUSED
from hilum.pacs.results import scores_of
from hilum.pacs.service import Node, queue_of

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
def test_a_corrected_patient_s_results_stand_beside_the_earlier_ones(orthanc: Orthanc, tmp_path: Path) -> None:
    """Orthanc keeps what it has under an identifier: results of the corrected film must have others."""
    orthanc.start()
    port = free_port()
    node = Node(configured(tmp_path, port=port, pacs=orthanc.dicom), engine=SameScores(), model=MODEL)
    node.start()
    try:
        for count, name in ((2, "Planted^Name"), (4, "Corrected^Name")):
            send([film(tmp_path, 1, PatientName=name)], port)
            until(lambda count=count: node.facts()["results_sent"] == count)  # type: ignore[misc]
    finally:
        node.stop()
    reports = [one for one in map(dcmread, files(orthanc, tmp_path)) if one.Modality == "SR"]
    (later,) = [one for one in reports if one.PatientName == "Corrected^Name"]
    (earlier,) = [one for one in reports if one.PatientName == "Planted^Name"]
    predecessor = later.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == earlier.SOPInstanceUID
    later.save_as(tmp_path / "later.dcm")
    if shutil.which("dciodvfy"):
        said = subprocess.run(["dciodvfy", tmp_path / "later.dcm"], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr, said.stderr


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for this machine that vouches for itself, and its key."""
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", pem),
        ],
        check=True,
        capture_output=True,
    )
    return pem, key


@with_orthanc
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here: apt-get install openssl")
def test_tls_both_ways(tmp_path: Path) -> None:
    """From DCMTK's storescu to the node, and from there to Orthanc; who shows no certificate is turned away."""
    (tmp_path / "orthanc").mkdir()
    own, other, pacs = (certificate(tmp_path, name) for name in ("node", "modality", "pacs"))
    orthanc = Orthanc(
        tmp_path / "orthanc",
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(pacs[0]),
        DicomTlsPrivateKey=str(pacs[1]),
        DicomTlsTrustedCertificates=str(own[0]),
    )
    orthanc.start()
    port = free_port()
    config = configured(tmp_path, port=port, pacs=orthanc.dicom)
    content = config.model_dump()
    content["receive"]["tls"] = {"certificate": own[0], "key": own[1], "authorities": other[0]}
    content["send"][0]["tls"] = {"certificate": own[0], "key": own[1], "authorities": pacs[0]}
    config = type(config).model_validate(content)
    checks = {one.what: one for one in check_node(config)}
    assert checks["receive TLS"].well
    assert "answers C-ECHO over TLS, takes reports as comprehensive-3d SR and pictures" in checks["send pacs"].words
    node = Node(config, engine=SameScores(), model=MODEL)
    node.start()
    near = ["-aet", "SENDER", "-aec", "HILUM", "127.0.0.1", str(port), str(film(tmp_path, 1))]
    try:
        plain = subprocess.run(["storescu", *near], capture_output=True, check=False)
        stranger: list[str | Path] = ["storescu", "+tls", pacs[1], pacs[0], "+cf", own[0], *near]
        assert plain.returncode
        assert subprocess.run(stranger, capture_output=True, check=False).returncode
        subprocess.run(["storescu", "+tls", other[1], other[0], "+cf", own[0], *near], check=True)
        until(lambda: node.facts()["results_sent"] == 2)
        turned = {one.labels["reason"]: one.value for one in node.health().counted if one.name == "turned_away"}
        assert turned["tls_wanted"] == 2
    finally:
        node.stop()
    assert len(orthanc.get("/instances")) == 2
    orthanc.stop()


@with_orthanc
def test_orthanc_asks_whether_films_are_safe(tmp_path: Path) -> None:
    (tmp_path / "orthanc").mkdir()
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", DicomModalities={"node": ["HILUM", "127.0.0.1", port]})
    orthanc.start()
    node = Node(
        configured(tmp_path, port=port, pacs=orthanc.dicom, receive__callers=["PACS"]), engine=SameScores(), model=MODEL
    )
    node.start()
    try:
        sent = orthanc.post("/instances", film(tmp_path, 1).read_bytes())["ID"]
        orthanc.post("/modalities/node/store", sent.encode())
        kinds = [{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SOPInstanceUID": f"1.2.3.{number}"} for number in (1, 9)]
        asked = orthanc.post("/modalities/node/storage-commitment", {"DicomInstances": kinds})
        until(lambda: orthanc.get(f"/storage-commitment/{asked['ID']}")["Status"] != "Pending")
        answer = orthanc.get(f"/storage-commitment/{asked['ID']}")
    finally:
        node.stop()
        orthanc.stop()
    assert [one["SOPInstanceUID"] for one in answer["Success"]] == ["1.2.3.1"]
    assert [one["SOPInstanceUID"] for one in answer["Failures"]] == ["1.2.3.9"]


@with_orthanc
def test_what_orthanc_does_with_a_film_that_is_refused(tmp_path: Path) -> None:
    """It does not send it again by itself: the node lists what it refused, and its job can be done again."""
    (tmp_path / "orthanc").mkdir()
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", DicomModalities={"node": ["HILUM", "127.0.0.1", port]})
    orthanc.start()
    config = configured(tmp_path, port=port, pacs=orthanc.dicom, receive__callers=["PACS"], store__keep_free_mb=1 << 30)
    node = Node(config, engine=SameScores(), model=MODEL)
    node.start()
    try:
        sent = orthanc.post("/instances", film(tmp_path, 1).read_bytes())["ID"]
        job = orthanc.post("/modalities/node/store", {"Resources": [sent], "Asynchronous": True})["ID"]
        until(lambda: orthanc.get(f"/jobs/{job}")["State"] == "Failure")
        with queue_of(tmp_path / "node") as queue:
            (refused,) = queue.films(REFUSED)
        assert (refused.film, refused.sender) == ("1.2.3.1", "PACS")
        assert not node.health().ready
        assert "films are refused" in node.health().problems[0]
        node.stop()
        roomy: dict[str, Any] = {"receive__callers": ["PACS"], "receive__ask_again": "pacs"}
        node = Node(configured(tmp_path, port=port, pacs=orthanc.dicom, **roomy), engine=SameScores(), model=MODEL)
        node.start()
        until(lambda: node.facts()["results_sent"] == 2)  # the node asked for it
        orthanc.post(f"/jobs/{job}/resubmit", {})
        until(lambda: orthanc.get(f"/jobs/{job}")["State"] == "Success")
        assert node.facts()["films_scored"] == 1
    finally:
        node.stop()
        orthanc.stop()


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
    """A disk of 12 MiB, which films and their results fill while the PACS is away."""
    (tmp_path / "node").mkdir()
    mount = f"mount -t tmpfs -o size=12m none {tmp_path / 'node'}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that is for root")
    port, watch, pacs = free_port(), free_port(), Pacs(free_port())
    configured(tmp_path, port=port, pacs=pacs.port, watch=watch)

    def facts() -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{watch}/health") as answer:
                return json.load(answer)
        except urllib.error.HTTPError as unwell:  # while the PACS is away or the disk full
            return json.load(unwell)

    pixels = np.random.default_rng(0).integers(0, 255, (700, 700)).astype(np.uint8)
    waiting = []
    for number in range(45):
        ids: dict[str, Any] = {"SOPInstanceUID": f"1.2.3.{number}", "StudyInstanceUID": f"1.2.4.{number}"}
        waiting.append(written(tmp_path / f"{number}.dcm", pixels, **ids))
    process = start_process(tmp_path, port, within=["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"])
    try:
        waiting = [path for path in waiting if send([path], port) != [0]]
        assert waiting  # the disk is full
        until(lambda: facts()["results_waiting"] > 0)
        assert facts()["films_waiting"] > 0
        pacs.start()

        def all_sent() -> bool:
            waiting[:] = [path for path in waiting if send([path], port) != [0]]
            return bool(facts()["results_sent"] == 90)

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
