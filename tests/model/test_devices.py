"""Where a network computes. There is no GPU here: what is tested is which device is asked for, not what it gives."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from hilum.errors import HilumError
from hilum.model import devices, engines
from hilum.model.bundle import load_bundle
from hilum.model.devices import device_of
from hilum.model.engines import TorchEngine, open_engine


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has a GPU."""
    monkeypatch.setattr(devices, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_a_gpu_is_taken_where_there_is_one(cuda: None) -> None:
    assert device_of("auto") == "cuda"
    assert device_of("cuda") == "cuda"
    assert device_of("cpu") == "cpu"


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HilumError, match="device must be one that is here, got cuda"):
        device_of("cuda")


def test_torch_is_not_asked_where_no_driver_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_may_have_gpu", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked"))
    assert device_of("auto") == "cpu"


class Placed(TorchEngine):
    """An engine that only notes where it would be."""

    def __init__(self, bundle: Any, precision: Any = "fp32", *, device: str = "cpu"):
        super().__init__(bundle, precision)
        self.device = device


def test_a_bundle_goes_to_the_gpu_and_an_export_cannot(
    cuda: None, untrained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "TorchEngine", Placed)
    names: tuple[Literal["auto", "torch"], ...] = ("auto", "torch")
    for engine in names:
        opened = open_engine(untrained_run, engine=engine)
        assert isinstance(opened, Placed)
        assert (opened.device, opened.precision) == ("cuda", "fp32")
    opened = open_engine(untrained_run, device="cpu")
    assert isinstance(opened, Placed)
    assert opened.device == "cpu"
    with pytest.raises(HilumError, match="device must be cpu for an exported model, got cuda"):
        open_engine(untrained_run, engine="onnx", device="cuda")


def test_films_go_to_the_device_and_answers_come_back(untrained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(load_bundle(untrained_run))
    grey = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
    expected, asked = engine.run(grey), []
    real = torch.Tensor.to

    def to(self: torch.Tensor, *where: Any, **named: Any) -> torch.Tensor:
        asked.append(where)
        return real(self, *where, **named)

    monkeypatch.setattr(torch.Tensor, "to", to)
    again = engine.run(grey)
    assert ("cpu",) in asked
    np.testing.assert_array_equal(again.scores, expected.scores)
    assert all(isinstance(part, np.ndarray) for part in again)
