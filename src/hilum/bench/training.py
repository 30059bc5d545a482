"""Films per second in training: the plain fp32 loop of the field, Hilum's, and Hilum's compiled, in one run."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional
from torchvision.models import densenet121

from hilum.messages import track
from hilum.nn.build import build
from hilum.recipe import load_recipe
from hilum.training.learner import Learner
from hilum.training.losses import loss_of
from hilum.training.train import computes_in_bf16

PLAIN, PLAIN_BF16 = "plain fp32 DenseNet-121", "plain bf16 DenseNet-121"

_BATCH_PIXELS = 16 * 224**2  # a batch at any size takes about the memory of 16 films of 224 px

Step = Callable[[], None]


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
    sizes: Sequence[int], *, compiled: bool = True, steps: int = 6, rounds: int = 2
) -> list[LoopSpeed]:
    """Measure the loops at each size; of several rounds, in which they take turns, the best counts.

    Args:
        compiled: also with torch.compile, which takes minutes before its first step.
        steps: counted in each round.
    """
    lines = []
    for size in sizes:
        batch = min(16, max(2, _BATCH_PIXELS // size**2))
        loops = {
            PLAIN: plain_step(batch, size),
            PLAIN_BF16: plain_step(batch, size, bf16=True),
            "hilum DenseNet-121": hilum_step("densenet", batch, size),
            "hilum AM_DenseNet": hilum_step("am-densenet", batch, size),
        }
        if compiled:
            loops["hilum DenseNet-121, compiled"] = hilum_step("densenet", batch, size, compiled=True)
            loops["hilum AM_DenseNet, compiled"] = hilum_step("am-densenet", batch, size, compiled=True)
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


def plain_step(batch: int, size: int, *, bf16: bool = False) -> Step:
    """What a script of the field does: torchvision's network, RGB, Adam, with autocast or without."""
    model = densenet121(num_classes=14).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    images, labels = torch.rand(batch, 3, size, size), torch.zeros(batch, 14)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def hilum_step(network: str, batch: int, size: int, *, compiled: bool = False) -> Step:
    """The learner's forward, loss and optimiser, in the precision that `auto` takes here."""
    recipe = load_recipe("nih-small", [f"architecture.network={network}", "schedule.name=constant"])
    channels = recipe.preprocessing.channels
    learner = Learner(build(recipe.architecture, findings=14, channels=channels), recipe, steps=1).train()
    if compiled:
        learner.model.compile()
    optimizer = learner.configure_optimizers()
    images, labels = torch.rand(batch, channels, size, size), torch.zeros(batch, 14)
    bf16 = computes_in_bf16(recipe.training.precision)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = learner(images)
        loss = loss_of(logits, labels, recipe.loss)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step
