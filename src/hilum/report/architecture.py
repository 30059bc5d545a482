"""Figure 1 of the paper, drawn from the network itself: its blocks, their outputs and their parameters."""

import io
import re
from typing import Any, NamedTuple

from torch import Tensor, nn

from hilum.errors import RecipeError
from hilum.info import shape_only, watched
from hilum.nn.densenet import DenseNet
from hilum.nn.dnetloc import DNetLoc
from hilum.recipe import Recipe

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
    rows = _rows(boxes)
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


def _rows(boxes: list[Block]) -> list[list[Block]]:
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
