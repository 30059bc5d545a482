"""Parameters, layers, arithmetic and memory of a recipe or bundle, as tables and as the paper's figure 1."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hilum.errors import RecipeError
from hilum.findings import CHESTXRAY14
from hilum.model.bundle import load_bundle
from hilum.nn.baselines import DNetLoc
from hilum.nn.build import build, check_size
from hilum.nn.classifier import Classifier
from hilum.nn.densenet import DenseNet
from hilum.recipe import Recipe, load_recipe, shipped_recipes

BYTES_PER_MB = 2**20


class Layer(NamedTuple):
    """One module of a network: `shape` is its output for one film, `parameters` are its own."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


class FilmCost(NamedTuple):
    """What one film costs at a size.

    Attributes:
        size: height and width of the film in pixels.
        multiply_adds: of convolutions and matrix products in a forward pass, as publications count them.
        weights_mb: the weights in fp32, in MiB.
        training_mb: what a forward pass in fp32 keeps per film for the backward pass, in MiB.
    """

    size: int
    multiply_adds: int
    weights_mb: float
    training_mb: float


def shipped() -> dict[str, str]:
    """The shipped recipes and what each is for."""
    return {name: load_recipe(name).about for name in shipped_recipes()}


def describe(what: str, changes: list[str], *, size: int | None = None) -> dict[str, Any]:
    """A recipe by name or file, or a bundle by its folder.

    `parameters` are those of the recipe's own network; `parameters_rgb` and `parameters_grey` of its forms with three
    channels and with one; `cost` is what a film costs.

    Args:
        size: height and width in pixels for which the cost is counted; the recipe's if None.

    Raises:
        RecipeError: if there is no such recipe, a bundle is to be changed, or the network does not take the size.
        BundleError: if the folder is not a bundle.
    """
    if not _is_bundle(what):
        return _network(load_recipe(what, changes), len(CHESTXRAY14), size)
    _unchanged(what, changes)
    bundle = load_bundle(Path(what))
    return {
        **_network(bundle.recipe, len(bundle.findings), size),
        "findings": list(bundle.findings),
        "films": bundle.films,
        "learned_from": bundle.description.learned_from or "not recorded",
        "training": bundle.training,
        **({"origin": asdict(bundle.origin)} if bundle.origin else {}),
        "thresholds": bundle.thresholds and bundle.thresholds.to_dict(),
        "calibration": bundle.calibration,
        "calibration_set": bundle.calibration_set and asdict(bundle.calibration_set),
        "regions": bundle.regions and asdict(bundle.regions),
    }


def recipe_of(what: str, changes: list[str]) -> tuple[Recipe, int]:
    """The recipe of a name, a file or a bundle's folder, and the number of findings it is for.

    Raises:
        RecipeError: if there is no such recipe, or if a bundle is to be changed.
        BundleError: if the folder is not a bundle.
    """
    if not _is_bundle(what):
        return load_recipe(what, changes), len(CHESTXRAY14)
    _unchanged(what, changes)
    bundle = load_bundle(Path(what))
    return bundle.recipe, len(bundle.findings)


def layers(recipe: Recipe, findings: int, *, size: int | None = None) -> list[Layer]:
    """Every module without parts of the recipe's network, in the order of its forward pass, each once.

    Args:
        size: height and width of the film in pixels; the recipe's if None.

    Raises:
        RecipeError: if the network does not take films of this size.
    """
    model, film = shape_only(recipe, findings, size=size)
    found: dict[str, Layer] = {}  # a module that is passed twice, as CBAM's MLP, counts once

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        count = sum(p.numel() for p in module.parameters())
        found.setdefault(name, Layer(name, type(module).__name__, tuple(output.shape[1:]), count))

    with watched({name: module for name, module in model.named_modules() if not list(module.children())}, note):
        model(film)
    return list(found.values())


def cost(recipe: Recipe, findings: int, *, size: int | None = None) -> FilmCost:
    """What one film costs, counted without computing anything.

    Args:
        size: height and width of the film in pixels; the recipe's if None.

    Raises:
        RecipeError: if the network does not take films of this size.
    """
    model, film = shape_only(recipe, findings, size=size)
    own = {id(weight) for weight in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}  # holds the storages, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(film)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    activations = sum(storage.nbytes() for storage in kept.values())
    return FilmCost(
        size=film.shape[-1],
        multiply_adds=counter.get_total_flops() // 2,
        weights_mb=round(weights / BYTES_PER_MB, 2),
        training_mb=round(activations / BYTES_PER_MB, 2),
    )


