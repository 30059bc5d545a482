"""Engines for exported models: ONNX Runtime and OpenVINO. torch is not imported."""

import os
from collections.abc import Callable
from queue import SimpleQueue
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from hilum.engines import Engine, EngineName, GreyFilms, Outputs, Precision
from hilum.errors import BundleError, HilumError, MissingExtraError
from hilum.exported import Exported

OUTPUTS = Outputs._fields


def open_exported(exported: Exported, *, films: int | None) -> Engine:
    """The engine that an exported model was made for. `films` as in hilum.engines.open_engine.

    Raises:
        MissingExtraError: if the engine is not installed.
        BundleError: if it cannot read the model.
    """
    match exported.engine:
        case "openvino":
            return OpenVinoEngine(exported, films=films)
        case _:
            return OnnxEngine(exported)


class OnnxEngine:
    """An exported model in ONNX Runtime."""

    name: EngineName = "onnx"
    precision: Precision = "fp32"
    batch = 1
    parallel = 1  # the runtime itself spreads one run over all cores

    def __init__(self, exported: Exported):
        onnxruntime = import_extra("onnxruntime")
        self.description, self.note = exported.description, exported.note
        try:
            self.session = onnxruntime.InferenceSession(exported.model, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has an exception of its own for each fault
            raise unreadable(exported, error) from None

    def run(self, grey: GreyFilms) -> Outputs:
        """See hilum.engines.Engine."""
        feed = {"pixels": grey, "full_scale": np.ones(len(grey), dtype=np.float32)}
        return Outputs(*self.session.run(list(OUTPUTS), feed))


class OpenVinoEngine:
    """An exported model in OpenVINO: one film on all cores, or a film on each.

    Films already have the model's size here, so the graph is entered behind its resize.
    """

    name: EngineName = "openvino"
    batch = 1  # more films in a run are no faster

    def __init__(self, exported: Exported, *, films: int | None):
        openvino = import_extra("openvino")
        self.precision: Precision = exported.precision
        self.description, self.note = exported.description, exported.note
        core = openvino.Core()
        if exported.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise HilumError(
                "precision must be one that this processor computes in, but it has no bf16. "
                "Export with --precision fp32 or int8"
            )
        size = self.description.preprocessing.size
        try:
            network = behind_resize(core.read_model(exported.model), [1, size, size])
            compiled = core.compile_model(network, "CPU", compile_options(exported.precision, many=films != 1))
        except RuntimeError as error:
            raise unreadable(exported, error) from None
        self.parallel = 1 if films == 1 else os.cpu_count() or 1
        self._free: SimpleQueue[_Request] = SimpleQueue()
        for _ in range(self.parallel):  # all tensors here: two threads that make their first at once wait for ever
            request = compiled.create_infer_request()
            answers = [request.get_tensor(name).data for name in OUTPUTS]
            self._free.put(_Request(request.infer, request.get_input_tensor().data, answers))

    def run(self, grey: GreyFilms) -> Outputs:
        """See hilum.engines.Engine."""
        request = self._free.get()
        try:
            answers = []
            for film in grey:
                request.film[0] = film
                request.infer(share_outputs=True)
                answers.append([answer.copy() for answer in request.answers])
        finally:
            self._free.put(request)
        return Outputs(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))


class _Request(NamedTuple):
    """One forward pass at a time: `film` is written, `infer` called, `answers` are read; all three share memory."""

    infer: Callable[..., object]
    film: np.ndarray
    answers: list[np.ndarray]


def behind_resize(model: Any, shape: list[int]) -> Any:
    """The part of an exported OpenVINO model from the film at the model's size on; takes it out of `model`.

    Args:
        shape: of the new input, -1 where any length will do.
    """
    openvino = import_extra("openvino")
    resized = model.output("film").get_node().input_value(0)
    film = openvino.opset13.parameter(shape, np.float32, name="film")
    for target in resized.get_target_inputs():
        if target.get_node().get_type_name() != "Result":
            target.replace_source_output(film.output(0))
    return openvino.Model([model.output(name).get_node() for name in OUTPUTS], [film], "network")


def compile_options(precision: Precision, *, many: bool) -> dict[str, Any]:
    """OpenVINO's options; what is not quantised in INT8 stays in fp32, which is as fast there as bf16."""
    cores = os.cpu_count() or 1
    options = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    if many:
        return {**options, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
    return {**options, "PERFORMANCE_HINT": "LATENCY"}


def import_extra(name: str) -> ModuleType:
    """A module of the extra [cpu].

    Raises:
        MissingExtraError: if it is not installed, saying how to.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise MissingExtraError(f"{name} must be installed for this. Install it: pip install 'hilum[cpu]'") from None


def unreadable(exported: Exported, error: Exception) -> BundleError:
    """The fault of a model that its engine cannot read."""
    reason = " ".join(str(error).split())[:300]
    return BundleError(f"{exported.model} must be a model that {exported.engine} can read, but it says: {reason}")
