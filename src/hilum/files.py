"""Files appear whole or not at all: written under a temporary name beside their place, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hilum.errors import HilumError


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and deleted when it does not.

    Raises:
        HilumError: if the folder cannot be made or written to.
    """
    try:
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
    except IsADirectoryError:
        raise HilumError(f"output must be a file, but {path} is a folder") from None
    finally:
        beside.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never seen half written.

    Raises:
        HilumError: if the place cannot be written to.
    """
    with unfinished(path) as beside:
        beside.write_bytes(content)
