"""A folder of one's own: films beside a table of labels, whose columns a small file, map.toml, explains.

The table is CSV, XLSX or Parquet: a column for each finding, or one column of lists. Findings and ids are anyone's.
Uncertain labels count as unknown (NaN) until the manifest has a label for them.
"""

import math
import os
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float32
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError

from hilum.data.films import OLDEST_YEARS, SPLITS, Films, validate
from hilum.data.films import SEXES as SEX_VALUES
from hilum.data.films import VIEWS as VIEW_VALUES
from hilum.data.sources.reading import SEXES, VIEWS, Options, years
from hilum.data.sources.reading import SPLITS as SPLIT_WORDS
from hilum.data.tables import FILM_ENDINGS, IMAGE_ENDINGS, Cells, files_below, read_cells, shown
from hilum.errors import FilmsError, MissingExtraError, PredictionsError
from hilum.findings import canonical, folded

MAP = "map.toml"
UNDECIDED = "?"
"""What a draft writes where it cannot guess; such a map is refused."""
EACH_FILM = "film"
"""The patient of a table that knows none: every film counts as a patient of its own."""
PRESENT = ("1", "yes", "y", "true", "present", "positive", "pos")
ABSENT = ("0", "no", "n", "false", "absent", "negative", "neg")
UNCERTAIN = ("-1", "?", "uncertain", "unsure", "possible", "probable", "equivocal", "u", "maybe", "fraglich", "unklar")
"""Words that a draft takes for uncertain; a map must name its own."""

_DICOM = "dicom:"
_SEE = "See docs/own_films.md, or make a map with: hilum index csv DIR --draft"


def cell_word(value: object) -> str:
    """A cell or a word of the map, so that 1, 1.0 and "1" are the same, and Yes and yes."""
    text = cell_text(value).casefold()
    try:
        number = float(text)
    except ValueError:
        return "" if text in ("nan", "none", "<na>") else text
    return "" if math.isnan(number) else str(int(number)) if number.is_integer() else text


