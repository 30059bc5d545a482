"""What is chosen on validation films once the weights are fixed: calibration, thresholds, the level of regions."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch.utils.data import DataLoader, Subset

from hilum.data.dataset import packed_films
from hilum.data.films import Films
from hilum.data.pack import open_pack
from hilum.data.quality import LEAST_FILMS, fit_quality_check
from hilum.errors import HilumError
from hilum.findings import resolve
from hilum.messages import messages, track
from hilum.metrics.calibration import platt_lines, temperature_lines
from hilum.metrics.localization import choose_level
from hilum.metrics.operating_points import SOURCE_POINT
from hilum.metrics.thresholds import Threshold
from hilum.model.bundle import Bundle, CalibrationSet, binding_of, weights_sha256
from hilum.model.explain import heatmap_logits
from hilum.model.metadata import RegionLevel, SourceCalibration, strength
from hilum.model.thresholds import OperatingPoints, choose_points
from hilum.phantom.lateral import lateral_views

Method = Literal["platt", "temperature"]

_BATCH = 16
LEAST_BOXED = 20
"""How many findings with true boxes choose a level of regions at least."""
LEAST_KNOWN, LEAST_PRESENT = 100, 20
"""A source's films are calibrated by themselves for a finding that so many know, and that so many have, and lack."""


def calibrate(bundle: Bundle, films: Films, *, packs: Path, method: Method = "platt", device: str = "cpu") -> Bundle:
    """Calibrate a model's scores and choose its thresholds on films that it was not trained on.

    Calibration is a positive slope and an intercept per finding: no ranking and no heatmap changes. Where enough of the
    films have true boxes, the level at which regions are outlined is chosen on these. Where films come from several
    sources, each that has enough gets lines and thresholds of its own beside those of all; see Bundle.for_source.

    Args:
        films: the validation films alone, with the bundle's findings.
        packs: folder for the packed films.
        method: platt, a line per finding, or temperature, one slope for all.
        device: where the network computes: cpu, cuda or mps. It is left on the CPU.

    Raises:
        HilumError: if the films have other findings.
        ImageError: if a film cannot be read.
    """
    labels = _labels(bundle, films)
    if bundle.origin is not None:
        bundle = _made_at_home(bundle, films, packs)
    logits = _logits(bundle, films, packs, device)
    lines = platt_lines(logits, labels) if method == "platt" else temperature_lines(logits, labels)
    calibrated = replace(
        bundle,
        thresholds=None,
        calibration={name: (line.slope, line.intercept) for name, line in zip(bundle.findings, lines, strict=True)},
        calibration_set=CalibrationSet(
            method=method,
            fingerprint=films.fingerprint(),
            films=len(films),
            patients=int(films.table["patient"].nunique()),
            how={name: line.how for name, line in zip(bundle.findings, lines, strict=True)},
        ),
    )
    scores = calibrated.description.scores(logits.astype(np.float32)).astype(np.float64)
    points = choose_points(scores, labels, films.table["patient"].to_numpy(dtype=str), bundle.findings)
    points |= _stated_points(bundle, calibrated)
    pooled = replace(calibrated, by_source={}, thresholds=OperatingPoints(binding_of(calibrated), points))
    return replace(
        pooled,
        by_source=calibrate_sources(pooled, films, logits, labels, method),
        regions=choose_regions(calibrated, films, packs=packs),
    )


def calibrate_sources(
    pooled: Bundle,
    films: Films,
    logits: Float64[np.ndarray, "films findings"],
    labels: Float64[np.ndarray, "films findings"],
    method: Method,
) -> dict[str, SourceCalibration]:
    """Lines and thresholds of each source that has enough films for a finding; the other findings keep those of all."""
    sources = films.table["source"].to_numpy(dtype=str)
    patients = films.table["patient"].to_numpy(dtype=str)
    assert pooled.calibration is not None
    assert pooled.thresholds is not None
    weights, fitted = weights_sha256(pooled), films.fingerprint()
    found = {}
    for source in sorted(set(sources)) if len(set(sources)) > 1 else ():
        rows = np.flatnonzero(sources == source)
        present, absent = (labels[rows] == 1).sum(axis=0), (labels[rows] == 0).sum(axis=0)
        enough = (present + absent >= LEAST_KNOWN) & (np.minimum(present, absent) >= LEAST_PRESENT)
        own = np.flatnonzero(enough)
        if not own.size:
            continue
        fit = platt_lines if method == "platt" else temperature_lines
        lines = fit(logits[np.ix_(rows, own)], labels[np.ix_(rows, own)])
        names = tuple(pooled.findings[k] for k in own)
        calibration = pooled.calibration | {
            name: (line.slope, line.intercept) for name, line in zip(names, lines, strict=True)
        }
        described = replace(pooled.description, calibration=calibration)
        scores = described.scores(logits[rows].astype(np.float32)).astype(np.float64)[:, own]
        chosen = choose_points(scores, labels[np.ix_(rows, own)], patients[rows], names)
        points = {
            point: {name: chosen[point][name] if name in names and point in chosen else of[name] for name in of}
            for point, of in pooled.thresholds.points.items()
            if point in chosen
        }
        found[source] = SourceCalibration(
            calibration=calibration,
            thresholds=OperatingPoints(described.binding(weights, fitted), points),
            own=names,
            films=len(rows),
            patients=int(np.unique(patients[rows]).size),
        )
    return found


