"""Files appear whole or not at all: written under a temporary name beside their place, then renamed."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hilum.errors import HilumError


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and deleted when it does not.

    Raises:
        HilumError: if the folder cannot be made or written to, or something is there that is no file.
    """
    try:
        check_place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise HilumError(f"output must be a place that can be written to, got {path}: {error.strerror}") from None
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)  # mkstemp's files are for their owner alone
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Refuse to put a file where something else is: a folder, or a device, which root could replace.

    Raises:
        HilumError: if there is such a thing.
    """
    if path.exists() and not path.is_file():
        raise HilumError(f"output must be a file, but {path} is {'a folder' if path.is_dir() else 'something else'}")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make a folder and hold it against other processes; where the system has no locks, nothing holds it.

    Raises:
        HilumError: if the folder cannot be made, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = None if os.name == "nt" else os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise HilumError(f"out must be a place that can be written to, got {folder}: {error.strerror}") from None
    try:
        if held is not None:
            _lock(held, folder)
        yield
    finally:
        if held is not None:
            os.close(held)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Make a folder and wait until no other process holds it; where the system has no locks, nobody waits.

    Raises:
        HilumError: if the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = None if os.name == "nt" else os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise HilumError(f"output must be a place that can be written to, got {folder}: {error.strerror}") from None
    try:
        if held is not None:
            import fcntl

            with suppress(OSError):  # a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        if held is not None:
            os.close(held)


def _lock(held: int, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HilumError(f"out must be of one run at a time, got another at work in {folder}. Wait for it") from None
    except OSError:  # a file system without locks
        return


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never seen half written.

    Raises:
        HilumError: if the place cannot be written to.
    """
    with unfinished(path) as beside:
        beside.write_bytes(content)


SYSTEM_FOLDER = "__MACOSX"
_SYSTEM_FILES = (".ds_store", "thumbs.db", "desktop.ini", ".localized")


def is_system_file(path: str) -> bool:
    """Whether macOS or Windows put a file beside others, such as `._film.png`, which starts with a film's name."""
    parts = re.split(r"[/\\]", path)
    return SYSTEM_FOLDER in parts[:-1] or parts[-1].startswith("._") or parts[-1].lower() in _SYSTEM_FILES
