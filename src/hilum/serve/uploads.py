"""From what was sent to films: files as they are, archives by their members, each only as large as may be."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from hilum.errors import ImageError
from hilum.files import is_system_file
from hilum.serve.security import Limits

ZIP = b"PK\3\4"
_DICOM_AT = 128
_ENCRYPTED = 0x1
_LONGEST_NAME = 200
_LONGEST_READ = 1 << 20


class RequestError(Exception):
    """A request cannot be answered as it is.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """One film that was sent: how its sender calls it, and its bytes when they are wanted.

    The name is told back and goes nowhere else: to no path and to no log.
    """

    name: str
    content: Callable[[], bytes]


def unpack(sent: Sequence[tuple[str, BinaryIO]], limits: Limits) -> list[Upload]:
    """The films of a request.

    Raises:
        RequestError: if there are none, too many, or an archive is damaged, encrypted or a bomb.
    """
    films: list[Upload] = []
    left = [limits.unpacked_bytes]
    for name, file in sent:
        head = _read(file, _DICOM_AT + 4)
        if head.startswith(ZIP) and head[_DICOM_AT:] != b"DICM":
            films += _members(file, limits, left)
        else:
            films.append(Upload(_shown(name), _whole(file)))
        if len(films) > limits.films:
            raise RequestError(
                413, f"films must be at most {limits.films} in one request, got more. Send them in parts."
            )
    if not films:
        raise RequestError(422, "films must be at least one PNG, JPEG or DICOM file, or a zip of them, got none.")
    return films


class _Opened:
    """An archive's file, of which no more than a mebibyte is read at once while it is `bounded`.

    So long may its directory be: each of its entries takes many times its bytes in memory, before any is looked at.
    """

    def __init__(self, file: BinaryIO):
        self._file, self.bounded = file, True
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, length: int = -1) -> bytes:
        if not self.bounded:
            return self._file.read(length)
        content = self._file.read(_LONGEST_READ + 1 if length < 0 else min(length, _LONGEST_READ + 1))
        if len(content) > _LONGEST_READ:
            raise RequestError(413, f"archive must list its files in at most {_LONGEST_READ} bytes, got more.")
        return content


def _whole(file: BinaryIO) -> Callable[[], bytes]:
    def content() -> bytes:
        file.seek(0)
        return file.read()

    return content


def _read(file: BinaryIO, length: int) -> bytes:
    file.seek(0)
    return file.read(length)


def _members(file: BinaryIO, limits: Limits, left: list[int]) -> list[Upload]:
    """The members of an archive; what its directory says of their sizes is checked now, what they hold when read."""
    opened = _Opened(file)
    try:
        archive = zipfile.ZipFile(opened)
        opened.bounded = False
        members = [one for one in archive.infolist() if not one.is_dir() and not is_system_file(one.filename)]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise RequestError(422, f"archive must be an intact zip file, got {str(error)!r}. Pack it again.") from None
    if len(members) > limits.films:
        raise RequestError(
            413, f"films must be at most {limits.films} in one request, got {len(members)} in an archive."
        )
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise RequestError(422, "archive must not be encrypted, got one that is. Pack it without a password.")
    left[0] -= sum(member.file_size for member in members)
    if left[0] < 0:
        raise RequestError(413, f"films must be at most {limits.unpacked_bytes} bytes when unpacked, got more.")
    return [Upload(_shown(member.filename), _member(archive, member)) for member in members]


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    def content() -> bytes:
        try:
            with archive.open(member) as packed:
                return packed.read(member.file_size)  # never more than its directory said
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
            raise ImageError(f"film must be intact in its archive, got {str(error)!r}. Pack it again.") from None

    return content


def _shown(name: str) -> str:
    """The last part of a path, without what a screen or a table could take for something else."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:_LONGEST_NAME] or "film"
