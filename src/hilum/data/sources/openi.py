"""Open-i, Indiana University's chest radiographs with their reports: folder -> Films.

Labels are the MeSH headings that people gave to each report (`major`), not those that a program found (`automatic`).
They are of a report, so its frontal and lateral films share them. The View Position of the DICOM files is wrong for
1,373 laterals and empty for 1,399, so views come from a table that people made, and without one nothing is indexed.

Source: Demner-Fushman et al., "Preparing a collection of radiology examinations for distribution and retrieval",
Journal of the American Medical Informatics Association 23, 2016. https://doi.org/10.1093/jamia/ocv080
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from hilum.data.films import Films
from hilum.data.sources.headers import read_headers
from hilum.data.sources.reading import Options, Row, films_of, years_between
from hilum.data.tables import FILM_ENDINGS, SourceFolder, base_name, read_header, read_table
from hilum.errors import FilmsError

LICENCE = "CC BY-NC-ND 4.0"
"""As each report says."""

NO_INDEXING = "no indexing"
_NAME = re.compile(r"(?:CXR)?([0-9]+)_(?:[0-9]+_)?(IM-[0-9]+(?:-[0-9]+)*)(?:\.dcm)?(?:\.(?:png|jpe?g))?", re.IGNORECASE)
_REPORT = re.compile(r"[0-9]+\.xml", re.IGNORECASE)
_VIEWS = {"f": "", "frontal": "", "l": "LATERAL", "lateral": "LATERAL"}
"""Frontal is PA or AP, and nobody said which."""
_MEND = "Mend the row, or take the file as it was published"
_VIEWS_WANTED = (
    "Put Kaggle's indiana_projections.csv beside the films, or a table with the columns file_name and image_view (F, L)"
)


class StudyReport(NamedTuple):
    """A report's images and MeSH headings, under the number that its id holds."""

    number: str
    images: Sequence[str]
    headings: Sequence[str]


def index_openi(folder: Path, options: Options) -> Films:
    """List Open-i's films: the XML reports with PNG or DICOM films, or Kaggle's two tables with its PNG films.

    Raises:
        FilmsError: if images, reports or a table of views are missing, or a file cannot be right, naming it.
    """
    found = SourceFolder.below(folder, endings=FILM_ENDINGS)
    reports, table = _reports(found, options)
    views = _views(found)
    paths: dict[str, str] = {}
    for path in found.images.values():
        paths.setdefault(key_of(base_name(path)) or path, path)
    wanted = ["PatientBirthDate", "StudyDate"]
    headers, damaged = read_headers(found.folder, paths.values(), wanted)
    rows, seen = [], dict[str, str]()
    unseen, without = [], []
    for report in reports:
        said = said_by(report.headings)
        if not report.images:
            without.append(report.number)
        for film in report.images:
            key = key_of(film)
            if key is None or key in seen:
                raise FilmsError(
                    f"film must be an image of one report, such as CXR1_IM-0001-3001, got {film!r} in {table}, report "
                    f"{report.number}{f' and in report {seen[key]}' if key else ''}. Take the file as it was published."
                )
            seen[key] = report.number
            place = paths.get(key)
            if place is not None and key not in views:
                unseen.append(film)
                continue
            born, taken = (_year(headers.get(place or "", {}).get(keyword, "")) for keyword in wanted)
            age = years_between(born, taken) if born and taken else math.nan
            row = Row(
                film=film,
                path=place,
                patient=report.number,
                study=report.number,
                view=views.get(key, ""),
                age=age,
                said=said,
            )
            rows.append(row)
    return films_of(
        rows,
        "openi",
        found,
        table=table,
        options=options,
        about="Open-i",
        problems={"view_unknown": unseen, "report_without_film": without, "header": damaged},
        notes={"licence": LICENCE},
    )


