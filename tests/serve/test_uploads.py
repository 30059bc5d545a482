"""From what was sent to films: archives that are bombs, lie, or are damaged."""

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import SpooledTemporaryFile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.data.images import read_content
from hilum.errors import ImageError
from hilum.serve.security import Limits
from hilum.serve.uploads import RequestError, Upload, unpack

from .test_server import packed

ENTRY, END = b"PK\1\2" + bytes(42), b"PK\5\6"


@contextmanager
def sent(content: bytes, limits: Limits | None = None) -> Iterator[list[Upload]]:
    """The films of one file, as an upload comes."""
    with SpooledTemporaryFile() as file:
        file.write(content)
        yield unpack([("films.zip", file)], limits or Limits())  # type: ignore[list-item]


def test_archives_that_are_bombs_are_refused() -> None:
    zeros = packed({"a.png": bytes(1 << 20)})
    assert len(zeros) < 5000
    with pytest.raises(RequestError, match="when unpacked"):
        sent(zeros, Limits(unpacked_bytes=1 << 19)).__enter__()
    with pytest.raises(RequestError, match="at most 3"):
        sent(packed({f"{k}.png": b"" for k in range(4)}), Limits(films=3)).__enter__()
    with (
        sent(packed({"inner.zip": zeros})) as films,
        pytest.raises(ImageError, match="PNG, JPEG or DICOM"),
    ):
        read_content(films[0].content(), films[0].name)


def test_an_archive_that_lies_about_its_sizes_gives_no_more_than_it_says() -> None:
    content = bytearray(packed({"a.png": bytes(1 << 20)}))
    at = content.index(b"PK\1\2") + 24
    content[at : at + 4] = struct.pack("<I", 10)  # the directory says 10 bytes
    with sent(bytes(content)) as films, pytest.raises(ImageError, match="intact in its archive"):
        films[0].content()


def test_a_long_directory_of_an_archive_is_not_read() -> None:
    count = 30_000
    entries = b"PK\3\4" + ENTRY * count
    length = len(ENTRY) * count
    with pytest.raises(RequestError, match="list its files") as refused:
        sent(entries + END + struct.pack("<4xHHIIH", count, count, length, 4, 0)).__enter__()
    assert refused.value.status == 413
    zip64 = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, length, 4)
    zip64 += b"PK\6\7" + struct.pack("<IQI", 0, len(entries), 1)
    with pytest.raises(RequestError, match="list its files"):
        sent(entries + zip64 + END + struct.pack("<4xHHIIH", 1, 1, len(ENTRY), 4, 0)).__enter__()


@settings(max_examples=300, derandomize=True)
@given(st.data())
def test_a_damaged_archive_is_refused_or_its_films_are(data: st.DataObject) -> None:
    content = bytearray(packed({"a/": b"", "a/b.png": b"film", "c.png": b"another"}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(RequestError), sent(bytes(content)) as films:
        for film in films:
            with suppress(ImageError):
                read_content(film.content(), film.name)


def test_names_are_shown_without_folders_and_control_letters() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("..\\..\\C:\\x\\a\u202e.png", b"1")
        members.writestr("/etc/b\n.png", b"2")
    with sent(archive.getvalue()) as films:
        assert [film.name for film in films] == ["a.png", "b.png"]
