"""SIIM-ACR Pneumothorax Segmentation: folder -> Films, with a box and a mask for each outline.

A film has a row for each outline, or one row with -1 for none. Films come from ChestX-ray14 (leak group nih), but no
mapping was published, so each counts as a patient.

Source: SIIM-ACR Pneumothorax Segmentation, Kaggle 2019, whose films are ChestX-ray14's: Wang et al., CVPR 2017.
Filice et al., "Crowdsourcing pneumothorax annotations using machine learning annotations on the NIH chest X-ray
dataset", Journal of Digital Imaging 33, 2020. https://doi.org/10.1007/s10278-019-00299-9
"""

import math
from pathlib import Path

from hilum.data.films import Films
from hilum.data.sources.headers import read_headers
from hilum.data.sources.masks import masked_box, relative_runs
from hilum.data.sources.reading import Options, Row, films_of, label_file, years
from hilum.data.tables import FILM_ENDINGS, SourceFolder, read_table

LABELS = "train-rle.csv"
SIDE = 1024
"""Outlines count in pixels of the films as they were published: 1024 a side."""

_TAGS = ("PatientAge", "PatientSex", "ViewPosition")
_NONE = "-1"
_MEND = "Mend the row, or take the file as it was published"


def index_siim(folder: Path, options: Options) -> Films:
    """List the challenge's training films; views, ages and sexes come from DICOM headers.

    Raises:
        FilmsError: if images or outlines are missing, or a cell cannot be right, by file, row and column.
    """
    found = SourceFolder.below(folder, endings=FILM_ENDINGS)
    path = label_file(found, options, LABELS, "*train-rle*.csv", column="EncodedPixels")
    table = read_table(path, ("ImageId", "EncodedPixels"))  # whose header has a space before it
    films = table.parse("ImageId", lambda text: text or None, "not be empty", _MEND)
    texts = table.columns["EncodedPixels"]
    first: dict[str, int] = {}
    for index, (film, text) in enumerate(zip(films, texts, strict=True)):
        before = first.setdefault(film, index)
        if before != index and _NONE in (text, texts[before]):
            rule = (
                f"be an outline in each row of a film that has several, but row {table.rows[before]} is the same film"
            )
            raise table.fault("EncodedPixels", index, rule, _MEND)
    paths = {film: found.image(film) for film in first}
    boxes = []
    for index, (film, text) in enumerate(zip(films, texts, strict=True)):
        if text == _NONE:
            continue
        mask = relative_runs(text, (SIDE, SIDE))
        if mask is None or not mask.any():
            rule = f"be {_NONE} or pairs of a gap and a length inside {SIDE} x {SIDE} pixels"
            raise table.fault("EncodedPixels", index, rule, _MEND)
        if paths[film] is not None:
            boxes.append(masked_box(film, "Pneumothorax", mask))
    headers, damaged = read_headers(found.folder, [path for path in paths.values() if path is not None], _TAGS)
    rows = []
    for film, index in first.items():
        place = paths[film]
        header = headers.get(place or "", {})
        age = years(header.get("PatientAge", ""))
        rows.append(
            Row(
                film=film,
                path=place,
                patient=film,
                study=_study(place) or film,
                view=header.get("ViewPosition", ""),
                age=math.nan if age is None else age,
                sex=header.get("PatientSex", ""),
                said={"Pneumothorax": float(texts[index] != _NONE)},
            )
        )
    return films_of(
        rows,
        "siim",
        found,
        table=path,
        options=options,
        about="SIIM-ACR Pneumothorax Segmentation",
        words=("Pneumothorax",),
        boxes=boxes,
        boxes_file=path,
        boxes_listed=sum(text != _NONE for text in texts),
        patients_are_films=True,
        problems={"header": damaged},
    )


def _study(path: str | None) -> str | None:
    """The study's folder, where films lie in folders of study and series as they were published."""
    parts = (path or "").split("/")
    return parts[-3] if len(parts) > 3 else None
