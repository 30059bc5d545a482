"""Outlines that people or programs drew, as masks and the boxes around them: run lengths of four kinds.

A mask is kept beside its box (`mask`), on a grid of 256 x 256 over the film: fine enough for a heatmap's strongest
place, and a few hundred bytes in the manifest. The box is that of the whole mask.

Source: Saporta et al., "Benchmarking saliency methods for chest X-ray interpretation" (CheXlocalize), Nature Machine
Intelligence 4, 2022. https://doi.org/10.1038/s42256-022-00536-x
Gaggion et al., "CheXmask", Scientific Data 11, 2024. https://doi.org/10.1038/s41597-024-03358-1
The run lengths of CheXlocalize are COCO's: Lin et al., "Microsoft COCO", ECCV 2014; its mask format packs five bits of
a number into each character.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from hilum.data.decoding import LARGEST_AREA, LARGEST_SIDE
from hilum.data.films import Films
from hilum.data.tables import base_name, film_key, shown
from hilum.errors import FilmsError
from hilum.findings import resolve

Mask = Bool[np.ndarray, "height width"]

GRID = 256
"""Cells a side on which a mask is kept."""
LEAST_DICE = 0.7
"""CheXmask's masks whose mean Dice by reverse classification accuracy is lower are left out, as its authors advise."""

_CALLED = {"Airspace Opacity": "Lung Opacity"}
"""CheXlocalize's word for what CheXpert calls otherwise."""
_IDS = ("image_id", "Image Index", "ImageID", "dicom_id", "Path")
"""What CheXmask calls a film, in its tables of different sources."""
_ORGANS = {"Heart": "Cardiomegaly"}
"""The organ whose outline tells where a finding is, wherever it is present."""
_AGAIN = "Download the file again"


def relative_runs(text: str, size: tuple[int, int]) -> Mask | None:
    """SIIM's run lengths: pairs of a gap since the last run and a length, down the columns; None if they are none."""
    numbers = _numbers(text)
    if numbers is None or len(numbers) % 2:
        return None
    return _filled(list(numbers), size)


def absolute_runs(text: str, size: tuple[int, int]) -> Mask | None:
    """CheXmask's: pairs of a start, counted from 1 along the rows, and a length; None if they are none."""
    numbers = _numbers(text)
    if numbers is None or len(numbers) % 2:
        return None
    height, width = size
    runs, end = [], 1
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        runs += [start - end, length]
        end = start + length
    mask = _filled(runs, (width, height))
    return None if mask is None else mask.T


def coco_runs(counts: str | Sequence[int], size: tuple[int, int]) -> Mask | None:
    """COCO's: lengths of runs of 0 and 1 in turn, down the columns, plain or packed; None if they are none."""
    runs = unpacked(counts) if isinstance(counts, str) else list(counts)
    if runs is None or not all(isinstance(run, int) for run in runs) or sum(runs) != size[0] * size[1]:
        return None
    return _filled(runs, size)


def unpacked(text: str) -> list[int] | None:
    """The numbers of COCO's packed text: five bits a character, low ones first.

    From the fourth on they are differences to the last but one.
    """
    numbers: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value = shift = 0
    return None if shift else numbers


def packed(runs: Sequence[int]) -> str:
    """The reverse of `unpacked`."""
    text = []
    for place, run in enumerate(runs):
        value = run - (runs[place - 2] if place > 2 else 0)
        more = True
        while more:
            code = value & 31
            value >>= 5
            more = value != (-1 if code & 16 else 0)
            text.append(chr(48 + (code | 32 * more)))
    return "".join(text)


def masked_box(film: str, finding: str, mask: Mask) -> dict[str, Any]:
    """The box around a mask that is not empty, in fractions of the film, and the mask on the grid."""
    height, width = mask.shape
    down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return {
        "film": film,
        "finding": finding,
        "x": float(across[0]) / width,
        "y": float(down[0]) / height,
        "width": float(across[-1] + 1 - across[0]) / width,
        "height": float(down[-1] + 1 - down[0]) / height,
        "mask": packed(_runs(_on_grid(mask))),
    }


def grid_of(text: str) -> Bool[np.ndarray, "grid grid"]:
    """The mask that a box of a manifest holds.

    Raises:
        FilmsError: if it is none.
    """
    mask = coco_runs(text, (GRID, GRID))
    if mask is None:
        raise FilmsError(f"mask must be run lengths of {GRID} x {GRID}, got {shown(text)}. Index the films again.")
    return mask


def add_masks(films: Films, files: Iterable[Path]) -> Films:
    """The same films with the boxes and masks of CheXlocalize's JSON and CheXmask's tables, of findings they have.

    Raises:
        FilmsError: if a file is neither, cannot be right, or names no film of these.
    """
    boxes, used = list(films.notes.get("boxes", [])), []
    for path in files:
        more = chexlocalize(path, films) if path.suffix.lower() == ".json" else chexmask(path, films)
        if not more:
            raise FilmsError(
                f"masks must be of findings on films of the manifest, got none of its {len(films)} films in {path}. "
                "Give the file of this source."
            )
        boxes += more
        used.append(str(path))
    return replace(films, notes={**films.notes, "boxes": boxes, "masks_files": used})