Word = Annotated[str, BeforeValidator(cell_word)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FilmColumn(_Strict):
    """How a row finds its film: by the file's name, its name without ending, its path below the folder, or a tag."""

    column: str
    match: Annotated[str, Field(pattern=r"^(name|stem|path|dicom:[A-Za-z]+)$")] = "name"


class Values(_Strict):
    """What the words in cells mean; a word that is in no list is an error."""

    present: tuple[Word, ...] = PRESENT
    absent: tuple[Word, ...] = ABSENT
    uncertain: tuple[Word, ...] = ()
    empty: Literal["unknown", "absent"] = "unknown"
    view: dict[str, Literal["PA", "AP", "LATERAL", "unknown"]] = {}
    sex: dict[str, Literal["M", "F", "unknown"]] = {}
    split: dict[str, Literal["train", "val", "test"]] = {}


class Lists(_Strict):
    """Labels in one column of lists: what a film has, and the word for a film without any finding.

    `findings` gives each finding the words that mean it; without it, every word is a finding.
    """

    column: str
    separator: Annotated[str, Field(min_length=1)]
    normal: str | None = None
    others: Literal["absent", "unknown"] = "absent"
    findings: dict[str, tuple[str, ...]] | None = None
    ignored: tuple[str, ...] = ()


class BoxTable(_Strict):
    """A table of boxes, in pixels of the film: its upper left corner, width and height."""

    table: str
    film: str = "film"
    finding: str = "finding"
    x: str = "x"
    y: str = "y"
    width: str = "width"
    height: str = "height"


class Map(_Strict):
    """What map.toml says. `separator` and `encoding` are of a CSV table, where they are not comma and UTF-8."""

    source: Annotated[str, Field(min_length=1)]
    table: str
    film: FilmColumn
    patient: str
    separator: str | None = None
    encoding: str | None = None
    study: str | None = None
    view: str | None = None
    age: str | None = None
    sex: str | None = None
    split: str | None = None
    values: Values = Values()
    labels: Annotated[
        Annotated[Lists, Tag("lists")] | Annotated[dict[str, str], Tag("columns")],
        Discriminator(lambda said: "lists" if isinstance(said, dict) and "separator" in said else "columns"),
    ]
    boxes: BoxTable | None = None


def index_csv(folder: Path, options: Options) -> Films:
    """List the films of a folder that a table describes, as the map says; images are opened for their boxes alone.

    Rows without an image, images without a row, rows that repeat another whole and unbelievable ages are named in
    `notes["problems"]`.

    Args:
        options: `mapping` is the map, map.toml in the folder if None; `labels` a table instead of the map's.

    Raises:
        FilmsError: naming file, row and column of a value that the map does not explain.
        MissingExtraError: if the table is XLSX and what reads it is not installed.
    """
    if not folder.is_dir():
        raise FilmsError(f"source must be a folder, got {str(folder)!r}, which is none. Check the path.")
    folder = folder.resolve()
    map_file = options.mapping or folder / MAP
    mapping = read_map(map_file)
    table_file = options.labels or _beside(mapping.table, folder, map_file)
    cells = read_any(table_file, separator=mapping.separator, encoding=mapping.encoding)
    rows = _Rows(cells)
    images = list_images(folder)
    find = _finder(mapping.film.match, images, folder)
    names = rows.texts(mapping.film.column)
    paths, missing, repeated, first = [], [], [], dict[str, int]()
    for row, name in enumerate(names):
        path = _one_image(rows, row, mapping.film, find(name))
        if path is None:
            missing.append(name)
        elif first.setdefault(path, row) != row:
            differ = rows.differing(first[path], row)
            if differ:
                other = shown(", ".join(differ))
                rule = f"name each film once, but row {cells.rows[first[path]]} is the same film with another {other}"
                raise rows.fault(mapping.film.column, row, rule, "Remove the row that is wrong")
            repeated.append(path)
            path = None
        paths.append(path)
    if not first:
        raise FilmsError(
            f"table must list films of {folder}, got none of its {len(images)} such as {images[0]!r} among "
            f"{len(names)} rows such as {names[0]!r} in {table_file}. Mend film.column or film.match in {map_file}."
        )
    findings, labels = _labels(rows, mapping)
    table = _described(rows, mapping, paths)
    table = pd.concat([table, pd.DataFrame(labels, columns=list(findings))], axis="columns")
    table = table[table["path"].notna()].reset_index(drop=True)
    too_old = table["age"] > OLDEST_YEARS
    problems = {
        "missing": missing,
        "unlisted": [path for path in images if path not in first],
        "same_name": [],
        "repeated": repeated,
        "age": table["film"][too_old].tolist(),
    }
    table.loc[too_old, "age"] = np.nan
    notes: dict[str, Any] = {
        "source": f"{mapping.source} in {folder}",
        "labels": str(table_file),
        "map": str(map_file),
        "rows": len(names),
        "problems": problems,
        "protocol": _protocol(table, mapping),
        "split_seed": None,
        "patients_are_films": mapping.patient == EACH_FILM,
        **_boxes(mapping, find, findings, folder, map_file, set(first)),
    }
    validate(table, findings, table_file)
    return Films(table, folder, findings, notes)


def read_map(path: Path) -> Map:
    """Read and check a map.

    Raises:
        FilmsError: if it is missing, no TOML, undecided, or says what no map can.
    """
    if not path.is_file():
        raise FilmsError(f"map must be a file that explains the table, got none at {path}. {_SEE}.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        mapping = Map.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"] if part not in ("lists", "columns")) or "map"
        raise FilmsError(f"{name} must be right in {path}, got: {fault['msg']}. {_SEE}.") from None
    except (OSError, ValueError) as error:
        raise FilmsError(f"map must be TOML, got {path}: {error}. {_SEE}.") from None
    for name, value in (("film.column", mapping.film.column), ("patient", mapping.patient)):
        if value == UNDECIDED:
            raise FilmsError(f"{name} must be decided, got {value!r} in {path}. Write what its comment asks for.")
    if not mapping.labels:
        raise FilmsError(f"labels must name at least one finding, got none in {path}. Write what its comment asks for.")
    words = [*mapping.values.present, *mapping.values.absent, *mapping.values.uncertain]
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None:
        raise FilmsError(f"values must have each word in one list, got {twice!r} in two in {path}. Remove one.")
    return mapping


def read_any(path: Path, *, separator: str | None = None, encoding: str | None = None) -> Cells:
    """The cells of a CSV, XLSX (its first sheet) or Parquet table.

    Raises:
        FilmsError: if it cannot be read.
        MissingExtraError: if it is XLSX and openpyxl is not installed.
    """
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        return _read_xlsx(path)
    try:
        return read_cells(path, of_what="labels", separator=separator, encoding=encoding)
    except PredictionsError as error:
        raise FilmsError(str(error)) from error


def cell_text(value: object) -> str:
    """A cell as text: whole numbers without a point, dates as ISO 8601, nothing as empty text."""
    match value:
        case None:
            return ""
        case float() if math.isnan(value):
            return ""
        case float() if value.is_integer():
            return str(int(value))
        case datetime():
            return value.isoformat(sep=" ").removesuffix(" 00:00:00")
        case date():
            return value.isoformat()
        case _:
            return unicodedata.normalize("NFC", str(value).strip())


