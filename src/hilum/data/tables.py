"""Strangers' CSV files as columns of text, where every fault can be named by file, row and column."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hilum.errors import FilmsError

Value = TypeVar("Value")

_SAVE_AGAIN = "Save the file again as comma-separated text in UTF-8"
_LONGEST_SHOWN = 60


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


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte order mark, or such a file gzipped.

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
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FilmsError(f"text must be UTF-8, got UTF-16 in {path}, row 1. {_SAVE_AGAIN}.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{content[error.start]:02x}"
        raise FilmsError(f"text must be UTF-8, got {got} in {path}, row {row}. {_SAVE_AGAIN}.") from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise FilmsError(f"text must be free of NUL characters, got one in {path}, row {row}. {_SAVE_AGAIN}.")
    return text


def read_header(path: Path) -> list[str]:
    """The names in a CSV file's first row, as far as they can be told; for looking around, so nothing is an error."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return [name.strip() for name in next(csv.reader([file.readline(1 << 16)]), [])]
    except (OSError, csv.Error):
        return []


def read_table(path: Path, wanted: Sequence[str], *, other_names: dict[str, str] | None = None) -> TextTable:
    """The wanted columns of a CSV file; rows without any value are no rows.

    Args:
        other_names: a wanted column's other spelling, where files have one.

    Raises:
        FilmsError: if the file is no CSV, lacks a wanted column, or has a row of another length, naming the row.
    """
    numbered: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for number, fields in enumerate(reader, start=1):
            if any(field.strip() for field in fields):
                numbered.append((number, fields))
    except csv.Error as error:
        place = f"{path}, row {reader.line_num}"
        raise FilmsError(f"row must be comma-separated values, got: {error} in {place}. {_SAVE_AGAIN}.") from error
    if not numbered:
        raise FilmsError(f"table must have a header row, got an empty file {path}. {_SAVE_AGAIN}.")
    header = [name.strip() for name in numbered[0][1]]
    places = {name: _place(path, header, name, (other_names or {}).get(name, name)) for name in wanted}
    rows, kept = [], []
    for number, fields in numbered[1:]:
        if len(fields) <= max(places.values()) or any(field.strip() for field in fields[len(header) :]):
            raise FilmsError(
                f"row must have {len(header)} fields as the header has, got {len(fields)} in {path}, row {number}. "
                "Mend the row: quote values that hold commas."
            )
        rows.append(number)
        kept.append(fields)
    columns = {name: [fields[place].strip() for fields in kept] for name, place in places.items()}
    return TextTable(path, columns, rows)


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
