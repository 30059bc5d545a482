"""The manifest: one table of films with their patients, views, splits and labels. Every source is read into it."""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32

from hilum.errors import FilmsError, HilumError
from hilum.files import unfinished
from hilum.findings import canonical, name_fault

COLUMNS = ("film", "path", "source", "patient", "study", "view", "age", "sex", "split")
View = Literal["PA", "AP", "LATERAL", "unknown"]
VIEWS = ("PA", "AP", "LATERAL", "unknown")
FRONTAL: tuple[View, ...] = ("PA", "AP", "unknown")
"""What is trained on and evaluated where nobody says otherwise: a lateral film is never taken by accident."""
SEXES = ("M", "F", "unknown")
SPLITS = ("train", "val", "test")
OLDEST_YEARS = 120
"""Nobody older is believed: ChestX-ray14's first label file holds ages such as 412."""

PATIENTS_ARE_FILMS = (
    "The films' table names no patients, so every film was taken for a patient of its own. A patient with several "
    "films may be in training and test: values are then too high, and intervals too narrow."
)
"""What must be said of films whose notes hold `patients_are_films`."""

UNCERTAIN = -1.0
"""The label of a finding that its reader was uncertain of: kept by a manifest, and unknown to every evaluation."""
Policy = Literal["ignore", "zeros", "ones", "soft"]
"""What training takes an uncertain label for: unknown, absent, present, or a target drawn from SOFT.

Source: Irvin et al., "CheXpert", AAAI 2019, section 3; `soft`: Pham et al., Neurocomputing 437, 2021 (label smoothing).
"""
SOFT = (0.55, 0.85)

Protocol = Literal["official", "patient", "image"]
Fractions = tuple[float, float, float]

PATIENT_FRACTIONS: Fractions = (0.7, 0.1, 0.2)
IMAGE_FRACTIONS: Fractions = (0.7, 0.0, 0.3)
"""The paper's: 70 % of the images for training, 30 % for test, none for validation."""
OFFICIAL_FRACTIONS: Fractions = (7 / 8, 1 / 8, 0.0)
"""Of the patients of an official list for training and validation; the official test list stands as it is."""

_KEY = b"hilum"
_FORMAT = 2
"""2 keeps uncertain labels and a folder for each source; 1 had neither, and is read."""
_REMEDY = "Make the manifest anew with: hilum index SOURCE DIR --out films.parquet"
_MEND_FRAME = "Mend the table and call Films.from_frame again"


