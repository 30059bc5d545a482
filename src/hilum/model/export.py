"""Export a bundle to ONNX or OpenVINO as one graph from grey pixels to scores and class maps."""

import contextlib
import copy
import io
import json
import platform
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

import hilum
from hilum.data.decoding import LARGEST_SIDE, SMALLEST_SIDE
from hilum.data.films import Films
from hilum.data.images import Preprocessing, centres, cubic_weight
from hilum.errors import BundleError, HilumError
from hilum.files import write_whole
from hilum.model.bundle import Bundle, load_bundle
from hilum.model.engines import (
    ENGINE_JSON,
    EXPORT_JSON,
    FILES,
    FORMAT,
    Exported,
    Precision,
    choose_engine,
    file_sha256,
    import_extra,
    read_exported,
    write_choice,
)
from hilum.model.metadata import BUNDLE_JSON, FINDINGS_SHA256
from hilum.model.thresholds import findings_sha256
from hilum.nn.classifier import ClassMaps, Logits

Pixels = Float32[Tensor, "batch height width"]
FilmBatch = Float32[Tensor, "batch size size"]
Side = Any
"""A whole number, or torch's symbol for one while it traces a graph."""


class GraphOutputs(NamedTuple):
    """What the graph gives, in the findings' order: hilum.model.engines.Outputs, and the film that the network saw."""

    scores: Logits
    logits: Logits
    maps: ClassMaps
    film: FilmBatch


class Graph(nn.Module):
    """Everything behind the decoding of a file, in one forward.

    Args:
        bundle: the model; left as it is.
    """

    slopes: Float32[Tensor, " findings"]
    intercepts: Float32[Tensor, " findings"]

    def __init__(self, bundle: Bundle):
        super().__init__()
        self.resize = Resize(bundle.preprocessing)
        self.model = copy.deepcopy(bundle.model).eval()
        self.model.fold_to_grey()
        slopes, intercepts = torch.from_numpy(bundle.description.slopes_and_intercepts())
        self.register_buffer("slopes", slopes)
        self.register_buffer("intercepts", intercepts)

    def forward(self, pixels: Pixels, full_scale: Float32[Tensor, " batch"]) -> GraphOutputs:
        """See GraphOutputs.

        Args:
            pixels: grey, bone bright, of films of one height and width.
            full_scale: what the pixels of each film are divided by: its format's maximum, 255 or 65535.
        """
        film = self.resize(pixels, full_scale) / full_scale[:, None, None]
        logits, maps = self.model.class_maps(film[:, None])
        return GraphOutputs((self.slopes * logits + self.intercepts).sigmoid(), logits, maps, film)


