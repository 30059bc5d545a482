"""What must be known to use a model, whatever computes it. Read from JSON alone: torch is not imported."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from hilum.data.images import WHOLE, Preprocessing, Seen
from hilum.data.quality import QualityCheck
from hilum.errors import BundleError, HilumError
from hilum.findings import is_simulated, name_fault
from hilum.metrics.thresholds import Threshold
from hilum.model.thresholds import OperatingPoints, binding, check_keys, findings_sha256

FORMAT = 1
BUNDLE_JSON, WEIGHTS = "bundle.json", "weights.safetensors"
FINDINGS_SHA256 = "findings_sha256"
"""The key of the hash over the findings in their order, in bundle.json and export.json."""


UNVALIDATED_LEVEL = 180 / 255
"""The level of regions where no boxes chose one; see hilum.metrics.localization.BOX_THRESHOLD."""


@dataclass(frozen=True)
class RegionLevel:
    """The level that the regions of findings are outlined at, chosen on films with true boxes.

    Attributes:
        level: part of a map's strongest place from which a place belongs to the region, in (0, 1).
        iou: mean intersection over union of these regions with the true boxes, on the films that chose it.
        boxed: findings on films with true boxes.
        patients: of these films.
    """

    level: float
    iou: float
    boxed: int
    patients: int


@dataclass(frozen=True)
class SourceCalibration:
    """Calibration and thresholds for films of one source, of a model that learned from several.

    Attributes:
        calibration: per finding, the slope and intercept; those of all films where the source has too few.
        thresholds: chosen on the source's films; likewise.
        own: findings that the source's films were enough for.
        films: validation films of the source.
        patients: of these films.
    """

    calibration: dict[str, tuple[float, float]]
    thresholds: OperatingPoints
    own: tuple[str, ...]
    films: int
    patients: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON."""
        return {
            "calibration": self.calibration,
            "thresholds": self.thresholds.to_dict(),
            "own": self.own,
            "films": self.films,
            "patients": self.patients,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], findings: tuple[str, ...]) -> "SourceCalibration":
        """The reverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: if a field is missing or is not what it must be.
        """
        check_keys(fields["calibration"], findings, "calibration of a source")
        own, films, patients = tuple(fields["own"]), fields["films"], fields["patients"]
        if not set(own) <= set(findings) or type(films) is not int or type(patients) is not int:
            raise ValueError(f"findings and numbers of a source's films must be such, got {own}, {films}, {patients}")
        lines = {name: _two_numbers(fields["calibration"][name]) for name in findings}
        return cls(lines, OperatingPoints.from_dict(fields["thresholds"], findings), own, films, patients)


