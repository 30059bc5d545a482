"""A trained model as a folder: weights.safetensors, bundle.json and a model card. Loading runs no code from it."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

import hilum
from hilum.data.images import Preprocessing
from hilum.data.quality import QualityCheck
from hilum.errors import BundleError, HilumError
from hilum.files import write_whole
from hilum.findings import resolve
from hilum.model.metadata import (
    BUNDLE_JSON,
    FINDINGS_SHA256,
    FORMAT,
    WEIGHTS,
    ModelDescription,
    RegionLevel,
    SourceCalibration,
    check_order,
    read_bundle_json,
)
from hilum.model.thresholds import OperatingPoints, findings_sha256
from hilum.nn.build import architecture_from_dict, build, whole
from hilum.nn.classifier import Classifier
from hilum.recipe import Recipe, recipe_from_dict

CARD = "MODEL_CARD.md"
"""What people read of a bundle; nothing is read back from it."""


@dataclass(frozen=True)
class CalibrationSet:
    """Films that a bundle's scores were calibrated on, and in words how each finding's calibration was fitted."""

    method: str
    fingerprint: str
    films: int
    patients: int
    how: dict[str, str]

    @classmethod
    def from_dict(cls, fields: dict[str, Any], findings: tuple[str, ...]) -> "CalibrationSet":
        """The reverse of `dataclasses.asdict`.

        Raises:
            KeyError, TypeError, ValueError: if a field is missing or is not what it must be.
        """
        films, patients = fields["films"], fields["patients"]
        if not all(isinstance(number, int) and number > 0 for number in (films, patients)):
            raise ValueError(f"films and patients must be numbers above 0, got {films!r} and {patients!r}")
        how = {name: str(fields["how"][name]) for name in findings}
        return cls(str(fields["method"]), str(fields["fingerprint"]), films, patients, how)


@dataclass(frozen=True)
class Origin:
    """Where an imported model comes from, which Hilum has not trained.

    Attributes:
        model: the source and its name for the model.
        file: name of the file that its weights were in.
        sha256: of that file.
        notes: what a user must know, a sentence each: findings left out, thresholds, how heatmaps are drawn.
    """

    model: str
    file: str
    sha256: str
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Origin":
        """The reverse of `dataclasses.asdict`.

        Raises:
            KeyError, TypeError: if a field is missing.
        """
        model, file, sha256 = (str(fields[name]) for name in ("model", "file", "sha256"))
        return cls(model, file, sha256, tuple(map(str, fields["notes"])))


@dataclass(frozen=True)
class Bundle:
    """A model with all that is needed to use it as it was trained.

    Attributes:
        model: the network, in evaluation mode.
        findings: what its outputs mean, in order.
        recipe: how it was trained; holds the preprocessing.
        films: fingerprint of the manifest that it was trained on.
        heatmap_logits: per finding, the logits at which a heatmap is clear and at which it is full: one scale for all
            films, measured on films of the training.
        thresholds: operating points, each with the score from which a finding is called; None until chosen on
            validation. They hold for these weights, this preprocessing and this calibration alone.
        calibration: per finding, the slope and intercept of its logits; None until fitted on validation.
        calibration_set: the films that it was fitted on; None until then.
        quality_check: the input quality check; None if it saw too few films to tell.
        sources: of the films that it learned from, in order; empty if not known.
        regions: the level of outlined regions; None until chosen on validation films with true boxes.
        training: what happened: epochs, validation figures, minutes.
        by_source: calibration and thresholds of each source's films, where it learned from several.
        origin: where an imported model comes from; its recipe is then one to train it further by. None if it was
            trained here.
    """

    model: Classifier
    findings: tuple[str, ...]
    recipe: Recipe
    films: str
    heatmap_logits: dict[str, tuple[float, float]]
    thresholds: OperatingPoints | None = None
    calibration: dict[str, tuple[float, float]] | None = None
    calibration_set: CalibrationSet | None = None
    quality_check: QualityCheck | None = None
    sources: tuple[str, ...] = ()
    regions: RegionLevel | None = None
    training: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    by_source: dict[str, SourceCalibration] = field(default_factory=dict)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing from a file to this model's input."""
        return self.recipe.preprocessing

    @property
    def description(self) -> ModelDescription:
        """What must be known to use the model, whatever computes it."""
        return ModelDescription(
            self.findings,
            self.preprocessing,
            self.heatmap_logits,
            self.thresholds,
            self.calibration,
            self.quality_check,
            self.sources,
            self.regions,
            self.by_source,
        )

    def for_source(self, source: str) -> "Bundle":
        """The same with the calibration and thresholds of a source's films; itself where it has none of its own."""
        own = self.by_source.get(source)
        if own is None or self.calibration_set is None:
            return self
        how = {
            name: words if name in own.own else f"{words}, films of all sources"
            for name, words in self.calibration_set.how.items()
        }
        fitted = replace(self.calibration_set, films=own.films, patients=own.patients, how=how)
        return replace(
            self, calibration=own.calibration, calibration_set=fitted, thresholds=own.thresholds, by_source={}
        )

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.model.parameters())


