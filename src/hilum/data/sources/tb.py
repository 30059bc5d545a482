"""The tuberculosis sets of Montgomery County and of Shenzhen: folder -> Films, either or both.

The last digit of a name is the label: 1 is tuberculosis, 0 none. Sex and age stand in a text beside each film, typed by
hand: what cannot be read there stays unknown, and the film is named in `notes["problems"]`.

Source: Jaeger et al., "Two public chest X-ray datasets for computer-aided screening of pulmonary diseases",
Quantitative Imaging in Medicine and Surgery 4, 2014. https://doi.org/10.3978/j.issn.2223-4292.2014.11.20
"""

import math
import re
from pathlib import Path

from hilum.data.films import Films
from hilum.data.sources.reading import Options, Row, films_of
from hilum.data.tables import SourceFolder, base_name, read_text
from hilum.errors import FilmsError

_FILM = re.compile(r"(MCUCXR|CHNCXR)_([0-9]{4})_([01])\.png", re.IGNORECASE)
_NOT_FILMS = ("leftmask", "rightmask", "mask", "masks", "manualmask")
"""Folders of outlines, whose images bear the films' names."""
_SEX = re.compile(r"\b(fe)?male?(?![a-z])|sex:?\s*([MF])\b", re.IGNORECASE)
_NUMBER = r"([0-9]{1,3})\s*-?\s*(years?|yrs?|y|months?|mon|mos?|m|weeks?|w|days?|d)\b"
_AGE = re.compile(rf"(?:\b|(?<=mal)|(?<=male)){_NUMBER}", re.IGNORECASE)
_UNITS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}


def index_tb(folder: Path, options: Options) -> Films:
    """List the films below a folder whose names are Montgomery's or Shenzhen's; no image is opened.

    Raises:
        FilmsError: if there is none, or `--labels` is given: the names are the labels.
    """
    if options.labels is not None:
        raise FilmsError(
            f"--labels must be left out, as the films' names are the labels, got {options.labels}. Leave it away."
        )
    found = SourceFolder.below(folder, endings=(".png",))
    readings = {path.stem.lower(): path for path in found.texts if path.suffix.lower() == ".txt"}
    rows, unread, strange = [], [], []
    films: dict[str, str] = {}
    for path in [*found.images.values(), *found.same_name]:
        if any(part.lower() in _NOT_FILMS for part in path.split("/")[:-1]):
            continue
        name = base_name(path)
        if not _FILM.fullmatch(name):
            strange.append(path)
        else:
            films.setdefault(name.lower(), path)
    for path in films.values():
        name = base_name(path)
        match = _FILM.fullmatch(name)
        assert match is not None
        reading = readings.get(name.lower().removesuffix(".png"))
        sex, age = ("", math.nan) if reading is None else read_reading(read_text(reading, encoding="latin-1"))
        if not sex or math.isnan(age):
            unread.append(name)
        rows.append(
            Row(
                film=name,
                path=path,
                patient=name.lower().removesuffix(".png"),
                study=name.lower().removesuffix(".png"),
                view="PA",
                age=age,
                sex=sex,
                said={"Tuberculosis": float(match[3])},
            )
        )
    if not rows:
        raise FilmsError(
            f"folder must hold films such as MCUCXR_0001_0.png or CHNCXR_0001_0.png, got none in {found.folder}. "
            "Check the path."
        )
    return films_of(
        rows,
        "tb",
        found,
        table=found.folder,
        options=options,
        about="Montgomery and Shenzhen (tuberculosis)",
        words=("Tuberculosis",),
        problems={"reading": unread, "unlisted": strange},
    )


def read_reading(text: str) -> tuple[str, float]:
    """Sex (M, F or empty) and age in years (NaN if unknown) of a reading: "Patient's Age: 027Y", "male 45yrs"."""
    sex = _SEX.search(text)
    said = "" if sex is None else (sex[2].upper() if sex[2] else "F" if sex[1] else "M")
    age = _AGE.search(text)
    return said, math.nan if age is None else int(age[1]) * _UNITS[age[2][0].lower()]
