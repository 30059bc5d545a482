"""Engines that run a model: torch, ONNX Runtime, OpenVINO; each is imported when it is opened."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float32

from hilum.errors import BundleError, HilumError, extras_named
from hilum.files import write_whole
from hilum.model.devices import Device, device_of
from hilum.model.metadata import (
    BUNDLE_JSON,
    ModelDescription,
    check_order,
    read_bundle_json,
    read_description,
    read_json_object,
)

if TYPE_CHECKING:
    from hilum.model.bundle import Bundle

EngineName = Literal["torch", "onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
GreyFilms = Float32[np.ndarray, "batch size size"]

EXPORT_JSON, ENGINE_JSON = "export.json", "engine.json"
_PREFERRED = ("openvino-int8", "openvino-bf16", "openvino-fp32", "onnx-fp32")
_PIXELS_A_BATCH = 8 * 224**2
"""Fastest on two cores: 8 films at 224 px, 2 at 512; 16 at 512 px take 1.7 times as long each (`hilum bench`)."""
_ROUNDS, _RUNS_A_ROUND = 5, 2
_CLEARLY_FASTER = 1.1
"""By how much an engine must be faster than one that is preferred to it, so that noise does not choose."""


class Outputs(NamedTuple):
    """What a model says of a batch of films; the findings stand in the description's order.

    Attributes:
        scores: in [0, 1]: the sigmoid of the logits, calibrated if the bundle is.
        logits: as the network gives them, before calibration.
        maps: logits by place, before calibration: what `heatmap_logits`, the description's scale, was measured on.
    """

    scores: Float32[np.ndarray, "batch findings"]
    logits: Float32[np.ndarray, "batch findings"]
    maps: Float32[np.ndarray, "batch findings rows columns"]


@runtime_checkable
class Engine(Protocol):
    """A model that is ready to run.

    Attributes:
        name: torch, onnx or openvino.
        precision: fp32, bf16 or int8.
        description: findings, preprocessing, heatmap scale, thresholds and calibration.
        batch: films that one run should get, for the most films per second; any number is right.
        parallel: runs that should be under way at the same time, each in a thread of its own, for the most films per
            second. More are safe and no faster.
        note: a sentence that a user must be told; empty, unless a loss of accuracy was accepted in the export.
    """

    name: EngineName
    precision: Precision
    description: ModelDescription
    batch: int
    parallel: int
    note: str

    def run(self, grey: GreyFilms) -> Outputs:
        """Scores, logits and class maps of films as `description.preprocessing` makes them: one channel, 0 to 1.

        May be called from several threads at once.
        """


_FILMS_A_GPU_BATCH = 8  # times what is fastest on a CPU


class TorchEngine:
    """The bundle's own network, on the processor or a GPU; what all others are compared with.

    Args:
        bundle: the model.
        precision: fp32, or bf16 by autocast.
        device: cpu, cuda or mps.
    """

    name: EngineName = "torch"
    parallel = 1  # torch itself spreads one run over all cores
    note = ""

    def __init__(self, bundle: "Bundle", precision: Literal["fp32", "bf16"] = "fp32", *, device: str = "cpu"):
        import torch

        self.device = device
        self.model = bundle.model.to(memory_format=torch.channels_last).to(device)
        self.precision: Precision = precision
        self.description = bundle.description
        films = _PIXELS_A_BATCH * (1 if device == "cpu" else _FILMS_A_GPU_BATCH)
        self.batch = max(1, round(films / self.description.preprocessing.size**2))

    def run(self, grey: GreyFilms) -> Outputs:
        """See Engine."""
        import torch

        films = torch.from_numpy(grey).to(self.device)[:, None]
        images = films.expand(-1, self.description.preprocessing.channels, -1, -1)
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            logits, maps = self.model.class_maps(images.contiguous(memory_format=torch.channels_last))
        numbers = logits.float().cpu().numpy()
        return Outputs(self.description.scores(numbers), numbers, maps.float().cpu().numpy())


def open_engine(
    run: Path,
    *,
    engine: EngineName | Literal["auto"] = "auto",
    precision: Precision | None = None,
    films: int | None = None,
    device: Device = "auto",
) -> Engine:
    """The engine for a bundle's folder, or for an exported folder alone. Say its name, and its note if it has one.

    `auto` takes what was chosen and written down (see `choose_engine`), or else the first of openvino int8, bf16, fp32
    and onnx that was exported into the bundle's folder and can run here: the same at every start. If nothing was
    exported it takes torch in fp32. A model exported with an accepted loss is taken only if it is asked for by engine
    and precision. Where there is a GPU and nothing was chosen, `auto` takes torch on it for a bundle.

    Args:
        run: the folder.
        engine: which one.
        precision: of its arithmetic; fp32 for torch if None, for an export the first of int8, bf16 and fp32.
        films: how many films it is for; None if they are many or nobody knows. For one film, an engine uses all cores
            on it; for more, whatever gives the most films per second.
        device: where torch computes; exports run on the CPU.

    Raises:
        BundleError: if the folder holds no such model, or an export is damaged or not of the bundle as it is now.
        MissingExtraError: if the engine is not installed.
        HilumError: if the engine has no such precision, or the device is not there.
    """
    alone = is_export(run)
    if device in ("cuda", "mps") and (alone or engine not in ("auto", "torch")):
        raise HilumError(f"device must be cpu for an exported model, got {device}. Give the bundle, and --engine torch")
    if not alone and engine in ("auto", "torch") and precision != "int8":
        where = device_of(device)
        chosen = device == "auto" and (run / ENGINE_JSON).is_file()
        if engine == "torch" or (where != "cpu" and not chosen):
            return _torch(run, precision, where)
    if engine == "torch" and not alone:
        return _torch(run, precision, "cpu")
    found = _openable(_exports(run), engine, precision, None if alone else run)
    if not found and engine == "auto" and not alone and precision != "int8":
        return _torch(run, precision, "cpu")
    if not found:
        wanted = f"{engine}{'' if precision is None else ' in ' + precision}"
        target = "openvino" if engine == "auto" else engine
        raise BundleError(
            f"model must have been exported for {wanted}, but {run} holds no such model. "
            f"Export it: hilum export RUN --to {target} --precision {precision or 'fp32'}"
        )
    if engine == "auto" and not alone:
        written = read_choice(run / ENGINE_JSON, file_sha256(run / BUNDLE_JSON))
        found.sort(key=lambda one: written is None or (one.engine, one.precision) != written[:2])
    return open_exported(found[0], films=films)


def _exports(run: Path) -> list[Path]:
    """The folder of an export alone; of a bundle, those of its exports in the order of preference."""
    if is_export(run):
        return [run]
    return [run / name for name in _PREFERRED if (run / name / EXPORT_JSON).is_file()]


def is_export(run: Path) -> bool:
    """Whether a folder is an exported model alone rather than a bundle.

    Raises:
        BundleError: if it is neither.
    """
    if (run / EXPORT_JSON).is_file():
        return True
    read_bundle_json(run)
    return False


def _torch(run: Path, precision: Precision | None, device: str) -> Engine:
    if precision == "int8":
        raise HilumError("precision must be fp32 or bf16 for torch, got int8. Use an export: hilum export")
    with extras_named():
        from hilum.model.bundle import load_bundle

    return TorchEngine(load_bundle(run), precision or "fp32", device=device)


def _openable(
    folders: list[Path], engine: EngineName | Literal["auto"], precision: Precision | None, run: Path | None
) -> list["Exported"]:
    """The exports that fit what was asked for; `run` is the bundle that they must be of."""

    asked = run is None or (engine != "auto" and precision is not None)
    found = []
    for folder in folders:
        exported = read_exported(folder)
        fits = engine in ("auto", exported.engine) and precision in (None, exported.precision)
        installed = run is None or engine != "auto" or find_spec(MODULES[exported.engine]) is not None
        if fits and installed and (asked or not exported.note):
            if run is not None:
                check_current(exported, run)
            found.append(exported)
    return found


class Choice(NamedTuple):
    """Which engine a model runs on, chosen once.

    Attributes:
        films_per_second: of every engine that was tried; empty if there was one alone.
        processor: where that was measured.
    """

    engine: EngineName
    precision: Precision
    films_per_second: dict[str, float]
    processor: str


def choose_engine(run: Path) -> Choice:
    """Measure what was exported into a bundle's folder and can run here; the fastest for many films.

    All are timed in turns, and each by its best turn. One that is preferred (see `open_engine`) stays unless another is
    clearly faster, so that two measurements on one machine agree.

    Raises:
        BundleError: as open_engine does.
    """
    alone = is_export(run)
    found = _openable(_exports(run), "auto", None, None if alone else run)
    if len(found) < 2:
        opened = open_engine(run)
        return Choice(opened.name, opened.precision, {}, processor())
    engines = [open_exported(exported, films=None) for exported in found]
    turns = [[_seconds_per_film(one) for one in engines] for _ in range(_ROUNDS)]
    best = [min(times) for times in zip(*turns, strict=True)]
    chosen = 0
    for place, seconds in enumerate(best):
        if seconds * _CLEARLY_FASTER < best[chosen]:
            chosen = place
    rates = {f"{one.engine}-{one.precision}": round(1 / seconds, 2) for one, seconds in zip(found, best, strict=True)}
    return Choice(found[chosen].engine, found[chosen].precision, rates, processor())


def processor() -> str:
    """What this machine computes with, in words."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return next(line.partition(":")[2].strip() for line in words.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_choice(path: Path, choice: Choice, bundle_sha256: str) -> None:
    """Write a choice down: it holds for this bundle.json alone.

    Raises:
        HilumError: if the place cannot be written to.
    """
    content = {"format": FORMAT, "bundle_sha256": bundle_sha256, **choice._asdict()}
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def read_choice(path: Path, bundle_sha256: str) -> Choice | None:
    """What was chosen for a bundle; None if nothing was, or it was for another bundle, or the file is damaged."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT or fields["bundle_sha256"] != bundle_sha256:
            return None
        if fields["engine"] not in get_args(EngineName) or fields["precision"] not in get_args(Precision):
            return None
        return Choice(*(fields[name] for name in Choice._fields))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _seconds_per_film(engine: Engine) -> float:
    """Of a short turn on grey noise, after a run to warm up."""
    size = engine.description.preprocessing.size
    grey = np.random.default_rng(0).random((engine.batch, size, size), dtype=np.float32)
    engine.run(grey)
    with ThreadPoolExecutor(engine.parallel) as threads:
        start = time.perf_counter()
        list(threads.map(engine.run, [grey] * (_RUNS_A_ROUND * engine.parallel)))
        return (time.perf_counter() - start) / (_RUNS_A_ROUND * engine.parallel * engine.batch)


FORMAT = 1
FILES: dict[EngineName, tuple[str, ...]] = {"onnx": ("weights.onnx",), "openvino": ("model.xml", "model.bin")}
"""The model's files; the first is the one that the engine is given."""
MODULES: dict[EngineName, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What an engine imports."""


@dataclass(frozen=True)
class Exported:
    """What export.json holds.

    Attributes:
        folder: where the files are.
        engine: onnx or openvino.
        precision: of its arithmetic.
        description: what must be known to use it.
        bundle_sha256: of the bundle.json that it was made from, which vouches for the weights.
        accuracy: of INT8, what the quantisation cost on validation films; see hilum.model.quantize.
        digests: the SHA-256 of each file of the model.
    """

    folder: Path
    engine: EngineName
    precision: Precision
    description: ModelDescription
    bundle_sha256: str
    accuracy: dict[str, Any] | None
    digests: dict[str, str]

    def contents(self) -> list[bytes]:
        """The model's files, read into memory and verified there: what happens to them on the disk later is nothing.

        Raises:
            BundleError: if a file is missing, damaged or another one.
        """
        return [_verified(self.folder / name, self.digests[name]) for name in FILES[self.engine]]

    @property
    def model(self) -> Path:
        """The file that the engine is given."""
        return self.folder / FILES[self.engine][0]

    @property
    def note(self) -> str:
        """What a user must be told, in a sentence; empty if there is nothing."""
        if self.accuracy is None or not self.accuracy["accepted_loss"]:
            return ""
        return (
            f"{self.folder} was quantised with --accept-loss: its mean AUC on validation films changed by "
            f"{self.accuracy['mean_change']:+.4f}, the worst finding's by {self.accuracy['worst_change']:+.4f}."
        )


def read_exported(folder: Path) -> Exported:
    """Read export.json, and verify that the files are those that it was written for.

    Raises:
        BundleError: if a file is missing, damaged or another one.
    """
    path = folder / EXPORT_JSON
    if not path.is_file():
        raise BundleError(
            f"exported model must be a folder with {EXPORT_JSON}, but there is no {path}. See: hilum export"
        )
    fields = read_json_object(path)
    if fields.get("format") != FORMAT:
        raise BundleError(
            f"format must be {FORMAT}, got {fields.get('format')!r} in {path}. Use the Hilum that exported it."
        )
    try:
        exported = _from_dict(folder, fields)
        check_order(fields, exported.description.findings, where=path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} must describe an export of format {FORMAT}, but does not: {error!r}") from None
    exported.contents()
    return exported


def state_bits(engine: Engine, bits: int | None) -> Engine:
    """Have an engine's films read as of so many bits, see hilum.data.images.read; as the model says if None."""
    if bits is not None:
        description = engine.description
        engine.description = replace(description, preprocessing=replace(description.preprocessing, bits=bits))
    return engine


def description_of(run: Path) -> ModelDescription:
    """What must be known to use a bundle, or an exported model alone.

    Raises:
        BundleError: if the folder holds neither, or what it holds is damaged.
    """
    return read_exported(run).description if is_export(run) else read_description(run)


def check_current(exported: Exported, run: Path) -> None:
    """Refuse an export of another bundle, or of this one before it was trained or calibrated again.

    Raises:
        BundleError: if bundle.json is not the one that the export was made from.
    """
    if file_sha256(run / BUNDLE_JSON) != exported.bundle_sha256:
        raise BundleError(
            f"{exported.folder} must be exported from the bundle as it is now, but {run / BUNDLE_JSON} has changed "
            f"since. Export again: hilum export {run} --to {exported.engine} --precision {exported.precision}"
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content.

    Raises:
        BundleError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path.name} must be a file that can be read, but {path} cannot: {error.strerror}") from None


def _from_dict(folder: Path, fields: Mapping[str, Any]) -> Exported:
    engine, precision, accuracy = (fields[name] for name in ("engine", "precision", "accuracy"))
    if engine not in FILES or precision not in get_args(Precision):
        raise ValueError(f"engine and precision must be known, got {engine!r} and {precision!r}")
    if accuracy is not None:
        accuracy = dict(accuracy)
        accuracy["accepted_loss"], float(accuracy["mean_change"]), float(accuracy["worst_change"])
    return Exported(
        folder=folder,
        engine=cast(EngineName, engine),
        precision=cast(Precision, precision),
        description=ModelDescription.from_dict(fields),
        bundle_sha256=str(fields["bundle_sha256"]),
        accuracy=accuracy,
        digests={name: str(fields["files"][name]) for name in FILES[cast(EngineName, engine)]},
    )


def _verified(path: Path, expected: str) -> bytes:
    if not path.is_file():
        raise BundleError(f"the model's files must be beside {EXPORT_JSON}, but there is no {path}. Export again")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path.name} must be a file that can be read, but {path} cannot: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise BundleError(
            f"{path} must be the file that {EXPORT_JSON} was written for, but its SHA-256 is {digest[:12]}.... "
            "Export again"
        )
    return content


