"""The JSRT database of lung nodules: folder -> Films, and the box of each nodule.

Films are raw: 2048 x 2048 big-endian 16-bit values of 12 bits, without a header; values grow with the film's blackness,
so `hilum.data.decoding` inverts them (no real film was at hand to check that). 154 films have one nodule each, 93 none.

Source: Shiraishi et al., "Development of a digital image database for chest radiographs with and without a lung
nodule", American Journal of Roentgenology 174, 2000. https://doi.org/10.2214/ajr.174.1.1740071
"""

import math
import re
from pathlib import Path
from typing import Any

from hilum.data.decoding import JSRT_SIDE
from hilum.data.films import Films
from hilum.data.sources.reading import Options, Row, box_of, films_of, years
from hilum.data.tables import IMAGE_ENDINGS, SourceFolder, base_name, read_text, shown
from hilum.errors import FilmsError

WITH_NODULE, WITHOUT = "CLNDAT_EN.txt", "CNNDAT_EN.TXT"
SPACING_MM = 0.175

_FILM = re.compile(r"JPC(?:LN|NN)[0-9]{3}\.IMG", re.IGNORECASE)
_UNKNOWN = ("?", "")
_MEND = "Take the file as it was published"


def index_jsrt(folder: Path, options: Options) -> Films:
    """List JSRT's films, raw or as PNG of the same names; no image is opened.

    Raises:
        FilmsError: if images or tables are missing, or a cell cannot be right, by file, row and column.
    """
    found = SourceFolder.below(folder, endings=(".img", *IMAGE_ENDINGS))
    given = [] if options.labels is None else [options.labels]
    tables = given or [path for name in (WITH_NODULE, WITHOUT) if (path := found.file(name)) is not None]
    if not tables:
        raise FilmsError(
            f"tables must be {WITH_NODULE} and {WITHOUT}, got neither in {found.folder} or its parent. Put them there."
        )
    rows: list[Row] = []
    boxes = []
    for path in tables:
        for number, line in enumerate(read_text(path, encoding="latin-1").splitlines(), start=1):
            if line.strip():
                row, box = _row([field.strip() for field in line.split("\t")], f"{path}, row {number}", found)
                rows.append(row)
                boxes += [box] if box is not None and row.path is not None else []
    films = [row.film for row in rows]
    twice = next((film for film in films if films.count(film) > 1), None)
    if twice is not None:
        raise FilmsError(f"film must stand in one row, got {twice!r} twice in {tables[0]}. {_MEND}.")
    return films_of(
        rows,
        "jsrt",
        found,
        table=tables[0],
        options=options,
        about="JSRT",
        words=("Nodule",),
        boxes=boxes,
        boxes_file=tables[0],
        boxes_listed=sum(row.said == {"Nodule": 1.0} for row in rows),
    )


def _row(fields: list[str], place: str, found: SourceFolder) -> tuple[Row, dict[str, Any] | None]:
    """A row of either table: name, subtlety, size in mm, age, sex, x, y of a nodule; name, age, sex without one."""
    if not _FILM.fullmatch(fields[0]):
        raise FilmsError(f"column 1 must be a film such as JPCLN001.IMG, got {shown(fields[0])} in {place}. {_MEND}.")
    film = fields[0].upper()
    nodule = film.startswith("JPCLN")
    if len(fields) < (7 if nodule else 3):
        raise FilmsError(
            f"row must have at least {7 if nodule else 3} fields between tabs, got {len(fields)} in {place}. {_MEND}."
        )
    age_column = 3 if nodule else 1
    age_text, sex = fields[age_column], fields[age_column + 1]
    age = math.nan if age_text in _UNKNOWN else years(age_text)
    if age is None:
        raise FilmsError(
            f"column {age_column + 1} must be an age in years or ?, got {shown(age_text)} in {place}. {_MEND}."
        )
    row = Row(
        film=film,
        path=found.image(film),
        patient=base_name(film).removesuffix(".IMG"),
        study=base_name(film).removesuffix(".IMG"),
        view="PA",
        age=age,
        sex="" if sex in _UNKNOWN else sex,
        said={"Nodule": float(nodule)},
    )
    if not nodule:
        return row, None
    size, x, y = (_number(fields, column, place) for column in (2, 5, 6))
    side = size / SPACING_MM
    left, top = max(0.0, x - side / 2), max(0.0, y - side / 2)
    right, bottom = min(JSRT_SIDE, x + side / 2), min(JSRT_SIDE, y + side / 2)
    box = box_of(film, "Nodule", left, top, right - left, bottom - top, size=(JSRT_SIDE, JSRT_SIDE))
    if box is None:
        raise FilmsError(
            f"column 6 must be inside the film of {JSRT_SIDE} pixels, got {x:g}, {y:g} in {place}. {_MEND}."
        )
    return row, box


def _number(fields: list[str], column: int, place: str) -> float:
    try:
        value = float(fields[column])
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or "_" in fields[column]:
        raise FilmsError(
            f"column {column + 1} must be a number above 0, got {shown(fields[column])} in {place}. {_MEND}."
        )
    return value
