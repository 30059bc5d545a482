"""A place for files that may lie beyond this machine's disks: s3://, gs://, az://, or whatever fsspec knows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.errors import HilumError, extras_named

OBJECT_STORES = ("s3", "gs", "az")
"""Protocols that obstore brings; fsspec knows others by itself or by packages of their own."""


@dataclass(frozen=True)
class Store:
    """A folder by its address. Credentials come from where its makers look for them, such as AWS_ACCESS_KEY_ID.

    Attributes:
        url: such as s3://bucket/packs.
    """

    url: str

    def put(self, file: Path, name: str) -> None:
        """Copy a file there."""
        with _named(self.url):
            system, root = self._opened()
            system.makedirs(root, exist_ok=True)
            system.put_file(str(file), f"{root}/{name}")

    def names(self) -> list[str]:
        """The files there; none if there is no such folder yet."""
        with _named(self.url):
            system, root = self._opened()
            system.invalidate_cache()
            try:
                return sorted(str(path).rpartition("/")[2] for path in system.ls(root, detail=False))
            except FileNotFoundError:
                return []

    def content(self, name: str) -> bytes:
        """A whole file."""
        with _named(f"{self.url}/{name}"):
            system, root = self._opened()
            return bytes(system.cat_file(f"{root}/{name}"))

    def parts(self, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Parts of files, all asked for at once.

        Args:
            wanted: name, first byte and the byte after the last, of each.
        """
        with _named(self.url):
            system, root = self._opened()
            names, starts, ends = zip(*wanted, strict=True)
            found = system.cat_ranges([f"{root}/{name}" for name in names], list(starts), list(ends), on_error="raise")
            return [bytes(part) for part in found]

    def _opened(self) -> tuple[Any, str]:
        """fsspec's file system, of this process, and the folder in its words."""
        with extras_named():
            import fsspec

            protocol = self.url.partition("://")[0]
            if protocol in OBJECT_STORES:
                from obstore.fsspec import register

                register(protocol)
        system, root = fsspec.url_to_fs(self.url)
        return system, str(root).rstrip("/")


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Name the address in whatever a file system raises, each of which has exceptions of its own."""
    try:
        yield
    except HilumError:
        raise
    except Exception as error:
        reason = (str(error) or repr(error)).splitlines()[0][:200]
        raise HilumError(
            f"store must be a place that can be reached, but {url} cannot: {reason}. Check its address and credentials"
        ) from None
