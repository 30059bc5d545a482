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
from hilum.data.images import Preprocessing, centres
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
        film = self.resize(pixels) / full_scale[:, None, None]
        logits, maps = self.model.class_maps(film[:, None])
        return GraphOutputs((self.slopes * logits + self.intercepts).sigmoid(), logits, maps, film)


class Resize(nn.Module):
    """Preprocessing's resize, computed from the pixels' shape, so that one graph takes films of every shape.

    Its arithmetic is on whole numbers, below 2^31 for every film that may be read, because engines may have no 64-bit
    floats: nothing is rounded before the last division.
    """

    earlier: Int64[Tensor, " ties"]

    def __init__(self, preprocessing: Preprocessing):
        super().__init__()
        self.size, self.interpolation = preprocessing.size, preprocessing.interpolation
        self.register_buffer("earlier", _earlier(self.size) if self.interpolation == "nearest" else None)

    def forward(self, pixels: Pixels) -> FilmBatch:
        """Films of the model's size, in the pixels' unit."""
        height, width = pixels.shape[1:]
        if self.interpolation == "nearest":
            return pixels[:, self._centres(height)][:, :, self._centres(width)]
        return self._shares(height) @ pixels @ self._shares(width).T

    def _centres(self, before: Side) -> Int64[Tensor, " size"]:
        """See hilum.data.images.centres."""
        new = torch.arange(self.size)
        pixel: Tensor = (2 * new + 1) * before // (2 * self.size)
        if not len(self.earlier):
            return pixel
        early: Tensor = (_tie(before, new, self.size)[:, None] == self.earlier).any(1)
        return pixel - early.long()

    def _shares(self, before: Side) -> Float32[Tensor, "size before"]:
        """See hilum.data.images.coverage."""
        new, old, after = torch.arange(self.size)[:, None], torch.arange(before), self.size
        covered = torch.minimum((old + 1) * after, (new + 1) * before) - torch.maximum(old * after, new * before)
        position = ((2 * new + 1) * before - after).clamp(torch.zeros_like(new), 2 * after * old[-1])
        near = 2 * after - (position - 2 * after * old).abs()
        shrinks = old[-1] >= after - 1  # a tensor, not a branch: the shape is not known yet
        return torch.where(shrinks, covered, near).clamp(min=0) / torch.where(shrinks, old[-1] + 1, 2 * after)


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
