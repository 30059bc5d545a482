"""Read a classifier from an ONNX file: its operations, its weights, and the linear layer at its end."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hilum.errors import BundleError
from hilum.model.engines import import_extra
from hilum.nn.graph import IMAGES, OPERATIONS, Operation, Value

_SHAPERS = ("Flatten", "Reshape", "Squeeze", "Identity", "Dropout")
_NUMBERS = {
    "Reshape": {1: "shape"},
    "Squeeze": {1: "axes"},
    "Unsqueeze": {1: "axes"},
    "ReduceMean": {1: "axes"},
    "Clip": {1: "min", 2: "max"},
    "Dropout": {1: "", 2: ""},
}
"""Inputs of an operation that are options here: they must be constants; "" is of no use in evaluation."""


class OnnxClassifier(NamedTuple):
    """What an ONNX file holds.

    Attributes:
        channels: of its input.
        size: height and width of its input; None if it takes any.
        features: channels of its last feature map.
        operations: from the film to that map.
        weights: of the operations, by name.
        head: weight and bias of the linear layer behind the mean over the film; one row per output.
    """

    channels: int
    size: int | None
    features: int
    operations: tuple[Operation, ...]
    weights: dict[str, Tensor]
    head: tuple[Tensor, Tensor]


def read_onnx(path: Path) -> OnnxClassifier:
    """The classifier in an ONNX file. A sigmoid at its end is left out.

    Raises:
        BundleError: if the file is none, or does something else or more.
        MissingExtraError: if onnx and onnxruntime are not installed.
    """
    graph = _simplified(path).graph
    onnx = import_extra("onnx")
    initial = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in initial]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise BundleError(
            f"network must take films and give one table, got {len(inputs)} inputs and {len(graph.output)} outputs "
            f"in {path}"
        )
    sides = [one.dim_value for one in inputs[0].type.tensor_type.shape.dim]
    if len(sides) != 4 or sides[1] not in (1, 3):
        raise BundleError(f"input must be batch x 1 or 3 x height x width, got {sides} in {path}")
    nodes, wanted = {output: node for node in graph.node for output in node.output}, graph.output[0].name
    while wanted in nodes and nodes[wanted].op_type in ("Sigmoid", "Identity"):
        wanted = nodes[wanted].input[0]
    head, pooled = _head(nodes, initial, wanted, path)
    features = _mean_of(nodes, initial, pooled, path)
    needed, waiting = set[str](), [features]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in needed:
            needed.add(name)
            waiting += nodes[name].input
    operations, weights = [], dict[str, Tensor]()
    for node in graph.node:
        if node.output[0] in needed:
            one = _operation(node, initial, inputs[0].name, batch_of_one=sides[0] == 1, path=path)
            operations.append(one)
            weights |= {name: _tensor(initial[name], name, path) for name in one.inputs if name in initial}
    return OnnxClassifier(sides[1], sides[2] or None, head[0].shape[1], tuple(operations), weights, head)


def _simplified(path: Path) -> Any:
    """The model with what is constant computed, by ONNX Runtime."""
    onnx, runtime = import_extra("onnx"), import_extra("onnxruntime")
    if not path.is_file():
        raise BundleError(f"file must be an ONNX model, got {str(path)!r}, which is no file. Check the path")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as scratch:
        options.optimized_model_filepath = str(Path(scratch) / "simple.onnx")
        try:
            runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            return onnx.load(options.optimized_model_filepath)
        except Exception as error:  # the runtime has an exception of its own for each fault
            why = " ".join(str(error).split())[:200]
            raise BundleError(f"file must be an ONNX model, but {path} cannot be read: {why}") from None


def _head(
    nodes: Mapping[str, Any], initial: Mapping[str, np.ndarray], wanted: str, path: Path
) -> tuple[tuple[Tensor, Tensor], str]:
    """Weight and bias of the last linear layer, and the name of its input."""
    last, bias = nodes.get(wanted), None
    if last is not None and last.op_type == "Add":
        parts = sorted(last.input, key=lambda name: name in initial)
        last, bias = nodes.get(parts[0]), initial.get(parts[1])
    if last is None or last.op_type not in ("Gemm", "MatMul") or last.input[1] not in initial:
        raise BundleError(_closed_form(path, "none" if last is None else last.op_type))
    weight, options = initial[last.input[1]], _options(last)
    if last.op_type == "Gemm":
        if options.get("alpha", 1.0) != 1.0 or options.get("beta", 1.0) != 1.0 or options.get("transA", 0):
            raise BundleError(_closed_form(path, "a scaled Gemm"))
        bias = initial.get(last.input[2]) if len(last.input) > 2 else None
    rows = weight if last.op_type == "Gemm" and options.get("transB", 0) else weight.T
    if bias is None:
        bias = np.zeros(len(rows), dtype=np.float32)
    return (_tensor(rows, "weight", path), _tensor(bias.reshape(-1), "bias", path)), last.input[0]


def _mean_of(nodes: Mapping[str, Any], initial: Mapping[str, np.ndarray], pooled: str, path: Path) -> str:
    """The name of the feature map whose mean over the film this is."""
    while pooled in nodes and nodes[pooled].op_type in _SHAPERS:
        pooled = nodes[pooled].input[0]
    pool = nodes.get(pooled)
    axes: Sequence[int] = ()
    if pool is not None and pool.op_type == "ReduceMean":
        stated = _options(pool).get("axes") or (initial[pool.input[1]].tolist() if len(pool.input) > 1 else ())
        axes = [int(axis) % 4 for axis in stated]  # type: ignore[union-attr]
    if pool is None or not (pool.op_type == "GlobalAveragePool" or sorted(axes) == [2, 3]):
        raise BundleError(_closed_form(path, "none" if pool is None else pool.op_type))
    return str(pool.input[0])


def _closed_form(path: Path, found: str) -> str:
    return (
        "network must end in the mean over the film and one linear layer, from which heatmaps follow, got "
        f"{found} there in {path}. Import its state dict instead, or evaluate its scores: hilum evaluate scores.csv"
    )


def _operation(node: Any, initial: Mapping[str, np.ndarray], film: str, *, batch_of_one: bool, path: Path) -> Operation:
    if node.op_type not in OPERATIONS or node.domain not in ("", "ai.onnx"):
        raise BundleError(f"operations must be among {', '.join(OPERATIONS)}, got {node.op_type} in {path}")
    options, inputs = _options(node), [IMAGES if name == film else str(name) for name in node.input]
    for place, option in _NUMBERS.get(node.op_type, {}).items():
        if place < len(node.input) and node.input[place]:
            if option and node.input[place] not in initial:
                raise BundleError(f"{option} of {node.op_type} must be a constant, but is computed in {path}")
            if option:
                values = initial[node.input[place]]
                options[option] = tuple(int(one) for one in values) if values.ndim else float(values)
    inputs = [name for place, name in enumerate(inputs) if place not in _NUMBERS.get(node.op_type, {})]
    shape = options.get("shape")
    if isinstance(shape, tuple) and batch_of_one and shape and shape[0] == 1:
        options["shape"] = (0, *shape[1:])  # the batch, which was one film when the file was made
    return Operation(node.op_type, tuple(inputs), str(node.output[0]), options)


def _options(node: Any) -> dict[str, Value]:
    onnx = import_extra("onnx")
    found: dict[str, Value] = {}
    for one in node.attribute:
        value = onnx.helper.get_attribute_value(one)
        if isinstance(value, bytes):
            value = value.decode()
        if isinstance(value, int | float | str):
            found[one.name] = value
        elif isinstance(value, list | tuple) and all(isinstance(number, int) for number in value):
            found[one.name] = tuple(value)
    return found


def _tensor(values: np.ndarray, name: str, path: Path) -> Tensor:
    if values.dtype.kind != "f":
        raise BundleError(f"weights must be floats, got {values.dtype} for {name} in {path}")
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32).copy())
