"""BRAX, chest radiographs of the Hospital Israelita Albert Einstein, as PhysioNet lays it out: folder -> Films.

Its labels are in CheXpert's form, from a translation of CheXpert's labeller for Portuguese reports. Ages are given in
steps of five years. Images are PNG files, or the DICOM files that they were made of.

Source: Reis et al., "BRAX, Brazilian labeled chest x-ray dataset", Scientific Data 9, 2022.
https://doi.org/10.1038/s41597-022-01608-8
"""

from collections.abc import Iterator
from pathlib import Path

from hilum.data.films import Films
from hilum.data.sources.chexpert import LABELS, OTHER_NAMES, said_of
from hilum.data.sources.reading import Options, Row, films_of, years
from hilum.data.tables import FILM_ENDINGS, SourceFolder, read_header, read_table
from hilum.errors import FilmsError

STRIP = 10
"""An image with one side so many times the other shows no chest: 12 are only strips."""
_TABLES = ("master_spreadsheet_update.csv", "master_spreadsheet.csv")
_MEND = "Mend the row in the label file"


def index_brax(folder: Path, options: Options) -> Films:
    """List the films that the master spreadsheet describes; no image is opened.

    Raises:
        FilmsError: if there is no table, or a value in it cannot be right, by file, row and column.
    """
    found = SourceFolder.below(folder, match="path", endings=FILM_ENDINGS)
    file = options.labels or next(filter(None, map(found.file, _TABLES)), None)
    if file is None:
        raise FilmsError(
            f"label file must be {' or '.join(_TABLES)}, got none in {found.folder} or its parent. Name it with "
            "--labels."
        )
    strips: list[str] = []
    return films_of(
        _rows(file, found, strips),
        "brax",
        found,
        table=file,
        options=options,
        about="BRAX",
        problems={"strip": strips},
    )


def _rows(file: Path, found: SourceFolder, strips: list[str]) -> Iterator[Row]:
    header = set(read_header(file))
    optional = [name for name in ("DicomPath", "Rows", "Columns") if name in header]
    described = ["PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", "ViewPosition"]
    table = read_table(file, [*described, *optional, *LABELS], other_names=OTHER_NAMES)
    patients, studies = (
        table.parse(name, lambda text: text or None, "not be empty", _MEND) for name in ("PatientID", "AccessionNumber")
    )
    ages = table.parse("PatientAge", years, "be years such as 55 or '85 or more', or empty", _MEND)
    sizes = [table.parse(name, _pixels, "be a number of pixels", _MEND) for name in optional if name != "DicomPath"]
    pngs = table.columns["PngPath"]
    dicoms = table.columns.get("DicomPath", pngs)
    first: dict[str, int] = {}
    for index, said in enumerate(said_of(table, LABELS)):
        path = _image(found, pngs[index], "images") or _image(found, dicoms[index], "Anonymized_DICOMs")
        film = path or pngs[index] or dicoms[index]
        if not film or first.setdefault(film, index) != index:
            rule = "name a film" if not film else f"be unique, but row {table.rows[first[film]]} is the same film"
            raise table.fault("PngPath", index, rule, _MEND)
        if len(sizes) == 2:
            short, long = sorted((sizes[0][index], sizes[1][index]))
            if long > STRIP * short:
                strips.append(film)
                continue
        yield Row(
            film,
            path,
            patients[index],
            studies[index],
            said,
            table.columns["ViewPosition"][index],
            ages[index],
            table.columns["PatientSex"][index],
        )


def _image(found: SourceFolder, name: str, folder: str) -> str | None:
    """An image by the table's path, whose first folder the indexed one may be."""
    inner = name.replace("\\", "/").removeprefix(f"{folder}/")
    return found.image(name) or found.image(inner) or found.image(f"{folder}/{inner}") if name else None


def _pixels(text: str) -> float | None:
    number = text.removesuffix(".0")
    return float(number) if number.isascii() and number.isdigit() and 0 < len(number) < 10 else None
