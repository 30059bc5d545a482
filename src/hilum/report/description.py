"""What a recipe or a bundle holds, as the short tables that a command line prints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hilum.info import Layer

Rows = list[list[str]]

_SECTIONS = (
    ("What it is", ("name", "about", "source", "protocol", "seed", "weights")),
    ("Network", ("architecture",)),
    ("Films", ("preprocessing", "augmentation")),
    ("Training", ("loss", "optimizer", "schedule", "training")),
)
"""The parts of a recipe; what else a bundle holds comes under its own heading."""

_COUNTS = ("parameters", "parameters_rgb", "parameters_grey", "cost")


def sections(facts: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """Headings with rows of name and value, from what `hilum.info.describe` gives.

    A recipe's values stand under the names that `--set` takes.
    """
    known = {name for _, names in _SECTIONS for name in names} | set(_COUNTS)
    others = [name for name in facts if name not in known]
    found = [(title, [row for name in names for row in _rows(name, facts[name])]) for title, names in _SECTIONS]
    found.insert(2, ("Size and cost", _cost_rows(facts)))
    if others:
        found.append(("This bundle", [row for name in others for row in _rows(name, facts[name])]))
    return found


def layer_rows(layers: Sequence[Layer]) -> Rows:
    """A row per layer and their sum."""
    rows = [
        [layer.name, layer.kind, " x ".join(map(str, layer.shape)), f"{layer.parameters:,}" if layer.parameters else ""]
        for layer in layers
    ]
    return [*rows, ["all", "", "", f"{sum(layer.parameters for layer in layers):,}"]]


def _cost_rows(facts: Mapping[str, Any]) -> Rows:
    cost = facts["cost"]
    return [
        ["parameters", f"{facts['parameters']:,}"],
        ["with an RGB stem, with a grey one", f"{facts['parameters_rgb']:,}, {facts['parameters_grey']:,}"],
        [f"multiply-adds of one {cost['size']} px film", f"{cost['multiply_adds']:,}"],
        ["weights in fp32", f"{cost['weights_mb']:,.1f} MiB"],
        ["kept per film for the backward pass, fp32", f"{cost['training_mb']:,.1f} MiB"],
    ]


def _rows(name: str, value: Any) -> Iterator[list[str]]:
    """A row per value; those of a table inside stand under NAME.KEY."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _rows(f"{name}.{key}", inner)
    else:
        yield [name, _shown(value)]


def _shown(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(map(_shown, value))
    return str(value)
