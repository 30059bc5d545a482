"""PACS for tests, one of pynetdicom and Debian's Orthanc, and a sender; all on loopback."""

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import written
from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import AE, evt

TOOLS = ("Orthanc", "storescu", "echoscu", "findscu")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
absent = [tool for tool in TOOLS if not shutil.which(tool)] + ([] if PLUGIN.is_file() else [PLUGIN.name])
with_orthanc = pytest.mark.skipif(
    bool(absent), reason=f"{', '.join(absent)} not here: apt-get install orthanc orthanc-dicomweb dcmtk"
)


def film(path: Path, number: int, **elements: Any) -> Path:
    """A small film with identifiers of its number; two are of one study."""
    pixels = np.random.default_rng(number).integers(0, 255, (40, 36)).astype(np.uint8)
    ids = {"SOPInstanceUID": f"1.2.3.{number}", "StudyInstanceUID": f"1.2.4.{number // 2}"}
    return written(path / f"{number}.dcm", pixels, bits=8, **{**ids, **elements})


def until(true: Callable[[], bool], *, seconds: float = 120) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def free_port() -> int:
    """Below those that Linux gives to connections, so that none of them takes it before the server does."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


_STORAGE = "1.2.840.10008.5.1.4.1.1"


class Pacs:
    """Keeps what it is sent by SOP Instance UID, but for the pixels, and counts how often each came."""

    def __init__(self, port: int, *, status: int = 0, kinds: tuple[str, ...] = (f"{_STORAGE}.88.34", f"{_STORAGE}.7")):
        self.port, self.status, self.kinds = port, status, kinds
        self.kept: dict[str, Dataset] = {}
        self.times: dict[str, int] = {}
        self._server: Any = None

    def start(self) -> "Pacs":
        entity = AE(ae_title="PACS")
        entity.require_called_aet = True
        entity.maximum_associations = 100  # pynetdicom counts those of all entities in this process
        for kind in self.kinds:
            entity.add_supported_context(kind)
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._on_store)]
        )
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _on_store(self, event: Any) -> int:
        if self.status == 0:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            dataset.pop("PixelData", None)  # a picture has five megabytes
            uid = str(dataset.SOPInstanceUID)
            self.kept[uid] = dataset
            self.times[uid] = self.times.get(uid, 0) + 1
        return self.status


class Orthanc:
    """Debian's Orthanc with DICOMweb, in a folder of its own, on loopback."""

    def __init__(self, folder: Path, **options: Any):
        self.dicom, self.http = free_port(), free_port()
        content = {
            "Name": "tests",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "DicomAet": "PACS",
            "DicomPort": self.dicom,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **options,
        }
        self._config = folder / "orthanc.json"
        self._config.write_text(json.dumps(content))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["Orthanc", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    @property
    def stopped(self) -> bool:
        return self._process is None

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}") as answer:
            return json.load(answer)

    def post(self, path: str, content: Any) -> Any:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", data=body) as answer:
            return json.load(answer)

    def file(self, instance: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/instances/{instance}/file") as answer:
            return bytes(answer.read())

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except OSError:
            return False


def send(films: list[Path], port: int, *, caller: str = "SENDER", called: str = "HILUM", uid: str = "") -> list[Any]:
    """Send films, each in an association; their statuses, None where no answer came, [] where no association.

    Args:
        uid: what a film shall be called instead of its own identifier.
    """
    statuses: list[Any] = []
    for path in films:
        try:  # pynetdicom leaves a socket open where nobody listens
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except OSError:
            return []
        dataset = dcmread(path)
        if uid:
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(uid)
        entity = AE(ae_title=caller)
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        entity.acse_timeout = entity.dimse_timeout = 30
        opened: list[socket.socket] = []
        keep = (evt.EVT_CONN_OPEN, lambda event, opened=opened: opened.append(event.assoc.dul.socket.socket))
        association = entity.associate("127.0.0.1", port, ae_title=called, evt_handlers=[keep])
        try:
            if not association.is_established:
                return []
            try:
                statuses.append(association.send_c_store(dataset).get("Status"))
            except RuntimeError:
                statuses.append(None)
            association.release()
        finally:
            for line in opened:  # pynetdicom does not close one that the other side has broken
                line.close()
    return statuses