def renamed(bundle: Bundle, findings: Sequence[str]) -> Bundle:
    """Rename a model's findings to a manifest's names for the same; see hilum.findings.resolve.

    Findings that are none of the manifest's keep their names.
    """
    names = {own: resolve(own, findings) or own for own in bundle.findings}
    if len(set(names.values())) < len(names) or all(own == name for own, name in names.items()):
        return bundle
    points, fitted_on = bundle.thresholds, bundle.calibration_set
    by_source = {
        source: replace(
            one,
            calibration={names[own]: line for own, line in one.calibration.items()},
            thresholds=_renamed_points(one.thresholds, names),
            own=tuple(names[own] for own in one.own),
        )
        for source, one in bundle.by_source.items()
    }
    return replace(
        bundle,
        by_source=by_source,
        findings=tuple(names.values()),
        heatmap_logits={names[own]: scale for own, scale in bundle.heatmap_logits.items()},
        thresholds=points and _renamed_points(points, names),
        calibration=bundle.calibration and {names[own]: line for own, line in bundle.calibration.items()},
        calibration_set=fitted_on and replace(fitted_on, how={names[own]: how for own, how in fitted_on.how.items()}),
    )


def _renamed_points(points: OperatingPoints, names: Mapping[str, str]) -> OperatingPoints:
    """Thresholds under other names of the findings."""
    renamed_points = {
        point: {names[own]: threshold for own, threshold in of.items()} for point, of in points.points.items()
    }
    return replace(points, points=renamed_points)


def binding_of(bundle: Bundle) -> str:
    """Hash that binds thresholds to weights, preprocessing and calibration."""
    return bundle.description.binding(weights_sha256(bundle), _calibration_films(bundle))


