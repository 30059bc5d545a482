"""Whatever comes over the network: damaged films, and bytes that are no DICOM. A long run: see docs/experiments.md."""

import contextlib
import os
import random
import resource
import socket
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicom_files import LOSSLESS, written
from dicom_pacs import film, send, until
from fake_node import running
from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import AE

EXAMPLES = int(os.environ.get("HILUM_FUZZ_EXAMPLES", "20"))
pytestmark = [
    pytest.mark.slow,  # servers
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see running
]


def test_damaged_films_are_refused_recorded_or_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 50)).astype(np.uint8)
    syntaxes = [syntax for syntax in LOSSLESS if syntax != "deflated"]
    bombard(monkeypatch, tmp_path, [written(tmp_path / f"{name}.dcm", pixels, name) for name in syntaxes])


@pytest.mark.real
def test_damaged_real_films_are_refused_recorded_or_scored(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bombard(monkeypatch, tmp_path, sorted((real_data / "dicom").rglob("*.dcm")))


def bombard(monkeypatch: pytest.MonkeyPatch, folder: Path, films: list[Path]) -> None:
    """Send damaged copies of films: all that are accepted are accounted for, in bounded memory, and the node lives."""
    monkeypatch.setattr("pynetdicom._config.STORE_SEND_CHUNKED_DATASET", True)  # a file's bytes as they are
    with running(folder) as (node, port):
        before, chance, accepted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, random.Random(5), 0
        for number in range(EXAMPLES):
            path = folder / "damaged.dcm"
            kind, syntax = damaged(chance.choice(films), path, number, chance)
            entity = AE(ae_title="SENDER")
            entity.add_requested_context(kind, syntax)
            association = entity.associate("127.0.0.1", port, ae_title="HILUM")
            assert association.is_established
            with contextlib.suppress(RuntimeError):  # it was aborted
                accepted += association.send_c_store(path).get("Status") == 0
            association.release()
        until(lambda: node.facts()["films_waiting"] == 0, seconds=600)
        facts = node.facts()
        assert facts["films_scored"] + facts["films_failed"] + facts["films_unfit"] == accepted > 0
        assert send([film(folder, 1)], port) == [0]
        until(lambda: node.facts()["results_waiting"] == 0, seconds=600)
        assert node.facts()["results_sent"] == 2 * node.facts()["films_scored"] + node.facts()["films_unfit"]
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown_mb < 1500
        print(f"{accepted} accepted, {facts}; {grown_mb:.0f} MiB more than before the first")


def damaged(film: Path, path: Path, number: int, chance: random.Random) -> tuple[str, str]:
    """Write a damaged copy of a film, with identifiers of its number; its SOP class and transfer syntax."""
    dataset, content = dcmread(film), BytesIO()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.7.{number}")
    dataset.StudyInstanceUID = f"1.2.8.{number // 2}"
    dataset.save_as(content, enforce_file_format=True)
    changed = bytearray(content.getvalue())
    start = 144 + int.from_bytes(changed[140:144], "little")  # what comes before is of the file, and is not sent
    end = min(chance.choice([start + 1000, start + 4000, len(changed)]), len(changed))
    for _ in range(chance.randint(1, 20)):
        changed[chance.randrange(start, end)] = chance.randrange(256)
    if chance.random() < 0.3:
        del changed[chance.randrange(start + 100, len(changed)) :]
    path.write_bytes(changed)
    return str(dataset.file_meta.MediaStorageSOPClassUID), str(dataset.file_meta.TransferSyntaxUID)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_bytes_come_the_node_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as (node, port):
        request, chance = recorded_request(), random.Random(4)
        for _ in range(EXAMPLES):
            content = bytearray(request)
            for _ in range(chance.randint(0, 6)):
                content[chance.randrange(6, len(content))] = chance.randrange(256)
            content += bytes([chance.choice([1, 4, 5, 7, 99]), 0, 0, 0, 0, chance.randrange(64)]) + chance.randbytes(40)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
                stranger.sendall(content)
                stranger.settimeout(0.05)
                with contextlib.suppress(OSError):
                    stranger.recv(1 << 16)
        assert send([film(tmp_path, 1)], port) == [0]
        until(lambda: node.facts()["results_sent"] == 2)


def recorded_request() -> bytes:
    """The first bytes that a sender sends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        entity = AE(ae_title="SENDER")
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.1")
        heard: list[bytes] = []

        def hear() -> None:
            line, _ = listener.accept()
            with line:
                heard.append(line.recv(1 << 16))

        thread = threading.Thread(target=hear)
        thread.start()
        entity.associate("127.0.0.1", listener.getsockname()[1], ae_title="HILUM")
        thread.join()
    return heard[0]
