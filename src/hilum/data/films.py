"""The manifest: one table of films with their patients, views, splits and labels. Every source is read into it."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from hilum.errors import FilmsError, HilumError
from hilum.files import unfinished

COLUMNS = ("film", "path", "source", "patient", "study", "view", "age", "sex", "split")
VIEWS = ("PA", "AP", "LATERAL", "unknown")
SEXES = ("M", "F", "unknown")
SPLITS = ("train", "val", "test")
OLDEST_YEARS = 120
"""Nobody older is believed: ChestX-ray14's first label file holds ages such as 412."""

_KEY = b"hilum"
_FORMAT = 1
_REMEDY = "Make the manifest anew with: hilum index SOURCE DIR --out films.parquet"


@dataclass(frozen=True)
class Films:
    """One table of films, the folder that its paths start from, and notes on where it came from.

    `notes` is plain JSON: what was indexed, its problems by name, the split's protocol and seed, boxes as fractions.
    """

    table: pd.DataFrame
    root: Path
    findings: tuple[str, ...]
    notes: dict[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    def path(self, index: int) -> Path:
        """The image file of the film in row `index`."""
        return self.root / str(self.table["path"].iloc[index])

    def labels(self, index: int) -> Float32[np.ndarray, " findings"]:
        """The truth of one film: 1 present, 0 absent, NaN unknown, in the order of `findings`."""
        row: Float32[np.ndarray, " findings"] = self._labels[index].copy()
        return row

    @property
    def all_labels(self) -> Float32[np.ndarray, "films findings"]:
        """The truth of all films; a copy, so that no caller can change another's labels."""
        return self._labels.copy()

    @cached_property
    def _labels(self) -> Float32[np.ndarray, "films findings"]:
        return self.table[list(self.findings)].to_numpy(dtype=np.float32)

    def select(self, split: str) -> "Films":
        """The films of one split.

        Raises:
            FilmsError: if the manifest was never split, or the split holds no film.
        """
        if split not in SPLITS:
            raise FilmsError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if self.table["split"].isna().all():
            raise FilmsError(
                f"films must be split before {split} is used, got a manifest without splits. "
                "Split it with: hilum split films.parquet --protocol patient --seed 0"
            )
        chosen = self.table[self.table["split"] == split]
        if chosen.empty:
            raise FilmsError(
                f"split {split} must hold at least one film, got none of {len(self)}. "
                "Split again with a fraction above 0 for it, or choose another split."
            )
        return replace(self, table=chosen.reset_index(drop=True))

    def fingerprint(self) -> str:
        """SHA-256 over film ids, patients, splits and labels; the same wherever the films lie and in whatever order."""
        table = self.table.sort_values("film", kind="stable")
        labels = table[list(self.findings)].to_numpy(dtype=np.float32)
        columns = [_texts(table[name]) for name in ("film", "patient", "split")]
        digest = hashlib.sha256(json.dumps([list(self.findings), *columns]).encode())
        digest.update(np.where(np.isnan(labels), -1, labels).astype(np.int8).tobytes())
        return digest.hexdigest()


def validate(table: pd.DataFrame, findings: Sequence[str], where: str | Path) -> None:
    """Check a manifest's columns and every value in them.

    Args:
        where: the file that the table comes from, for the message.

    Raises:
        FilmsError: naming file, row (1 is the first film) and column of the first fault.
    """
    _check_columns(table, findings, where)
    for name in ("film", "path", "source", "patient", "study"):
        _refuse(table, name, [not value for value in _texts(table[name])], "be text that is not empty", where)
    _refuse(table, "film", table["film"].duplicated(), "be unique", where)
    outside = [
        "\0" in text or PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts
        for text in table["path"].tolist()
    ]
    _refuse(table, "path", outside, "be relative to the manifest's root and stay inside it", where)
    _refuse(table, "view", ~table["view"].isin(VIEWS), f"be one of {', '.join(VIEWS)}", where)
    _refuse(table, "sex", ~table["sex"].isin(SEXES), f"be one of {', '.join(SEXES)}", where)
    unsplit = table["split"].isna()
    _refuse(table, "split", ~(unsplit | table["split"].isin(SPLITS)), f"be one of {', '.join(SPLITS)} or null", where)
    _check_numeric(table, "age", where)
    believed = table["age"].isna() | table["age"].between(0, OLDEST_YEARS)
    _refuse(table, "age", ~believed, f"be from 0 to {OLDEST_YEARS} years, or NaN if unknown", where)
    for finding in findings:
        _check_numeric(table, finding, where)
        known = table[finding].isna() | table[finding].isin((0.0, 1.0))
        _refuse(table, finding, ~known, "be 0 (absent), 1 (present) or NaN (unknown)", where)


def _check_columns(table: pd.DataFrame, findings: Sequence[str], where: str | Path) -> None:
    expected = [*COLUMNS, *findings]
    if not findings or len(set(expected)) < len(expected):
        raise FilmsError(
            f"findings must be distinct names, at least one and none of {', '.join(COLUMNS)}, got {list(findings)} "
            f"in {where}. {_REMEDY}"
        )
    columns = [str(name) for name in table.columns]
    if columns != expected:
        missing = [name for name in expected if name not in columns]
        wrong = f"no column {missing[0]!r}" if missing else f"{columns}"
        raise FilmsError(f"columns must be {', '.join(expected)}, got {wrong} in {where}. {_REMEDY}")
    if table.empty:
        raise FilmsError(f"films must be at least one, got none in {where}. {_REMEDY}")


def _check_numeric(table: pd.DataFrame, name: str, where: str | Path) -> None:
    if table[name].dtype.kind != "f":
        raise FilmsError(f"{name} must be a column of floats, got {table[name].dtype} in {where}. {_REMEDY}")


def _refuse(table: pd.DataFrame, name: str, faults: Iterable[bool], rule: str, where: str | Path) -> None:
    """Raise for the first row that has a fault in the column `name`."""
    rows = np.flatnonzero(np.asarray(list(faults), dtype=bool))
    if rows.size:
        value, film = table[name].iloc[rows[0]], table["film"].iloc[rows[0]]
        more = f" (and {rows.size - 1} more rows)" if rows.size > 1 else ""
        raise FilmsError(
            f"{name} must {rule}, got {value!r} in {where}, row {rows[0] + 1}, film {film!r}{more}. {_REMEDY}"
        )


def _texts(column: "pd.Series[Any]") -> list[str | None]:
    """The values of a text column; whatever is not text counts as null."""
    return [value if isinstance(value, str) else None for value in column.tolist()]


def write_films(films: Films, path: Path) -> None:
    """Write a manifest as Parquet; its root is stored relative to the manifest, so that both can move together.

    Raises:
        FilmsError: if the table is not valid or the file cannot be written.
    """
    validate(films.table, films.findings, path)
    folder = path.resolve().parent
    try:
        root = Path(os.path.relpath(films.root.resolve(), folder)).as_posix()
    except ValueError:  # another drive, on Windows
        root = films.root.resolve().as_posix()
    header = {"format": _FORMAT, "root": root, "findings": list(films.findings), "notes": films.notes}
    try:
        table = pa.Table.from_pandas(films.table, preserve_index=False)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: json.dumps(header).encode()})
        with unfinished(path) as beside:
            pq.write_table(table, beside, compression="zstd")
    except (HilumError, OSError, pa.ArrowException, UnicodeError) as error:
        raise FilmsError(f"{path} must be a file that can be written, got: {_first_line(error)}") from error