class Resize(nn.Module):
    """Preprocessing's crop and resize, computed from the pixels' shape, so that one graph takes films of every shape.

    Its arithmetic on places is on whole numbers, below 2^31 for every film that may be read, because engines may have
    no 64-bit floats: nothing is rounded before the last division.
    """

    earlier: Int64[Tensor, " ties"]

    def __init__(self, preprocessing: Preprocessing):
        super().__init__()
        self.size, self.interpolation = preprocessing.size, preprocessing.interpolation
        self.crop, self.shorter = preprocessing.crop, preprocessing.shorter
        self.register_buffer("earlier", _earlier(self.size) if self.interpolation == "nearest" else None)

    def forward(self, pixels: Pixels, full_scale: Float32[Tensor, " batch"]) -> FilmBatch:
        """Films of the model's size, in the pixels' unit.

        Args:
            full_scale: the pixels' maximum. Where it is 1, films of the model's size are taken as they are, since
                engines hand them over already resized.
        """
        height, width = pixels.shape[1:]
        rows, columns = self._axes(height, width, full_scale)
        if self.interpolation == "nearest":
            return pixels[:, self._centres(rows)][:, :, self._centres(columns)]
        if self.interpolation == "scikit-image":
            beyond = full_scale[:, None, None] / 2
            low, high = (end[:, None, None] for end in (pixels.amin((1, 2)), pixels.amax((1, 2))))
            resized = self._weights(rows) @ (pixels - beyond) @ self._weights(columns).T + beyond
            return torch.minimum(torch.maximum(resized, low), high)
        across = self._levels(pixels @ self._weights(columns).T, full_scale)
        return self._levels(self._weights(rows) @ across, full_scale)

    def _axes(
        self, height: Side, width: Side, full_scale: Float32[Tensor, " batch"]
    ) -> tuple["GraphAxis", "GraphAxis"]:
        """See Preprocessing.axes; numbers are tensors, because the shape is not known yet."""
        old = [torch.arange(side) for side in (height, width)]
        new = torch.arange(self.size)
        if self.crop is None and self.shorter is None:
            return GraphAxis(old[0], new, height, self.size), GraphAxis(old[1], new, width, self.size)
        sides = [places[-1] + 1 for places in old]
        least = torch.minimum(*sides)
        if self.crop == "square":
            rows, columns = (
                GraphAxis(places - (side // 2 - least // 2), new, least, self.size)
                for places, side in zip(old, sides, strict=True)
            )
            return rows, columns
        ready = (sides[0] == self.size) & (sides[1] == self.size) & (full_scale.max() == 1)
        shorter = torch.where(ready, self.size, self.shorter or self.size)
        rows, columns = (
            GraphAxis(places, new + _half(shorter * side // least - self.size), side, shorter * side // least)
            for places, side in zip(old, sides, strict=True)
        )
        return rows, columns

    def _centres(self, axis: "GraphAxis") -> Int64[Tensor, " size"]:
        """See hilum.data.images.centres."""
        pixel: Tensor = (2 * axis.new + 1) * axis.kept // (2 * axis.after)
        pixel = pixel - axis.old[0]
        if not len(self.earlier):
            return pixel
        early: Tensor = (_tie(axis.kept, axis.new, self.size)[:, None] == self.earlier).any(1)
        return pixel - early.long()

    def _weights(self, axis: "GraphAxis") -> Float32[Tensor, "size before"]:
        """One row for each pixel of the input: what each pixel of the film counts in it."""
        match self.interpolation:
            case "area":
                return _shares(axis)
            case "scikit-image":
                return _blurred(axis)
            case _:
                return _antialiased(axis, cubic="bicubic" in self.interpolation)

    def _levels(self, pixels: Tensor, full_scale: Float32[Tensor, " batch"]) -> Tensor:
        """Whole grey levels for 8-bit films, where Pillow leaves no others."""
        if not self.interpolation.startswith("pillow"):
            return pixels
        return torch.where(full_scale[:, None, None] == 255, (pixels + 0.5).floor().clamp(0, 255), pixels)


class GraphAxis(NamedTuple):
    """hilum.data.images.Axis in a graph.

    Attributes:
        old: the place of each pixel of the film in the kept part of this axis; outside of it below 0 or too high.
        new: the places of the input's pixels among those that the kept part is resized to.
        kept: how many pixels are kept.
        after: how many they become.
    """

    old: Int64[Tensor, " before"]
    new: Int64[Tensor, " size"]
    kept: Side
    after: Side


def _half(number: Int64[Tensor, ""]) -> Int64[Tensor, ""]:
    """Half of a number that is not negative, rounded to the even one as Python does."""
    half: Tensor = number // 2
    return half + (number % 2) * (half % 2)


def _inside(axis: GraphAxis) -> Tensor:
    inside: Tensor = (axis.old >= 0) & (axis.old < axis.kept)
    return inside


def _shares(axis: GraphAxis) -> Float32[Tensor, "size before"]:
    """See hilum.data.images.coverage."""
    new, old, after = axis.new[:, None], axis.old, axis.after
    kept = axis.kept if isinstance(axis.kept, Tensor) else old[-1] + 1
    before = axis.kept
    covered = torch.minimum((old + 1) * after, (new + 1) * before) - torch.maximum(old * after, new * before)
    position = ((2 * new + 1) * before - after).clamp(torch.zeros_like(new), 2 * after * (kept - 1))
    near = 2 * after - (position - 2 * after * old).abs()
    shrinks = kept >= after  # a tensor, not a branch: the shape is not known yet
    shares: Tensor = torch.where(shrinks, covered, near).clamp(min=0) / torch.where(shrinks, kept, 2 * after)
    return shares


def _antialiased(axis: GraphAxis, *, cubic: bool) -> Float32[Tensor, "size before"]:
    """See hilum.data.images.antialiased."""
    kept = axis.kept if isinstance(axis.kept, Tensor) else axis.old[-1] + 1
    new, old, after = axis.new[:, None], axis.old, axis.after
    wider = torch.maximum(kept, torch.as_tensor(after))
    distance = ((2 * old + 1) * after - (2 * new + 1) * kept).abs() / (2 * wider)
    weights = (cubic_weight(distance) if cubic else (1 - distance).clamp(min=0)) * _inside(axis)
    shares: Tensor = weights / weights.sum(1, keepdim=True)
    return shares


def _blurred(axis: GraphAxis) -> Float32[Tensor, "size before"]:
    """See hilum.data.images.blurred."""
    kept = axis.kept if isinstance(axis.kept, Tensor) else axis.old[-1] + 1
    new, old, after = axis.new[:, None], axis.old, axis.after
    more = (kept - after).clamp(min=0)
    radius = (4 * more + after) // (2 * after)  # 4 sigma, rounded
    variance = (more / (2 * after)).clamp(min=1e-3) ** 2
    steps = torch.arange(2 * LARGEST_SIDE // axis.new.shape[0] + 2)
    total = 2 * ((-0.5 * steps**2 / variance).exp() * (steps <= radius)).sum() - 1
    place = (2 * new + 1) * kept - after  # in half new pixels, so that it is whole
    lower = torch.div(place, 2 * after, rounding_mode="floor")
    share = (place - lower * 2 * after) / (2 * after)
    weights: Tensor = torch.zeros(1)
    for neighbour, counts in ((lower, 1 - share), (lower + 1, share)):
        distance = (old - neighbour).abs()
        near = (distance <= radius) & (neighbour >= 0) & (neighbour < kept)
        weights = weights + counts * near * (-0.5 * distance**2 / variance).exp() / total
    own: Tensor = weights * _inside(axis)
    return own


def _tie(before: Side, new: Tensor, after: int) -> Tensor:
    """One number for a new pixel's centre along an axis."""
    tie: Tensor = before * after + new
    return tie


def _earlier(after: int) -> Int64[Tensor, " ties"]:
    """The centres on an edge between two pixels that Pillow's rounding puts into the earlier one, for every side."""
    new = np.arange(after)
    ties = []
    for before in range(SMALLEST_SIDE, LARGEST_SIDE + 1):
        exact = (2 * new + 1) * before // (2 * after)
        ties.append(before * after + new[centres(before, after) < exact])
    return torch.from_numpy(np.concatenate(ties))


Target = Literal["onnx", "openvino"]


def export_bundle(
    run: Path,
    to: Target,
    *,
    precision: Precision = "fp32",
    out: Path | None = None,
    films: Films | None = None,
    accept_loss: bool = False,
    search: bool = True,
    say: Callable[[str], None],
) -> Exported:
    """Write a bundle as a model of another engine, with everything from grey pixels to scores and class maps in it.

    Args:
        run: the bundle's folder.
        precision: of the arithmetic. INT8 is made from films, and refused if it costs accuracy.
        out: the folder to write; a folder in the bundle's own, where `hilum predict` finds it, if None.
        films: for INT8: `train` to learn the ranges from, `val` to evaluate on.
        accept_loss: keep an INT8 model that costs more than it may; export.json records it.
        search: for INT8: if it costs too much, look for layers to keep in higher precision, half an hour at most.
        say: gets what a user must be told.

    Raises:
        HilumError: if the engine has no such precision, or INT8 costs too much.
        MissingExtraError: if what makes the model is not installed.
    """
    _check(to, precision, films)
    for module in ("onnx", "onnxscript", *(("openvino",) if to == "openvino" else ())):
        import_extra(module)
    bundle = load_bundle(run)
    sha256 = file_sha256(run / BUNDLE_JSON)
    out = out or run / f"{to}-{precision}"
    accuracy = None
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        onnx = made / FILES["onnx"][0]
        write_onnx(bundle, onnx)
        if to == "openvino":
            openvino = import_extra("openvino")
            model = openvino.convert_model(onnx)
            if precision == "int8" and films is not None:
                from hilum.model.quantize import quantise

                model, accuracy = quantise(
                    model, bundle, films, gates=attention_gates(onnx), accept_loss=accept_loss, search=search, say=say
                )
            openvino.save_model(model, made / FILES["openvino"][0], compress_to_fp16=False)
        contents = {name: (made / name).read_bytes() for name in FILES[to]}
    for name, content in contents.items():
        write_whole(out / name, content)
    description = {
        "format": FORMAT,
        "disclaimer": hilum.DISCLAIMER,
        "engine": to,
        "precision": precision,
        "bundle_sha256": sha256,
        "files": {name: file_sha256(out / name) for name in FILES[to]},
        FINDINGS_SHA256: findings_sha256(bundle.findings),
        **bundle.description.to_dict(),
        "accuracy": accuracy,
        "versions": _versions(to, precision),
    }
    write_whole(out / EXPORT_JSON, (json.dumps(description, indent=2, allow_nan=False) + "\n").encode())
    exported = read_exported(out)
    if out.parent == run:
        with contextlib.suppress(BundleError):  # another export is of the bundle before it changed
            write_choice(run / ENGINE_JSON, choose_engine(run), sha256)
    return exported


def write_onnx(bundle: Bundle, path: Path) -> None:
    """Write a bundle as one ONNX file: pixels of any number, height and width in; scores, logits, maps and film out."""
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "height", "width"))
    size = bundle.preprocessing.size
    pixels, full_scale = torch.zeros(2, size + 2, size + 3), torch.ones(2)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # the exporter talks to its developers
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Graph(bundle).eval(),
            (pixels, full_scale),
            dynamo=True,
            dynamic_shapes=({0: batch, 1: height, 2: width}, {0: batch}),
            input_names=["pixels", "full_scale"],
            output_names=list(GraphOutputs._fields),
            verbose=False,
        )
        if program is None:
            raise HilumError("torch must give an ONNX model, got none. Please report this")
        program.save(path, external_data=False)


def attention_gates(path: Path) -> set[str]:
    """Names of the operations that make attention's gates, in an ONNX file that `write_onnx` wrote.

    In INT8 they cost accuracy. Not the products with the gates: left in fp32 between quantised layers, they ruin the
    scores (OpenVINO 2026.4, NNCF 3.4); see docs/decisions/009.
    """
    onnx = import_extra("onnx")
    gates = set()
    for node in onnx.load(path).graph.node:
        scopes = [entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        if node.op_type != "Mul" and any("attention" in scope for scope in scopes):
            gates.add(node.name)
    return gates


def _check(to: Target, precision: Precision, films: Films | None) -> None:
    """Refuse what cannot be made, before any work is done."""
    if to == "onnx" and precision != "fp32":
        raise HilumError(f"precision must be fp32 for onnx, got {precision}. Use --to openvino for bf16 and int8")
    if precision == "int8" and films is None:
        raise HilumError(
            "films must be given for int8: ranges are learned on its split train, and what the quantisation costs is "
            "measured on its split val. Add --films films.parquet"
        )
    if precision != "int8" and films is not None:
        raise HilumError(f"films must be given for int8 alone, got them for {precision}. Leave --films out")


def _versions(to: Target, precision: Precision) -> dict[str, Any]:
    packages = ["torch", "onnx", "onnxscript"]
    packages += ["openvino"] if to == "openvino" else []
    packages += ["nncf"] if precision == "int8" else []
    return {
        "hilum": hilum.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
