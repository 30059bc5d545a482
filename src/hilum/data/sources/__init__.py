"""Data sets as their publishers lay them out, one reader each. A new one is a file and its lines here."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hilum.data.sources.reading import Options

if TYPE_CHECKING:
    from hilum.data.films import Films


class Source(NamedTuple):
    """Whose layout a folder may have.

    Attributes:
        about: what the command line says of it, in a few words.
        read: its reader, imported when it is called.
    """

    about: str
    read: Callable[[Path, Options], "Films"]


def _nih(folder: Path, options: Options) -> "Films":
    from hilum.data.sources.nih import index_nih

    return index_nih(folder, labels=options.labels)


def _csv(folder: Path, options: Options) -> "Films":
    from hilum.data.sources.csv import index_csv

    return index_csv(folder, options)


SOURCES = {
    "nih": Source("ChestX-ray14", _nih),
    "csv": Source("a table of your own", _csv),
}
"""Each source under its name on the command line."""
