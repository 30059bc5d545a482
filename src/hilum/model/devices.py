"""Which device a network computes on."""

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from hilum.errors import HilumError, extras_named

Device = Literal["auto", "cpu", "cuda", "mps"]


def device_of(device: Device) -> str:
    """The device as torch calls it: `auto` is CUDA or MPS where there is one, else cpu.

    Raises:
        HilumError: if CUDA or MPS is asked for and not there.
        MissingExtraError: if it is asked for and torch is not installed.
    """
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return "cpu"
    with extras_named():
        import torch
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next((name for name, found in there.items() if found), "cpu")
    if not there[device]:
        raise HilumError(f"device must be one that is here, got {device}. Use --device cpu, and see: hilum doctor")
    return device


def _may_have_gpu() -> bool:
    """Whether it is worth the seconds that torch's import takes to ask it."""
    driver = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, Windows' in its Linux
    if sys.platform == "linux" and not any(Path(path).exists() for path in driver):
        return False
    with suppress(ModuleNotFoundError):
        return find_spec("torch") is not None
    return False