def list_images(folder: Path) -> list[str]:
    """The paths of PNG, JPEG and DICOM files below a folder, told by their endings.

    Raises:
        FilmsError: if there is none.
    """
    images = [path for path in sorted(files_below(folder)) if os.path.splitext(path)[1].lower() in FILM_ENDINGS]  # noqa: PTH122 - pathlib is slow for 100,000 names
    if not images:
        raise FilmsError(f"folder must hold PNG, JPEG or DICOM files, got none in {folder}. Check the path.")
    return images


def film_keys(match: str, name: str) -> str:
    """What a row's cell and its film's path have in common, for match = name, stem or path."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")
    if match == "path":
        return name
    base = name.rpartition("/")[2].casefold()
    stem, ending = os.path.splitext(base)  # noqa: PTH122
    return stem if match == "stem" and ending in FILM_ENDINGS else base


class _Rows(NamedTuple):
    """A table's columns by name."""

    cells: Cells

    def column(self, name: str) -> int:
        names = [cell_text(other) for other in self.cells.names]
        places = [place for place, other in enumerate(names) if other == name] or [
            place for place, other in enumerate(names) if folded(other) == folded(name)
        ]
        if len(places) != 1:
            count = "no such column" if not places else f"{len(places)} of them"
            raise FilmsError(
                f"table must have one column {name!r}, got {count} among {shown(', '.join(names))} in "
                f"{self.cells.path}. Mend the map, or the table's header."
            )
        return places[0]

    def texts(self, name: str) -> list[str]:
        return [cell_text(value) for value in self.cells.columns[self.column(name)]]

    def differing(self, one: int, other: int) -> list[str]:
        """The columns in which two rows differ."""
        names, columns = self.cells.names, self.cells.columns
        return [
            cell_text(name)
            for name, values in zip(names, columns, strict=True)
            if cell_text(values[one]) != cell_text(values[other])
        ]

    def fault(self, name: str, row: int, rule: str, remedy: str) -> FilmsError:
        column = self.column(name)
        got = shown(cell_text(self.cells.columns[column][row]))
        return FilmsError(f"{name} must {rule}, got {got} in {self.cells.place(row, column)}. {remedy}.")

    def parsed(self, name: str, parse: Callable[[str], Any], rule: str, remedy: str) -> list[Any]:
        """A column's values; `parse` gives None for one that breaks the rule."""
        texts = self.texts(name)
        known = {text: parse(text) for text in dict.fromkeys(texts)}
        bad = [row for row, text in enumerate(texts) if known[text] is None]
        if bad:
            more = f" {len(bad) - 1:,} more rows have such cells" if len(bad) > 1 else ""
            raise self.fault(name, bad[0], rule, f"{remedy}.{more}".removesuffix("."))
        return [known[text] for text in texts]


def _read_xlsx(path: Path) -> Cells:
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise MissingExtraError(
            "openpyxl must be installed to read XLSX tables. Install it: pip install 'hilum[tables]'; or save the "
            "table as CSV"
        ) from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # openpyxl fails on hostile bytes with whatever exception comes handy
        raise FilmsError(f"table must be an intact XLSX file, got {path}: {error}. Save it again.") from error
    numbered = [(number, row) for number, row in enumerate(sheet, start=1) if any(map(cell_text, row))]
    if len(numbered) < 2:
        raise FilmsError(f"table must hold a header and at least one film, got {len(numbered)} rows in {path}.")
    header = [cell_text(name) for name in numbered[0][1]]
    rows = [row for _, row in numbered[1:]]
    return Cells(path, header, list(zip(*rows, strict=True)), [number for number, _ in numbered[1:]])


def _beside(table: str, folder: Path, map_file: Path) -> Path:
    """A table that the map names: in the folder, or beside the map."""
    places = [folder / table, map_file.parent / table]
    return next((place for place in places if place.is_file()), places[0])


def _finder(match: str, images: Sequence[str], folder: Path) -> Callable[[str], list[str]]:
    """From a row's cell to the films that it may mean."""
    by_key: dict[str, list[str]] = {}
    for path in images:
        key = _tag(folder / path, match.removeprefix(_DICOM)) if match.startswith(_DICOM) else film_keys(match, path)
        by_key.setdefault(key, []).append(path)
    if match.startswith(_DICOM):
        return lambda name: by_key.get(name, []) if name else []
    return lambda name: by_key.get(film_keys(match, name), [])


