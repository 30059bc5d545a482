"""The folders of a node, and how a file in them is made safe: on the disk before anybody is told that it is there."""

import os
import shutil
from pathlib import Path

from hilum.dicom.source import is_uid
from hilum.errors import HilumError


class Places:
    """A node's folders: films that wait, and results that wait; only their owner may look.

    Raises:
        HilumError: if they cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder, self.films, self.results = folder, folder / "films", folder / "results"
        try:
            for place in (folder, self.films, self.results):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HilumError(f"store.folder must be writable, got {error.strerror!r} at {folder}") from None

    def film(self, uid: str) -> Path:
        """Where a film waits."""
        return _below(self.films, uid)

    def result(self, uid: str) -> Path:
        """Where a result waits."""
        return _below(self.results, uid)

    def free_mb(self) -> float:
        """Free disk."""
        return shutil.disk_usage(self.folder).free / (1 << 20)

    def tidy(self, films: set[str], results: set[str]) -> None:
        """Delete what no queue knows: files of a process that ended between a file and its entry, or after one."""
        for place, known in ((self.films, films), (self.results, results)):
            for path in place.iterdir():
                if path.suffix != ".dcm" or path.stem not in known:
                    path.unlink()


def _below(folder: Path, uid: str) -> Path:
    if not is_uid(uid):
        raise ValueError("uid must be digits and dots, at most 64")
    return folder / f"{uid}.dcm"


def write_safely(path: Path, content: bytes) -> None:
    """Write a file and return when it is on the disk under its name, or not at all.

    Raises:
        OSError: if the disk is full or broken; then no part of the file is left.
    """
    beside = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too
    finally:
        os.close(folder)