@dataclass(frozen=True)
class Films:
    """One table of films, the folder that its paths start from, and notes on where it came from.

    `notes` is plain JSON: what was indexed, its problems by name, the split's protocol and seed, boxes as fractions.
    `roots`, of films of several sources: the folder that the paths of each source start from. `views`: those that
    `select` gives.
    """

    table: pd.DataFrame
    root: Path
    findings: tuple[str, ...]
    notes: dict[str, Any]
    roots: dict[str, Path] = field(default_factory=dict)
    views: tuple[str, ...] = VIEWS

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, root: str | Path, findings: Sequence[str], check_files: bool = True
    ) -> "Films":
        """Films from a table of your own: columns `path`, `patient`, and one per finding; other columns are optional.

        Labels are 1 (present), 0 (absent), -1 (uncertain) or NaN (unknown). If they are missing, `film` is the path,
        `study` the film, `view` and `sex` are unknown, `age` is NaN, `source` is "frame" and `split` is empty. Further
        columns are left out.

        Args:
            frame: a row for each film.
            root: the folder that relative paths start from; absolute paths must lie below it.
            findings: the columns with labels, in the order of the model's outputs.
            check_files: refuse paths at which there is no file.

        Raises:
            FilmsError: naming row (1 is the first film) and column of the first fault.
        """
        if isinstance(findings, str):
            raise FilmsError(f"findings must be a list of names, got {findings!r}. Write [{findings!r}]")
        given = frame.reset_index(drop=True)
        top, columns = Path(root).absolute(), [str(name) for name in given.columns]
        lacking = [name for name in ("path", "patient", *findings) if name not in columns]
        if lacking or len(set(columns)) < len(columns):
            raise FilmsError(
                f"columns must be unique and include path, patient and the findings, got "
                f"{f'no column {lacking[0]!r}' if lacking else columns} in the frame. {_MEND_FRAME}"
            )
        paths = [_below(value, top) for value in given["path"].tolist()]
        films = _names(given["film"]) if "film" in columns else paths
        unknown = pd.Series("unknown", index=given.index)
        views, sexes = (given[name].fillna("unknown") if name in columns else unknown for name in ("view", "sex"))
        splits = given["split"].tolist() if "split" in columns else [None] * len(given)
        table = pd.DataFrame(
            {
                "film": films,
                "path": paths,
                "source": _names(given["source"]) if "source" in columns else "frame",
                "patient": _names(given["patient"]),
                "study": _names(given["study"]) if "study" in columns else films,
                "view": views,
                "age": _numbers(given, "age") if "age" in columns else np.nan,
                "sex": sexes,
                "split": pd.Series([None if pd.isna(split) else split for split in splits], dtype="str"),
                **{finding: _numbers(given, finding).astype(np.float32) for finding in findings},
            }
        )
        _refuse(table, "path", [not path for path in paths], "be text that is not empty", "the frame", _MEND_FRAME)
        validate(table, findings, "the frame", remedy=_MEND_FRAME)
        if check_files:
            absent = [not (top / str(path)).is_file() for path in paths]
            _refuse(table, "path", absent, f"name a file below {top}", "the frame", _MEND_FRAME)
        return cls(table, top, tuple(findings), {"source": "a table", "protocol": None, "split_seed": None})

    @classmethod
    def read(cls, path: str | Path) -> "Films":
        """Read a manifest file, as `hilum index` and `write` make it.

        Raises:
            FilmsError: if the file is missing, no manifest, or holds values that no manifest may hold.
        """
        return read_films(Path(path))

    def write(self, path: str | Path) -> None:
        """Write a manifest file (Parquet), for every command that takes one.

        Raises:
            FilmsError: if the table is not valid or the file cannot be written.
        """
        write_films(self, Path(path))

    def __len__(self) -> int:
        return len(self.table)

    def path(self, index: int) -> Path:
        """The image file of the film in row `index`."""
        root = self.roots.get(str(self.table["source"].iloc[index]), self.root) if self.roots else self.root
        return root / str(self.table["path"].iloc[index])

    def labels(self, index: int) -> Float32[np.ndarray, " findings"]:
        """The truth of one film in the order of `findings`: 1 present, 0 absent, NaN where nothing can be evaluated.

        That is: unknown, uncertain, or known by its source in clear cases alone (`notes["only_extremes"]`).
        """
        row: Float32[np.ndarray, " findings"] = self._labels[index].copy()
        return row

    @property
    def all_labels(self) -> Float32[np.ndarray, "films findings"]:
        """The truth of all films; a copy, so that no caller can change another's labels."""
        return self._labels.copy()

    @cached_property
    def _labels(self) -> Float32[np.ndarray, "films findings"]:
        said = self.table[list(self.findings)].to_numpy(dtype=np.float32)
        labels = np.where(said == UNCERTAIN, np.float32(np.nan), said)
        for source, findings in (self.notes.get("only_extremes") or {}).items():
            rows = (self.table["source"] == source).to_numpy(dtype=bool)
            for finding in set(findings) & set(self.findings):
                labels[rows, self.findings.index(finding)] = np.nan
        return labels

    @property
    def certain(self) -> pd.DataFrame:
        """The table with the labels that may be counted and evaluated by, as `labels` has them."""
        labels = pd.DataFrame(self._labels, columns=list(self.findings), index=self.table.index)
        return self.table.assign(**{finding: labels[finding] for finding in self.findings})

    @property
    def uncertain(self) -> Bool[np.ndarray, "films findings"]:
        """Which labels are uncertain."""
        said: Bool[np.ndarray, "films findings"] = self.table[list(self.findings)].to_numpy() == UNCERTAIN
        return said

    def targets(self, policies: Mapping[str, Policy], *, seed: int) -> Float32[np.ndarray, "films findings"]:
        """What to train towards: the truth, with each finding's uncertain labels as its policy takes them.

        Args:
            policies: by finding; `ignore` where there is none.
            seed: of `soft`, whose targets depend on it and on the names of film and finding alone.
        """
        said, films = self.table[list(self.findings)].to_numpy(dtype=np.float32), self.table["film"].tolist()
        targets = np.where(said == UNCERTAIN, np.float32(np.nan), said)
        for place, finding in enumerate(self.findings):
            rows = np.flatnonzero(self.uncertain[:, place])
            match policies.get(finding, "ignore"):
                case "zeros":
                    targets[rows, place] = 0
                case "ones":
                    targets[rows, place] = 1
                case "soft":
                    low, high = SOFT
                    drawn = [_uniform(f"{seed}:{films[row]}:{finding}") for row in rows]
                    targets[rows, place] = low + (high - low) * np.array(drawn, dtype=np.float32)
        return targets

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
        seen = chosen[chosen["view"].isin(self.views)]
        if seen.empty:
            raise FilmsError(
                f"split {split} must hold films of the views {', '.join(self.views)}, got none of {len(chosen)}. "
                "Choose other views."
            )
        return replace(self, table=seen.reset_index(drop=True))

    def other_views(self, split: str) -> dict[str, int]:
        """How many films of a split `select` leaves out, by view."""
        left = self.table["view"][(self.table["split"] == split) & ~self.table["view"].isin(self.views)]
        return {str(view): int(count) for view, count in left.value_counts().items()}

    def of_views(self, views: Sequence[str]) -> "Films":
        """The same films, of which `select` gives those of these views.

        Raises:
            FilmsError: if there is no such view.
        """
        wrong = [view for view in views if view not in VIEWS]
        if wrong or not views:
            got = repr(wrong[0]) if wrong else "none"
            raise FilmsError(f"views must be some of {', '.join(VIEWS)}, got {got}. Choose among them.")
        return replace(self, views=tuple(views))

    def known_findings(self) -> tuple[str, ...]:
        """The findings of which the training films, or all if there is no split, have a known or uncertain label."""
        split = self.table["split"]
        training = self.table if split.isna().all() else self.table[split == "train"]
        return tuple(name for name in self.findings if training[name].notna().any())

    def only(self, findings: Sequence[str]) -> "Films":
        """The same films with the labels of these findings alone, in the manifest's order.

        Raises:
            FilmsError: if one is none of the manifest's.
        """
        wanted = {canonical(name, self.findings) for name in findings}
        left = [name for name in self.findings if name not in wanted]
        kept = tuple(name for name in self.findings if name in wanted)
        if not kept:
            raise FilmsError("findings must be at least one of the manifest's, got none. Name one.")
        return replace(self, table=self.table.drop(columns=left), findings=kept)

    def split(self, protocol: str, *, seed: int = 0, fractions: tuple[float, float, float] | None = None) -> "Films":
        """The same films with `split` set anew, and the protocol, seed and fractions in their notes.

        The order in which a seed draws patients (or images) comes from SHA-256 of seed and name: it is the same
        whatever the order of the rows, the machine, or the version of NumPy.

        Args:
            protocol: `official`: as the publisher split them; where films are for training and validation together, as
                NIH's train_val, 1/8 of their patients become val. Films that the publisher did not split stay without a
                split and are named in `notes["problems"]["unsplit"]`. `patient`: fractions of the patients.
                `image`: fractions of the images, as the paper does it; films of one patient then stand on both sides.
            fractions: of train, val and test; 0 leaves a split empty. Not for `official`.

        Raises:
            FilmsError: if protocol, seed or fractions cannot be, no official split is known, or the films are too few.
        """
        if protocol not in get_args(Protocol):
            raise FilmsError(
                f"protocol must be one of {', '.join(get_args(Protocol))}, got {protocol!r}. Choose one of them."
            )
        if seed < 0:
            raise FilmsError(f"seed must be a whole number from 0, got {seed}. Choose another.")
        table = self.table
        unsplit: list[str] = []
        if protocol == "official":
            if fractions is not None:
                raise FilmsError(
                    "fractions must be left out with protocol official, got some. The publisher's lists decide."
                )
            fractions, of_film = OFFICIAL_FRACTIONS, _official(self, seed)
            unsplit = [film for film in table["film"] if film not in of_film]
        elif protocol == "patient":
            fractions = _checked(fractions or PATIENT_FRACTIONS)
            of_patient = _cut(table["patient"], fractions, seed, "patients")
            of_film = {film: of_patient[patient] for film, patient in zip(table["film"], table["patient"], strict=True)}
        else:
            fractions = _checked(fractions or IMAGE_FRACTIONS)
            of_film = _cut(table["film"], fractions, seed, "images")
        column = pd.Series([of_film.get(film) for film in table["film"]], index=table.index, dtype=table["split"].dtype)
        problems = {**self.notes.get("problems", {}), "unsplit": unsplit}
        notes = {
            **{name: note for name, note in self.notes.items() if name != "merged"},  # the parts' splits are gone
            "problems": problems,
            "protocol": protocol,
            "split_seed": seed,
            "fractions": list(fractions),
        }
        return replace(self, table=table.assign(split=column), notes=notes)

    def fingerprint(self) -> str:
        """SHA-256 over film ids, patients, splits and labels; the same wherever the films lie and in whatever order."""
        table = self.table.sort_values("film", kind="stable")
        labels = table[list(self.findings)].to_numpy(dtype=np.float32)
        columns = [_texts(table[name]) for name in ("film", "patient", "split")]
        digest = hashlib.sha256(json.dumps([list(self.findings), *columns]).encode())
        coded = np.where(np.isnan(labels), -1, np.where(labels == UNCERTAIN, 2, labels))  # as before -1 was a label
        digest.update(coded.astype(np.int8).tobytes())
        return digest.hexdigest()