def read_films(path: Path) -> Films:
    """Read and check a manifest that `write_films` wrote.

    Raises:
        FilmsError: if the file is missing, no manifest, or holds values that no manifest may hold.
    """
    try:
        if not path.is_file():
            raise FilmsError(f"films must be a manifest file, got {path}, which is no file. {_REMEDY}")
        stored = pq.read_table(path)
        text = (stored.schema.metadata or {}).get(_KEY)
        header = None if text is None else json.loads(text)
        table = stored.to_pandas()
    except (OSError, pa.ArrowException, ValueError, TypeError, LookupError, RecursionError) as error:
        raise FilmsError(f"films must be a Parquet manifest, got {path}: {_first_line(error)}. {_REMEDY}") from error
    if not _is_header(header):
        raise FilmsError(
            f"films must be a manifest of Hilum (format {_FORMAT}), got another table in {path}. {_REMEDY}"
        )
    findings = tuple(header["findings"])
    validate(table, findings, path)
    kinds = {"age": np.float64, **dict.fromkeys(findings, np.float32)}
    table = table.reset_index(drop=True).astype(kinds)
    root = path.resolve().parent / header["root"]
    return Films(table, root.resolve(), findings, header["notes"])


def _is_header(header: object) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(header, dict)
        and header.get("format") == _FORMAT
        and isinstance(header.get("root"), str)
        and "\0" not in header["root"]
        and isinstance(header.get("notes"), dict)
        and isinstance(header.get("findings"), list)
        and all(isinstance(name, str) for name in header["findings"])
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
