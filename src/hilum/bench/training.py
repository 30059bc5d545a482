"""Films per second in training: the plain fp32 loop of the field, Hilum's, and Hilum's compiled, in one run."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torchvision.models import densenet121

from hilum.messages import track
from hilum.nn.build import build
from hilum.recipe import Recipe, load_recipe
from hilum.training.learner import Learner
from hilum.training.losses import loss_of
from hilum.training.train import computes_in_bf16

PLAIN, PLAIN_BF16 = "plain fp32 DenseNet-121", "plain bf16 DenseNet-121"

_BATCH_PIXELS = 16 * 224**2  # a batch at any size takes about the memory of 16 films of 224 px

Step = Callable[[], None]
FINDINGS = 14


class LoopSpeed(NamedTuple):
    """A line of the table.

    Attributes:
        batch: films in a step.
        ratio: to the plain loop at this size.
    """

    loop: str
    size: int
    batch: int
    films_per_second: float
    ratio: float


def measure_training(
    sizes: Sequence[int], *, compiled: bool = True, steps: int = 6, rounds: int = 2, device: str = "cpu"
) -> list[LoopSpeed]:
    """Measure the loops at each size; of several rounds, in which they take turns, the best counts.

    Args:
        compiled: also with torch.compile, which takes minutes before its first step.
        steps: counted in each round.
        device: cpu, cuda or mps.
    """
    lines = []
    for size in sizes:
        batch = min(16, max(2, _BATCH_PIXELS // size**2))
        loops: dict[str, Step] = {
            PLAIN: plain_step(batch, size, device=device),
            PLAIN_BF16: plain_step(batch, size, bf16=True, device=device),
            "hilum DenseNet-121": HilumStep(_recipe("densenet", size), batch, device=device),
            "hilum AM_DenseNet": HilumStep(_recipe("am-densenet", size), batch, device=device),
        }
        if compiled:
            for name, network in (("DenseNet-121", "densenet"), ("AM_DenseNet", "am-densenet")):
                step = HilumStep(_recipe(network, size), batch, compiled=True, device=device)
                loops[f"hilum {name}, compiled"] = step
        best = dict.fromkeys(loops, 0.0)
        turns = [name for _ in range(rounds) for name in loops]
        for name in track(turns, f"training at {size} px", total=len(turns)):
            best[name] = max(best[name], films_per_second(loops[name], batch, steps))
        lines += [LoopSpeed(name, size, batch, rate, rate / best[PLAIN]) for name, rate in best.items()]
    return lines


def films_per_second(step: Step, batch: int, steps: int) -> float:
    """How many films a loop takes in a second."""
    step()  # the first one allocates
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return batch * steps / (time.perf_counter() - start)


def plain_step(batch: int, size: int, *, bf16: bool = False, device: str = "cpu") -> Step:
    """What a script of the field does: torchvision's network, RGB, Adam, with autocast or without."""
    model = densenet121(num_classes=14).train().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    images, labels = torch.rand(batch, 3, size, size, device=device), torch.zeros(batch, 14, device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits = model(images)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _recipe(network: str, size: int) -> Recipe:
    changes = (f"architecture.network={network}", f"preprocessing.size={size}", "schedule.name=constant")
    return load_recipe("nih-small", [*changes, "training.progressive_size=none"])


class HilumStep:
    """The learner's forward, loss and optimiser, in the recipe's precision, on films that lie on the device.

    Args:
        recipe: what is trained.
        batch: films in a step.
        compiled: through torch.compile.
        device: cpu, cuda or mps.
    """

    def __init__(self, recipe: Recipe, batch: int, *, compiled: bool = False, device: str = "cpu"):
        channels, size = recipe.preprocessing.channels, recipe.preprocessing.size
        schedule = recipe.schedule.model_copy(update={"name": "constant"})
        recipe = recipe.model_copy(update={"schedule": schedule})
        self.recipe, self.device = recipe, device
        prevalence = np.full(FINDINGS, 0.1, dtype=np.float32)
        model = build(recipe.architecture, findings=FINDINGS, channels=channels)
        self.learner = Learner(model, recipe, steps=1, prevalence=prevalence).train().to(device)
        if compiled:
            self.learner.model.compile()
        self.optimizer = self.learner.configure_optimizers()
        self.images = torch.rand(batch, channels, size, size, device=device)
        self.labels = torch.zeros(batch, FINDINGS, device=device)
        self.bf16 = computes_in_bf16(recipe.training.precision)

    def __call__(self) -> None:
        """One step; returns once it is done."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            logits = self.learner(self.images)
        loss = loss_of(logits, self.labels, self.recipe.loss, self.learner.prevalence)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