def chexlocalize(path: Path, films: Films) -> list[dict[str, Any]]:
    """CheXlocalize's outlines of these films: film -> finding -> run lengths."""
    try:
        content = json.loads(path.read_bytes())
        outlines = {str(film): dict(of_film) for film, of_film in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FilmsError(
            f"masks must be JSON of film, finding and outline, got {error} in {path}. {_AGAIN}."
        ) from error
    of_key = {_chexpert_key(path): film for film, path in zip(films.table["film"], films.table["path"], strict=True)}
    boxes = []
    for key, of_film in outlines.items():
        film = of_key.get(key.lower())
        for word, outline in of_film.items():
            finding = resolve(_CALLED.get(str(word), str(word)), films.findings)
            if film is None or finding is None:
                continue
            mask = _outline(outline)
            if mask is None:
                raise FilmsError(
                    f"outline must be COCO's run lengths, got others of {key!r}, {word!r} in {path}. {_AGAIN}."
                )
            if mask.any():
                boxes.append(masked_box(film, finding, mask))
    return boxes


def _chexpert_key(path: str) -> str:
    """patient64541/study1/view1_frontal.jpg as CheXlocalize names it."""
    return "_".join(path.rpartition(".")[0].split("/")[-3:]).lower()


def _outline(outline: object) -> Mask | None:
    if not isinstance(outline, dict) or not isinstance(outline.get("counts"), str | list):
        return None
    size = outline.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int for side in size):
        return None
    return coco_runs(outline["counts"], (size[0], size[1]))


def chexmask(path: Path, films: Films) -> list[dict[str, Any]]:
    """The heart of each film on which its finding is present, of CheXmask's tables."""
    organs = {organ: name for organ, word in _ORGANS.items() if (name := resolve(word, films.findings)) is not None}
    keys = _film_keys(films)
    present = {name: set(films.table["film"][films.table[name] == 1]) for name in organs.values()}
    boxes = []
    for place, cells in _rows(path):
        film = next((keys[key] for name in _IDS if (key := _mask_key(cells.get(name, ""))) in keys), None)
        if film is None or _number(cells, "Dice RCA (Mean)", place) < LEAST_DICE:
            continue
        size = int(_number(cells, "Height", place)), int(_number(cells, "Width", place))
        for organ, name in organs.items():
            if film not in present[name]:
                continue
            mask = absolute_runs(cells.get(organ, ""), size)
            if mask is None or not mask.any():
                raise FilmsError(
                    f"{organ} must be pairs of a start and a length inside {size[1]} x {size[0]} pixels, got "
                    f"{shown(cells.get(organ, ''))} in {place}. {_AGAIN}."
                )
            boxes.append(masked_box(film, name, mask))
    return boxes


def _film_keys(films: Films) -> dict[str, str]:
    """What a mask's table may call each film: its path, or its base name if no other film has it."""
    table = films.table
    names = [film_key(base_name(path)) for path in table["path"]]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    by_name = {name: film for name, film in zip(names, table["film"], strict=True) if name not in twice}
    return by_name | {_mask_key(path): film for path, film in zip(table["path"], table["film"], strict=True)}


def _mask_key(name: str) -> str:
    """A name in lower case without its ending; CheXpert's begin with the folder of the data set."""
    stem = film_key(name.replace("\\", "/"))
    first, _, rest = stem.partition("/")
    return rest if first.startswith("chexpert-v1.0") and rest else stem


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """A table's rows with their places, read one by one: CheXmask's have gigabytes."""
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
            header = set(reader.fieldnames or ())
            lacking = [name for name in ("Dice RCA (Mean)", "Heart", "Height", "Width") if name not in header]
            if lacking or not header & set(_IDS):
                raise FilmsError(
                    f"masks must be CheXlocalize's JSON or a table of CheXmask's, got no column "
                    f"{(lacking or _IDS)[0]!r} in {path}. Check the path."
                )
            for number, cells in enumerate(reader, start=2):
                yield (
                    f"{path}, row {number}",
                    {name: cells[name] or "" for name in header if isinstance(cells[name], str)},
                )
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise FilmsError(f"masks must be a table that can be read, got {error} in {path}. {_AGAIN}.") from error


def _number(cells: Mapping[str, str], name: str, place: str) -> float:
    try:
        value = float(cells.get(name, ""))
    except ValueError:
        value = -1.0
    if not 0 <= value <= LARGEST_SIDE:
        raise FilmsError(f"{name} must be a number from 0, got {shown(cells.get(name, ''))} in {place}. {_AGAIN}.")
    return value


def _numbers(text: str) -> list[int] | None:
    words = text.split()
    return (
        [int(word) for word in words]
        if words and all(word.isascii() and word.isdigit() and len(word) < 12 for word in words)
        else None
    )


def _filled(runs: Sequence[int], size: tuple[int, int]) -> Mask | None:
    """Runs of 0 and 1 in turn, down the columns; what they do not reach is 0. None if they cannot be such runs."""
    height, width = size
    if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE and height * width <= LARGEST_AREA):
        return None
    if any(run < 0 for run in runs) or sum(runs) > height * width:
        return None
    flat = np.zeros(height * width, dtype=bool)
    position = 0
    for place, run in enumerate(runs):
        flat[position : position + run] = place % 2 == 1
        position += run
    return flat.reshape(width, height).T


def _runs(mask: Mask) -> list[int]:
    """The runs of 0 and 1 in turn, down the columns; the first may be empty."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def _on_grid(mask: Mask) -> Bool[np.ndarray, "grid grid"]:
    """Whether the centre of each cell lies in the mask; a mask between the centres keeps the cells that it touches."""
    height, width = mask.shape
    cells = (np.arange(GRID) + 0.5) / GRID
    grid = mask[np.ix_((cells * height).astype(int), (cells * width).astype(int))]
    if not grid.any():
        down, across = np.nonzero(mask)
        grid[down * GRID // height, across * GRID // width] = True
    return grid
