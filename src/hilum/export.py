"""From a bundle to a model that runs without torch: ONNX, or OpenVINO in fp32, bf16 or INT8."""

import contextlib
import io
import json
import platform
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

import hilum
from hilum.bundle import Bundle, load_bundle
from hilum.cpu_engines import import_extra
from hilum.data.films import Films
from hilum.description import BUNDLE_JSON
from hilum.engines import EXPORT_JSON, Precision
from hilum.errors import HilumError
from hilum.exported import FILES, FORMAT, Exported, file_sha256, read_exported
from hilum.files import write_whole
from hilum.graph import Answer, Graph

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
        films: for INT8: `train` to learn the ranges from, `val` to judge.
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
                from hilum.quantise import quantise

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
        **bundle.description.to_dict(),
        "accuracy": accuracy,
        "versions": _versions(to, precision),
    }
    write_whole(out / EXPORT_JSON, (json.dumps(description, indent=2, allow_nan=False) + "\n").encode())
    return read_exported(out)


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
            output_names=list(Answer._fields),
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
