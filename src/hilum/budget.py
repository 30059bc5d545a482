"""How a suite of trainings fits into a time: each system's cost, measured, and one rule that scales all alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from hilum.errors import HilumError
from hilum.learner import Learner, loss_of
from hilum.nn.build import build
from hilum.nn.classifier import Classifier
from hilum.recipe import Recipe, recipe_from_dict
from hilum.train import computes_in_bf16

SIZES = (128, 160, 224, 320, 512, 1024)
"""The sizes in pixels to which films may be limited; every system takes 128, and ChestNet multiples of 32."""
RESERVE = 0.2
"""The part of the time kept for what the probe does not see: packing films, checkpoints, reports, other work."""
RUN_S = 15.0
"""What a run takes beside its steps and films: building, saving, judging, in seconds."""
_WARM_UP_STEPS, _PROBE_STEPS = 2, 4

RULE = (
    "The size of the films gives way first: it is limited, for all systems alike, to the largest of "
    f"{', '.join(map(str, SIZES))} px at which every system has all the epochs of its recipe. If there is none, the "
    f"size is {SIZES[0]} px and the epochs give way: all systems get the same number, the largest that fits. "
    f"{RESERVE:.0%} of the time is kept in reserve. All train to the last epoch and keep it: no early stop, no choice "
    "of an epoch."
)
"""The rule of `scale`, in words for the page."""


class Cost(NamedTuple):
    """What a system takes on this machine, in seconds: a training step of one batch, and scoring one film."""

    step_s: float
    film_s: float


class Work(NamedTuple):
    """The films of one split that each system is trained on and judged by."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Scale:
    """What the budget allows: the size that limits all systems, their epochs, and the seconds that they should take."""

    size: int
    epochs: int
    expected_s: float
    costs: dict[str, Cost]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        costs = {name: cost._asdict() for name, cost in self.costs.items()}
        return {**asdict(self), "costs": costs, "reserve": RESERVE, "rule": RULE}


def scale(
    recipes: Mapping[str, Recipe],
    works: Sequence[Work],
    *,
    seeds: int,
    minutes: float,
    measure: Callable[[Recipe], Cost],
) -> Scale:
    """The largest size, and then the most epochs, with which all trainings fit into the minutes: see RULE.

    Args:
        recipes: the systems' recipes by name, unscaled.
        works: the splits under which each system is trained, once per seed.
        minutes: wall-clock for all trainings and their judging together.
        measure: tells what a scaled recipe takes; `probe`.

    Raises:
        HilumError: if not even one epoch at the smallest size fits.
    """
    wanted = min(recipe.training.epochs for recipe in recipes.values())
    largest = max(recipe.preprocessing.size for recipe in recipes.values())
    allowed = 60 * minutes * (1 - RESERVE)
    measured: dict[tuple[str, int], Cost] = {}
    fitting: list[Scale] = []

    def seconds(costs: Mapping[str, Cost], epochs: int) -> float:
        return seeds * sum(run_s(cost, recipes[name], work, epochs) for name, cost in costs.items() for work in works)

    for size in SIZES:
        costs: dict[str, Cost] = {}
        for name, recipe in recipes.items():
            small = scaled(recipe, size, wanted)
            key = name, small.preprocessing.size
            costs[name] = measured[key] if key in measured else measured.setdefault(key, measure(small))
            if fitting and seconds(costs, wanted) > allowed:
                return fitting[-1]
        epochs = next((n for n in range(wanted, 0, -1) if seconds(costs, n) <= allowed), 0)
        if not epochs:
            raise HilumError(
                f"budget must be at least {seconds(costs, 1) / (1 - RESERVE) / 60:.1f} minutes on this machine for one "
                f"epoch of {len(recipes) * len(works) * seeds} trainings at {size} px, got {minutes:g}. "
                "Give more minutes, or fewer --systems, --protocols or --seeds"
            )
        fitting.append(Scale(size, epochs, seconds(costs, epochs), costs))
        if epochs < wanted or size >= largest:
            break
    return fitting[-1]


def run_s(cost: Cost, recipe: Recipe, work: Work, epochs: int) -> float:
    """Seconds that one training and its judging should take."""
    each_epoch = work.train // recipe.training.batch * cost.step_s + work.val * cost.film_s
    return epochs * each_epoch + (work.test + work.val) * cost.film_s + RUN_S


def scaled(recipe: Recipe, size: int, epochs: int) -> Recipe:
    """The recipe at no more than a size and with a number of epochs, of which it trains all and keeps the last.

    Loss, network, optimiser, schedule and interpolation stay what they are.
    """
    fields = recipe.to_dict()
    smaller = min(size, recipe.preprocessing.size)
    fields["preprocessing"]["size"] = smaller
    if fields["architecture"]["network"] == "chestnet":
        fields["architecture"]["size"] = smaller  # its last kernel is made for one size
    fields["training"] |= {"epochs": epochs, "keep": "last", "stop_patience": None}
    return recipe_from_dict(fields, where=recipe.name)


def probe(recipe: Recipe, findings: int) -> Cost:
    """Train a new network for a few steps on noise, and score some: what it takes on this machine."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = computes_in_bf16(recipe.training.precision)
    batch, size = recipe.training.batch, recipe.preprocessing.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model: Classifier = build(recipe.architecture, findings=findings, channels=recipe.preprocessing.channels)
        images = torch.rand(batch, recipe.preprocessing.channels, size, size, device=device)
        labels = (torch.rand(batch, findings, device=device) < 0.2).float()
        learner = Learner(model, recipe, steps=_PROBE_STEPS).to(device)
        optimizer = torch.optim.Adam(learner.parameters(), lr=recipe.optimizer.lr, fused=True)
        prevalence = torch.full((findings,), 0.2)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = loss_of(learner(images), labels, recipe.loss, prevalence)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()  # waits for the device

        step_s = _seconds_of(step)

        def score() -> None:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                learner(images).cpu()

        learner.eval()
        return Cost(step_s, _seconds_of(score) / batch)


def _seconds_of(work: Callable[[], None]) -> float:
    """Mean seconds, after a warm-up: a mean and not the best, since the training meets the same other work."""
    for _ in range(_WARM_UP_STEPS):
        work()
    started = time.perf_counter()
    for _ in range(_PROBE_STEPS):
        work()
    return (time.perf_counter() - started) / _PROBE_STEPS