def weights_sha256(bundle: Bundle) -> str:
    """Hash of the weights alone."""
    return hashlib.sha256(_weights(bundle)).hexdigest()


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write the bundle's three files into a folder; each appears whole or not at all, bundle.json last.

    Raises:
        BundleError: if a number of the description is not finite, as after a training that diverged, or the thresholds
            were chosen for another model or calibration.
        HilumError: if the folder cannot be written to.
    """
    weights = _weights(bundle)
    digest = hashlib.sha256(weights).hexdigest()
    bundle.description.check_thresholds(digest, _calibration_films(bundle), where=folder)
    description = {
        "format": FORMAT,
        "disclaimer": hilum.DISCLAIMER,
        "findings": bundle.findings,
        "architecture": bundle.recipe.architecture.model_dump(mode="json"),
        "preprocessing": bundle.preprocessing.to_dict(),
        "recipe": bundle.recipe.to_dict(),
        "films": bundle.films,
        "heatmap_logits": bundle.heatmap_logits,
        "thresholds": bundle.thresholds and bundle.thresholds.to_dict(),
        "calibration": bundle.calibration,
        "calibration_set": bundle.calibration_set and asdict(bundle.calibration_set),
        "gate": bundle.quality_check and bundle.quality_check.to_dict(),
        "sources": bundle.sources,
        "regions": bundle.regions and asdict(bundle.regions),
        "training": bundle.training,
        **({"origin": asdict(bundle.origin)} if bundle.origin else {}),
        **({"by_source": {name: one.to_dict() for name, one in bundle.by_source.items()}} if bundle.by_source else {}),
        "parameters": bundle.parameters,
        "weights_sha256": digest,
        FINDINGS_SHA256: findings_sha256(bundle.findings),
        "versions": {"hilum": hilum.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    try:
        text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise BundleError(
            f"numbers of a bundle must be finite, but {folder} would hold others: {error}. Did the training diverge? "
            "Try a lower optimizer.lr or a training.gradient_clip"
        ) from None
    write_whole(folder / WEIGHTS, weights)
    write_whole(folder / CARD, _model_card(bundle).encode())
    write_whole(folder / BUNDLE_JSON, text.encode())


def load_bundle(folder: Path) -> Bundle:
    """Rebuild a model from its folder alone.

    Raises:
        BundleError: if a file is missing, damaged, or does not match the others in every key and shape.
    """
    path = folder / BUNDLE_JSON
    description = read_bundle_json(folder)
    try:
        recipe = recipe_from_dict(description["recipe"], where=str(path))
        used = ModelDescription.from_dict(description)
        calibrated_on = description.get("calibration_set")  # absent from bundles that are older than calibration
        if used.preprocessing != recipe.preprocessing:
            raise BundleError(f"preprocessing must be the recipe's, but differs from it in {path}")
        if architecture_from_dict(description["architecture"]) != recipe.architecture:
            raise BundleError(f"architecture must be the recipe's, but differs from it in {path}")
        # Nothing is drawn, and no memory taken before the weights are known to fit.
        with torch.random.fork_rng(devices=[]), nullcontext() if whole(recipe.architecture) else torch.device("meta"):
            model = build(recipe.architecture, findings=len(used.findings), channels=recipe.preprocessing.channels)
        bundle = Bundle(
            model=model.eval(),
            findings=used.findings,
            recipe=recipe,
            films=str(description["films"]),
            heatmap_logits=used.heatmap_logits,
            thresholds=used.thresholds,
            calibration=used.calibration,
            calibration_set=None if calibrated_on is None else CalibrationSet.from_dict(calibrated_on, used.findings),
            quality_check=used.quality_check,
            sources=used.sources,
            regions=used.regions,
            training=dict(description["training"]),
            origin=Origin.from_dict(description["origin"]) if "origin" in description else None,
            by_source=used.by_source,
        )
        expected = description["weights_sha256"]
        check_order(description, used.findings, where=path)
    except HilumError as error:
        raise BundleError(f"bundle cannot be rebuilt: {error}") from None
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, ValidationError) as error:
        raise BundleError(f"{path} must describe a bundle of format {FORMAT}, but does not: {error!r}") from None
    _fill(bundle.model, folder / WEIGHTS, expected)
    bundle.description.check_thresholds(str(expected), _calibration_films(bundle), where=folder)
    return bundle


def _weights(bundle: Bundle) -> bytes:
    return save({key: value.detach().cpu().contiguous() for key, value in bundle.model.state_dict().items()})


def _calibration_films(bundle: Bundle) -> str:
    return "" if bundle.calibration_set is None else bundle.calibration_set.fingerprint


def _fill(model: Classifier, path: Path, expected: object) -> None:
    if not path.is_file():
        raise BundleError(f"weights must be beside bundle.json, but there is no {path}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"weights must be a file that can be read, but {path} cannot: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise BundleError(
            f"{path} must be the file that bundle.json was written for, but its SHA-256 is {digest[:12]}..."
        )
    try:
        state = load(content)
    except (SafetensorError, ValueError) as error:
        raise BundleError(f"weights must be a safetensors file, but {path} cannot be read: {error}") from None
    own = model.state_dict()
    wrong = sorted(own.keys() ^ state.keys()) or [
        key for key in own if (own[key].shape, own[key].dtype) != (state[key].shape, state[key].dtype)
    ]
    if wrong:
        raise BundleError(
            f"weights must match the model in every key, shape and type, but {', '.join(wrong[:5])} differ in {path}"
        )
    if any(weight.is_meta for weight in model.parameters()):
        model.to_empty(device="cpu")
    model.load_state_dict(state)


def calibration_fact(bundle: Bundle) -> str:
    """Whether and on what the scores were calibrated, in words."""
    used = bundle.calibration_set
    if used is None:
        return "scores are not calibrated: they are no probabilities"
    text = f"scores were calibrated ({used.method}) on {used.films:,} validation films of {used.patients:,} patients"
    if bundle.by_source:
        sources = "; ".join(f"{name} ({', '.join(one.own)})" for name, one in bundle.by_source.items())
        text += f", and by themselves for films of: {sources}"
    return text


def region_fact(bundle: Bundle) -> str:
    """Whether and on what the level of outlined regions was chosen, in words."""
    used = bundle.regions
    if used is None:
        return "outlined regions were never compared with boxes that people drew"
    return (
        f"regions are outlined from {used.level:.2f} of a map's strongest place on, chosen on {used.boxed} findings "
        f"with true boxes of {used.patients} patients (mean intersection over union {used.iou:.2f})"
    )


def _how_trained(bundle: Bundle) -> str:
    """How, in lines of a list."""
    recipe, origin = bundle.recipe, bundle.origin
    if origin is not None:
        lines = (
            f"imported or put together, not trained here: {origin.model}, from {origin.file} (SHA-256 {origin.sha256})",
            *origin.notes,
        )
    else:
        lines = (
            f"trained with {recipe.loss.name} loss on the manifest {bundle.films[:16]}, protocol `{recipe.protocol}`",
            f"weights before training: {recipe.weights}",
        )
    return "\n".join(f"- {line}" for line in lines)


def _model_card(bundle: Bundle) -> str:
    recipe = bundle.recipe
    facts = "".join(f"- {name.replace('_', ' ')}: {value}\n" for name, value in bundle.training.items())
    return f"""# {recipe.name}

{hilum.DISCLAIMER}

{recipe.about}

- network: {recipe.architecture.network}, {bundle.parameters:,} parameters
- input: {bundle.preprocessing.words}
- findings: {", ".join(bundle.findings)}
- {bundle.description.learned_from or "trained on films of unknown source"}
{_how_trained(bundle)}
- {calibration_fact(bundle)}
- {region_fact(bundle)}
{facts}
## Use

    hilum predict FOLDER_OF_THIS_FILE film.png --out predictions.csv

Scores are probabilities only for films like those that they were calibrated on; `hilum calibrate` does it anew on
yours. The same is true of the thresholds, which `hilum predict --calls` applies. Labels of ChestX-ray14 were mined
from reports and are often wrong. Measure the model on your own films before you believe it:

    hilum evaluate FOLDER_OF_THIS_FILE --films films.parquet --out report
"""
