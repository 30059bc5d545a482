"""Strangers' tables: CSV and Parquet as columns that name file, row and column of a fault; and files below a folder."""

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from hilum.errors import FilmsError, PredictionsError
from hilum.files import is_system_file

Value = TypeVar("Value")

_SAVE_AGAIN = "Save the file again as comma-separated text in UTF-8"
_LONGEST_SHOWN = 60
_ROUNDED = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]*)?[eE][+-]?[0-9]+")


@dataclass(frozen=True)
class TextTable:
    """The wanted columns of a CSV file, stripped of outer spaces, with each row's number in the file (header: 1)."""

    path: Path
    columns: dict[str, list[str]]
    rows: list[int]

    def parse(self, column: str, parse: Callable[[str], Value | None], rule: str, remedy: str) -> list[Value]:
        """A column's values, each distinct one parsed once.

        Args:
            parse: gives None for a value that breaks the rule.
            rule: what a value must be, for the message.

        Raises:
            FilmsError: naming file, row and column of the first value that breaks the rule.
        """
        texts = self.columns[column]
        parsed = {text: parse(text) for text in dict.fromkeys(texts)}
        values: list[Value] = []
        for index, text in enumerate(texts):
            value = parsed[text]
            if value is None:
                raise self.fault(column, index, rule, remedy)
            values.append(value)
        return values

    def fault(self, column: str, index: int, rule: str, remedy: str) -> FilmsError:
        """The error for one value, by its index in the table."""
        got = shown(self.columns[column][index])
        return FilmsError(f"{column} must {rule}, got {got} in {self.path}, row {self.rows[index]}. {remedy}.")


def shown(text: str) -> str:
    """A stranger's text, quoted and short enough for a message."""
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")


