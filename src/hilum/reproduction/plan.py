"""Plan a reproduction: which systems, protocols and seeds, scaled alike to fit into a time."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hilum import __version__
from hilum.data.films import Films
from hilum.errors import HilumError, RecipeError
from hilum.nn.build import build
from hilum.nn.classifier import Classifier
from hilum.recipe import Recipe, load_recipe, recipe_from_dict
from hilum.training.learner import Learner
from hilum.training.losses import loss_of
from hilum.training.train import computes_in_bf16

SIZES = (128, 160, 224, 320, 512, 1024)
"""The sizes in pixels to which films may be limited; every system takes 128, and ChestNet multiples of 32."""
RESERVE = 0.2
"""The part of the time kept for what the probe does not see: packing films, checkpoints, reports, other work."""
RUN_S = 15.0
"""What a run takes beside its steps and films: building, saving, evaluation, in seconds."""
_WARM_UP_STEPS, _PROBE_STEPS = 2, 4

RULE = (
    "The size of the films gives way first: it is limited, for all systems alike, to the largest of "
    f"{', '.join(map(str, SIZES))} px at which every system has all the epochs of its recipe. If there is none, the "
    f"size is {SIZES[0]} px and the epochs give way: all systems get the same number, the largest that fits. "
    f"{RESERVE:.0%} of the time is kept in reserve. All train to the last epoch and keep it: no early stop, no choice "
    "of an epoch."
)
"""The rule of `scale`, in words for the page."""


class TrainingCost(NamedTuple):
    """What a system takes on this machine, in seconds: a training step of one batch, and scoring one film."""

    step_s: float
    film_s: float


class Work(NamedTuple):
    """The films of one split that each system is trained on and evaluated by."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Scale:
    """What the budget allows: the size that limits all systems, their epochs, and the seconds that they should take."""

    size: int
    epochs: int
    expected_s: float
    costs: dict[str, TrainingCost]

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
    measure: Callable[[Recipe], TrainingCost],
) -> Scale:
    """The largest size, and then the most epochs, with which all trainings fit into the minutes: see RULE.

    Args:
        recipes: the systems' recipes by name, unscaled.
        works: the splits under which each system is trained, once per seed.
        minutes: wall-clock for all trainings and their evaluation together.
        measure: tells what a scaled recipe takes; `probe`.

    Raises:
        HilumError: if not even one epoch at the smallest size fits.
    """
    wanted = min(recipe.training.epochs for recipe in recipes.values())
    largest = max(recipe.preprocessing.size for recipe in recipes.values())
    allowed = 60 * minutes * (1 - RESERVE)
    measured: dict[tuple[str, int], TrainingCost] = {}
    fitting: list[Scale] = []

    def seconds(costs: Mapping[str, TrainingCost], epochs: int) -> float:
        return seeds * sum(run_s(cost, recipes[name], work, epochs) for name, cost in costs.items() for work in works)

    for size in SIZES:
        costs: dict[str, TrainingCost] = {}
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


def run_s(cost: TrainingCost, recipe: Recipe, work: Work, epochs: int) -> float:
    """Seconds that one training and its evaluation should take."""
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


def probe(recipe: Recipe, findings: int) -> TrainingCost:
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
        return TrainingCost(step_s, _seconds_of(score) / batch)


def _seconds_of(work: Callable[[], None]) -> float:
    """Mean seconds, after a warm-up: a mean and not the best, since the training meets the same other work."""
    for _ in range(_WARM_UP_STEPS):
        work()
    started = time.perf_counter()
    for _ in range(_PROBE_STEPS):
        work()
    return (time.perf_counter() - started) / _PROBE_STEPS


SYSTEMS = ("am-densenet", "am-densenet-bce", "densenet", "wang-resnet50", "chestnet", "dnetloc")
"""The systems of the paper's tables 1 to 3, by their recipes."""

_SUITES_OWN = ("seed", "protocol", "name")
_NOT_TRAINING = {"name", "about", "source", "seed"}
_ASKED = {
    "films": "films and their split",
    "protocols": "protocols",
    "seeds": "seeds",
    "budget_minutes": "budget",
    "systems": "systems",
    "recipes": "recipes and --set",
}
"""What a plan was asked for, in the words of the refusal of another one."""


