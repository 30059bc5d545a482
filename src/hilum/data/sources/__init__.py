"""Data sets as their publishers lay them out, one reader each: folder -> Films. A new one is a file and a line here."""

from collections.abc import Callable
from pathlib import Path

from hilum.data.films import Films
from hilum.data.sources.csv import index_csv
from hilum.data.sources.nih import index_nih
from hilum.data.sources.reading import Options

READERS: dict[str, Callable[[Path, Options], Films]] = {
    "nih": lambda folder, options: index_nih(folder, labels=options.labels),
    "csv": index_csv,
}
"""The reader of each source, under its name on the command line."""
