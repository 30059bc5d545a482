"""A model of someone else's, made for tests: a small network of timm with its own pixel scale and crop."""

from pathlib import Path

import pytest

FINDINGS = ("Mass", "Effusion")


def imported(folder: Path) -> Path:
    """The folder of its bundle. Its weights are random: what it says is noise."""
    timm = pytest.importorskip("timm")
    import torch

    from hilum.model.importing import Stated, import_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model("test_convnext", num_classes=len(FINDINGS)).state_dict(), folder / "weights.pth")
    stated = Stated(findings=FINDINGS, size=64, shorter=72, mean=(0.5,), deviation=(0.25,))
    import_model("timm", "test_convnext", folder / "weights.pth", folder / "imported", stated=stated)
    return folder / "imported"