def shape_only(recipe: Recipe, findings: int, *, size: int | None = None) -> tuple[Classifier, Tensor]:
    """The recipe's network and one film, both without memory or randomness.

    Raises:
        RecipeError: if the network does not take films of this size.
    """
    side = recipe.preprocessing.size if size is None else size
    try:
        check_size(recipe.architecture, side)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    with torch.device("meta"):
        model = build(recipe.architecture, findings=findings, channels=recipe.preprocessing.channels).eval()
        return model, torch.zeros(1, recipe.preprocessing.channels, side, side)


@contextmanager
def watched(modules: dict[str, nn.Module], note: Any) -> Iterator[None]:
    """Call `note(name, module, output)` whenever one of the modules has computed."""
    handles = [
        module.register_forward_hook(lambda its, _, output, name=name: note(name, its, output))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_bundle(what: str) -> bool:
    """Whether a folder is meant, there or not, rather than a recipe."""
    path = Path(what)
    meant = path.is_dir() or (len(path.parts) > 1 and path.suffix != ".toml" and not path.exists())
    return meant and what not in shipped_recipes()


def _unchanged(what: str, changes: list[str]) -> None:
    if changes:
        raise RecipeError(f"--set must go with a recipe, got the bundle {what}, which stays as it was trained")


def _network(recipe: Recipe, findings: int, size: int | None) -> dict[str, Any]:
    counts = {}
    for channels in (3, 1):
        with torch.device("meta"):  # shapes without memory or randomness
            model = build(recipe.architecture, findings=findings, channels=channels)
        counts[channels] = sum(p.numel() for p in model.parameters())
    return {
        **recipe.to_dict(),
        "parameters": counts[recipe.preprocessing.channels],
        "parameters_rgb": counts[3],
        "parameters_grey": counts[1],
        "cost": cost(recipe, findings, size=size)._asdict(),
    }


Rows = list[list[str]]

_SECTIONS = (
    ("What it is", ("name", "about", "source", "protocol", "seed", "weights")),
    ("Network", ("architecture",)),
    ("Films", ("preprocessing", "augmentation", "views")),
    ("Training", ("loss", "optimizer", "schedule", "training", "labels", "partners")),
)
"""The parts of a recipe; what else a bundle holds comes under its own heading."""

_COUNTS = ("parameters", "parameters_rgb", "parameters_grey", "cost")


def sections(facts: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """Headings with rows of name and value, from what `hilum.model.info.describe` gives.

    A recipe's values stand under the names that `--set` takes.
    """
    known = {name for _, names in _SECTIONS for name in names} | set(_COUNTS)
    others = [name for name in facts if name not in known]
    found = [
        (title, [row for name in names if name in facts for row in _rows(name, facts[name])])
        for title, names in _SECTIONS
    ]
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
    if name in ("architecture.operations", "architecture.weights"):
        yield [name, f"{len(value):,}"]  # of an ONNX file
    elif name == "partners":  # trained too, and averaged with this one
        for partner in value:
            seed = "" if partner["seed"] is None else f", seed {partner['seed']}"
            yield [name, f"{partner['recipe']}{seed}"]
    elif isinstance(value, Mapping):
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


_PNG_DPI = 160
_COLOURS = {
    "film": "#e8e8e8",
    "stem": "#cfe2f3",
    "dense block": "#cfe2f3",
    "transition": "#d9ead3",
    "attention": "#f9d7b5",
    "head": "#e4dcf0",
}
_STEM = ("conv0", "norm0", "relu0", "pool0")


class Block(NamedTuple):
    """One box of the drawing: `shape` is what leaves it, as channels, height and width."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    about: str


def blocks(recipe: Recipe, findings: int, *, size: int | None = None) -> list[Block]:
    """The boxes of a DenseNet's drawing, in the order in which a film passes them, read off the network.

    Args:
        size: height and width of the film in pixels; the recipe's if None.

    Raises:
        RecipeError: if the recipe's network is no DenseNet, or does not take films of this size.
    """
    model, film = shape_only(recipe, findings, size=size)
    if not isinstance(model, DenseNet) or isinstance(model, DNetLoc):
        raise RecipeError(
            f"figure must be of a DenseNet with or without attention, got {recipe.architecture.network}. "
            "Its layers can be listed instead"
        )
    passed: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        passed.append((name, module, tuple(output.shape[1:])))

    with watched(dict(model.features.named_children()), note):
        model(film)
    found = [Block("film", "film", tuple(film.shape[1:]), 0, "")]
    stem = [part for part in passed if part[0] in _STEM]
    found.append(Block("stem", "stem", stem[-1][2], _count(*(part[1] for part in stem)), "convolution, max pooling"))
    for name, module, shape in passed:
        kind, _, number = re.fullmatch(r"(\D+?)(block)?(\d)", name).groups()  # type: ignore[union-attr]
        match kind:
            case "dense":
                about = f"{len(list(module.children()))} layers"
                found.append(Block(f"dense block {number}", "dense block", shape, _count(module), about))
            case "transition":
                found.append(Block(f"transition {number}", kind, shape, _count(module), "1x1, average pooling"))
            case "attention":
                found.append(Block(f"{type(module).__name__} {number}", kind, shape, _count(module), _about(module)))
    last, head = passed[-1], model.classifier
    about = f"norm, ReLU, mean over {last[2][1]} x {last[2][2]}, linear"
    found.append(Block(f"{findings} logits", "head", (head.out_features,), _count(last[1], head), about))
    return found


def architecture_png(recipe: Recipe, findings: int, *, size: int | None = None) -> bytes:
    """The drawing as the bytes of a PNG file: the film enters at the upper left, the logits leave at the lower right.

    Args:
        size: height and width of the film in pixels; the recipe's if None.

    Raises:
        RecipeError: see blocks.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot, which keeps global state
    from matplotlib.figure import Figure

    boxes = blocks(recipe, findings, size=size)
    rows = _block_rows(boxes)
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(2.35 * columns + 0.3, 1.75 * len(rows) + 0.9), dpi=_PNG_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, columns + 0.03), ylim=(-0.42, len(rows) + 0.3))
    axes.set_axis_off()
    total = sum(box.parameters for box in boxes)
    axes.text(0, len(rows) + 0.1, f"{recipe.name}: {total:,} parameters", fontsize=13, weight="bold", va="center")
    for line, row in enumerate(rows):
        up = len(rows) - 1 - line
        if any(box.kind == "attention" for box in row):
            _frame(axes, row, up, line)
        for column, box in enumerate(row):
            _box(axes, box, column, up)
            if column + 1 < len(row):
                _arrow(axes, (column + 0.84, up + 0.42), (column + 1.0, up + 0.42))
        if line + 1 < len(rows):  # down and back to the left
            x, y = len(row) - 1 + 0.42, up + 0.12
            axes.plot([x, x, 0.42], [y, up - 0.03, up - 0.03], color="#555555", linewidth=1.2)
            _arrow(axes, (0.42, up - 0.03), (0.42, up - 0.28))
    axes.text(
        0,
        -0.22,
        "Each box: what leaves it as channels x height x width, and its parameters.\nDrawn from the network itself. "
        "Research software, not a medical device.",
        fontsize=7,
        color="#555555",
    )
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _block_rows(boxes: list[Block]) -> list[list[Block]]:
    """The boxes by line: the film and its stem, then each dense block with what follows it; the head ends the last."""
    rows: list[list[Block]] = [[]]
    for box in boxes:
        if box.kind == "dense block":
            rows.append([])
        rows[-1].append(box)
    return rows


