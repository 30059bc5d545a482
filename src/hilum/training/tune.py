"""Search a recipe's values by Optuna: trials on patient-wise folds, within a time budget, resumable."""

import json
import re
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.data.films import Films
from hilum.errors import RecipeError, extras_named
from hilum.files import alone, write_whole
from hilum.messages import messages
from hilum.recipe import Recipe, load_recipe
from hilum.training.train import train

STUDY = "study.jsonl"
BEST = "best.toml"


@dataclass(frozen=True)
class Range:
    """The values that a key of the recipe may take.

    Attributes:
        choices: these alone; empty for a range.
        low: the lower end of a range, included.
        high: its upper end, included.
        log: whether its steps are factors.
        whole: whether it holds whole numbers alone.
    """

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        trials: finished, in all runs of this search.
        value: the best trial's mean validation AUROC over the folds; NaN without a finished trial.
        spread: standard deviation over its folds.
        changes: the best trial's values by key.
    """

    trials: int
    value: float
    spread: float
    changes: dict[str, Any]


def read_space(path: Path, recipe: Recipe) -> dict[str, Range]:
    """Read which keys are searched, from TOML: `"optimizer.lr" = { low = 1e-5, high = 1e-3, log = true }`, or a list.

    Raises:
        RecipeError: if the file cannot be read, or a value is not one that the recipe takes.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"space must be a TOML file, but {path} cannot be read: {error}") from None
    if not fields:
        raise RecipeError(f"space must name a key of the recipe at least, got none in {path}")
    space = {key: _range(key, value, path) for key, value in fields.items()}
    for key, one in space.items():
        for value in one.choices or (one.low, one.high):
            load_recipe(
                recipe, [f"{key}={json.dumps(int(value) if one.whole else value)}"]
            )  # refuses what it cannot be
    return space


def _range(key: str, value: Any, path: Path) -> Range:
    match value:
        case list() if value:
            return Range(choices=tuple(value))
        case {"low": int() | float() as low, "high": int() | float() as high, **rest} if (
            low < high and set(rest) <= {"log"} and (low > 0 or not rest.get("log"))
        ):
            whole = isinstance(low, int) and isinstance(high, int)
            return Range((), float(low), float(high), bool(rest.get("log")), whole)
    raise RecipeError(
        f"{key} must be a list of values or a table of low, high and perhaps log, got {value!r} in {path}. "
        'For example: "optimizer.lr" = { low = 1e-5, high = 1e-3, log = true }'
    )