def _tag(path: Path, keyword: str) -> str:
    """A tag of a DICOM film; empty for other files, and where there is none."""
    if path.suffix.lower() in IMAGE_ENDINGS:
        return ""
    header = _dicom_header(path, [keyword])
    return cell_text(header.get(keyword))


def _dicom_header(path: Path, keywords: list[str]) -> Any:
    try:
        from pydicom import dcmread
    except ModuleNotFoundError:
        raise MissingExtraError(
            "pydicom must be installed to read DICOM films. Install it: pip install 'hilum[dicom]'"
        ) from None
    try:
        return dcmread(path, stop_before_pixels=True, specific_tags=keywords)
    except Exception as error:  # pydicom fails on hostile bytes with whatever exception comes handy
        raise FilmsError(f"film must be a DICOM file, got {type(error).__name__} in {path}. Get it again.") from error


def _one_image(rows: _Rows, row: int, film: FilmColumn, found: Sequence[str]) -> str | None:
    if len(found) > 1:
        rule = f"name one film, but both {found[0]} and {found[1]} fit"
        raise rows.fault(film.column, row, rule, 'Use film = { match = "path" }, or rename the files')
    return found[0] if found else None


def _described(rows: _Rows, mapping: Map, paths: Sequence[str | None]) -> pd.DataFrame:
    """The manifest's columns but the labels."""
    values, of = mapping.values, len(paths)

    def texts(column: str | None, default: Sequence[str | None]) -> list[str | None]:
        if column is None:
            return list(default)
        return rows.parsed(column, lambda text: text or None, "not be empty", "Fill the cell, or remove the row")

    def words(column: str | None, known: dict[str, str], own: dict[str, str], of_what: str, can: Iterable[str]) -> Any:
        if column is None:
            return ["unknown"] * of
        known = known | {word.casefold(): value for word, value in own.items()}
        rule = f"be {', '.join(can)} or a word that the map explains"
        remedy = f'Add the word to the map: [values] {of_what} = {{ "..." = ... }}'
        return rows.parsed(column, lambda text: known.get(text.casefold()), rule, remedy)

    patients = texts(None if mapping.patient == EACH_FILM else mapping.patient, paths)
    splits = (
        words(mapping.split, {**SPLIT_WORDS, "": ""}, dict(values.split), "split", SPLITS)
        if mapping.split is not None
        else [""] * of
    )
    ages = (
        rows.parsed(mapping.age, years, "be years such as 58 or 058Y, or empty", "Mend the cell")
        if mapping.age is not None
        else [math.nan] * of
    )
    return pd.DataFrame(
        {
            "film": paths,
            "path": paths,
            "source": mapping.source,
            "patient": patients,
            "study": texts(mapping.study, paths),
            "view": words(mapping.view, VIEWS, dict(values.view), "view", VIEW_VALUES),
            "age": np.array(ages, dtype=np.float64),
            "sex": words(mapping.sex, SEXES, dict(values.sex), "sex", SEX_VALUES),
            "split": pd.Series([split or None for split in splits], dtype="str"),
        }
    )


def _protocol(table: pd.DataFrame, mapping: Map) -> str | None:
    """What the table's own split is: by patient if no patient is in two parts; with films for patients nobody knows."""
    split = table[table["split"].notna()]
    if split.empty:
        return None
    shared = split.groupby("patient")["split"].nunique().max() > 1
    return "image" if shared or mapping.patient == EACH_FILM else "patient"


def _labels(rows: _Rows, mapping: Map) -> tuple[tuple[str, ...], Float32[np.ndarray, "films findings"]]:
    if isinstance(mapping.labels, Lists):
        return _from_lists(rows, mapping.labels, mapping.values)
    values = mapping.values
    meaning = {
        **dict.fromkeys(values.present, 1.0),
        **dict.fromkeys(values.absent, 0.0),
        **dict.fromkeys(values.uncertain, math.nan),
    }
    meaning.setdefault("", 0.0 if values.empty == "absent" else math.nan)
    rule = f"be one of {', '.join(word for word in meaning if word)} or empty"
    remedy = "Mend the cell, or add the word to present, absent or uncertain in the map's [values]"
    columns = [
        rows.parsed(column, lambda text: meaning.get(cell_word(text)), rule, remedy)
        for column in mapping.labels.values()
    ]
    findings = tuple(unicodedata.normalize("NFC", finding) for finding in mapping.labels)
    return findings, np.array(columns, dtype=np.float32).T