def said_by(headings: Sequence[str]) -> Mapping[str, float] | None:
    """What MeSH headings say: their heads, and each with the first word that follows it, as in opacity/lung."""
    words: dict[str, float] = {}
    for heading in headings:
        head, *places = [" ".join(part.split()).lower() for part in heading.split("/")]
        words[head] = 1.0
        if places:
            words[f"{head}/{places[0]}"] = 1.0
    words.pop("", None)
    if not words or NO_INDEXING in words:
        return None
    if set(words) != {"normal"}:
        words.pop("normal", None)
    return words


def key_of(name: str) -> str | None:
    """What the names of one film have in common: CXR1_1_IM-0001-3001, 1_IM-0001-3001.dcm.png; None for other names."""
    match = _NAME.fullmatch(name)
    return f"{match[1]}_{match[2]}".lower() if match else None


def _reports(found: SourceFolder, options: Options) -> tuple[list[StudyReport], Path]:
    """All reports, and the folder or table that holds them."""
    kaggle = options.labels or found.file("indiana_reports.csv")
    if kaggle is not None:
        return list(_kaggle(kaggle, found)), kaggle
    files = [path for path in found.texts if _REPORT.fullmatch(path.name)]
    if not files:
        raise FilmsError(
            f"folder must hold Open-i's reports (ecgen-radiology/1.xml, ...) or Kaggle's indiana_reports.csv, got none "
            f"in {found.folder}. Unpack NLMCXR_reports.tgz there."
        )
    return [read_report(path) for path in sorted(files, key=lambda path: int(path.stem))], files[0].parent


def read_report(path: Path) -> StudyReport:
    """One XML report.

    Raises:
        FilmsError: if it is no XML, or has no id.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise FilmsError(f"report must be XML, got {error} in {path}. Unpack the reports again.") from error
    identity = root.find("uId")
    number = "" if identity is None else (identity.get("id") or "").removeprefix("CXR")
    if not number:
        raise FilmsError(f"report must have an id (uId), got none in {path}. Unpack the reports again.")
    images = [image.get("id") or "" for image in root.iter("parentImage")]
    return StudyReport(number, images, [(heading.text or "").strip() for heading in root.iter("major")])


def _kaggle(path: Path, found: SourceFolder) -> Iterator[StudyReport]:
    table = read_table(path, ("uid", "MeSH"))
    films = found.file("indiana_projections.csv", path.parent)
    if films is None:
        raise FilmsError(
            f"films must be told by Kaggle's indiana_projections.csv, got none beside {path}. Put it there."
        )
    images = read_table(films, ("uid", "filename"))
    of: dict[str, list[str]] = {}
    for number, name in zip(images.columns["uid"], images.columns["filename"], strict=True):
        of.setdefault(number, []).append(name)
    numbers = table.parse("uid", lambda text: text or None, "not be empty", _MEND)
    first: dict[str, int] = {}
    for index, (number, headings) in enumerate(zip(numbers, table.columns["MeSH"], strict=True)):
        before = first.setdefault(number, index)
        if before != index:
            raise table.fault("uid", index, f"be unique, but row {table.rows[before]} is the same report", _MEND)
        yield StudyReport(number, of.get(number, []), [heading.strip() for heading in headings.split(";")])


def _views(found: SourceFolder) -> dict[str, str]:
    """Each film's view as people told it, by key."""
    for path in found.texts:
        header = set(read_header(path)) if path.name.lower().endswith((".csv", ".csv.gz")) else set()
        for film, view in (("file_name", "image_view"), ("filename", "projection")):
            if {film, view} <= header:
                table = read_table(path, (film, view))
                films = table.parse(film, key_of, "be the name of a film such as 1_IM-0001-3001.dcm", _MEND)
                words = table.parse(view, lambda text: _VIEWS.get(text.lower()), "be F, L, Frontal or Lateral", _MEND)
                return dict(zip(films, words, strict=True))
    raise FilmsError(
        f"views must be told by people, as Open-i's own tags call 1,373 laterals PA, got no table of views in "
        f"{found.folder}. {_VIEWS_WANTED}."
    )


def _year(text: str) -> str:
    return text[:4] if re.match(r"[12][0-9]{3}", text) else ""