def budget_seconds(text: str) -> float:
    """A time such as 90s, 20m or 2h in seconds.

    Raises:
        RecipeError: if it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if found is None or float(found[1]) == 0:
        raise RecipeError(f"budget must be a time such as 90s, 20m or 2h, got {text!r}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def folds_of(films: Films, folds: int, *, seed: int) -> list[Films]:
    """The train and validation films as so many pairs: each patient's films are validation films in one of them.

    The test films are in none. Films whose notes say that patients are films are split by film, as there is no more.

    Raises:
        RecipeError: if there are fewer patients than folds.
    """
    kept = films.table[films.table["split"].isin(["train", "val"])].reset_index(drop=True)
    patients = np.array(sorted(set(kept["patient"])))
    if not 2 <= folds <= len(patients):
        raise RecipeError(f"folds must be from 2 to the number of patients, {len(patients)}, got {folds}")
    order = np.random.default_rng(seed).permutation(len(patients))
    fold_of = {str(patients[place]): number % folds for number, place in enumerate(order)}
    own = kept["patient"].map(fold_of)
    notes = {**films.notes, "protocol": "patient"}
    return [
        replace(
            films,
            table=kept.assign(split=pd.Series(np.where(own == fold, "val", "train"), dtype=kept["split"].dtype)),
            notes=notes,
        )
        for fold in range(folds)
    ]


def tune(
    recipe: Recipe,
    films: Films,
    space: Mapping[str, Range],
    out: Path,
    *,
    budget_s: float,
    folds: int = 3,
    trials: int | None = None,
    packs: Path,
    resume: bool = False,
) -> Found:
    """Search for the values with the highest mean validation AUROC over patient-wise folds, as long as time allows.

    Trials and their figures are kept in `out`; the best is written as a recipe, best.toml. No trial begins once the
    budget is over; a trial whose first folds are worse than most others' is given up. The test films are not touched.

    Args:
        recipe: where the search starts; its own values are the first trial, as far as the space holds them.
        films: split into train and validation films at least.
        out: a new folder, or that of the search that is resumed.
        budget_s: seconds from now on.
        trials: at most so many in all; None for as many as there is time for.
        packs: folder for the packed films.
        resume: go on with the search in `out`.

    Raises:
        RecipeError: if recipe, films and `out` do not fit each other.
        MissingExtraError: if the extra [tune] is not installed.
        TrainingStoppedError: on Ctrl-C or SIGTERM; the search can be resumed.
    """
    with extras_named():
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    claim = {"recipe": recipe.to_dict(), "films": films.fingerprint(), "folds": folds, "space": _told(space)}
    _check(out, claim, resume=resume)
    end = time.monotonic() + budget_s
    pairs = folds_of(films, folds, seed=recipe.seed)
    with alone(out):
        write_whole(out / "search.json", json.dumps(claim, indent=2).encode())
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(out / STUDY))),
            study_name="hilum",
            sampler=optuna.samplers.TPESampler(seed=recipe.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            direction="maximize",
            load_if_exists=True,
        )
        for old in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(old.number, state=optuna.trial.TrialState.FAIL)  # of a search that was stopped
        if not study.trials:
            study.enqueue_trial(_start(recipe, space), skip_if_exists=True)

        def measure(trial: Any) -> float:
            changes = {key: _suggested(trial, key, one) for key, one in space.items()}
            chosen = load_recipe(recipe, [f"{key}={json.dumps(value)}" for key, value in changes.items()])
            values: list[float] = []
            for fold, pair in enumerate(pairs):
                folder = out / "trials" / f"{trial.number:03d}" / f"fold-{fold}"
                bundle = train(chosen, pair, folder, packs=packs, bar=False)
                values.append(float(bundle.training["val_auroc"]))
                trial.report(float(np.mean(values)), fold)
                trial.set_user_attr("folds", values)
                if fold + 1 < folds and trial.should_prune():
                    raise optuna.TrialPruned
            told = ", ".join(f"{key} {_shown(value)}" for key, value in changes.items())
            mean = f"mean AUROC {np.mean(values):.4f} over {folds} folds"
            messages().print(f"trial {trial.number}: {mean}; {told}", soft_wrap=True)
            return float(np.mean(values))

        def over(study: Any, trial: Any) -> None:
            if time.monotonic() >= end or (trials is not None and _finished(study) >= trials):
                study.stop()

        if time.monotonic() < end and (trials is None or _finished(study) < trials):
            study.optimize(measure, callbacks=[over])
        found = _found(study)
        if found.changes:
            write_whole(out / BEST, _as_recipe(recipe, found).encode())
    return found


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finished(study: Any) -> int:
    return sum(trial.state.is_finished() and trial.state.name != "FAIL" for trial in study.trials)


def _told(space: Mapping[str, Range]) -> dict[str, Any]:
    return {key: [list(one.choices), one.low, one.high, one.log, one.whole] for key, one in space.items()}


def _check(out: Path, claim: Mapping[str, Any], *, resume: bool) -> None:
    path = out / "search.json"
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RecipeError(f"out must be a new or empty folder, got {out}. Choose another, or go on with --resume")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RecipeError(f"out must hold a search to resume, but {path} cannot be read. Leave --resume out") from None
    for key in claim:
        if json.dumps(before.get(key), sort_keys=True) != json.dumps(claim[key], sort_keys=True):
            raise RecipeError(f"{key} must be what the search in {out} was started with. Choose another --out")


def _start(recipe: Recipe, space: Mapping[str, Range]) -> dict[str, Any]:
    """The recipe's own values of these keys, where the space holds them."""
    own: dict[str, Any] = {}
    for key, one in space.items():
        value: Any = recipe.to_dict()
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if one.choices:
            inside = value in one.choices
        else:
            inside = isinstance(value, int | float) and one.low <= value <= one.high
        if inside:
            own[key] = value
    return own


def _suggested(trial: Any, key: str, one: Range) -> Any:
    if one.choices:
        return trial.suggest_categorical(key, list(one.choices))
    if one.whole:
        return trial.suggest_int(key, int(one.low), int(one.high), log=one.log)
    return trial.suggest_float(key, one.low, one.high, log=one.log)


def _found(study: Any) -> Found:
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if not done:
        return Found(0, float("nan"), float("nan"), {})
    best = study.best_trial
    spread = float(np.std(best.user_attrs["folds"], ddof=1))
    return Found(_finished(study), float(best.value), spread, dict(best.params))


def _as_recipe(recipe: Recipe, found: Found) -> str:
    """The recipe with the best values, in full, so that it needs no other file."""
    fields = load_recipe(recipe, [f"{key}={json.dumps(value)}" for key, value in found.changes.items()]).to_dict()
    lines = _toml({**fields, "name": f"{recipe.name}-tuned"})
    told = f"# The best of {found.trials} trials: mean AUROC {found.value:.4f} over the folds, which flatters it.\n"
    return told + "\n".join(lines) + "\n"


def _toml(fields: Mapping[str, Any], section: str = "") -> list[str]:
    plain = {key: value for key, value in fields.items() if not isinstance(value, dict) and value is not None}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in fields.items():
        if isinstance(value, dict):
            name = f"{section}.{key}" if section else key
            lines += ["", f"[{name}]", *_toml(value, name)]
    return lines
