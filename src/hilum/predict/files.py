"""The files that `hilum predict` reads and writes: inputs in a definite order, then CSV, JSON or Parquet."""

import csv
import glob
import heapq
import json
import math
import os
import struct
import tempfile
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from hilum.data.decoding import JPEG, PNG
from hilum.errors import HilumError, ImageError
from hilum.files import SYSTEM_FOLDER, check_place, is_system_file
from hilum.model.thresholds import CALL

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")

_NAMES_IN_MEMORY = 1 << 16
_OFFSET = struct.Struct("<Q")


_DIRECTORY_CLASS = b"1.2.840.10008.1.3.10"
_SNIFFED = 1024  # bytes in which a DICOM file says what it is
_NAMED = 3  # files of each kind that a message names


@dataclass
class LeftOut:
    """The files in folders that are no films: how many, and the first few by name.

    Attributes:
        others: neither PNG, JPEG nor DICOM by their content.
        directories: DICOMDIR, the table of contents of a disc.
        system: what macOS and Windows put beside files, such as `._film.png`; nobody meant them.
        names: the first of the others, in the alphabet's order.
    """

    others: int = 0
    directories: int = 0
    system: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Count a file that is no film."""
        self.others += 1
        insort(self.names, path)
        del self.names[_NAMED:]

    def to_dict(self) -> dict[str, int]:
        """The counts as JSON."""
        return {"others": self.others, "directories": self.directories, "system": self.system}

    def __str__(self) -> str:
        """One sentence, empty if nothing was left out but the system's own files."""
        if not self.others:
            return ""
        more = f" and {self.others - len(self.names):,} more" if self.others > len(self.names) else ""
        files = "file that is" if self.others == 1 else "files that are"
        return f"Left out {self.others:,} {files} neither PNG, JPEG nor DICOM: {', '.join(self.names)}{more}."


class Listed(NamedTuple):
    """A file and its name in the predictions."""

    film: str
    path: Path


def expand(inputs: Sequence[str], left_out: LeftOut | None = None) -> Iterator[Listed]:
    """The films that a command line names: files, folders (searched through and through), and glob patterns.

    A named file is taken whatever it is; from folders, what ends as an image does and what is one by its content, as
    IM000001 on a disc. Each file once, in the order given; a
    folder's own files by name, then its folders by name; links are followed, but not in circles. A film's name is its
    path below the folder, where one folder is all that is given; the file's name, or the path where two files share
    one, where only files and patterns are; the path where folders and others are mixed.

    Args:
        left_out: counts the files in folders that are no films.

    Raises:
        ImageError: if an input names nothing, when its turn comes.
        HilumError: if a folder cannot be read, or a file's name is not UTF-8.
    """
    left_out = left_out if left_out is not None else LeftOut()
    folders = [Path(name) for name in inputs if Path(name).is_dir()]
    if len(inputs) == 1 and folders:
        for path in _below(folders[0], inputs[0], left_out):
            yield Listed(path.relative_to(folders[0]).as_posix(), path)
    elif folders:
        for path in _each_once(inputs, left_out):
            yield Listed(path.as_posix(), path)
    else:
        paths = list(_each_once(inputs, left_out))  # as many as a command line can hold
        names = Counter(path.name for path in paths)
        for path in paths:
            yield Listed(path.name if names[path.name] == 1 else path.as_posix(), path)


def _each_once(inputs: Sequence[str], left_out: LeftOut) -> Iterator[Path]:
    named: set[Path] = set()
    searched: set[Path] = set()
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            files: Iterable[Path] = _below(path, name, left_out)
        elif path.exists():
            files = [path]
        else:
            files = [Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]  # noqa: PTH207 - patterns may be absolute
            if not files:
                raise _nothing(name, LeftOut())
        for file in files:
            if file not in named and searched.isdisjoint(file.parents):
                yield file
                if not path.is_dir():
                    named.add(file)
        if path.is_dir():
            searched.add(path)


def _below(folder: Path, name: str, left_out: LeftOut) -> Iterator[Path]:
    """All films below a folder, of which there must be one."""
    files = _walk(folder, left_out)
    first = next(files, None)
    if first is None:
        raise _nothing(name, left_out)
    yield first
    yield from files