def validate(table: pd.DataFrame, findings: Sequence[str], where: str | Path, *, remedy: str = _REMEDY) -> None:
    """Check a manifest's columns and every value in them.

    Args:
        where: the file that the table comes from, for the message.
        remedy: what to do about a fault, for the message.

    Raises:
        FilmsError: naming file, row (1 is the first film) and column of the first fault.
    """
    _check_columns(table, findings, where, remedy)
    for name in ("film", "path", "source", "patient", "study"):
        _refuse(table, name, [not value for value in _texts(table[name])], "be text that is not empty", where, remedy)
    _refuse(table, "film", table["film"].duplicated(), "be unique", where, remedy)
    outside = [
        "\0" in text or text.startswith("/") or (".." in text and ".." in text.split("/"))
        for text in table["path"].tolist()
    ]
    _refuse(table, "path", outside, "be relative to the manifest's root and stay inside it", where, remedy)
    _refuse(table, "view", ~table["view"].isin(VIEWS), f"be one of {', '.join(VIEWS)}", where, remedy)
    _refuse(table, "sex", ~table["sex"].isin(SEXES), f"be one of {', '.join(SEXES)}", where, remedy)
    unsplit = table["split"].isna()
    _refuse(
        table,
        "split",
        ~(unsplit | table["split"].isin(SPLITS)),
        f"be one of {', '.join(SPLITS)} or null",
        where,
        remedy,
    )
    _check_numeric(table, "age", where, remedy)
    believed = table["age"].isna() | table["age"].between(0, OLDEST_YEARS)
    _refuse(table, "age", ~believed, f"be from 0 to {OLDEST_YEARS} years, or NaN if unknown", where, remedy)
    for finding in findings:
        _check_numeric(table, finding, where, remedy)
        known = table[finding].isna() | table[finding].isin((0.0, 1.0, UNCERTAIN))
        _refuse(table, finding, ~known, "be 0 (absent), 1 (present), -1 (uncertain) or NaN (unknown)", where, remedy)