def _from_lists(
    rows: _Rows, lists: Lists, values: Values
) -> tuple[tuple[str, ...], Float32[np.ndarray, "films findings"]]:
    texts = rows.texts(lists.column)
    of_text = {
        text: [word for part in text.split(lists.separator) if (word := part.strip())] for text in dict.fromkeys(texts)
    }
    normal, ignored = folded(lists.normal or ""), {folded(word) for word in lists.ignored}
    said = sorted({word for words in of_text.values() for word in words if folded(word) not in {normal, *ignored}})
    by_word = {folded(word): word for word in reversed(said)}
    if lists.findings is not None:
        by_word = {folded(word): name for name, words in lists.findings.items() for word in (name, *words)}
    findings = tuple(lists.findings or dict.fromkeys(by_word[folded(word)] for word in said))
    if not findings:
        raise FilmsError(f"labels must name at least one finding, got none in {rows.cells.path}, {lists.column!r}.")
    unmentioned = 0.0 if lists.others == "absent" else math.nan
    labels = np.empty((len(texts), len(findings)), dtype=np.float32)
    for row, text in enumerate(texts):
        words = [word for word in map(folded, of_text[text]) if word not in ignored]
        labels[row] = unmentioned
        if not of_text[text]:
            labels[row] = 0.0 if values.empty == "absent" else math.nan
        elif normal and normal in words:
            if len(words) > 1:
                rule = f"be {lists.normal!r} alone or findings joined by {lists.separator!r}"
                raise rows.fault(lists.column, row, rule, "Mend the cell")
            labels[row] = 0.0
        for word in words:
            if word == normal:
                continue
            if word not in by_word:
                rule = f"be words that the map explains ({word!r} is none)"
                raise rows.fault(
                    lists.column, row, rule, "Add the word to labels.findings or labels.ignored in the map"
                )
            labels[row, findings.index(by_word[word])] = 1.0
    return findings, labels


def _boxes(
    mapping: Map,
    find: Callable[[str], list[str]],
    findings: tuple[str, ...],
    folder: Path,
    map_file: Path,
    listed: set[str],
) -> dict[str, Any]:
    """Boxes as fractions of the film's width and height, of the films that the table lists."""
    if mapping.boxes is None:
        return {"boxes": [], "boxes_file": None, "boxes_listed": 0}
    said = mapping.boxes
    path = _beside(said.table, folder, map_file)
    rows = _Rows(read_any(path, separator=mapping.separator, encoding=mapping.encoding))
    films = rows.texts(said.film)
    names = rows.parsed(
        said.finding, lambda text: _finding(text, findings), f"be one of {', '.join(findings)}", "Mend it"
    )
    sides = {
        name: rows.parsed(column, _pixels, "be a number of pixels from 0", "Mend the row, or remove it")
        for name, column in (("x", said.x), ("y", said.y), ("width", said.width), ("height", said.height))
    }
    sizes: dict[str, tuple[int, int]] = {}
    boxes = []
    for row, (film, finding) in enumerate(zip(films, names, strict=True)):
        image = _one_image(rows, row, FilmColumn(column=said.film), find(film))
        if image is None or image not in listed:
            continue
        if image not in sizes:
            sizes[image] = _size(folder / image)
        width, height = sizes[image]
        box = {
            "x": sides["x"][row] / width,
            "y": sides["y"][row] / height,
            "width": sides["width"][row] / width,
            "height": sides["height"][row] / height,
        }
        for column, start, extent in ((said.width, "x", "width"), (said.height, "y", "height")):
            if box[extent] == 0 or box[start] + box[extent] > 1 + 1e-6:
                rule = f"be above 0 and end inside the film of {width} x {height} pixels"
                raise rows.fault(column, row, rule, "Mend the row, or remove it")
        boxes.append({"film": image, "finding": finding, **box})
    return {"boxes": boxes, "boxes_file": str(path), "boxes_listed": len(films)}


def _finding(text: str, findings: tuple[str, ...]) -> str | None:
    try:
        return canonical(text, findings)
    except FilmsError:
        return None


def _pixels(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf and "_" not in text else None


def _size(path: Path) -> tuple[int, int]:
    """A film's width and height in pixels, by its header."""
    if path.suffix.lower() not in IMAGE_ENDINGS:
        header = _dicom_header(path, ["Rows", "Columns"])
        width, height = header.get("Columns"), header.get("Rows")
        if not width or not height:
            raise FilmsError(f"film must say its Rows and Columns, got none in {path}. Remove its boxes.")
        return int(width), int(height)
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError) as error:
        raise FilmsError(f"film with boxes must be an image, got {path}: {error}. Remove its boxes.") from error
