"""What this machine can do for Hilum: devices, memory, disk, engines, missing extras, and how fast a recipe is."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum import __version__
from hilum.errors import EXTRAS
from hilum.model.engines import MODULES, processor

if TYPE_CHECKING:
    from hilum.recipe import Recipe

ENABLES = {
    "train": "train, calibrate, export, explain; score bundles by their own network",
    "cpu": "score exports by OpenVINO, the fastest on a CPU",
    "onnx": "score exports by ONNX Runtime",
    "export": "write ONNX and OpenVINO models, INT8 among them",
    "dicom": "read DICOM films; answer a PACS",
    "serve": "the reading room and its REST API",
    "scale": "score archives on a Ray cluster",
    "timm": "networks of timm",
    "lite": "EfficientNet-Lite from ImageNet weights",
    "tune": "search for a recipe's values: hilum tune",
    "tables": "films beside an XLSX table",
    "mlflow": "trainings logged to MLflow's local store",
    "wandb": "trainings logged to Weights & Biases, offline",
    "storage": "packs in an object store: s3://, gs://, az://",
    "hub": "bundles on the Hugging Face hub",
    "bench": "compare speeds with torchxrayvision's network",
}
"""What each extra is for; the keys are those of EXTRAS."""

CHESTXRAY14_FILMS = 112_120
_GIB = 1 << 30
_BATCH_PIXELS = 16 * 224**2  # a step at any size takes about the memory of 16 films of 224 px


def examine(folder: Path) -> dict[str, Any]:
    """What is here, as JSON: nothing is started and nothing is measured.

    Args:
        folder: where films, packs and runs would lie.
    """
    return {
        "hilum": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": _gib(_memory("MemTotal")),
        "memory_free_gib": _gib(_memory("MemAvailable")),
        "disk": str(folder.resolve()),
        "disk_free_gib": _gib(shutil.disk_usage(folder).free),
        **_torch_facts(),
        "engines": _engines(),
        "extras": {extra: _missing(modules) for extra, modules in EXTRAS.items()},
    }


def measure_recipe(recipe: "Recipe", *, seconds: float, device: str | None = None) -> dict[str, Any]:
    """How many films a second the recipe's network trains on and scores here, films already in memory.

    Args:
        seconds: for both together.
        device: cpu, cuda or mps; the fastest there is if None.

    Raises:
        MissingExtraError: if the extra [train] is not installed.
    """
    import torch

    from hilum.bench.training import HilumStep
    from hilum.training.train import computes_in_bf16

    where = device or _fastest_device()
    size = recipe.preprocessing.size
    batch = max(2, min(recipe.training.batch, _BATCH_PIXELS // size**2))
    step = HilumStep(recipe, batch, device=where)
    trained = _rate(step, batch, seconds / 2)
    learner_model = step.learner.eval()
    images = torch.rand(batch, recipe.preprocessing.channels, size, size, device=where)

    def score() -> None:
        with torch.inference_mode(), torch.autocast(where, torch.bfloat16, enabled=step.bf16):
            learner_model(images).sum().item()  # waits for the device

    scored = _rate(score, batch, seconds / 2)
    return {
        "recipe": recipe.name,
        "device": where,
        "precision": "bf16" if computes_in_bf16(recipe.training.precision) else "fp32",
        "size": size,
        "batch": batch,
        "training_films_per_second": round(trained, 2),
        "scoring_films_per_second": round(scored, 2),
        "epoch_hours_for_chestxray14": round(CHESTXRAY14_FILMS / trained / 3600, 2),
        "training_hours_for_chestxray14": round(CHESTXRAY14_FILMS * recipe.training.epochs / trained / 3600, 1),
    }


def advice(facts: dict[str, Any]) -> list[str]:
    """Sentences on what would get in the way of a training here."""
    found = []
    if facts["memory_free_gib"] is not None and facts["memory_free_gib"] < 2:
        found.append(f"Only {facts['memory_free_gib']} GiB of memory are free: training at 512 px wants more.")
    if facts["disk_free_gib"] < 60:
        found.append(
            f"{facts['disk_free_gib']} GiB of disk are free: packs of all of ChestX-ray14 at 512 px take 59 GiB."
        )
    if facts["torch"] is None:
        found.append("PyTorch is not installed: pip install 'hilum[train]'.")
    elif not facts["devices"]:
        found.append("No GPU: train the small recipes (nih-small, demo), and score by an export (hilum export).")
    return found


def _rate(step: Callable[[], None], batch: int, seconds: float) -> float:
    step()  # the first one allocates
    start, films = time.perf_counter(), 0
    while films == 0 or time.perf_counter() - start < seconds:
        step()
        films += batch
    return films / (time.perf_counter() - start)


def _torch_facts() -> dict[str, Any]:
    if find_spec("torch") is None:
        return {"torch": None, "devices": [], "bf16": None}
    import torch

    devices = []
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        devices.append(
            {"name": facts.name, "device": f"cuda:{number}", "memory_gib": round(facts.total_memory / _GIB, 1)}
        )
    if torch.backends.mps.is_available():
        devices.append({"name": "Apple GPU", "device": "mps", "memory_gib": None})
    bf16 = None
    if find_spec("pytorch_lightning") is not None:
        from hilum.training.train import computes_in_bf16

        bf16 = computes_in_bf16("auto")
    return {"torch": torch.__version__, "devices": devices, "bf16": bf16}


def _fastest_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _engines() -> dict[str, str | None]:
    """Each engine's version; None where it is not installed."""
    found: dict[str, str | None] = {}
    for engine, module in {"torch": "torch", **MODULES}.items():
        try:
            found[engine] = version(module)
        except PackageNotFoundError:
            found[engine] = None
    return found


def _missing(modules: tuple[str, ...]) -> list[str]:
    return [module for module in modules if find_spec(module) is None]


def _memory(key: str) -> int | None:
    """Bytes, by /proc; None where nothing says it."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if key == "MemTotal" and sys.platform != "win32":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _gib(count: int | None) -> float | None:
    return None if count is None else round(count / _GIB, 1)