def _check_columns(table: pd.DataFrame, findings: Sequence[str], where: str | Path, remedy: str) -> None:
    expected = [*COLUMNS, *findings]
    fault = name_fault(findings)
    if fault:
        raise FilmsError(f"findings must be {fault} in {where}. {remedy}")
    if set(findings) & set(COLUMNS):
        raise FilmsError(
            f"findings must be distinct from the columns {', '.join(COLUMNS)}, got {list(findings)} in {where}. "
            f"{remedy}"
        )
    columns = [str(name) for name in table.columns]
    if columns != expected:
        missing = [name for name in expected if name not in columns]
        wrong = f"no column {missing[0]!r}" if missing else f"{columns}"
        raise FilmsError(f"columns must be {', '.join(expected)}, got {wrong} in {where}. {remedy}")
    if table.empty:
        raise FilmsError(f"films must be at least one, got none in {where}. {remedy}")


def _check_numeric(table: pd.DataFrame, name: str, where: str | Path, remedy: str) -> None:
    if table[name].dtype.kind != "f":
        raise FilmsError(f"{name} must be a column of floats, got {table[name].dtype} in {where}. {remedy}")


def _refuse(table: pd.DataFrame, name: str, faults: Iterable[bool], rule: str, where: str | Path, remedy: str) -> None:
    """Raise for the first row that has a fault in the column `name`."""
    rows = np.flatnonzero(np.asarray(list(faults), dtype=bool))
    if rows.size:
        value, film = table[name].iloc[rows[0]], table["film"].iloc[rows[0]]
        more = f" (and {rows.size - 1} more rows)" if rows.size > 1 else ""
        raise FilmsError(
            f"{name} must {rule}, got {value!r} in {where}, row {rows[0] + 1}, film {film!r}{more}. {remedy}"
        )