def choose_regions(bundle: Bundle, films: Films, *, packs: Path) -> RegionLevel | None:
    """The level at which a model's regions fit the true boxes of these films best; see choose_level.

    None if fewer than LEAST_BOXED findings have true boxes, for then nothing says how large a region should be; and for
    a model that sees a part of each film.

    Raises:
        ImageError: if a film cannot be read.
    """
    if bundle.preprocessing.crop is not None or bundle.preprocessing.shorter is not None:
        return None  # its maps show a part of each film, of which a pack does not say where it lies
    truths: dict[str, dict[str, list[list[float]]]] = {}
    for box in films.notes.get("boxes", []):
        if box["finding"] in bundle.findings:
            sides = [float(box[name]) for name in ("x", "y", "width", "height")]
            truths.setdefault(box["film"], {}).setdefault(box["finding"], []).append(sides)
    rows = [row for row, film in enumerate(films.table["film"]) if film in truths]
    chosen = films.table.iloc[rows]
    if sum(len(truths[film]) for film in chosen["film"]) < LEAST_BOXED:
        return None
    dataset = packed_films(films, bundle.preprocessing, packs)
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


def _labels(bundle: Bundle, films: Films) -> Float64[np.ndarray, "films findings"]:
    """The films' labels in the bundle's order. An imported model may have findings that the films do not; NaN there.

    Raises:
        HilumError: if the findings are others.
    """
    names = {own: resolve(own, films.findings) for own in bundle.findings}
    missing = [own for own, name in names.items() if name is None]
    if films.findings == bundle.findings or (bundle.origin is not None and len(missing) < len(names)):
        columns = [films.all_labels[:, films.findings.index(name)] if name else None for name in names.values()]
        if missing:
            messages().print(f"These films have no labels of {', '.join(missing)}: not calibrated, no thresholds.")
        unknown = np.full(len(films), np.nan)
        return np.stack([unknown if column is None else column for column in columns], axis=1).astype(np.float64)
    raise HilumError(
        f"films must have the bundle's findings ({', '.join(bundle.findings)}), got {', '.join(films.findings)}. "
        "Index the films by the same vocabulary."
    )


def _made_at_home(bundle: Bundle, films: Films, packs: Path) -> Bundle:
    """An imported model with the scale of its heatmaps, and its input quality check, measured on these films."""
    pack = open_pack(films, bundle.preprocessing, packs)
    scale = heatmap_logits(bundle.model, packed_films(films, bundle.preprocessing, packs), bundle.findings)
    quality_check = bundle.quality_check
    if len(films) >= LEAST_FILMS:
        laterals = lateral_views(seed=0)
        sources = films.table["source"].tolist()
        quality_check = fit_quality_check(
            lambda row: pack.read(row)[0], len(films), laterals=laterals, seed=0, sources=sources
        )
    return replace(bundle, heatmap_logits=scale, quality_check=quality_check)


def _stated_points(bundle: Bundle, calibrated: Bundle) -> dict[str, dict[str, Threshold | None]]:
    """The thresholds that an imported model's source states, carried over to the calibrated scores: equal calls."""
    stated = None if bundle.thresholds is None else bundle.thresholds.points.get(SOURCE_POINT)
    if stated is None:
        return {}
    before, after = (one.description.slopes_and_intercepts().astype(np.float64) for one in (bundle, calibrated))
    carried: dict[str, Threshold | None] = {}
    for k, name in enumerate(bundle.findings):
        old = stated[name]
        value = None if old is None else (np.log(old.value / (1 - old.value)) - before[1, k]) / before[0, k]
        if value is not None:
            value = float(1 / (1 + np.exp(-(after[0, k] * value + after[1, k]))))
        carried[name] = None if value is None else Threshold(value, value, value)
    return {SOURCE_POINT: carried}


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


def _logits(bundle: Bundle, films: Films, packs: Path, device: str) -> Float64[np.ndarray, "films findings"]:
    dataset = packed_films(films, bundle.preprocessing, packs)
    loader = DataLoader(dataset, batch_size=_BATCH)
    films_seen = track(loader, "calibrating", total=len(loader))
    model = bundle.model.to(device)
    try:
        with torch.inference_mode():
            batches = [model(images.to(device)).cpu().numpy() for images, _ in films_seen]
    finally:
        model.to("cpu")
    return np.concatenate(batches).astype(np.float64)