def read_text(path: Path, *, encoding: str | None = None) -> str:
    """A text file, in UTF-8 with or without a byte order mark, or such a file gzipped.

    Args:
        encoding: another one that it is in.

    Raises:
        FilmsError: if it cannot be read or is no such text, naming the row where that shows.
    """
    try:
        if not path.is_file():
            raise FilmsError(f"table must be a file, got {str(path)!r}, which is none. Check the path.")
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise FilmsError(
            f"table must be a file that can be read, got {str(path)!r}: {error}. Check the path."
        ) from error
    if encoding is not None:
        try:
            return content.decode(encoding)
        except (LookupError, UnicodeError) as error:
            raise FilmsError(f"text must be in {encoding}, got: {error} in {path}. {_SAVE_AGAIN}.") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FilmsError(f"text must be UTF-8, got UTF-16 in {path}, row 1. {_SAVE_AGAIN}.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{content[error.start]:02x}"
        raise FilmsError(f"text must be UTF-8, got {got} in {path}, row {row}. {_SAVE_AGAIN}.") from error
    if text.count("\0") > len(text) // 4:
        raise FilmsError(f"text must be UTF-8, got UTF-16 in {path}, row 1. {_SAVE_AGAIN}.")
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise FilmsError(f"text must be free of NUL characters, got one in {path}, row {row}. {_SAVE_AGAIN}.")
    return text


def read_header(path: Path) -> list[str]:
    """The names in a CSV file's first row, as far as they can be told; for looking around, so nothing is an error."""
    try:
        zipped = path.suffix.lower() == ".gz"
        with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
            text = file.readline(1 << 16)
            if separator_line(text):
                text += file.readline(1 << 16)
        lines, delimiter = _lines(text)
        rows = csv.reader(lines, delimiter=delimiter)
        return [name.strip() for name in next((row for row in rows if row), [])]
    except (OSError, EOFError, zlib.error, csv.Error):
        return []


def separator_line(text: str) -> str:
    """The separator that Excel's first line `sep=;` names; empty if a table does not start with one."""
    first = text.partition("\n")[0].strip().strip('"')
    return first[4:] if len(first) == 5 and first.lower().startswith("sep=") else ""


def _lines(text: str) -> tuple[Iterator[str], str]:
    """A table's lines and what separates their cells; Excel's line that names it becomes an empty one."""
    lines = iter(io.StringIO(text, newline=""))
    named = separator_line(text)
    if named:
        next(lines)
        return chain(["\n"], lines), named
    first = next((line for line in text.splitlines() if line.strip()), "")
    return lines, "," if "," in first else max(";\t", key=first.count)


def was_rounded(text: str) -> bool:
    """Whether an identifier is a number as spreadsheets write long ones, 1.2E+07: others round to the same."""
    return _ROUNDED.fullmatch(text.strip()) is not None


def read_table(path: Path, wanted: Sequence[str], *, other_names: dict[str, str] | None = None) -> TextTable:
    """The wanted columns of a CSV file; rows without any value are no rows.

    Args:
        other_names: a wanted column's other spelling, where files have one.

    Raises:
        FilmsError: if the file is no CSV, lacks a wanted column, or has a row of another length, naming the row.
    """
    lines, delimiter = _lines(read_text(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    places: list[int] = []
    longest = 0
    columns: list[list[str]] = [[] for _ in wanted]
    rows: list[int] = []
    try:
        for number, fields in enumerate(reader, start=1):
            if not any(field and not field.isspace() for field in fields):
                continue
            if not header:
                header = [name.strip() for name in fields]
                places = [_place(path, header, name, (other_names or {}).get(name, name)) for name in wanted]
                longest = max(places)
                continue
            if len(fields) <= longest or any(field.strip() for field in fields[len(header) :]):
                raise FilmsError(
                    f"row must have {len(header)} fields as the header has, got {len(fields)} in {path}, row {number}. "
                    "Mend the row: quote values that hold commas."
                )
            rows.append(number)
            for column, place in zip(columns, places, strict=True):
                column.append(fields[place].strip())
    except csv.Error as error:
        where = f"{path}, row {reader.line_num}"
        raise FilmsError(f"row must be comma-separated values, got: {error} in {where}. {_SAVE_AGAIN}.") from error
    if not header:
        raise FilmsError(f"table must have a header row, got an empty file {path}. {_SAVE_AGAIN}.")
    return TextTable(path, dict(zip(wanted, columns, strict=True)), rows)


def _place(path: Path, header: list[str], name: str, other_name: str) -> int:
    matches = [place for place, found in enumerate(header) if found.lower() in (name.lower(), other_name.lower())]
    if len(matches) == 1:
        return matches[0]
    found = ", ".join(name for name in header if name)
    count = "no such column among" if not matches else f"{len(matches)} of them among"
    raise FilmsError(
        f"header must have one column {name!r}, got {count} {shown(found)} in {path}, row 1. "
        "Add the column (comma-separated), or give another file."
    )


OTHER_FORMATS = {".json", ".xlsx", ".xls", ".ods", ".npy", ".npz", ".pkl", ".h5"}
"""Endings of files that some systems write their scores into, and that are not read."""

EXAMPLE = "A file looks like this: film,Atelectasis,Cardiomegaly,... and then a line per film."


@dataclass(frozen=True)
class Cells:
    """A file's columns as they stand there, with each row's number: in a CSV file the header is row 1."""

    path: Path
    names: list[str]
    columns: list[Sequence[object]]
    rows: Sequence[int]

    def place(self, index: int, column: int) -> str:
        """File, row and column of one cell, for a message."""
        return f"{self.path}, row {self.rows[index]}, column {self.names[column]!r}"


def read_cells(
    path: Path,
    *,
    of_what: str = "predictions",
    separator: str | None = None,
    encoding: str | None = None,
    header: int | None = None,
) -> Cells:
    """All cells of a CSV file (UTF-8; comma, semicolon or tab) or a Parquet file, told apart by their content.

    Args:
        of_what: what the file should hold, for messages.
        separator: of a CSV file's cells, where it is none of the three or cannot be told.
        encoding: of a CSV file, where it is not UTF-8.
        header: the line of a CSV file with the columns' names, where others stand above it.

    Raises:
        PredictionsError: if the file is missing, empty, of another encoding or format, or its rows are ragged.
    """
    if path.suffix.lower() in OTHER_FORMATS:
        raise PredictionsError(f"{of_what} must be CSV or Parquet, got {path}. Save the table as CSV. {EXAMPLE}")
    try:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(4) == b"PAR1":
                    return _read_parquet(path, of_what)
        return _read_csv(path, read_text(path, encoding=encoding), of_what, separator, header)
    except FilmsError as error:
        raise PredictionsError(str(error)) from error
    except (OSError, ValueError) as error:
        raise PredictionsError(f"{of_what} must be a readable file, got {path}: {error}. Check the path.") from error


def _read_csv(path: Path, text: str, of_what: str, separator: str | None, start: int | None) -> Cells:
    above = 0 if start is None else start - 1
    lines, guessed = _lines("".join(text.splitlines(keepends=True)[above:]) if above else text)
    reader = csv.reader(lines, delimiter=separator or guessed, strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        for number, row in enumerate(reader, start=1 + above):
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [name.strip() for name in row]
            elif len(row) == len(header):
                rows.append(row)
                numbers.append(number)
            else:
                raise PredictionsError(
                    f"rows must have {len(header)} cells as the header has, got {len(row)} in {path}, row {number}. "
                    "Mend the row: quote values that hold commas."
                )
    except csv.Error as error:
        place = f"{path}, row {reader.line_num}"
        raise PredictionsError(f"{of_what} must be CSV or Parquet, got: {error} in {place}. Write it again.") from error
    if not rows:
        got = "only a header" if header else "an empty file"
        raise PredictionsError(f"{of_what} must hold at least one film, got {got} in {path}. {EXAMPLE}")
    return Cells(path, header, list(zip(*rows, strict=True)), numbers)


def _read_parquet(path: Path, of_what: str) -> Cells:
    try:
        table = pq.read_table(path)
        columns: list[Sequence[object]] = [column.to_pylist() for column in table.columns]
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PredictionsError(f"{of_what} must be CSV or Parquet, got {path}: {reason}. Write it again.") from error
    if not table.num_rows:
        raise PredictionsError(f"{of_what} must hold at least one film, got an empty table in {path}. {EXAMPLE}")
    return Cells(path, list(table.column_names), columns, range(1, table.num_rows + 1))


IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
FILM_ENDINGS = (*IMAGE_ENDINGS, ".dcm", ".dicom")


Match = Literal["name", "path"]
"""What a row and its image share: the base name, or the whole path below the folder; neither with its ending."""
_TABLES = (".csv", ".tsv", ".txt", ".json", ".xml", ".xlsx", ".gz")


@dataclass(frozen=True)
class SourceFolder:
    """What lies below a folder.

    Attributes:
        images: for each film's key the path of its image, relative to the folder; of several with one key the
            shallowest, then the alphabetically first.
        same_name: the paths of the others.
        texts: CSV, JSON, XML and text files, gzipped ones too, shallowest first.
        system_files: how many files of macOS and Windows were left out.
        match: what is a film's key.
    """

    folder: Path
    images: dict[str, str]
    same_name: list[str]
    texts: list[Path]
    system_files: int = 0
    match: Match = "name"
    endings: tuple[str, ...] = IMAGE_ENDINGS

    @classmethod
    def below(
        cls, folder: Path, *, match: Match = "name", endings: tuple[str, ...] = IMAGE_ENDINGS, need_images: bool = True
    ) -> "SourceFolder":
        """Look through a folder once.

        Args:
            match: whether films are told apart by base name or by path.
            endings: of images, in lower case.
            need_images: refuse a folder without images.

        Raises:
            FilmsError: if it is no folder, cannot be read or holds no image.
        """
        if not _is_folder(folder):
            raise FilmsError(f"source must be a folder, got {str(folder)!r}, which is none. Check the path.")
        folder = folder.resolve()
        images: dict[str, str] = {}
        same_name, texts, system_files = [], [], 0
        for path in sorted(files_below(folder), key=lambda path: (path.count("/"), path)):
            if is_system_file(path):
                system_files += 1
                continue
            ending = os.path.splitext(path)[1].lower()  # noqa: PTH122 - pathlib takes seconds for 112,120 names
            if ending in endings:
                key = _key(path, match, endings)
                if images.setdefault(key, path) != path:
                    same_name.append(path)
            elif ending in _TABLES:
                texts.append(folder / path)
        if not images and need_images:
            kinds = " or ".join(
                {".png": "PNG", ".jpg": "JPEG", ".dcm": "DICOM"}.get(ending, ending)
                for ending in endings
                if ending not in (".jpeg", ".dicom")
            )
            raise FilmsError(f"folder must hold {kinds} images, got none in {folder}. Check the path, or unpack them.")
        return cls(folder, images, same_name, texts, system_files, match, endings)

    def image(self, name: str) -> str | None:
        """The path below the folder of the image that a row names, or None."""
        return self.images.get(_key(name, self.match, self.endings))

    def file(self, name: str, *elsewhere: Path) -> Path | None:
        """A file by its name, whatever its case, or gzipped: below the folder, in its parent, or in another folder."""
        wanted = (name.lower(), name.lower() + ".gz")
        for path in self.texts:
            if path.name.lower() in wanted:
                return path
        near = (parent / (name + ending) for parent in (self.folder.parent, *elsewhere) for ending in ("", ".gz"))
        return next((path for path in near if path.is_file()), None)

    def files_like(self, pattern: str) -> list[Path]:
        """Tables below the folder whose path fits a pattern with * and ?, whatever the case; gzipped ones too."""
        forms = [f"*/{pattern.lower()}{ending}" for ending in ("", ".gz")]
        return [path for path in self.texts if any(fnmatchcase(path.as_posix().lower(), form) for form in forms)]


def _key(name: str, match: Match, endings: tuple[str, ...]) -> str:
    name = name.replace("\\", "/").removeprefix("./").lower()
    stem, dot, ending = (name if match == "path" else name.rpartition("/")[2]).rpartition(".")
    return stem if f".{ending}" in endings and dot and stem else f"{stem}{dot}{ending}"


def files_below(folder: Path) -> Iterator[str]:
    """All files below a folder, relative to it; links are followed, each real folder is entered once."""

    def refuse(error: OSError) -> None:
        raise FilmsError(
            f"folder must be readable, got {error.strerror!r} in {error.filename}. Give yourself permission to read it."
        ) from error

    entered, top = set(), os.fspath(folder)
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(place)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        relative = place[len(top) :].replace(os.sep, "/").strip("/")  # not relpath, which takes seconds for 200,000
        prefix = relative and relative + "/"
        for name in names:
            try:
                (prefix + name).encode()
            except UnicodeEncodeError as error:
                raise FilmsError(f"file names must be UTF-8, got {prefix + name!r} in {folder}. Rename it.") from error
            yield prefix + name


def base_name(path: str) -> str:
    """The last part of a path, however its folders are separated."""
    return re.split(r"[/\\]", path)[-1]


def film_key(film: str) -> str:
    """A film's base name without its ending, in lower case: what a row and its image have in common."""
    stem, dot, ending = film.lower().rpartition(".")
    return stem if f".{ending}" in IMAGE_ENDINGS and dot and stem else film.lower()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