def _walk(folder: Path, left_out: LeftOut, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All films below a folder; one that a link leads back to is not entered again on the way down."""
    real = folder.resolve()
    if real in above:
        return
    for name in _sorted_names(folder, lambda entry: _is_film(entry, left_out)):
        yield folder / name
    for name in _sorted_names(folder, _is_folder):
        if name == SYSTEM_FOLDER:
            left_out.system += sum(1 for path in (folder / name).rglob("*") if path.is_file())
        else:
            yield from _walk(folder / name, left_out, (*above, real))


def _sorted_names(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> Iterator[str]:
    """The names of the wanted entries of a folder, in order; a folder of millions is sorted on disk."""
    parts: list[IO[str]] = []
    try:
        with ExitStack() as files, os.scandir(folder) as entries:
            wanted = (entry.name for entry in entries if is_wanted(entry))
            names = sorted(islice(wanted, _NAMES_IN_MEMORY))
            while names and (parts or len(names) == _NAMES_IN_MEMORY):
                part = files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
                parts.append(part)
                part.writelines(json.dumps(name) + "\n" for name in names)
                part.seek(0)
                names = sorted(islice(wanted, _NAMES_IN_MEMORY))
            yield from heapq.merge(names, *(map(json.loads, part) for part in parts))
    except OSError as error:
        raise HilumError(
            f"folder must be readable, got {error.strerror!r} in {folder}. Give yourself permission to read it"
        ) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: a bad film, if it is called one
        return False


def _is_film(entry: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Whether an entry of a folder is a film by its ending or else by its first bytes; counts what is none."""
    if _is_folder(entry):
        return False
    if is_system_file(entry.name):
        left_out.system += 1
        return False
    if entry.name.lower().endswith(SUFFIXES):
        return True
    match _kind(entry):
        case "film":
            return True
        case "directory":
            left_out.directories += 1
        case _:
            left_out.add(entry.path)
    return False


def _kind(entry: os.DirEntry[str]) -> str:
    """`film`, `directory` (of a disc) or `other`, by a file's first bytes."""
    try:
        if not entry.is_file():  # a pipe would be waited for
            return "other"
        with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 - a folder may hold millions
            head = file.read(_SNIFFED)
    except OSError:
        return "other"
    if head[128:132] == b"DICM":
        return "directory" if _DIRECTORY_CLASS + b"\0" in head or entry.name.upper() == "DICOMDIR" else "film"
    return "film" if head.startswith((PNG, JPEG)) else "other"


def _nothing(name: str, left_out: LeftOut) -> ImageError:
    found = f" {left_out}" if left_out.others else ""
    return ImageError(
        f"input must be a PNG, JPEG or DICOM file, a folder that holds some or a pattern, got {name!r}, "
        f"which names none.{found} Check the spelling."
    )


class Listing:
    """The films of a run, on disk in their order: one line of JSON each, and where each line starts."""

    def __init__(self, folder: Path):
        self.lines, self.offsets = folder / "films.jsonl", folder / "films.offsets"

    def write(self, films: Iterable[Listed]) -> None:
        """List films."""
        with self.lines.open("wb") as lines, self.offsets.open("wb") as offsets:
            for film, path in films:
                try:
                    line = json.dumps([film, str(path)], ensure_ascii=False).encode() + b"\n"
                except UnicodeEncodeError:
                    raise HilumError(f"file names must be UTF-8, got {str(path)!r}. Rename it") from None
                offsets.write(_OFFSET.pack(lines.tell()))
                lines.write(line)

    def __len__(self) -> int:
        return self.offsets.stat().st_size // _OFFSET.size

    def read(self, first: int = 0) -> Iterator[Listed]:
        """The films from the `first` on."""
        with self.lines.open("rb") as lines, self.offsets.open("rb") as offsets:
            offsets.seek(first * _OFFSET.size)
            start = offsets.read(_OFFSET.size)
            if start:
                lines.seek(_OFFSET.unpack(start)[0])
                for line in lines:
                    film, path = json.loads(line)
                    yield Listed(film, Path(path))


_ROWS_IN_MEMORY = 4096


class Row(NamedTuple):
    """A film's scores in the order of the findings, each in full float32; NaN if there are none.

    `error` says why the film could not be read, or why something else that was asked for is not there; `fit` why a film
    that was read has no scores.
    """

    film: str
    scores: Sequence[float]
    error: str
    calls: Sequence[str] = ()  # in the same order, where they are wanted
    fit: str = ""  # ok, or what is wrong and why; empty without an input quality check
    forced: bool = False  # scored although it does not fit


class Table(NamedTuple):
    """Rows to be written.

    Attributes:
        errors: whether any row has an error; if not, there is no such column.
        called: whether rows have calls.
        gated: whether rows say if the film fits.
        forced: whether rows say if the film was scored although it does not fit.
    """

    findings: Sequence[str]
    rows: Iterator[Row]
    errors: bool
    called: bool = False
    gated: bool = False
    forced: bool = False

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return ["film", *self.findings, *self.text_columns]

    @property
    def text_columns(self) -> list[str]:
        """The names of those after the scores."""
        calls = [CALL + name for name in self.findings if self.called]
        said = {"fit": self.gated, "forced": self.forced, "error": self.errors}
        return [*calls, *(name for name, is_there in said.items() if is_there)]

    def texts(self, row: Row) -> list[str]:
        """What a row has in them."""
        fit = [row.fit] if self.gated else []
        forced = ["yes" if row.forced else "no"] if self.forced else []
        return [*row.calls, *fit, *forced, *([row.error] if self.errors else [])]


def check_out(path: Path) -> None:
    """Refuse a place for predictions before any work is done for it.

    Raises:
        HilumError: if the suffix says no known form, or something of that name is no file.
    """
    if path.suffix not in (".csv", ".json", ".parquet"):
        raise HilumError(f"out must end in .csv, .json or .parquet, got {str(path)!r}")
    check_place(path)


def write_rows(table: Table, path: Path) -> None:
    """Write predictions as CSV, JSON (a list of rows) or Parquet, by the suffix; a few rows are in memory at a time.

    Raises:
        HilumError: if the suffix is none of these.
    """
    check_out(path)
    match path.suffix:
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                write_csv(table, file)
        case ".json":
            with path.open("w", encoding="utf-8") as file:
                write_json(table, file)
        case ".parquet":
            _write_parquet(table, path)


def write_csv(table: Table, file: IO[str], *, digits: int = 9) -> None:
    """Write predictions as CSV.

    Args:
        digits: significant ones of each score; nine tell every float32.
    """
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(table.columns)
    for row in table.rows:
        scores = ("" if math.isnan(score) else f"{score:.{digits}g}" for score in row.scores)
        lines.writerow([row.film, *scores, *table.texts(row)])


def write_json(table: Table, file: IO[str]) -> None:
    """Write predictions as a JSON list of rows; a bad film's scores are null."""
    before = "["
    for row in table.rows:
        scores = (None if math.isnan(score) else float(f"{score:.9g}") for score in row.scores)
        content = dict(zip(table.columns, [row.film, *scores, *table.texts(row)], strict=True))
        file.write(f"{before}\n  {json.dumps(content, ensure_ascii=False)}")
        before = ","
    file.write("\n]\n")


def _write_parquet(table: Table, path: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    fields = [("film", pa.string()), *((finding, pa.float32()) for finding in table.findings)]
    schema = pa.schema([*fields, *((name, pa.string()) for name in table.text_columns)])
    with ParquetWriter(path, schema) as writer:
        while rows := list(islice(table.rows, _ROWS_IN_MEMORY)):
            scores = [[row.scores[k] for row in rows] for k in range(len(table.findings))]
            texts = zip(*(table.texts(row) for row in rows), strict=True)
            columns = [[row.film for row in rows], *scores, *map(list, texts)]
            arrays = [
                pa.array(column, kind, from_pandas=True) for column, kind in zip(columns, schema.types, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
