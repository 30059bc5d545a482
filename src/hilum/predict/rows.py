"""Predictions as CSV, JSON or Parquet, row after row: `film`, a score per finding, and what else was asked for.

That is a call per finding, where calls are wanted; `fit`, whether the film fits the model, where the model can tell;
and `error`, if any film is bad.
"""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from hilum.errors import HilumError
from hilum.files import check_place
from hilum.operating import CALL

_ROWS_IN_MEMORY = 4096


class Row(NamedTuple):
    """A film's scores in the order of the findings, each in full float32; NaN where `error` says why there is none."""

    film: str
    scores: Sequence[float]
    error: str
    calls: Sequence[str] = ()  # in the same order, where they are wanted
    fit: str = ""  # ok, or what is wrong and why; empty without a gate


class Table(NamedTuple):
    """Rows to be written.

    Attributes:
        errors: whether any row has an error; if not, there is no such column.
        called: whether rows have calls.
        gated: whether rows say if the film fits.
    """

    findings: Sequence[str]
    rows: Iterator[Row]
    errors: bool
    called: bool = False
    gated: bool = False

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return ["film", *self.findings, *self.text_columns]

    @property
    def text_columns(self) -> list[str]:
        """The names of those after the scores."""
        calls = [CALL + name for name in self.findings if self.called]
        return [*calls, *(["fit"] if self.gated else []), *(["error"] if self.errors else [])]

    def texts(self, row: Row) -> list[str]:
        """What a row has in them."""
        return [*row.calls, *([row.fit] if self.gated else []), *([row.error] if self.errors else [])]


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