def _texts(column: "pd.Series[Any]") -> list[str | None]:
    """The values of a text column; whatever is not text counts as null."""
    return [value if isinstance(value, str) else None for value in column.tolist()]


def _below(value: object, top: Path) -> str | None:
    """A path as manifests hold it: relative to `top`, where it lies below it."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        return None
    path = Path(value)
    return (path.relative_to(top) if path.is_absolute() and path.is_relative_to(top) else path).as_posix()


def _names(column: "pd.Series[Any]") -> list[str | None]:
    """Names as text; whole numbers are written without a point, and what is neither counts as null."""
    return [_name(value) for value in column.tolist()]


def _name(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers in which one is missing
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _numbers(frame: pd.DataFrame, name: str) -> "pd.Series[Any]":
    """A column as floats, NaN where it is null.

    Raises:
        FilmsError: naming the first row whose value is no number.
    """
    numbers = []
    for row, value in enumerate(frame[name].tolist(), start=1):
        if value is None or value is pd.NA:
            value = math.nan
        if not isinstance(value, int | float):
            raise FilmsError(f"{name} must be a number or NaN, got {value!r} in the frame, row {row}. {_MEND_FRAME}")
        numbers.append(float(value))
    return pd.Series(numbers, index=frame.index, dtype=np.float64)


def official_splits(notes: Mapping[str, Any]) -> dict[str, str]:
    """The split that the publisher gave each film: train, val, test, or train_val for the first two together."""
    before = {
        film: split
        for split, name in (("train_val", "official_train_val"), ("test", "official_test"))
        for film in notes.get(name) or ()
    }
    return before | (notes.get("official") or {})


def _official(films: Films, seed: int) -> dict[str, str]:
    """The split of every film that its publisher split."""
    patients = dict(zip(films.table["film"], films.table["patient"], strict=True))
    given = {film: split for film, split in official_splits(films.notes).items() if film in patients}
    counts = Counter(given.values())
    if not counts["test"] or not counts["train"] + counts["train_val"]:
        got = ", ".join(f"{number:,} of {split}" for split, number in sorted(counts.items())) or "none"
        raise FilmsError(
            f"official split must know films for training and for test, got {got}. Put the publisher's lists (of NIH: "
            "train_val_list.txt and test_list.txt) into the source folder and index again, or split with "
            "--protocol patient."
        )
    shared = {patients[film] for film, split in given.items() if split == "train_val"}
    of_patient = _cut(shared, OFFICIAL_FRACTIONS, seed, "train_val patients") if shared else {}
    return {film: of_patient[patients[film]] if split == "train_val" else split for film, split in given.items()}


def _uniform(name: str) -> float:
    """A number from 0 to 1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _checked(fractions: Fractions) -> Fractions:
    in_range = all(0 <= fraction <= 1 for fraction in fractions)
    if not in_range or not math.isclose(sum(fractions), 1, abs_tol=1e-6) or fractions[0] == 0:
        raise FilmsError(
            f"fractions must be three numbers from 0 that sum to 1, the first above 0, got {fractions}. "
            "Give for example 0.7 0.1 0.2."
        )
    return fractions


