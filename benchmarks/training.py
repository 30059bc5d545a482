"""Films per second in training at 224 px: the plain fp32 loop against Hilum's, in one run. See --help."""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch.nn import functional
from torchvision.models import densenet121

from hilum.learner import Learner, loss_of
from hilum.nn.build import build
from hilum.recipe import load_recipe
from hilum.train import computes_in_bf16

TARGET = 2.3


def films_per_second(step: Callable[[], None], batch: int, steps: int) -> float:
    step()  # the first one allocates
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return batch * steps / (time.perf_counter() - start)


def plain_step(batch: int, size: int) -> Callable[[], None]:
    """What a script of the field does: torchvision's network, fp32, RGB, Adam."""
    model = densenet121(num_classes=14).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    images, labels = torch.rand(batch, 3, size, size), torch.zeros(batch, 14)

    def step() -> None:
        loss = functional.binary_cross_entropy_with_logits(model(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def hilum_step(network: str, batch: int, size: int, *, compiled: bool = False) -> Callable[[], None]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2, help="the best round counts")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, which takes minutes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    steps = {
        "plain fp32 DenseNet-121": plain_step(options.batch, options.size),
        "hilum DenseNet-121": hilum_step("densenet", options.batch, options.size),
        "hilum AM_DenseNet": hilum_step("am-densenet", options.batch, options.size),
    }
    if options.compile:
        steps["hilum DenseNet-121 compiled"] = hilum_step("densenet", options.batch, options.size, compiled=True)
    best = dict.fromkeys(steps, 0.0)
    for _ in range(options.rounds):
        for name, step in steps.items():
            best[name] = max(best[name], films_per_second(step, options.batch, options.steps))
    anchor = best["plain fp32 DenseNet-121"]
    rows = [{"loop": name, "films_per_second": rate, "ratio": rate / anchor} for name, rate in best.items()]
    if options.json:
        print(json.dumps({"rows": rows, "target": TARGET, "size": options.size, "batch": options.batch}))
        return
    for row in rows:
        print(f"{row['loop']:<28}{row['films_per_second']:7.1f} films/s {row['ratio']:6.2f}x")
    print(f"target: {TARGET}x")


if __name__ == "__main__":
    main()
