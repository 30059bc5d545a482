"""A recipe: the validated, frozen description of a run. One TOML file per published number."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hilum.data.dataset import Augmentation
from hilum.data.films import FRONTAL, Policy, View
from hilum.data.images import Preprocessing
from hilum.errors import RecipeError
from hilum.findings import canonical
from hilum.nn.build import NETWORKS, Architecture, check_size

SHIPPED = Path(__file__).parent / "recipes"

Fraction = Annotated[float, Field(ge=0, lt=1)]
AboveZero = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
NoiseRate = Annotated[float, Field(ge=0, lt=0.5)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Loss(_Part):
    """Which loss; alpha and gamma are the focal loss's. `w-cel` weighs by batch, `class-weighted-bce` by finding.

    `noise`: which part of the training labels is taken to be wrong, for all findings or for some by name; a label is
    smoothed by as much: present becomes 1 - noise, absent noise. `boxes`: how much the loss of class maps weighs on
    films with true boxes; see region_loss.
    """

    name: Literal["bce", "focal", "w-cel", "class-weighted-bce"]
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.25
    gamma: Annotated[float, Field(ge=0)] = 2.0
    noise: NoiseRate | dict[str, NoiseRate] = 0.0
    boxes: Annotated[float, Field(ge=0)] = 0.0

    @field_validator("gamma")
    @classmethod
    def _differentiable(cls, gamma: float) -> float:
        if 0 < gamma < 1:
            raise ValueError("must be 0 or at least 1")
        return gamma


class Optimizer(_Part):
    """Which optimiser, its highest learning rate, and the decay of weights (not of biases and norms).

    `ridge` is a linear probe: the classifier alone is fitted, at once, on features that are never trained; the penalty
    is `weight_decay`, or is chosen by cross-validation if that is 0. `momentum` is that of `sgd`, Nesterov's.
    `layer_decay`: each stage of the network learns this many times as fast as the one above it; the classifier learns
    at `lr`, the stem slowest. Source: Howard and Ruder, "Universal Language
    Model Fine-tuning", ACL 2018, section 3.2. https://arxiv.org/abs/1801.06146
    """

    name: Literal["adam", "adamw", "sgd", "ridge"]
    lr: AboveZero
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Fraction = 0.9
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0


class Schedule(_Part):
    """How the learning rate moves.

    `plateau`: times `factor` after `patience` epochs without a lower training loss. `one-cycle`: up during the first
    `warmup` of all steps, then down to nothing along a cosine; Adam's momentum moves against it. `cosine`: up in a
    straight line during `warmup`, then down to nothing along a cosine. `constant`: not at all.
    """

    name: Literal["plateau", "one-cycle", "cosine", "constant"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 1
    warmup: Annotated[float, Field(gt=0, lt=1)] = 0.2


class LabelPolicy(_Part):
    """What training takes labels for; no evaluation is touched by it.

    Attributes:
        uncertain: what an uncertain label is taken for: `ignore` (unknown), `zeros` (absent), `ones` (present), or
            `soft`, a target drawn from 0.55 to 0.85.
        by_finding: another policy for some findings.
        per_finding: the loss is first averaged per finding over its known labels, so that a finding that few sources
            label weighs like the others.
        teacher: a bundle whose scores are learned from beside the labels: distillation.
        teacher_weight: a known label counts as 1 - weight and the teacher's score as weight; an unknown label, and any
            label at weight 1, is the teacher's score. Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a
            Neural Network", 2015, with temperature 1. https://arxiv.org/abs/1503.02531
    """

    uncertain: Policy = "ignore"
    by_finding: dict[str, Policy] = {}
    per_finding: bool = False
    teacher: str | None = None
    teacher_weight: Annotated[float, Field(gt=0, le=1)] = 0.5

    def policies(self, findings: Sequence[str]) -> dict[str, Policy]:
        """The policy of each finding.

        Raises:
            FilmsError: if `by_finding` names another.
        """
        own = {canonical(name, findings): policy for name, policy in self.by_finding.items()}
        return {name: own.get(name, self.uncertain) for name in findings}


class Training(_Part):
    """The loop: how long, in which precision, and which epoch's weights are kept.

    `stop_patience`: epochs without a lower training loss before it stops; absent: never early. `keep`: the `last`
    epoch, or the one with the `best` mean validation AUC. `start_from_prevalence`: an untrained classifier begins at
    the findings' prevalences. `progressive_size`: train on films shrunk to this many pixels until the part
    `progressive_until` of the epochs is over, so that there is time for more of them. `ema_decay`: keep a moving
    average of the weights instead of the weights. `mixup`: films are mixed in pairs, by a part drawn from
    Beta(mixup, mixup), their labels with them; 0 is never. `sampling`: `films` takes each film
    once an epoch; `sqrt` and `sources` draw sources by the square root of their films, or all alike. `freeze_epochs`:
    so many at the start train the classifier alone; all of them are a linear probe. `accumulate`: the batch goes
    through the network in so many parts, whose gradients add up to the batch's; batch norm alone sees the parts.
    `logger`: where figures go beside logs/metrics.csv; MLflow and W&B (offline) keep theirs in the run's folder.
    `precision` `auto` is bf16 where the hardware computes in it, else fp32; `fp16` scales the loss, for older GPUs.
    """

    batch: Count
    accumulate: Count = 1
    epochs: Count
    keep: Literal["last", "best"]
    start_from_prevalence: bool = False
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    progressive_size: Annotated[int, Field(ge=32)] | None = None
    progressive_until: Annotated[float, Field(ge=0, le=1)] = 0.0
    stop_patience: Count | None = None
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    gradient_clip: AboveZero | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    mixup: Annotated[float, Field(ge=0, le=8)] = 0.0
    sampling: Literal["films", "sqrt", "sources"] = "films"
    logger: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)

    @model_validator(mode="after")
    def _parts_of_a_batch(self) -> "Training":
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate must be at most the batch of {self.batch}, got {self.accumulate}")
        return self

    @model_validator(mode="after")
    def _epochs_to_freeze(self) -> "Training":
        if self.freeze_epochs > self.epochs:
            raise ValueError(f"freeze_epochs must be at most the {self.epochs} epochs, got {self.freeze_epochs}")
        return self


class Partner(_Part):
    """A recipe whose network is trained too and averaged with the first; `seed` is the first's if absent."""

    recipe: str
    seed: Seed | None = None