def _cut(names: Iterable[str], fractions: Fractions, seed: int, of_what: str) -> dict[str, str]:
    """Assign distinct names to the splits, in an order that the seed decides."""
    drawn = sorted(set(names), key=lambda name: (hashlib.sha256(f"{seed}:{name}".encode()).digest(), name))
    ends = [round(sum(fractions[: place + 1]) * len(drawn)) for place in range(len(SPLITS))]
    starts = [0, *ends[:-1]]
    for split, fraction, start, end in zip(SPLITS, fractions, starts, ends, strict=True):
        if fraction > 0 and start == end:
            raise FilmsError(
                f"split {split} must get one of the {of_what} at least, got none of {len(drawn)} as its fraction is "
                f"{fraction:g}. Index more films, or give other fractions (0 leaves a split empty)."
            )
    return {name: split for split, start, end in zip(SPLITS, starts, ends, strict=True) for name in drawn[start:end]}


def write_films(films: Films, path: Path) -> None:
    """Write a manifest as Parquet; its root is stored relative to the manifest, so that both can move together.

    Raises:
        FilmsError: if the table is not valid or the file cannot be written.
    """
    validate(films.table, films.findings, path)
    folder = path.resolve().parent
    roots = {source: _relative(root, folder) for source, root in films.roots.items()}
    header = {
        "format": _FORMAT,
        "root": _relative(films.root, folder),
        "roots": roots,
        "findings": list(films.findings),
        "notes": films.notes,
    }
    try:
        table = pa.Table.from_pandas(films.table, preserve_index=False)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: json.dumps(header).encode()})
        with unfinished(path) as beside:
            pq.write_table(table, beside, compression="zstd")
    except (HilumError, OSError, pa.ArrowException, UnicodeError) as error:
        raise FilmsError(f"{path} must be a file that can be written, got: {_first_line(error)}") from error


def _relative(root: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(root.resolve(), folder)).as_posix()
    except ValueError:  # another drive, on Windows
        return root.resolve().as_posix()


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
            f"films must be a manifest of Hilum (format 1 or {_FORMAT}), got another table in {path}. {_REMEDY}"
        )
    findings = tuple(header["findings"])
    validate(table, findings, path)
    kinds = {"age": np.float64, **dict.fromkeys(findings, np.float32)}
    table = table.reset_index(drop=True).astype(kinds)
    folder = path.resolve().parent
    roots = {source: (folder / root).resolve() for source, root in header.get("roots", {}).items()}
    return Films(table, (folder / header["root"]).resolve(), findings, header["notes"], roots)


def _is_header(header: object) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(header, dict)
        and header.get("format") in (1, _FORMAT)
        and isinstance(roots := header.get("roots", {}), dict)
        and all(isinstance(root, str) and "\0" not in root for root in (header.get("root"), *roots.values()))
        and isinstance(header.get("notes"), dict)
        and isinstance(header.get("findings"), list)
        and all(isinstance(name, str) for name in header["findings"])
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