class Run(NamedTuple):
    """One training: `name` is its place below runs/ and reports/."""

    protocol: str
    system: str
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """PROTOCOL/SYSTEM-seedSEED."""
        return f"{self.protocol}/{self.system}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What is going to be trained.

    Attributes:
        asked: what the command line asked for, with which a resumed suite must agree.
        scale: what the budget allows, as `Scale.to_dict` gives it; None for the full recipes.
        recipes: for each protocol, each system's recipe as it is trained, with seed 0.
        departures: for each protocol, in which each system's training differs from its shipped recipe, in words.
    """

    asked: dict[str, Any]
    scale: dict[str, Any] | None
    recipes: dict[str, dict[str, Recipe]]
    departures: dict[str, dict[str, list[str]]]

    def runs(self) -> list[Run]:
        """All trainings in their order: all systems with one seed before any has the next."""
        return [
            Run(protocol, system, seed, recipe_from_dict({**recipe.to_dict(), "seed": seed}, where=system))
            for seed in range(self.asked["seeds"])
            for protocol, systems in self.recipes.items()
            for system, recipe in systems.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """plan.json."""
        recipes = {
            protocol: {system: recipe.to_dict() for system, recipe in systems.items()}
            for protocol, systems in self.recipes.items()
        }
        return {
            "hilum": __version__,
            "asked": self.asked,
            "scale": self.scale,
            "recipes": recipes,
            "departures": self.departures,
            "runs": [run.name for run in self.runs()],
        }

    def to_text(self) -> str:
        """The plan in plain words."""
        runs, scale = self.runs(), self.scale
        lines = [f"{len(runs)} trainings, in this order: {', '.join(run.name for run in runs)}."]
        if scale:
            lines += [
                f"Budget: {self.asked['budget_minutes']:g} minutes, of which they should take "
                f"{scale['expected_s'] / 60:.0f}: films of at most {scale['size']} px, {scale['epochs']} epochs.",
                f"The rule: {scale['rule']}",
            ]
        for protocol, systems in self.departures.items():
            lines += [f"{protocol}, {system}: {not_the_papers(words)}" for system, words in systems.items()]
        return "\n".join(lines)


def not_the_papers(departures: Sequence[str]) -> str:
    """The sentence that stands wherever the values of such a training are shown."""
    if not departures:
        return "Trained as the recipe says."
    return f"Not the paper's training: {', '.join(departures)}."


def chosen_recipes(systems: Sequence[str], changes: Sequence[str]) -> dict[str, tuple[Recipe, Recipe]]:
    """For each system the recipe as it is shipped, and with the changes, which are the same for all.

    Raises:
        RecipeError: if a recipe does not exist, stands twice, does not take a change, or a change is the suite's own.
    """
    if not systems:
        raise RecipeError("systems must be at least one recipe, got none. Name recipes with --systems")
    for change in changes:
        key = change.partition("=")[0].strip()
        if key in _SUITES_OWN:
            raise RecipeError(f"--set must leave {key} to the suite, got {change!r}. See --seeds and --protocols")
    chosen: dict[str, tuple[Recipe, Recipe]] = {}
    for system in systems:
        recipe = load_recipe(system)
        if recipe.name in chosen:
            raise RecipeError(f"systems must be different recipes, got {recipe.name} twice. Name each once")
        if not recipe.name.replace("-", "").replace("_", "").isalnum():
            raise RecipeError(
                f"name of a recipe must be letters, digits, - and _ here, got {recipe.name!r} in {system}"
            )
        chosen[recipe.name] = recipe, load_recipe(system, changes)
    return chosen


def what_was_asked(
    recipes: Mapping[str, tuple[Recipe, Recipe]], splits: Mapping[str, Films], *, seeds: int, budget: float | None
) -> dict[str, Any]:
    """What decides a plan, as plain JSON."""
    return {
        "films": {protocol: films.fingerprint() for protocol, films in splits.items()},
        "protocols": list(splits),
        "seeds": seeds,
        "budget_minutes": budget,
        "systems": list(recipes),
        "recipes": {name: changed.to_dict() for name, (_, changed) in recipes.items()},
    }


def make_plan(
    asked: dict[str, Any],
    recipes: Mapping[str, tuple[Recipe, Recipe]],
    splits: Mapping[str, Films],
    budget: Scale | None,
) -> Plan:
    """The plan of all trainings, each recipe fitted to its protocol and, if there is a budget, to that.

    A recipe takes the protocol under which it is trained; where this has no films to choose an epoch by, it keeps the
    last. All else that is changed is the budget's doing; see `scaled`.
    """
    planned: dict[str, dict[str, Recipe]] = {}
    departures: dict[str, dict[str, list[str]]] = {}
    for protocol, films in splits.items():
        planned[protocol], departures[protocol] = {}, {}
        for name, (shipped, changed) in recipes.items():
            fields = changed.to_dict() | {"protocol": protocol, "seed": 0}
            if not (films.table["split"] == "val").any():
                fields["training"]["keep"] = "last"
            recipe = recipe_from_dict(fields, where=name)
            if budget is not None:
                recipe = scaled(recipe, budget.size, budget.epochs)
            planned[protocol][name] = recipe
            departures[protocol][name] = departures_of(shipped, recipe)
    return Plan(asked, None if budget is None else budget.to_dict(), planned, departures)


def read_plan(path: Path, asked: Mapping[str, Any]) -> Plan:
    """The plan of a suite that is gone on with.

    Raises:
        HilumError: if the file is no plan, or was made for something else than is asked now; says for what.
    """
    remedy = "Choose another --out, or repeat the first command"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        before = content["asked"]
        differing = next((key for key in _ASKED if before[key] != asked[key]), None)
        recipes = {
            protocol: {name: recipe_from_dict(fields, where=str(path)) for name, fields in systems.items()}
            for protocol, systems in content["recipes"].items()
        }
        plan = Plan(before, content["scale"], recipes, content["departures"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HilumError(f"plan.json must be the plan of a suite, but {path} is not: {error!r}. {remedy}") from None
    if differing:
        values = "" if isinstance(before[differing], dict) else f": {before[differing]}, got {asked[differing]}"
        raise HilumError(
            f"{_ASKED[differing]} must be those that the suite in {path.parent} began with{values}. {remedy}"
        )
    return plan


def departures_of(shipped: Recipe, trained: Recipe) -> list[str]:
    """In what a training differs from the shipped recipe, a few words each."""
    before, now = _flat(shipped.to_dict()), _flat(trained.to_dict())
    words = []
    for key in (key for key in {**before, **now} if before.get(key) != now.get(key)):
        old: Any = before.get(key)
        new: Any = now.get(key)
        match key:
            case "preprocessing.size":
                words.append(f"{new} px instead of {old}")
            case "architecture.size":  # ChestNet's, which is the films'
                continue
            case "training.epochs":
                words.append(f"{new} of {old} epochs" if new < old else f"{new} epochs instead of {old}")
            case "weights":
                words.append(f"{_weights(new)} instead of {_weights(old)}")
            case "protocol":
                words.append(f"films split by {new} instead of {old}")
            case "training.keep":
                words.append(f"the {new} epoch is kept instead of the {old}")
            case "training.stop_patience" if new is None:
                words.append("no early stop")
            case "schedule.name":
                words.append(f"schedule {new} instead of {old}")
            case "optimizer.lr":
                words.append(f"learning rate {new:g} instead of {old:g}")
            case _:
                words.append(f"{key} {_value(new)} instead of {_value(old)}")
    return words


def _flat(fields: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{key}.")
        elif above or key not in _NOT_TRAINING:
            flat[above + key] = value
    return flat


def _weights(name: str) -> str:
    return {"none": "random weights", "imagenet": "ImageNet's"}.get(name, f"the weights of {name}")


def _value(value: object) -> str:
    return "none" if value is None else f"{value}"
