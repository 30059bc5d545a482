"""A CSV or Parquet file of predictions as columns of cells that know where they stand, so that errors can say it."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hilum.data.tables import read_text
from hilum.errors import FilmsError, PredictionsError

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


def read_cells(path: Path) -> Cells:
    """All cells of a CSV file (UTF-8; comma, semicolon or tab) or a Parquet file, told apart by their content.

    Raises:
        PredictionsError: if the file is missing, empty, of another encoding or format, or its rows are ragged.
    """
    if path.suffix.lower() in OTHER_FORMATS:
        raise PredictionsError(f"predictions must be CSV or Parquet, got {path}. Save the table as CSV. {EXAMPLE}")
    try:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(4) == b"PAR1":
                    return _read_parquet(path)
        return _read_csv(path, read_text(path))
    except FilmsError as error:
        raise PredictionsError(str(error)) from error
    except (OSError, ValueError) as error:
        raise PredictionsError(f"predictions must be a readable file, got {path}: {error}. Check the path.") from error


def _read_csv(path: Path, text: str) -> Cells:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = "," if "," in first else max(";\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        for number, row in enumerate(reader, start=1):
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
        raise PredictionsError(
            f"predictions must be CSV or Parquet, got: {error} in {place}. Write it again."
        ) from error
    if not rows:
        got = "only a header" if header else "an empty file"
        raise PredictionsError(f"predictions must hold at least one film, got {got} in {path}. {EXAMPLE}")
    return Cells(path, header, list(zip(*rows, strict=True)), numbers)


def _read_parquet(path: Path) -> Cells:
    try:
        table = pq.read_table(path)
        columns: list[Sequence[object]] = [column.to_pylist() for column in table.columns]
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PredictionsError(f"predictions must be CSV or Parquet, got {path}: {reason}. Write it again.") from error
    if not table.num_rows:
        raise PredictionsError(f"predictions must hold at least one film, got an empty table in {path}. {EXAMPLE}")
    return Cells(path, list(table.column_names), columns, range(1, table.num_rows + 1))