OUTPUTS = Outputs._fields


def open_exported(exported: Exported, *, films: int | None) -> Engine:
    """The engine that an exported model was made for. `films` as in hilum.model.engines.open_engine.

    Raises:
        MissingExtraError: if the engine is not installed.
        BundleError: if it cannot read the model.
    """
    match exported.engine:
        case "openvino":
            return OpenVinoEngine(exported, films=films)
        case "onnx":
            return OnnxEngine(exported)
        case "torch":
            raise ValueError(f"engine must be one that runs exports, got torch for {exported.folder}")


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
            (graph,) = exported.contents()
            self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        except BundleError:
            raise
        except Exception as error:  # the runtime has an exception of its own for each fault
            raise unreadable(exported, error) from None

    def run(self, grey: GreyFilms) -> Outputs:
        """See hilum.model.engines.Engine."""
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
            self._graph, self._weights = exported.contents()  # the network may refer to these bytes: they are kept
            network = behind_resize(core.read_model(self._graph, self._weights), [1, size, size])
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
        """See hilum.model.engines.Engine."""
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
    """A module of an extra.

    Raises:
        MissingExtraError: if it is not installed, saying how to.
    """
    with extras_named():
        return import_module(name)


def unreadable(exported: Exported, error: Exception) -> BundleError:
    """The fault of a model that its engine cannot read."""
    reason = " ".join(str(error).split())[:300]
    return BundleError(f"{exported.model} must be a model that {exported.engine} can read, but it says: {reason}")
