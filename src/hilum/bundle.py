"""A trained model as a folder: weights.safetensors, bundle.json and a model card. Loading runs no code from it."""

import hashlib
import json
import math
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

import hilum
from hilum.data.images import Preprocessing
from hilum.errors import BundleError, HilumError
from hilum.files import write_whole
from hilum.nn.build import architecture_from_dict, build
from hilum.nn.classifier import Classifier
from hilum.recipe import Recipe, recipe_from_dict

FORMAT = 1
_DESCRIPTION, _WEIGHTS, _CARD = "bundle.json", "weights.safetensors", "MODEL_CARD.md"


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
        thresholds: per finding, the score from which a finding is called; None until chosen on validation.
        calibration: per finding, the slope and intercept of its logits; None until fitted on validation.
        training: what happened: epochs, validation figures, minutes.
    """

    model: Classifier
    findings: tuple[str, ...]
    recipe: Recipe
    films: str
    heatmap_logits: dict[str, tuple[float, float]]
    thresholds: dict[str, float] | None = None
    calibration: dict[str, tuple[float, float]] | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def preprocessing(self) -> Preprocessing:
        """The only road from a file to this model's input."""
        return self.recipe.preprocessing

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.model.parameters())


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write the bundle's three files into a folder; each appears whole or not at all, bundle.json last.

    Raises:
        BundleError: if a number of the description is not finite, as after a training that diverged.
        HilumError: if the folder cannot be written to.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in bundle.model.state_dict().items()}
    weights = save(state)
    description = {
        "format": FORMAT,
        "disclaimer": hilum.DISCLAIMER,
        "findings": bundle.findings,
        "architecture": bundle.recipe.architecture.model_dump(mode="json"),
        "preprocessing": bundle.preprocessing.to_dict(),
        "recipe": bundle.recipe.to_dict(),
        "films": bundle.films,
        "heatmap_logits": bundle.heatmap_logits,
        "thresholds": bundle.thresholds,
        "calibration": bundle.calibration,
        "training": bundle.training,
        "parameters": bundle.parameters,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "versions": {"hilum": hilum.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    try:
        text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise BundleError(
            f"numbers of a bundle must be finite, but {folder} would hold others: {error}. Did the training diverge? "
            "Try a lower optimizer.lr or a training.gradient_clip"
        ) from None
    write_whole(folder / _WEIGHTS, weights)
    write_whole(folder / _CARD, _model_card(bundle).encode())
    write_whole(folder / _DESCRIPTION, text.encode())


def load_bundle(folder: Path) -> Bundle:
    """Rebuild a model from its folder alone.

    Raises:
        BundleError: if a file is missing, damaged, or does not match the others in every key and shape.
    """
    path = folder / _DESCRIPTION
    description = _read_json(path)
    if description.get("format") != FORMAT:
        raise BundleError(
            f"format must be {FORMAT}, got {description.get('format')!r} in {path}. "
            "Use the Hilum that wrote the bundle."
        )
    try:
        recipe = recipe_from_dict(description["recipe"], where=str(path))
        if Preprocessing.from_dict(description["preprocessing"]) != recipe.preprocessing:
            raise BundleError(f"preprocessing must be the recipe's, but differs from it in {path}")
        if architecture_from_dict(description["architecture"]) != recipe.architecture:
            raise BundleError(f"architecture must be the recipe's, but differs from it in {path}")
        findings = _findings(description["findings"])
        ranges, thresholds, calibration = (
            description[name] for name in ("heatmap_logits", "thresholds", "calibration")
        )
        with torch.device("meta"):  # no memory is taken before the weights are known to fit, and nothing is drawn
            model = build(recipe.architecture, findings=len(findings), channels=recipe.preprocessing.channels)
        bundle = Bundle(
            model=model.eval(),
            findings=findings,
            recipe=recipe,
            films=str(description["films"]),
            heatmap_logits={finding: _range(ranges[finding]) for finding in findings},
            thresholds=None if thresholds is None else {name: _number(thresholds[name]) for name in findings},
            calibration=None if calibration is None else {name: _two_numbers(calibration[name]) for name in findings},
            training=dict(description["training"]),
        )
        expected = description["weights_sha256"]
    except HilumError as error:
        raise BundleError(f"bundle cannot be rebuilt: {error}") from None
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, ValidationError) as error:
        raise BundleError(f"{path} must describe a bundle of format {FORMAT}, but does not: {error!r}") from None
    _fill(bundle.model, folder / _WEIGHTS, expected)
    return bundle


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
    model.to_empty(device="cpu").load_state_dict(state)


def _findings(names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not names or len(set(names)) < len(names):
        raise ValueError(f"findings must be distinct names, at least one, got {names!r}")
    for name in names:
        if not isinstance(name, str) or not name.isprintable() or not name or set(name) & set("/\\"):
            raise ValueError(f"findings must be names that can stand in a file's name, got {name!r}")
    return tuple(names)


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


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BundleError(
            f"bundle must be a folder with bundle.json, but there is no {path}. Was the training finished? "
            "Make one with: hilum train nih-small --films films.parquet --out RUN"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"bundle.json must be JSON, but {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise BundleError(f"bundle.json must hold an object, got {type(content).__name__} in {path}")
    return content


def _model_card(bundle: Bundle) -> str:
    recipe, size = bundle.recipe, bundle.preprocessing.size
    facts = "".join(f"- {name.replace('_', ' ')}: {value}\n" for name, value in bundle.training.items())
    return f"""# {recipe.name}

{hilum.DISCLAIMER}

{recipe.about}

- network: {recipe.architecture.network}, {bundle.parameters:,} parameters, {size} x {size} px, {recipe.loss.name} loss
- findings: {", ".join(bundle.findings)}
- trained on the manifest {bundle.films[:16]}, protocol `{recipe.protocol}`
- weights before training: {recipe.weights}
{facts}
## Use

    hilum predict FOLDER_OF_THIS_FILE film.png --out predictions.csv

Scores are not probabilities until they have been calibrated on films like yours, and no threshold comes with them
unless bundle.json holds one. Labels of ChestX-ray14 were mined from reports and are often wrong. Measure the model on
your own films before you believe it: hilum evaluate FOLDER_OF_THIS_FILE --films films.parquet --out report
"""