@dataclass(frozen=True)
class ModelDescription:
    """From a film to the network's input, and from its outputs to what they mean. See Bundle for the fields."""

    findings: tuple[str, ...]
    preprocessing: Preprocessing
    heatmap_logits: dict[str, tuple[float, float]]
    thresholds: OperatingPoints | None
    calibration: dict[str, tuple[float, float]] | None
    quality_check: QualityCheck | None = None
    sources: tuple[str, ...] = ()
    regions: RegionLevel | None = None
    by_source: dict[str, SourceCalibration] = field(default_factory=dict)

    @property
    def region_level(self) -> float:
        """The level of regions; UNVALIDATED_LEVEL where no boxes chose one."""
        return UNVALIDATED_LEVEL if self.regions is None else self.regions.level

    @property
    def simulated(self) -> bool:
        """Whether the model learned from simulated films alone."""
        return bool(self.sources) and all(map(is_simulated, self.sources))

    @property
    def learned_from(self) -> str:
        """What the model learned from, in words that stand beside its scores; empty if the bundle does not say."""
        if self.simulated:
            return "trained on simulated films only: real films do not fit, and its scores say nothing of patients"
        names = ["simulated films" if is_simulated(name) else name for name in self.sources]
        return f"trained on films of {', '.join(names)}" if names else ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON."""
        fields = asdict(replace(self, thresholds=None, quality_check=None, by_source={}))
        del fields["by_source"]
        if self.by_source:  # else as it was before there were any
            fields["by_source"] = {source: one.to_dict() for source, one in self.by_source.items()}
        del fields["quality_check"]  # bundles have called it gate since their first format
        own = {
            name: part and part.to_dict()
            for name, part in (("thresholds", self.thresholds), ("gate", self.quality_check))
        }
        return {**fields, **own}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "ModelDescription":
        """The reverse of `to_dict`; other keys are not looked at.

        Raises:
            KeyError, TypeError, ValueError: if a field is missing or is not what it must be.
        """
        findings = _findings(fields["findings"])
        quality_check = fields.get("gate")  # absent from bundles that are older than it
        ranges, thresholds, calibration = (fields[name] for name in ("heatmap_logits", "thresholds", "calibration"))
        for name, of in (("heatmap_logits", ranges), ("calibration", calibration)):
            if of is not None:
                check_keys(of, findings, name)
        return cls(
            findings=findings,
            preprocessing=Preprocessing.from_dict(fields["preprocessing"]),
            heatmap_logits={name: _range(ranges[name]) for name in findings},
            thresholds=None if thresholds is None else OperatingPoints.from_dict(thresholds, findings),
            calibration=None if calibration is None else {name: _two_numbers(calibration[name]) for name in findings},
            quality_check=None if quality_check is None else QualityCheck.from_dict(quality_check),
            sources=_sources(fields.get("sources", [])),  # absent from bundles that are older than it
            regions=_regions(fields.get("regions")),  # likewise
            by_source={
                str(source): SourceCalibration.from_dict(one, findings)
                for source, one in (fields.get("by_source") or {}).items()
            },
        )

    def for_source(self, source: str) -> "ModelDescription":
        """The same with the calibration and thresholds of a source's films; itself where it has none of its own."""
        own = self.by_source.get(source)
        if own is None:
            return self
        return replace(self, calibration=own.calibration, thresholds=own.thresholds, by_source={})

    def check_thresholds(self, weights_sha256: str, calibration_films: str, *, where: Path) -> None:
        """Refuse thresholds that were chosen for something else.

        Raises:
            BundleError: if they do not bear the hash of these weights, this preprocessing and this calibration.
        """
        for own in map(self.for_source, self.by_source):
            own.check_thresholds(weights_sha256, calibration_films, where=where)
        if self.thresholds is None:
            return
        if self.thresholds.bound_to != self.binding(weights_sha256, calibration_films):
            raise BundleError(
                "thresholds must have been chosen for these weights, this preprocessing and this calibration, but "
                f"those in {where} were not. Choose them anew with: hilum calibrate RUN --films films.parquet"
            )

    def call_thresholds(self, point: str, *, where: str | Path) -> list[Threshold | None]:
        """What calls at an operating point are made with, in the order of the findings.

        Raises:
            HilumError: if there is no such point, or no thresholds at all; `where` says of which model.
        """
        if self.thresholds is None:
            raise HilumError(
                f"calls must come from thresholds, and {where} has none. Choose them on validation films with: "
                f"hilum calibrate {where} --films films.parquet"
            )
        chosen = self.thresholds.thresholds(point)
        return [chosen[finding] for finding in self.findings]

    def binding(self, weights_sha256: str, calibration_films: str) -> str:
        """Hash that binds thresholds to weights, preprocessing and calibration."""
        return binding(weights_sha256, self.preprocessing.to_dict(), self.calibration, calibration_films)

    def slopes_and_intercepts(self) -> Float32[np.ndarray, "2 findings"]:
        """The calibration, in the findings' order: a score is the sigmoid of slope x logit + intercept."""
        pairs = self.calibration or dict.fromkeys(self.findings, (1.0, 0.0))
        return np.array([pairs[name] for name in self.findings], dtype=np.float32).T

    def scores(self, logits: Float32[np.ndarray, "batch findings"]) -> Float32[np.ndarray, "batch findings"]:
        """Scores in [0, 1] from the network's logits."""
        slopes, intercepts = self.slopes_and_intercepts()
        calibrated = slopes * logits + intercepts
        scores: Float32[np.ndarray, "batch findings"] = np.exp(-np.logaddexp(np.float32(0), -calibrated))
        return scores


def strength(
    class_map: Float32[np.ndarray, "rows columns"], scale: tuple[float, float]
) -> Float32[np.ndarray, "rows columns"]:
    """A class map in 0 (nothing) to 1 (full) by the model's scale for this finding; what lies outside is cut off."""
    clear, full = scale
    cut: Float32[np.ndarray, "rows columns"] = np.clip(
        (class_map - np.float32(clear)) / np.float32(full - clear), 0, 1
    ).astype(np.float32)
    return cut


