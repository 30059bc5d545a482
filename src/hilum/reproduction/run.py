"""The paper's experiment as one command: every system trained, evaluated and set beside the published values."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hilum.data.films import SPLITS, Films, write_films
from hilum.errors import FilmsError, HilumError, RecipeError, TrainingStoppedError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.files import write_whole
from hilum.messages import messages
from hilum.nn.build import build
from hilum.recipe import Recipe
from hilum.reproduction.plan import (
    SYSTEMS,
    Plan,
    Run,
    TrainingCost,
    Work,
    chosen_recipes,
    make_plan,
    probe,
    read_plan,
    scale,
    what_was_asked,
)
from hilum.reproduction.tables import write_reproduction
from hilum.training.train import train
from hilum.training.weights import load_weights

SPLIT_SEED = 0
"""Of the protocols that the suite splits itself; only the seeds of the trainings change."""


@dataclass(frozen=True)
class Suite:
    """A plan, the films of each of its protocols, and the folder in which all is kept."""

    plan: Plan
    splits: dict[str, Films]
    out: Path
    packs: Path

    def bundle(self, run: Run) -> Path:
        """The folder of a training."""
        return self.out / "runs" / run.name

    def report(self, run: Run) -> Path:
        """The folder of its report."""
        return self.out / "reports" / run.name

    def is_finished(self, run: Run) -> bool:
        """Whether a training was evaluated: the page is what is written last."""
        return (self.report(run) / "report.html").is_file()


def reproduce(
    films: Films,
    out: Path,
    *,
    packs: Path,
    protocols: Sequence[str] = (),
    systems: Sequence[str] = SYSTEMS,
    seeds: int = 1,
    budget: float | None = None,
    changes: Sequence[str] = (),
    bar: bool = True,
) -> dict[str, Any]:
    """Train and evaluate the paper's systems, and write reproduce.json and reproduce.html beside the published values.

    The same call goes on where an earlier one was stopped, at whatever point. The page is written anew after each
    finished training. A training that fails does not keep the others from theirs.

    Args:
        films: a manifest, split unless `protocols` are given.
        out: folder for everything: new, or that of the suite that is gone on with.
        packs: folder for packed films.
        protocols: the protocols under which a copy of the manifest is split; as it is split if empty.
        systems: recipes, shipped ones by name or files.
        seeds: trainings of each system and protocol, with the seeds 0, 1, ...
        budget: minutes for all trainings together, to which size and epochs are scaled; None: the full recipes.
        changes: of all recipes alike, such as `optimizer.lr=1e-3`.
        bar: show progress on standard error.

    Raises:
        HilumError: if the suite cannot be planned, differs from what `out` holds, or a training failed.
        TrainingStoppedError: on Ctrl-C or SIGTERM, once the state is saved.
    """
    say = messages().print
    recipes = chosen_recipes(systems, changes)
    splits = _splits(films, protocols)
    asked = what_was_asked(recipes, splits, seeds=seeds, budget=budget)
    path = out / "plan.json"
    if path.is_file():
        plan = read_plan(path, asked)
        say(f"Going on with the plan in {path}.")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HilumError(f"out must be a new or empty folder, or hold a suite's plan.json, got {out}. Choose another.")
    else:
        changed = {name: recipe for name, (_, recipe) in recipes.items()}
        _check_networks(changed, len(films.findings))
        allowed = None
        if budget is not None:
            say("Measuring what each system takes on this machine.")
            works = [_work(split) for split in splits.values()]
            allowed = scale(changed, works, seeds=seeds, minutes=budget, measure=partial(_measured, films))
        plan = make_plan(asked, recipes, splits, allowed)
        write_whole(path, json.dumps(plan.to_dict(), indent=2).encode())
    say(plan.to_text())
    suite = Suite(plan, splits, out, packs)
    for protocol, split in splits.items():
        write_films(split, out / f"films-{protocol}.parquet")
    return _run_all(suite, bar=bar)


def _run_all(suite: Suite, *, bar: bool) -> dict[str, Any]:
    runs = suite.plan.runs()
    failed: dict[str, str] = {}
    content = write_reproduction(suite.plan, suite.out, failed)
    for number, run in enumerate(runs, 1):
        if suite.is_finished(run):
            continue
        messages().print(f"{number}/{len(runs)} {run.name}")
        try:
            with _clock(suite.out / "minutes.json", run.name):
                _run(suite, run, bar=bar)
        except TrainingStoppedError:
            raise TrainingStoppedError(
                f"suite was stopped during {run.name} and is saved in {suite.out}. Go on with the same command"
            ) from None
        except HilumError as error:
            messages().print(f"{run.name} failed: {error}", style="red")
            failed[run.name] = str(error)
        content = write_reproduction(suite.plan, suite.out, failed)
    if failed:
        name, reason = next(iter(failed.items()))
        raise HilumError(
            f"trainings must end well, but {len(failed)} of {len(runs)} failed, the first is {name}: {reason} The same "
            f"command tries them again; the others are in {suite.out / 'reproduce.html'}"
        )
    return content


def _run(suite: Suite, run: Run, *, bar: bool) -> None:
    """One training and its report, from wherever they stand."""
    films, bundle = suite.splits[run.protocol], suite.bundle(run)
    if not (bundle / "bundle.json").is_file():
        resume = (bundle / "run.json").is_file()
        if bundle.exists() and not resume:  # killed before it began
            shutil.rmtree(bundle)
        train(run.recipe, films, bundle, packs=suite.packs, resume=resume, bar=bar)
    shutil.rmtree(bundle / "checkpoints", ignore_errors=True)  # several times the bundle, and of no use any more
    evaluate_to_folder(bundle, films, suite.report(run))


def _splits(films: Films, protocols: Sequence[str]) -> dict[str, Films]:
    """The films under each protocol."""
    if protocols:
        return {protocol: films.split(protocol, seed=SPLIT_SEED) for protocol in protocols}
    protocol = films.notes.get("protocol")
    if protocol is None:
        raise FilmsError(
            "films must be split by a protocol that the manifest names, got none. Split them with: hilum split "
            "films.parquet --protocol patient; or let the suite do it with: --protocols patient"
        )
    films.select("train"), films.select("test")
    return {protocol: films}


def _work(films: Films) -> Work:
    return Work(*(int((films.table["split"] == split).sum()) for split in SPLITS))


def _measured(films: Films, recipe: Recipe) -> TrainingCost:
    cost = probe(recipe, len(films.findings))
    size, batch = recipe.preprocessing.size, recipe.training.batch
    messages().print(f"{recipe.name} at {size} px: {cost.step_s:.3f} s for a step of {batch} films")
    return cost


def _check_networks(recipes: dict[str, Recipe], findings: int) -> None:
    """Build every network and have every starting weight now, rather than fail hours later.

    Raises:
        RecipeError: if a network cannot be built.
        BundleError: if its weights cannot be had; says what to do.
    """
    for recipe in recipes.values():
        needs_weights = recipe.weights not in ("none", "phantom")  # phantom weights are made by the training
        try:
            with torch.device("cpu" if needs_weights else "meta"), torch.random.fork_rng(devices=[]):
                model = build(recipe.architecture, findings=findings, channels=recipe.preprocessing.channels)
        except ValueError as error:
            raise RecipeError(f"architecture of {recipe.name}: {error}") from None
        if needs_weights:
            load_weights(model, recipe.weights)


@contextmanager
def _clock(path: Path, name: str) -> Iterator[None]:
    """Add the minutes that the block takes to those that a file holds under a name, however the block ends."""
    started = time.monotonic()
    try:
        yield
    finally:
        spent: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        spent[name] = spent.get(name, 0.0) + (time.monotonic() - started) / 60
        write_whole(path, json.dumps(spent, indent=2).encode())