def _box(axes: Any, box: Block, column: int, up: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    place = (column + 0.03, up + 0.12)
    style = "round,pad=0,rounding_size=0.04"
    axes.add_patch(FancyBboxPatch(place, 0.81, 0.6, boxstyle=style, facecolor=_COLOURS[box.kind], edgecolor="#555555"))
    words = [(box.name, 9.5, "bold")]
    words += [(" x ".join(map(str, box.shape)), 8.5, "normal")] if len(box.shape) > 1 else []
    words += [(f"{box.parameters:,}", 8.0, "normal")] if box.parameters else []
    words += [(box.about, 6.2, "normal")] if box.about else []
    for line, (text, fontsize, weight) in enumerate(words):
        y = up + 0.42 + 0.145 * ((len(words) - 1) / 2 - line)
        axes.text(column + 0.435, y, text, fontsize=fontsize, weight=weight, ha="center", va="center")


def _frame(axes: Any, row: list[Block], up: int, number: int) -> None:
    from matplotlib.patches import Rectangle

    frame = Rectangle((-0.04, up + 0.04), len(row) - 0.05, 0.86, fill=False, edgecolor="#b45f06", linestyle="--")
    axes.add_patch(frame)
    axes.text(0.5, up + 0.81, f"attention block {number}", fontsize=8, color="#b45f06", va="center")


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": "#555555", "linewidth": 1.2})


def _about(attention: nn.Module) -> str:
    """The attention's inner sizes: C -> C/r -> C for the channels' MLP, the kernel for places."""
    words = []
    for module in attention.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.in_channels > module.out_channels:
            words.append(f"{module.in_channels} - {module.out_channels} - {module.in_channels}")
        elif isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            words.append(f"{module.kernel_size[0]} x {module.kernel_size[1]}")
    return ", then ".join(words)


def _count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())