class Recipe(_Part):
    """Everything that decides a training run but the films themselves.

    `partners`: other recipes that are trained on the same films; the bundle is the mean of all their logits.
    """

    name: str
    about: str
    source: str
    protocol: Literal["official", "patient", "image"]
    seed: Seed = 0
    weights: str
    architecture: Architecture
    preprocessing: Preprocessing
    augmentation: Augmentation
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    training: Training
    labels: LabelPolicy = LabelPolicy()
    views: Annotated[tuple[View, ...], Field(min_length=1)] = FRONTAL
    partners: tuple[Partner, ...] = ()

    @model_validator(mode="after")
    def _a_probe_has_a_plain_loss(self) -> "Recipe":
        plain = self.loss.name == "bce" and not self.loss.noise and not self.loss.boxes and not self.training.mixup
        if self.optimizer.name == "ridge" and not (plain and self.training.freeze_epochs == self.training.epochs):
            raise ValueError(
                "optimizer.ridge fits the classifier alone: loss must be bce without noise and boxes, "
                "training.mixup 0, and training.freeze_epochs as many as training.epochs"
            )
        return self

    @model_validator(mode="after")
    def _soft_labels_need_a_loss_that_is_linear_in_them(self) -> "Recipe":
        soft = "soft" in (self.labels.uncertain, *self.labels.by_finding.values())
        if soft and self.loss.name not in ("bce", "class-weighted-bce"):
            raise ValueError(f"labels.uncertain: soft needs the loss bce or class-weighted-bce, not {self.loss.name}")
        if self.labels.teacher is not None and self.loss.name not in ("bce", "class-weighted-bce"):
            raise ValueError(f"labels.teacher needs the loss bce or class-weighted-bce, not {self.loss.name}")
        return self

    @field_validator("preprocessing", mode="before")
    @classmethod
    def _strict_preprocessing(cls, fields: Any) -> Any:
        return Preprocessing.from_dict(fields) if isinstance(fields, Mapping) else fields

    @model_validator(mode="after")
    def _sizes_that_the_network_takes(self) -> "Recipe":
        smaller = self.training.progressive_size
        for part, size in (("preprocessing.", self.preprocessing.size), ("training.progressive_", smaller)):
            try:
                check_size(self.architecture, self.preprocessing.size if size is None else size)
            except ValueError as error:
                raise ValueError(f"{part}{error}") from None
        return self

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON."""
        return self.model_dump(mode="json")


def shipped_recipes() -> list[str]:
    """Names of the recipes inside the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_recipe(name: str | Path | Recipe, changes: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by its name, a TOML file, or a recipe itself, with changes such as `optimizer.lr=3e-4`.

    The folder of a bundle is the recipe that it was trained by, started from its weights: to train it further.

    A file may say `extends = "NAME"`, a shipped recipe or a file beside it, and then holds only what differs.

    Raises:
        RecipeError: if there is no such recipe, the file is not TOML, or a key or value is not a recipe's.
    """
    fields = name.to_dict() if isinstance(name, Recipe) else _read(name)
    for change in changes:
        _set(fields, change)
    return recipe_from_dict(fields, where=name.name if isinstance(name, Recipe) else str(name))


def recipe_from_dict(fields: Mapping[str, Any], *, where: str) -> Recipe:
    """A recipe from its fields.

    Raises:
        RecipeError: naming the first wrong key; `where` says which file it stands in.
    """
    try:
        return Recipe.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        way = [str(part) for part in first["loc"] if part not in NETWORKS]  # pydantic adds the kind of architecture
        unknown = first["type"] == "extra_forbidden"
        problem = "this recipe takes no such key" if unknown else first["msg"].removeprefix("Value error, ")
        given = "" if first["type"] == "missing" or not way else f", got {first['input']!r}"
        subject = f"{'.'.join(way)} in {where}: {problem}" if way else f"{problem} [in {where}]"
        raise RecipeError(f"{subject}{given}. See: hilum info am-densenet --json") from None


def _read(name: str | Path, extended_by: tuple[str, ...] = ()) -> dict[str, Any]:
    if (Path(name) / "bundle.json").is_file() and str(name) not in shipped_recipes():
        return _further(Path(name))
    path = SHIPPED / f"{name}.toml" if str(name) in shipped_recipes() else Path(name)
    if str(path) in extended_by:
        raise RecipeError(f"extends must not lead in a circle, got {' -> '.join((*extended_by, str(path)))}")
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        shipped = ", ".join(shipped_recipes())
        raise RecipeError(f"recipe must be a TOML file or one of {shipped}, got {str(name)!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"recipe must be a TOML file, but {path} cannot be read: {error}") from None
    parent = fields.pop("extends", None)
    if parent is None:
        return fields
    base = str(parent) if str(parent) in shipped_recipes() else os.path.normpath(path.parent / str(parent))
    return _merged(_read(base, (*extended_by, str(path))), fields)


def _further(bundle: Path) -> dict[str, Any]:
    """A bundle's recipe, started from its weights."""
    try:
        fields = dict(json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"recipe must be that of a bundle, but {bundle} cannot be read: {error!r}") from None
    return {**fields, "weights": str(bundle)}


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _set(fields: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not last:
        raise RecipeError(f"--set must be KEY=VALUE, such as optimizer.lr=3e-4, got {change!r}")
    for parent in parents:
        inner = fields.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set must name a key of the recipe, got {change!r}: {parent} holds no keys")
        fields = inner
    if text.strip() == "none" and last != "weights":
        fields.pop(last, None)
        return
    try:
        fields[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        fields[last] = text.strip()  # a bare word, as a shell leaves it
