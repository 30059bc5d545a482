"""What each of several processes does in tests/training/test_processes.py; the first one writes what it saw as JSON."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hilum.training.train as training
from hilum.data.films import read_films
from hilum.nn.build import architecture_from_dict, build
from hilum.recipe import load_recipe
from hilum.training.batch_norm import plain_batch_norm, share_batch_norm
from hilum.training.learner import Batch, Learner
from hilum.training.processes import Processes, find_processes, gathered, joined, summed

LOSSES: list[float] = []
VALIDATED: list[float] = []


STEADY = False
"""Whether batch norm keeps its statistics."""


class Watched(Learner):
    """A learner whose losses are written down."""

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Batch norm alone sees the parts of a batch."""
        for module in self.model.modules():
            if STEADY and "BatchNorm" in type(module).__name__:
                module.eval()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """As it is."""
        loss = super().training_step(batch, batch_index)
        LOSSES.append(self._losses[-1])
        return loss

    def on_validation_epoch_end(self) -> None:
        """As it is."""
        super().on_validation_epoch_end()
        VALIDATED.append(float(self.trainer.callback_metrics["val_loss"]))


def watched_training(
    recipe: Path, films: Path, out: Path, packs: Path, changes: list[str], *, steady: bool = False
) -> None:
    """Train, with the losses written down."""
    global STEADY
    STEADY = steady
    vars(training)["Learner"] = Watched
    LOSSES.clear()
    VALIDATED.clear()
    training.train(load_recipe(recipe, changes), read_films(films), out, packs=packs, bar=False)


def parts(processes: Processes, whole: Tensor) -> list[Tensor]:
    """Uneven parts of a batch."""
    sizes = [len(whole) - processes.count + 1] + [1] * (processes.count - 1)
    return list(torch.split(whole, sizes))


def norm_errors(processes: Processes, network: dict[str, Any]) -> dict[str, float]:
    """How far a network that sees a part of the batch is from one that sees all of it."""
    torch.manual_seed(0)
    plain = build(architecture_from_dict(network), findings=2, channels=1).double().train()
    torch.manual_seed(0)
    shared = build(architecture_from_dict(network), findings=2, channels=1).double().train()
    share_batch_norm(shared)
    images = torch.rand(5, 1, 64, 64, dtype=torch.float64)
    weights = torch.rand(5, 2, dtype=torch.float64)
    torch.autograd.backward((plain(images) * weights).sum())
    here, own = parts(processes, images)[processes.rank], parts(processes, weights)[processes.rank]
    torch.autograd.backward((shared(here) * own).sum())
    plain_batch_norm(shared)
    gradients, running = 0.0, 0.0
    for (name, one), other in zip(plain.named_parameters(), shared.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        error = (summed(other.grad.clone()) - one.grad).abs().max() / one.grad.abs().max().clamp(min=1e-6)
        gradients = max(gradients, float(error))
    for (name, before), after in zip(plain.named_buffers(), shared.buffers(), strict=True):
        assert before.dtype == after.dtype, name
        running = max(running, float((before.double() - after.double()).abs().max()))
    kinds = [type(one) is type(other) for one, other in zip(plain.modules(), shared.modules(), strict=True)]
    assert all(kinds)
    assert isinstance(plain, nn.Module)
    return {"gradients": gradients, "running": running}


def main() -> None:
    """Everything in one start, since importing torch takes seconds."""
    recipe, films, out, packs, *changes = sys.argv[1:]
    seen: dict[str, Any] = {}
    processes = find_processes()
    with joined(processes):
        for name, network in NETWORKS.items():
            seen[name] = norm_errors(processes, network)
        seen["ranks"] = gathered(processes.rank)
    watched_training(Path(recipe), Path(films), Path(out), Path(packs), changes)
    seen |= {"losses": [*LOSSES], "validated": [*VALIDATED]}
    parts_out, parted = Path(f"{out}-parts"), [*changes, *ACCUMULATED, "training.accumulate=3"]
    watched_training(Path(recipe), Path(films), parts_out, Path(packs), parted, steady=True)
    if processes.first:
        seen["accumulated"] = LOSSES
        Path(out, "seen.json").write_text(json.dumps(seen))


ACCUMULATED = ("training.epochs=2", "optimizer.lr=1e-3")
NETWORKS: dict[str, dict[str, Any]] = {
    "densenet": {"network": "am-densenet", "block_layers": [1, 1, 1, 1], "growth": 16, "stem": 16, "reduction": 4},
    "timm": {"network": "timm:test_efficientnet", "size": 64},
}

if __name__ == "__main__":
    main()
