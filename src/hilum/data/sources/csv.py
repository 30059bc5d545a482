"""A folder of one's own: films beside a table of labels, whose columns a small file, map.toml, explains.

The table is CSV, XLSX or Parquet: a column for each finding, or one column of lists. Findings and ids are anyone's.
Uncertain labels are kept as such: training takes them as the recipe says, no evaluation counts them.
"""

import math
import os
import re
import tomllib
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
from hilum.data.films import UNCERTAIN as UNCERTAIN_LABEL
from hilum.data.films import VIEWS as VIEW_VALUES
from hilum.data.sources.headers import dicom_header
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

XLSX = (".xlsx", ".xlsm")
_DICOM = "dicom:"
_SEE = "See docs/own_films.md, or make a map with: hilum index csv DIR --draft"


def cell_word(value: object) -> str:
    """A cell or a word of the map, so that 1, 1.0 and "1" are the same, and Yes and yes."""
    text = decimal(cell_text(value).casefold())
    try:
        number = float(text)
    except ValueError:
        return "" if text in ("nan", "none", "<na>") else text
    return "" if math.isnan(number) else str(int(number)) if number.is_integer() else text


Word = Annotated[str, BeforeValidator(cell_word)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FilmColumn(_Strict):
    """How a row finds its film: by the file's name, its name without ending, its path below the folder, or a tag.

    `digits` compares the digits of the name alone, without leading zeros; `folder` the folder that films lie in. With
    `several`, a row is of all films that it finds, as one of a study is.
    """

    column: str
    match: Annotated[str, Field(pattern=r"^(name|stem|path|digits|folder|dicom:[A-Za-z]+)$")] = "name"
    several: bool = False


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
    """Labels in one column of lists: what a film has, and the words for a film without any finding.

    `separator` and `normal` may be lists, where people wrote now one and now another.
    `findings` gives each finding the words that mean it; without it, every word is a finding. In a long table a film
    has `several_rows`, with a list or one finding in each; a column `value` there says whether it is present.
    """

    column: str
    separator: Annotated[str, Field(min_length=1)] | tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    value: str | None = None
    several_rows: bool = False
    normal: str | tuple[str, ...] | None = None
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


def _is_lists(said: object) -> bool:
    return isinstance(said, dict) and (
        "separator" in said or ("column" in said and bool({"value", "several_rows"} & set(said)))
    )


class Map(_Strict):
    """What map.toml says. `separator` and `encoding` are of a CSV table, where they are not comma and UTF-8.

    `sheet` is of an XLSX table, the first if it is not given; `header` the row with the columns' names, where other
    rows stand above it, and `header_rows` 2 if names stand in two rows, groups above columns.

    Patient, study, view, age and sex may be DICOM keywords such as "dicom:PatientID".
    """

    source: Annotated[str, Field(min_length=1)]
    table: str
    film: FilmColumn
    patient: str
    separator: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    header: Annotated[int, Field(ge=1)] | None = None
    header_rows: Annotated[int, Field(ge=1, le=2)] = 1
    study: str | None = None
    view: str | None = None
    age: str | None = None
    sex: str | None = None
    split: str | None = None
    values: Values = Values()
    labels: Annotated[
        Annotated[Lists, Tag("lists")] | Annotated[dict[str, str], Tag("columns")],
        Discriminator(lambda said: "lists" if _is_lists(said) else "columns"),
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
    cells = read_any(
        table_file,
        separator=mapping.separator,
        encoding=mapping.encoding,
        sheet=mapping.sheet,
        header=mapping.header,
    )
    rows = _Rows(joined_header(cells) if mapping.header_rows == 2 else cells)
    images = list_images(folder)
    find = finder(mapping.film.match, images, folder)
    names = rows.texts(mapping.film.column)
    missing, repeated, groups = [], [], dict[str, list[int]]()
    for row, name in enumerate(names):
        paths = _images(rows, row, mapping.film, find(name))
        if not paths:
            missing.append(name)
        for path in paths:
            before = groups.setdefault(path, [])
            if before and _may_repeat(rows, before[0], row, mapping):
                repeated.append(path)
            else:
                before.append(row)
    if not groups:
        raise FilmsError(
            f"table must list films of {folder}, got none of its {len(images)} such as {images[0]!r} among "
            f"{len(names)} rows such as {names[0]!r} in {table_file}. Mend film.column or film.match in {map_file}."
        )
    findings, labels = _labels(rows, mapping, list(groups.values()))
    table = _described(rows.only([of[0] for of in groups.values()]), mapping, list(groups), folder)
    table = pd.concat([table, pd.DataFrame(labels, columns=list(findings))], axis="columns")
    too_old = table["age"] > OLDEST_YEARS
    problems = {
        "missing": missing,
        "unlisted": [path for path in images if path not in groups],
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
        **_boxes(mapping, find, findings, folder, map_file, set(groups)),
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


def read_any(
    path: Path,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
    header: int | None = None,
) -> Cells:
    """The cells of a CSV, XLSX or Parquet table.

    Args:
        separator: of a CSV table, where it cannot be told.
        encoding: of a CSV table, where it is not UTF-8.
        sheet: of an XLSX table; the first if None.
        header: the row with the columns' names; the first that is not empty if None.

    Raises:
        FilmsError: if it cannot be read.
        MissingExtraError: if it is XLSX and openpyxl is not installed.
    """
    if path.suffix.lower() in XLSX:
        return xlsx_cells(path, read_book(path), sheet, header)
    try:
        return read_cells(path, of_what="labels", separator=separator, encoding=encoding, header=header)
    except PredictionsError as error:
        raise FilmsError(str(error)) from error


def joined_header(cells: Cells) -> Cells:
    """A table whose columns' names stand in two rows, under groups: the lower name, with its group's if it comes twice.

    Raises:
        FilmsError: if nothing is left below them.
    """
    if len(cells.rows) < 2:
        raise FilmsError(f"table must hold a header of two rows and at least one film, got less in {cells.path}.")
    groups, lower, group = [], [], ""
    for name, column in zip(map(cell_text, cells.names), cells.columns, strict=True):
        group = name or group
        below = cell_text(column[0])
        lower.append(below or name)
        groups.append(group if below else "")
    names = [
        f"{above} {name}" if lower.count(name) > 1 and above and above != name else name
        for above, name in zip(groups, lower, strict=True)
    ]
    return Cells(cells.path, names, [column[1:] for column in cells.columns], cells.rows[1:])


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


def decimal(text: str) -> str:
    """A number with a decimal comma as Python writes it; any other text as it is."""
    return text.replace(",", ".") if re.fullmatch(r"[0-9]+,[0-9]+", text) else text


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
    """What a row's cell and its film's path have in common, for match = name, stem, digits, path or folder."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")
    if match in ("path", "folder"):
        return name.strip("/") if match == "folder" else name
    base = name.rpartition("/")[2].casefold()
    stem, ending = os.path.splitext(base)  # noqa: PTH122
    stem = stem if ending in FILM_ENDINGS else base
    if match == "digits":
        digits = re.sub(r"[^0-9]", "", stem)
        return digits and (digits.lstrip("0") or "0")
    return stem if match == "stem" else base


def finder(match: str, images: Sequence[str], folder: Path) -> Callable[[str], list[str]]:
    """From a row's cell to the films that it may mean."""
    by_key: dict[str, list[str]] = {}
    if match in ("path", "folder"):
        wholes: dict[str, list[str]] = {}
        for path in images:
            whole = film_keys(match, path if match == "path" else path.rpartition("/")[0])
            wholes.setdefault(whole, []).append(path)
            for end in _ends(whole):
                by_key.setdefault(end, []).append(path)
        return lambda name: _by_place(film_keys(match, name), wholes, by_key)
    for path in images:
        key = _tag(folder / path, match.removeprefix(_DICOM)) if match.startswith(_DICOM) else film_keys(match, path)
        by_key.setdefault(key, []).append(path)
    if match.startswith(_DICOM):
        return lambda name: by_key.get(name, []) if name else []
    return lambda name: by_key.get(key, []) if (key := film_keys(match, name)) else []


def _by_place(name: str, wholes: dict[str, list[str]], by_end: dict[str, list[str]]) -> list[str]:
    """Films whose whole path below the folder is the end of a cell's, or the other way round."""
    if name in wholes:
        return wholes[name]
    if name in by_end:
        return by_end[name]
    return next((wholes[end] for end in _ends(name) if end in wholes), [])


def _ends(path: str) -> Iterator[str]:
    """A path, and what is left of it without its first folders, longest first; nothing of an empty one."""
    while path:
        yield path
        path = path.partition("/")[2]


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

    def only(self, places: Sequence[int]) -> "_Rows":
        """These rows alone, in this order."""
        columns: list[Sequence[object]] = [[values[place] for place in places] for values in self.cells.columns]
        return _Rows(Cells(self.cells.path, self.cells.names, columns, [self.cells.rows[place] for place in places]))

    def with_tags(self, keywords: Collection[str], paths: Sequence[str], folder: Path) -> "_Rows":
        """The same rows with a column for each of these DICOM keywords, of the film of each row."""
        headers = [dicom_header(folder / path, list(keywords)) for path in paths]
        columns = [[cell_text(header.get(keyword)) for header in headers] for keyword in keywords]
        names = [_DICOM + keyword for keyword in keywords]
        cells = self.cells
        return _Rows(Cells(cells.path, [*cells.names, *names], [*cells.columns, *columns], cells.rows))

    def differing(self, one: int, other: int, among: Collection[str] | None = None) -> list[str]:
        """The columns in which two rows differ: all that do, or those among these."""
        names, columns = self.cells.names, self.cells.columns
        return [
            cell_text(name)
            for name, values in zip(names, columns, strict=True)
            if (among is None or cell_text(name) in among) and cell_text(values[one]) != cell_text(values[other])
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


Sheets = dict[str, list[list[object]]]


def read_book(path: Path) -> Sheets:
    """The rows of each sheet of an XLSX file, all of one length; cells that are merged down all have their value.

    Raises:
        FilmsError: if it is no intact XLSX file.
        MissingExtraError: if openpyxl is not installed.
    """
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise MissingExtraError(
            "openpyxl must be installed to read XLSX tables. Install it: pip install 'hilum[tables]'; or save the "
            "table as CSV"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of styles and validations, which hold no values
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            sheets = {
                sheet.title: [list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets
            }
            book.close()
            if _has_merged(path):  # which the streaming reader does not tell
                for sheet in openpyxl.load_workbook(path, data_only=True).worksheets:
                    _fill_down(sheets[sheet.title], [merged.bounds for merged in sheet.merged_cells.ranges])
    except Exception as error:  # openpyxl fails on hostile bytes with whatever exception comes handy
        raise FilmsError(f"table must be an intact XLSX file, got {path}: {error}. Save it again.") from error
    return {title: _padded(rows) for title, rows in sheets.items()}


def _has_merged(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
        return any(b"mergeCell " in archive.read(name) for name in sheets)


def _fill_down(rows: list[list[object]], merged: Iterable[tuple[int, int, int, int]]) -> None:
    for left, top, right, bottom in merged:
        if left == right and left <= len(rows[top - 1]):
            for row in rows[top:bottom]:
                row += [None] * (left - len(row))
                row[left - 1] = rows[top - 1][left - 1]


def _padded(rows: list[list[object]]) -> list[list[object]]:
    """Without the empty columns at the end, which only bear a format."""
    width = max((place for row in rows for place, cell in enumerate(row, start=1) if cell_text(cell)), default=0)
    return [(row + [None] * (width - len(row)))[:width] for row in rows]


def xlsx_cells(path: Path, book: Sheets, sheet: str | None = None, header: int | None = None) -> Cells:
    """A sheet's cells, the first sheet's if None; see `read_any`."""
    if sheet is not None and sheet not in book:
        raise FilmsError(f"sheet must be one of {', '.join(map(repr, book))}, got {sheet!r} for {path}. Mend the map.")
    rows = book[sheet] if sheet is not None else next(iter(book.values()), [])
    numbered = [(number, row) for number, row in enumerate(rows, start=1) if any(map(cell_text, row))]
    numbered = [(number, row) for number, row in numbered if header is None or number >= header]
    if len(numbered) < 2:
        raise FilmsError(f"table must hold a header and at least one film, got {len(numbered)} rows in {path}.")
    names = [cell_text(name) for name in numbered[0][1]]
    columns: list[Sequence[object]] = list(zip(*[row for _, row in numbered[1:]], strict=True))
    return Cells(path, names, columns, [number for number, _ in numbered[1:]])


def _beside(table: str, folder: Path, map_file: Path) -> Path:
    """A table that the map names: in the folder, or beside the map."""
    places = [folder / table, map_file.parent / table]
    return next((place for place in places if place.is_file()), places[0])


def _tag(path: Path, keyword: str) -> str:
    """A tag of a DICOM film; empty for other files, and where there is none."""
    if path.suffix.lower() in IMAGE_ENDINGS:
        return ""
    return cell_text(dicom_header(path, [keyword]).get(keyword))


def _images(rows: _Rows, row: int, film: FilmColumn, found: Sequence[str]) -> Sequence[str]:
    if len(found) > 1 and not film.several:
        rule = f"name one film, but both {found[0]} and {found[1]} fit"
        remedy = 'Use film = { match = "path" } or rename the files; or add several = true, if a row is of all of them'
        raise rows.fault(film.column, row, rule, remedy)
    return found


def _may_repeat(rows: _Rows, before: int, row: int, mapping: Map) -> bool:
    """Whether a second row of a film only repeats the first; False if it may have other labels, as in a long table.

    Raises:
        FilmsError: if they contradict each other.
    """
    long = isinstance(mapping.labels, Lists) and (mapping.labels.several_rows or mapping.labels.value is not None)
    said = (mapping.patient, mapping.study, mapping.view, mapping.age, mapping.sex, mapping.split)
    differ = rows.differing(before, row, {name for name in said if name is not None} if long else None)
    if differ:
        other = shown(", ".join(differ))
        rule = f"name each film once, but row {rows.cells.rows[before]} is the same film with another {other}"
        remedy = "Remove the row that is wrong"
        if not long:
            remedy += "; if each row has one of a film's findings, add several_rows = true to the map's [labels]"
        raise rows.fault(mapping.film.column, row, rule, remedy)
    return not long


def _described(rows: _Rows, mapping: Map, paths: Sequence[str], folder: Path) -> pd.DataFrame:
    """The manifest's columns but the labels, a row for each film."""
    values, of = mapping.values, len(paths)
    keywords = {
        name.removeprefix(_DICOM)
        for name in (mapping.patient, mapping.study, mapping.view, mapping.age, mapping.sex)
        if name is not None and name.startswith(_DICOM)
    }
    if keywords:
        rows = rows.with_tags(keywords, paths, folder)

    def texts(column: str | None, default: Sequence[str]) -> list[str]:
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
        rows.parsed(
            mapping.age, lambda text: years(decimal(text)), "be years such as 58 or 058Y, or empty", "Mend the cell"
        )
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


def _labels(
    rows: _Rows, mapping: Map, groups: Sequence[Sequence[int]]
) -> tuple[tuple[str, ...], Float32[np.ndarray, "films findings"]]:
    """The findings and the labels of each film, which has a group of rows."""
    values = mapping.values
    meaning = {
        **dict.fromkeys(values.present, 1.0),
        **dict.fromkeys(values.absent, 0.0),
        **dict.fromkeys(values.uncertain, UNCERTAIN_LABEL),
    }
    meaning.setdefault("", 0.0 if values.empty == "absent" else math.nan)
    if isinstance(mapping.labels, Lists):
        return _from_lists(
            rows.only([row for of in groups for row in of]), mapping.labels, meaning, list(map(len, groups))
        )
    rows = rows.only([of[0] for of in groups])
    columns = [_meant(rows, column, meaning) for column in mapping.labels.values()]
    findings = tuple(unicodedata.normalize("NFC", finding) for finding in mapping.labels)
    return findings, np.array(columns, dtype=np.float32).T


def _meant(rows: _Rows, column: str, meaning: dict[str, float]) -> list[float]:
    rule = f"be one of {', '.join(word for word in meaning if word)} or empty"
    remedy = "Mend the cell, or add the word to present, absent or uncertain in the map's [values]"
    return rows.parsed(column, lambda text: meaning.get(cell_word(text)), rule, remedy)


_NOTHING = ("nan", "null", "n/a", "<na>")
"""What programs write for an empty cell."""


def list_words(text: str, separator: str | Sequence[str] | None) -> list[str]:
    """The words of a cell with a list, which programs write as ['one', 'two'] or {one, two}."""
    if text.casefold() in _NOTHING:
        return []
    if len(text) > 1 and text[0] + text[-1] in ("[]", "{}"):
        text = text[1:-1]
    marks = [separator] if isinstance(separator, str) else separator or ()
    parts = re.split("|".join(map(re.escape, marks)), text) if marks else [text]
    return [word for part in parts if (word := part.strip().strip("'\"").strip())]


def _from_lists(
    rows: _Rows, lists: Lists, meaning: dict[str, float], counts: Sequence[int]
) -> tuple[tuple[str, ...], Float32[np.ndarray, "films findings"]]:
    """The same of lists: the rows of the films follow each other, so many of each."""
    texts = rows.texts(lists.column)
    of_text = {text: list_words(text, lists.separator) for text in dict.fromkeys(texts)}
    meant = [1.0] * len(texts) if lists.value is None else _meant(rows, lists.value, meaning)
    normal = {folded(word) for word in ([lists.normal] if isinstance(lists.normal, str) else lists.normal or ())}
    ignored = {folded(word) for word in lists.ignored}
    said = sorted({word for words in of_text.values() for word in words if folded(word) not in normal | ignored})
    by_word = {folded(word): word for word in reversed(said)}
    if lists.findings is not None:
        by_word = {folded(word): name for name, words in lists.findings.items() for word in (name, *words)}
    findings = tuple(lists.findings or dict.fromkeys(by_word[folded(word)] for word in said))
    if not findings:
        raise FilmsError(f"labels must name at least one finding, got none in {rows.cells.path}, {lists.column!r}.")
    unmentioned = 0.0 if lists.others == "absent" else math.nan
    labels = np.full((len(counts), len(findings)), unmentioned, dtype=np.float32)
    start = 0
    for film, count in enumerate(counts):
        here = range(start, start + count)
        start += count
        said_of: dict[int, float] = {}
        healthy = False
        if not any(of_text[texts[row]] for row in here):
            labels[film] = meaning[""]
        for row in here:
            for word in map(folded, of_text[texts[row]]):
                if word in ignored:
                    continue
                if word in normal:
                    healthy |= meant[row] == 1
                elif word not in by_word:
                    rule = f"be words that the map explains ({word!r} is none)"
                    remedy = "Add the word to labels.findings or labels.ignored in the map"
                    raise rows.fault(lists.column, row, rule, remedy)
                elif not _same(said_of.setdefault(findings.index(by_word[word]), meant[row]), meant[row]):
                    rule = "say the same of a finding in all rows of a film"
                    raise rows.fault(lists.value or lists.column, row, rule, "Remove the row that is wrong")
        if healthy:
            if 1.0 in said_of.values():
                rule = f"be {lists.normal!r} alone or findings joined by {lists.separator!r}"
                raise rows.fault(lists.column, here[-1], rule, "Mend the cell")
            labels[film] = 0.0
        for place, value in said_of.items():
            labels[film, place] = value
    return findings, labels


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


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
        of_row = _images(rows, row, FilmColumn(column=said.film), find(film))
        if not of_row or of_row[0] not in listed:
            continue
        image = of_row[0]
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
        value = float(decimal(text))
    except ValueError:
        return None
    return value if 0 <= value < math.inf and "_" not in text else None


def _size(path: Path) -> tuple[int, int]:
    """A film's width and height in pixels, by its header."""
    if path.suffix.lower() not in IMAGE_ENDINGS:
        header = dicom_header(path, ["Rows", "Columns"])
        width, height = header.get("Columns"), header.get("Rows")
        if not width or not height:
            raise FilmsError(f"film must say its Rows and Columns, got none in {path}. Remove its boxes.")
        return int(width), int(height)
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError) as error:
        raise FilmsError(f"film with boxes must be an image, got {path}: {error}. Remove its boxes.") from error
