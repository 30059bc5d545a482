"""What is chosen on validation films once the weights are fixed: calibration, thresholds, the level of regions."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch.utils.data import DataLoader, Subset

from hilum.data.dataset import Augmentation, FilmDataset, open_pack
from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.messages import track
from hilum.metrics.calibration import platt_lines, temperature_lines
from hilum.metrics.localization import choose_level
from hilum.model.bundle import Bundle, CalibrationSet, binding_of
from hilum.model.metadata import RegionLevel, strength
from hilum.model.thresholds import OperatingPoints, choose_points

Method = Literal["platt", "temperature"]

_BATCH = 16
LEAST_BOXED = 20
"""How many findings with true boxes choose a level of regions at least."""


def calibrate(bundle: Bundle, films: Films, *, packs: Path, method: Method = "platt") -> Bundle:
    """Calibrate a model's scores and choose its thresholds on films that it was not trained on.

    Calibration is a positive slope and an intercept per finding: no ranking and no heatmap changes. Where enough of the
    films have true boxes, the level at which regions are outlined is chosen on these.

    Args:
        films: the validation films alone, with the bundle's findings.
        packs: folder for the packed films.
        method: platt, a line per finding, or temperature, one slope for all.

    Raises:
        HilumError: if the films have other findings.
        ImageError: if a film cannot be read.
    """
    if films.findings != bundle.findings:
        raise HilumError(
            f"films must have the bundle's findings ({', '.join(bundle.findings)}), got {', '.join(films.findings)}. "
            "Index the films by the same vocabulary."
        )
    logits, labels = _logits(bundle, films, packs), films.all_labels.astype(np.float64)
    lines = platt_lines(logits, labels) if method == "platt" else temperature_lines(logits, labels)
    calibrated = replace(
        bundle,
        thresholds=None,
        calibration={name: (line.slope, line.intercept) for name, line in zip(films.findings, lines, strict=True)},
        calibration_set=CalibrationSet(
            method=method,
            fingerprint=films.fingerprint(),
            films=len(films),
            patients=int(films.table["patient"].nunique()),
            how={name: line.how for name, line in zip(films.findings, lines, strict=True)},
        ),
    )
    scores = calibrated.description.scores(logits.astype(np.float32)).astype(np.float64)
    points = choose_points(scores, labels, films.table["patient"].to_numpy(dtype=str), films.findings)
    return replace(
        calibrated,
        thresholds=OperatingPoints(binding_of(calibrated), points),
        regions=choose_regions(calibrated, films, packs=packs),
    )


def choose_regions(bundle: Bundle, films: Films, *, packs: Path) -> RegionLevel | None:
    """The level at which a model's regions fit the true boxes of these films best; see choose_level.

    None if fewer than LEAST_BOXED findings have true boxes: then nothing says how large a region should be.

    Raises:
        ImageError: if a film cannot be read.
    """
    truths: dict[str, dict[str, list[list[float]]]] = {}
    for box in films.notes.get("boxes", []):
        if box["finding"] in bundle.findings:
            sides = [float(box[name]) for name in ("x", "y", "width", "height")]
            truths.setdefault(box["film"], {}).setdefault(box["finding"], []).append(sides)
    rows = [row for row, film in enumerate(films.table["film"]) if film in truths]
    chosen = films.table.iloc[rows]
    if sum(len(truths[film]) for film in chosen["film"]) < LEAST_BOXED:
        return None
    dataset = FilmDataset(films, open_pack(films, bundle.preprocessing, packs).read, Augmentation())
    loader = DataLoader(Subset(dataset, rows), batch_size=_BATCH)
    with torch.inference_mode():
        maps = np.concatenate([bundle.model.class_maps(images)[1].numpy() for images, _ in loader]).astype(np.float32)
    strengths, boxes = [], []
    for film, of_film in zip(chosen["film"], maps, strict=True):
        for finding, of_finding in truths[film].items():
            strengths.append(strength(of_film[bundle.findings.index(finding)], bundle.heatmap_logits[finding]))
            boxes.append(np.array(of_finding, dtype=np.float64))
    level = choose_level(strengths, boxes)
    return RegionLevel(level.value, round(level.iou, 4), len(boxes), int(chosen["patient"].nunique()))


def calibration_method(name: str) -> Method:
    """Check the name of a calibration method.

    Raises:
        HilumError: if there is none.
    """
    match name:
        case "platt" | "temperature":
            return name
        case _:
            raise HilumError(f"method must be platt or temperature, got {name!r}")


def _logits(bundle: Bundle, films: Films, packs: Path) -> Float64[np.ndarray, "films findings"]:
    dataset = FilmDataset(films, open_pack(films, bundle.preprocessing, packs).read, Augmentation())
    loader = DataLoader(dataset, batch_size=_BATCH)
    with torch.inference_mode():
        batches = [bundle.model(images).numpy() for images, _ in track(loader, "calibrating", total=len(loader))]
    return np.concatenate(batches).astype(np.float64)
