"""PadChest, of the Hospital San Juan in Alicante: folder -> Films.

The labels are words that a report names, so each is present or not mentioned: 39,053 films were labelled by physicians,
121,808 by a network that read the report. `unchanged` alone says nothing, as it points to another report. Films with
`exclude` or `suboptimal study` are left out. Ages are the difference of two years.

Source: Bustos et al., "PadChest: A large chest x-ray image dataset with multi-label annotated reports", Medical Image
Analysis 66, 2020. https://arxiv.org/abs/1901.07441
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hilum.data.films import Films
from hilum.data.sources.reading import Options, Row, films_of, label_file, years_between
from hilum.data.tables import FILM_ENDINGS, SourceFolder, TextTable, base_name, read_table, was_rounded

COLUMNS = (
    "ImageID",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "MethodLabel",
    "Labels",
)
LEFT_OUT = ("exclude", "suboptimal study")
"""Words of films that the authors do not want to be used."""

_NOTHING = ("", "nan", "none")
_WORD = r"'[^'\\]*'|\"[^\"\\]*\""
_LIST = re.compile(rf"\[\s*(?:(?:{_WORD})(?:\s*,\s*(?:{_WORD}))*)?\s*,?\s*\]")
_YEAR = re.compile(r"((?:18|19|20)[0-9]{2})(?:\.0|[0-9]{4})?")
_MEND = "Mend the row, or take the file as it was published"


def index_padchest(folder: Path, options: Options) -> Films:
    """List PadChest's films below a folder, in its 52 numbered folders or in one; no image is opened.

    Raises:
        FilmsError: if there is no image or no table, or a cell cannot be right, by file, row and column.
    """
    found = SourceFolder.below(folder, endings=FILM_ENDINGS)
    path = label_file(found, options, "PADCHEST_chest_x_ray_images_labels*.csv", "*.csv", column="ImageID")
    table = read_table(path, COLUMNS)
    films = _films(table)
    lists = table.parse("Labels", _words, "be a list of words such as ['normal']", _MEND)
    born, taken = (
        table.parse(column, _year, "be a year or a date that starts with one, or empty", _MEND)
        for column in ("PatientBirth", "StudyDate_DICOM")
    )
    patients = _patients(table)
    studies = table.parse("StudyID", lambda text: text or None, "not be empty", _MEND)
    views, sexes = table.columns["Projection"], table.columns["PatientSex_DICOM"]
    said = {words: said_by(words) for words in dict.fromkeys(lists)}
    left_out = {words for words in said if any(word in LEFT_OUT for word in words)}
    rows = (
        Row(
            film=film,
            path=found.image(film),
            patient=patients[index],
            study=studies[index],
            view=views[index],
            age=years_between(born[index], taken[index]),
            sex="" if sexes[index].lower() in _NOTHING else sexes[index],
            said=said[lists[index]],
        )
        for index, film in enumerate(films)
        if lists[index] not in left_out
    )
    excluded = [film for film, words in zip(films, lists, strict=True) if words in left_out]
    return films_of(
        rows,
        "padchest",
        found,
        table=path,
        options=options,
        about="PadChest",
        problems={"excluded": excluded},
        notes={"labelled_by": dict(Counter(table.columns["MethodLabel"]))},
    )


def said_by(words: tuple[str, ...]) -> Mapping[str, float] | None:
    """What a list of words says: `normal` if it stands alone, None if the list says nothing by itself."""
    left = [word for word in words if word and word != "unchanged"]
    if not left:
        return None
    if set(left) == {"normal"}:
        return {"normal": 1.0}
    return {word: 1.0 for word in left if word != "normal"}


def _films(table: TextTable) -> list[str]:
    films = table.parse("ImageID", lambda text: base_name(text) or None, "not be empty", _MEND)
    first: dict[str, int] = {}
    for index, film in enumerate(films):
        before = first.setdefault(film, index)
        if before != index:
            rule = f"be unique, but row {table.rows[before]} is the same film"
            raise table.fault("ImageID", index, rule, "Remove one of the two rows")
    return films


def _patients(table: TextTable) -> list[str]:
    """Ids as text: they have up to 39 digits, and a spreadsheet makes one of several."""
    for index, text in enumerate(table.columns["PatientID"]):
        if was_rounded(text):
            rule = "be an id as it was, not a number that a spreadsheet has rounded"
            raise table.fault("PatientID", index, rule, "Take the file as it was published")
    return table.parse("PatientID", lambda text: text or None, "not be empty", _MEND)


def _words(text: str) -> tuple[str, ...] | None:
    """The words of a list as Python writes it, without outer spaces; none of an empty cell."""
    if text.lower() in _NOTHING:
        return ()
    if not _LIST.fullmatch(text):
        return None
    return tuple(" ".join(word[1:-1].split()) for word in re.findall(_WORD, text))


def _year(text: str) -> str | None:
    if text.lower() in _NOTHING:
        return ""
    match = _YEAR.fullmatch(text)
    return match[1] if match else None