def check_order(fields: Mapping[str, Any], findings: Sequence[str], *, where: Path) -> None:
    """Refuse findings that no longer stand in the order of the network's outputs.

    Bundles and exports that are older than the hash of that order are read by the order of their heatmap scale, which
    Hilum wrote in the same order and which nobody has a reason to change.

    Raises:
        BundleError: if another order, or other names, were written by hand.
    """
    expected = fields.get(FINDINGS_SHA256)
    if expected is None:
        same = list(fields["heatmap_logits"]) == list(findings)
    else:
        same = expected == findings_sha256(findings)
    if not same:
        raise BundleError(
            f"findings must be those of the network's outputs, in their order, but {where} was changed by hand: got "
            f"{', '.join(findings)}. Take the file that Hilum wrote, or train again"
        )


def read_description(run: Path) -> ModelDescription:
    """The description of a bundle, without its network.

    Raises:
        BundleError: if there is no bundle in the folder, or bundle.json is not one's.
    """
    path = run / BUNDLE_JSON
    fields = read_bundle_json(run)
    try:
        description = ModelDescription.from_dict(fields)
        check_order(fields, description.findings, where=path)
        films = (fields.get("calibration_set") or {}).get("fingerprint", "")
        description.check_thresholds(fields["weights_sha256"], films, where=run)
        return description
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} must describe a bundle of format {FORMAT}, but does not: {error!r}") from None


def read_bundle_json(run: Path) -> dict[str, Any]:
    """The content of bundle.json.

    Raises:
        BundleError: if the folder has none, or it is no JSON object of today's format.
    """
    path = run / BUNDLE_JSON
    if not path.is_file():
        raise BundleError(
            f"bundle must be a folder with bundle.json, but there is no {path}. Was the training finished? "
            "Make one with: hilum train nih-small --films films.parquet --out RUN"
        )
    content = read_json_object(path)
    if content.get("format") != FORMAT:
        raise BundleError(
            f"format must be {FORMAT}, got {content.get('format')!r} in {path}. Use the Hilum that wrote the bundle."
        )
    return content


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        BundleError: if it cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path.name} must be JSON, but {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise BundleError(f"{path.name} must hold an object, got {type(content).__name__} in {path}")
    return content


def _findings(names: object) -> tuple[str, ...]:
    if not isinstance(names, list):
        raise ValueError(f"findings must be distinct names, at least one, got {names!r}")
    fault = name_fault(names)
    if fault:
        raise ValueError(f"findings must be {fault}")
    return tuple(names)


def _sources(names: object) -> tuple[str, ...]:
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"sources must be names, got {names!r}")
    return tuple(names)


def _regions(fields: Any) -> RegionLevel | None:
    if fields is None:
        return None
    level, iou = _number(fields["level"]), _number(fields["iou"])
    if not 0 < level < 1 or not 0 <= iou <= 1:
        raise ValueError(f"level of regions must be in (0, 1) and their overlap in [0, 1], got {level} and {iou}")
    return RegionLevel(level, iou, int(fields["boxed"]), int(fields["patients"]))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"number must be finite, got {value!r}")
    return float(value)


def _two_numbers(values: object) -> tuple[float, float]:
    if not isinstance(values, list) or len(values) != 2:
        raise ValueError(f"numbers must be two, got {values!r}")
    return _number(values[0]), _number(values[1])


def _range(values: object) -> tuple[float, float]:
    low, high = _two_numbers(values)
    if not low < high:
        raise ValueError(f"range must rise, got {values!r}")
    return low, high


_WHOLE_SIDE = 128
"""Cells a side of a map that was put back on the whole film."""


def on_whole_film(
    part: Float32[np.ndarray, "rows columns"], seen: Seen, *, elsewhere: float
) -> Float32[np.ndarray, "tall wide"]:
    """A map of the part of a film that the network saw, on the whole film; as it is where that was all of it.

    Args:
        seen: the part; see Preprocessing.seen.
        elsewhere: what stands where the network saw nothing.
    """
    if seen == WHOLE:
        return part
    left, top, right, bottom = seen
    places = (np.arange(_WHOLE_SIDE) + 0.5) / _WHOLE_SIDE
    across, down = ((places - low) / (high - low) for low, high in ((left, right), (top, bottom)))
    ways = []
    for place, cells in ((down, part.shape[0]), (across, part.shape[1])):
        position = np.clip(place * cells - 0.5, 0, cells - 1)
        ways.append(np.clip(1 - np.abs(position[:, None] - np.arange(cells)), 0, None).astype(np.float32))
    inside = ((down >= 0) & (down <= 1))[:, None] & ((across >= 0) & (across <= 1))
    whole: Float32[np.ndarray, "tall wide"] = np.where(inside, ways[0] @ part @ ways[1].T, np.float32(elsewhere))
    return whole
