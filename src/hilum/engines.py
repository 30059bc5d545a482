"""From grey films at the model's size to scores and class maps, whatever computes them. torch is imported on demand."""

import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from hilum.description import Description, read_bundle_json
from hilum.errors import BundleError, HilumError

if TYPE_CHECKING:
    from hilum.bundle import Bundle
    from hilum.exported import Exported

EngineName = Literal["torch", "onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
GreyFilms = Float32[np.ndarray, "batch size size"]

EXPORT_JSON = "export.json"
_PREFERRED = ("openvino-int8", "openvino-bf16", "openvino-fp32", "onnx-fp32")
_PIXELS_A_BATCH = 8 * 224**2
"""Fastest on two cores: 8 films at 224 px, 2 at 512; 16 at 512 px take 1.7 times as long each (`hilum bench`)."""
_FILMS_FOR_TRIAL = 200
_RUNS_IN_TRIAL = 3


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
    description: Description
    batch: int
    parallel: int
    note: str

    def run(self, grey: GreyFilms) -> Outputs:
        """Scores, logits and class maps of films as `description.preprocessing` makes them: one channel, 0 to 1.

        May be called from several threads at once.
        """


class TorchEngine:
    """The bundle's own network, on the processor; what all others are compared with.

    Args:
        bundle: the model.
        precision: fp32, or bf16 by autocast.
    """

    name: EngineName = "torch"
    parallel = 1  # torch itself spreads one run over all cores
    note = ""

    def __init__(self, bundle: "Bundle", precision: Literal["fp32", "bf16"] = "fp32"):
        import torch

        self.model = bundle.model.to(memory_format=torch.channels_last)
        self.precision: Precision = precision
        self.description = bundle.description
        self.batch = max(1, round(_PIXELS_A_BATCH / self.description.preprocessing.size**2))

    def run(self, grey: GreyFilms) -> Outputs:
        """See Engine."""
        import torch

        images = torch.from_numpy(grey)[:, None].expand(-1, self.description.preprocessing.channels, -1, -1)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            logits, maps = self.model.class_maps(images.contiguous(memory_format=torch.channels_last))
        numbers = logits.float().numpy()
        return Outputs(self.description.scores(numbers), numbers, maps.float().numpy())


def open_engine(
    run: Path,
    *,
    engine: EngineName | Literal["auto"] = "auto",
    precision: Precision | None = None,
    films: int | None = None,
) -> Engine:
    """The engine for a bundle's folder, or for an exported folder alone. Say its name, and its note if it has one.

    `auto` takes what was exported into the bundle's folder and can run here: for many films the fastest by a short
    trial, for few the first of openvino int8, bf16, fp32 and onnx. If nothing was exported it takes torch in fp32. A
    model exported with an accepted loss is taken only if it is asked for by engine and precision.

    Args:
        run: the folder.
        engine: which one.
        precision: of its arithmetic; fp32 for torch if None, for an export the first of int8, bf16 and fp32.
        films: how many films it is for; None if they are many or nobody knows. For one film, an engine uses all cores
            on it; for more, whatever gives the most films per second.

    Raises:
        BundleError: if the folder holds no such model, or an export is damaged or not of the bundle as it is now.
        MissingExtraError: if the engine is not installed.
        HilumError: if the engine has no such precision.
    """
    alone = is_export(run)
    if engine == "torch" and not alone:
        return _torch(run, precision)
    folders = [run] if alone else [run / name for name in _PREFERRED if (run / name / EXPORT_JSON).is_file()]
    found = _openable(folders, engine, precision, None if alone else run)
    if not found and engine == "auto" and not alone and precision != "int8":
        return _torch(run, precision)
    if not found:
        wanted = f"{engine}{'' if precision is None else ' in ' + precision}"
        target = "openvino" if engine == "auto" else engine
        raise BundleError(
            f"model must have been exported for {wanted}, but {run} holds no such model. "
            f"Export it: hilum export RUN --to {target} --precision {precision or 'fp32'}"
        )
    return _fastest(found, films) if engine == "auto" else _open(found[0], films)


def is_export(run: Path) -> bool:
    """Whether a folder is an exported model alone rather than a bundle.

    Raises:
        BundleError: if it is neither.
    """
    if (run / EXPORT_JSON).is_file():
        return True
    read_bundle_json(run)
    return False


def _torch(run: Path, precision: Precision | None) -> Engine:
    from hilum.bundle import load_bundle

    if precision == "int8":
        raise HilumError("precision must be fp32 or bf16 for torch, got int8. Use an export: hilum export")
    return TorchEngine(load_bundle(run), precision or "fp32")


def _openable(
    folders: list[Path], engine: EngineName | Literal["auto"], precision: Precision | None, run: Path | None
) -> list["Exported"]:
    """The exports that fit what was asked for; `run` is the bundle that they must be of."""
    from hilum.exported import MODULES, check_current, read_exported

    asked = run is None or (engine != "auto" and precision is not None)
    found = []
    for folder in folders:
        exported = read_exported(folder)
        fits = engine in ("auto", exported.engine) and precision in (None, exported.precision)
        installed = engine != "auto" or find_spec(MODULES[exported.engine]) is not None
        if fits and installed and (asked or not exported.note):
            if run is not None:
                check_current(exported, run)
            found.append(exported)
    return found


def _open(exported: "Exported", films: int | None) -> Engine:
    from hilum.cpu_engines import open_exported

    return open_exported(exported, films=films)


def _fastest(found: list["Exported"], films: int | None) -> Engine:
    """The engine that does the most films per second; the first if the films are too few for a trial to pay."""
    first = _open(found[0], films)
    if len(found) == 1 or (films is not None and films < _FILMS_FOR_TRIAL):
        return first
    return min([first, *(_open(exported, films) for exported in found[1:])], key=_seconds_per_film)


def _seconds_per_film(engine: Engine) -> float:
    """Of a short trial on grey noise, after a run to warm up."""
    size = engine.description.preprocessing.size
    grey = np.random.default_rng(0).random((engine.batch, size, size), dtype=np.float32)
    engine.run(grey)
    with ThreadPoolExecutor(engine.parallel) as threads:
        start = time.perf_counter()
        list(threads.map(engine.run, [grey] * (_RUNS_IN_TRIAL * engine.parallel)))
        return (time.perf_counter() - start) / (_RUNS_IN_TRIAL * engine.parallel * engine.batch)
