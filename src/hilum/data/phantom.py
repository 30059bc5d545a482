"""A phantom data set: simulated chest radiographs with ground truth, written out in NIH's own layout.

For trying Hilum without real films, and for tests that need to know what is on a film. It teaches nothing about
patients.
"""

import shutil
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image

from hilum.data.phantom_film import render
from hilum.data.phantom_findings import Box
from hilum.data.phantom_patients import PhantomFilm, plan_films
from hilum.errors import FilmsError
from hilum.findings import CHESTXRAY14, NO_FINDING
from hilum.progress import track

ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
DETECTOR = 2500  # pixels a side that the label file pretends the film had
NIH_SIZE = 1024  # pixels a side that NIH's boxes refer to

Truth = tuple[tuple[str, ...], list[Box]]  # findings and boxes of one film


def write_phantom(folder: Path, *, films: int, size: int = 320, seed: int = 0, shuffle_labels: bool = False) -> None:
    """Write phantom films, their labels, boxes and split lists, as NIH published ChestX-ray14.

    The same seed gives the same films, and more films begin with the same ones. A quarter of the patients with each
    illness is for testing. The findings are drawn where the boxes say.

    Args:
        folder: new or empty; made if missing.
        films: how many, at least 1. A patient has one to five.
        size: pixels a side, 64 to 2048.
        shuffle_labels: give each film the findings and boxes of another patient's film: nothing to learn.

    Raises:
        ValueError: if films or size is out of range, or there are too few patients to shuffle between.
        FilmsError: if the folder holds anything, or is a file.
    """
    if films < 1:
        raise ValueError(f"films must be at least 1, got {films}")
    if not 64 <= size <= 2048:
        raise ValueError(f"size must be from 64 to 2048 pixels, got {size}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FilmsError(f"folder must be new or empty, got {folder}. Name another one, or empty this one.")
    planned = plan_films(films, seed)
    source = other_patients(np.array([film.patient for film in planned]), seed) if shuffle_labels else np.arange(films)
    images = folder / "images"
    images.mkdir(parents=True)
    try:
        truths = [_draw(film, size, images) for film in track(planned, "drawing phantom films")]
    except BaseException:  # Ctrl-C as well: half a data set would only be in the way of the next attempt
        shutil.rmtree(images)
        raise
    shown = [truths[int(index)] for index in source]
    _write(folder / "Data_Entry_2017_v2020.csv", [ENTRY_HEADER, *map(_entry_row, planned, shown)])
    _write(folder / "BBox_List_2017.csv", [BOX_HEADER, *_box_rows(planned, shown)])
    _write(folder / "test_list.txt", [film.name for film in planned if film.test])
    _write(folder / "train_val_list.txt", [film.name for film in planned if not film.test])


def _draw(film: PhantomFilm, size: int, images: Path) -> Truth:
    pixels, boxes = render(film.plan, size)
    Image.fromarray(pixels).save(images / film.name, compress_level=1)
    return film.findings, boxes


def other_patients(patients: Int64[np.ndarray, " films"], seed: int) -> Int64[np.ndarray, " films"]:
    """A random permutation of the films that gives every film one of another patient.

    Raises:
        ValueError: if one patient has more than half of the films.
    """
    films = len(patients)
    if 2 * np.unique(patients, return_counts=True)[1].max() > films:
        raise ValueError(f"films must be enough for labels to change patients, got {films}. Ask for more films.")
    generator = np.random.default_rng([seed, 5])
    source = generator.permutation(films)
    while (clashes := np.flatnonzero(patients[source] == patients)).size:
        for clash in clashes:
            other = int(generator.integers(films))
            source[clash], source[other] = source[other], source[clash]
    return source


def _entry_row(film: PhantomFilm, truth: Truth) -> str:
    names = "|".join(name for name in CHESTXRAY14 if name in truth[0]) or NO_FINDING
    fields = (film.name, names, film.follow_up, film.patient, film.age, film.sex, film.plan.exposure.view)
    return ",".join(map(str, (*fields, DETECTOR, DETECTOR, film.spacing_mm, film.spacing_mm)))


def _box_rows(films: list[PhantomFilm], truths: list[Truth]) -> list[str]:
    rows = []
    for film, (_, boxes) in zip(films, truths, strict=True):
        for box in boxes:
            name = "Infiltrate" if box.finding == "Infiltration" else box.finding  # as NIH spells it there
            rows.append(",".join([film.name, name, *(f"{NIH_SIZE * value:.3f}" for value in box[1:])]))
    return rows


def _write(path: Path, lines: list[str]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    partial.replace(path)
