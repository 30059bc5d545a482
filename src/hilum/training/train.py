"""Train a recipe on films into a bundle; where the recipe asks for it, start on phantom films."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float32
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader, Subset

from hilum.data.dataset import FilmDataset, SeededFilms, ShuffledBatches, boxes_by_row, packed_films
from hilum.data.films import Films, read_films, write_films
from hilum.data.merge import groups_of
from hilum.data.pack import open_pack
from hilum.data.quality import LEAST_FILMS, QualityCheck, fit_quality_check
from hilum.data.sources.nih import index_nih
from hilum.data.splits import constant_labels
from hilum.errors import RecipeError, TrainingStoppedError
from hilum.files import alone, write_whole
from hilum.messages import messages, quiet_lightning
from hilum.model.bundle import Bundle, load_bundle, save_bundle
from hilum.model.calibrate import calibrate
from hilum.model.ensemble import combine
from hilum.model.explain import heatmap_logits
from hilum.model.metadata import read_bundle_json
from hilum.nn.build import EnsembleChoices, build
from hilum.nn.classifier import Classifier
from hilum.phantom.dataset import write_phantom
from hilum.phantom.lateral import lateral_views
from hilum.recipe import Partner, Recipe, load_recipe, recipe_from_dict
from hilum.training.batch_norm import plain_batch_norm, share_batch_norm
from hilum.training.distil import taught
from hilum.training.freezing import FreezeBody
from hilum.training.learner import (
    READ_EVERY,
    Learner,
    MovingAverage,
    SaveBeforeStopping,
    StopEarly,
    prevalence_of,
    resume_point,
    start_from_prevalence,
)
from hilum.training.loggers import check_loggers, close_loggers, open_loggers
from hilum.training.probe import MOST_ROWS, fit_classifier
from hilum.training.processes import (
    Environment,
    Processes,
    check_same,
    find_processes,
    gathered,
    joined,
    process_rank,
    together,
)
from hilum.training.weights import load_weights, new_head

PHANTOM_FILMS = 2000
_FRACTIONS = (0.95, 0.05, 0.0)


@runtime_checkable  # for the tests' type checker
class Train(Protocol):
    """`hilum.training.train.train`, which asks for this file and therefore cannot be imported here."""

    def __call__(self, recipe: Recipe, films: Films, out: Path, *, packs: Path, resume: bool) -> Bundle:
        """Train a recipe on films into a folder."""


def phantom_bundle(recipe: Recipe, folder: Path, train: Train) -> Path:
    """The folder of a bundle that was trained on phantom films for this recipe's network; made once, then kept.

    Phantom films cost nothing, their labels are true, and their findings lie where a radiologist would look. The recipe
    `phantom` says how it is done; network, loss and channels are those of `recipe`.

    Args:
        recipe: the recipe that asks for `weights = "phantom"`.
        folder: where bundles and phantom films are kept; either may be deleted at any time.
        train: `hilum.training.train.train`.
    """
    shipped = load_recipe("phantom", [f"preprocessing.channels={recipe.preprocessing.channels}"])
    same = {name: getattr(recipe, name) for name in ("architecture", "loss", "seed")}
    pretraining = shipped.model_copy(update=same)
    key = hashlib.sha256(json.dumps([pretraining.to_dict(), PHANTOM_FILMS], sort_keys=True).encode()).hexdigest()[:12]
    out = folder / f"phantom-{key}"
    if (out / "bundle.json").is_file():
        messages().print(f"Starting from the weights learned on phantom films: {out}")
        return out
    messages().print(f"Starting weights: {PHANTOM_FILMS:,} phantom films are drawn and learned first, once: {out}")
    films = _phantom_films(pretraining, folder)
    train(pretraining, films, out, packs=folder, resume=(out / "run.json").is_file())
    return out


def _phantom_films(recipe: Recipe, folder: Path) -> Films:
    """The phantom films of this size and seed, drawn now unless an earlier run finished drawing them."""
    size, seed = recipe.preprocessing.size, recipe.seed
    data = folder / f"phantom-films-{PHANTOM_FILMS}-{size}-{seed}"
    manifest = data / "films.parquet"

    def draw() -> None:
        if manifest.is_file() or process_rank() > 0:
            return
        if data.exists():
            shutil.rmtree(data)  # an earlier run was stopped while it drew
        write_phantom(data / "nih", films=PHANTOM_FILMS, size=size, seed=seed)
        write_films(index_nih(data / "nih").split("patient", seed=seed, fractions=_FRACTIONS), manifest)

    together(draw)
    return read_films(manifest)


def train(
    recipe: Recipe,
    films: Films,
    out: Path,
    *,
    packs: Path,
    resume: bool = False,
    bar: bool = True,
    compiled: bool = False,
) -> Bundle:
    """Train a model as a recipe says, and write it as a bundle.

    `out` also holds checkpoints/last.ckpt and best.ckpt (by mean validation AUC) and logs/. In processes that torchrun
    or srun started, all train together: each takes its part of every batch, and the first one alone writes.

    Args:
        recipe: what to train and how.
        films: a manifest that has been split; the test films are not touched.
        out: folder of the run; must be new, or hold the run that is resumed. All processes must see it.
        packs: folder for the packed films.
        resume: go on from `out`'s last checkpoint, bit for bit as if it had not stopped.
        bar: show progress on standard error.
        compiled: let torch.compile write the network's kernels, minutes before the first step. Sums are then rounded
            otherwise.

    Raises:
        RecipeError: if recipe, films and `out` do not fit each other.
        BundleError: if the starting weights or the checkpoint cannot be used.
        ImageError: if a film cannot be read.
        TrainingStoppedError: on Ctrl-C, SIGTERM or SIGUSR1, once the state is saved.
        ProcessLostError: if another process ends.
    """
    here = find_processes()
    with joined(here):
        trained = _train_partners if recipe.partners else _train
        return trained(recipe, films, out, packs, here, resume=resume, bar=bar and here.first, compiled=compiled)


def _train_partners(
    recipe: Recipe,
    films: Films,
    out: Path,
    packs: Path,
    here: Processes,
    *,
    resume: bool,
    bar: bool,
    compiled: bool,
) -> Bundle:
    """Train each of a recipe's networks into `out`/members, and write the bundle of their mean."""
    claim = {
        "recipe": recipe.to_dict(),
        "films": films.fingerprint(),
        "processes": here.count,
        "compiled": compiled,
    }
    check_same("recipe and films", claim)
    parts = [recipe.model_copy(update={"partners": ()}), *(_partner(recipe, one) for one in recipe.partners)]
    folders = [out / "members" / f"{number}-{part.name}" for number, part in enumerate(parts, start=1)]

    def startable() -> bool:
        if not here.first:
            return False
        _checked(claim, out, resume=resume)
        write_whole(out / "run.json", json.dumps(claim, indent=2).encode())
        return (out / "bundle.json").is_file()

    if gathered(together(startable))[0]:
        messages().print(f"{out} is trained to its end; there is nothing to resume.")
        return load_bundle(out)
    for part, folder in zip(parts, folders, strict=True):
        messages().print(f"Member {folder.name}")
        _train(part, films, folder, packs, here, resume=(folder / "run.json").is_file(), bar=bar, compiled=compiled)

    def averaged() -> Bundle | None:
        if not here.first:
            return None
        mean = combine(folders)
        own = read_bundle_json(folders[0])["training"]
        mean = replace(
            mean,
            recipe=mean.recipe.model_copy(update={"name": recipe.name, "about": f"{recipe.about} {mean.recipe.about}"}),
            training={**own, "members": [folder.name for folder in folders]},
            origin=None,  # it was trained here, from start to end
        )
        taken = films.of_views(recipe.views)
        validated = bool((taken.table["split"] == "val").any())
        shown = taken.select("val" if validated else "train")
        seen_as = packed_films(shown, mean.preprocessing, packs)
        mean = replace(mean, heatmap_logits=heatmap_logits(mean.model, seen_as, mean.findings))
        if validated:
            mean = calibrate(mean, shown, packs=packs)
        save_bundle(mean, out)
        return mean

    bundle = together(averaged)
    return load_bundle(out) if bundle is None else bundle


def _partner(recipe: Recipe, partner: Partner) -> Recipe:
    """A partner's recipe, for the same films and labels."""
    own = load_recipe(partner.recipe)
    if own.partners:
        raise RecipeError(f"partners must be recipes of a single network, got {partner.recipe} with its own partners")
    same = {name: getattr(recipe, name) for name in ("protocol", "labels", "views")}
    return own.model_copy(update={**same, "seed": recipe.seed if partner.seed is None else partner.seed})


def _train(
    recipe: Recipe,
    films: Films,
    out: Path,
    packs: Path,
    here: Processes,
    *,
    resume: bool,
    bar: bool,
    compiled: bool,
) -> Bundle:
    claim = {
        "recipe": recipe.to_dict(),
        "films": films.fingerprint(),
        "processes": here.count,
        "compiled": compiled,
    }
    check_same("recipe and films", claim)
    startable = together(lambda: _startable(recipe, films, claim, out, here, resume=resume) if here.first else None)
    last = gathered(startable)[0]  # the first process's
    if last is not None and (out / "bundle.json").is_file():
        messages().print(f"{out} is trained to its end; there is nothing to resume.")
        return load_bundle(out)
    films = films.of_views(recipe.views)
    seen = films.select("train")
    unseen = films.select("val") if (films.table["split"] == "val").any() else None
    targets = together(lambda: _targets(recipe, seen, packs))
    _say_what_is_special(films, seen, targets)
    model = together(lambda: _new_model(recipe, targets, films.findings, packs, resumed=last is not None))
    if recipe.optimizer.name == "ridge":
        found = together(
            lambda: _probed(recipe, films, out, packs, model, targets, claim, resume=resume) if here.first else None
        )
        return load_bundle(out) if found is None else found
    batches = _batches(recipe, seen, here)
    epoch, batches.skip = together(lambda: resume_point(last)) if last else (0, 0)
    batches.set_epoch(epoch)
    if here.count > 1:
        share_batch_norm(model, fused=torch.cuda.is_available())
    steps = recipe.training.epochs * len(batches)
    augmentation = recipe.augmentation if augments_on_device(recipe) else None
    prevalence = prevalence_of(targets)
    learner = Learner(
        model, recipe, steps=steps, prevalence=prevalence, findings=films.findings, augmentation=augmentation
    )
    if compiled:
        model.compile()
    if here.count > 1:  # the first of each machine packs, and the others find it done
        together(lambda: _pack(recipe, seen, unseen, packs) if here.local_rank == 0 else None)
    loader, validation = together(lambda: _loaders(recipe, seen, unseen, targets, packs, batches, here))
    started = time.monotonic()
    with alone(out) if here.first else nullcontext(), quiet_lightning():
        if here.first:  # only now is anything written there, unless another run has begun there meanwhile
            _checked(claim, out, resume=resume)
            write_whole(out / "run.json", json.dumps(claim, indent=2).encode())
        trainer = _trainer(recipe, out, here, validated=unseen is not None, bar=bar, log_every=min(50, len(batches)))
        try:
            trainer.fit(learner, loader, validation, ckpt_path=last, weights_only=True)
        finally:
            close_loggers(trainer.loggers)
    model._compiled_call_impl = None  # what comes now has other shapes
    plain_batch_norm(model)
    minutes = (time.monotonic() - started) / 60
    bundle = together(
        lambda: (
            _learned(recipe, films, out, packs, learner, trainer, minutes=minutes, compiled=compiled)
            if here.first
            else None
        )
    )
    return load_bundle(out) if bundle is None else bundle


def _startable(
    recipe: Recipe, films: Films, claim: dict[str, Any], out: Path, here: Processes, *, resume: bool
) -> Path | None:
    """Refuse what cannot be trained; return the checkpoint to resume from."""
    check_protocol(recipe, films)
    check_loggers(recipe)
    if recipe.training.precision == "fp16" and not torch.cuda.is_available():
        raise RecipeError("training.precision must not be fp16 without a CUDA GPU. Use: --set training.precision=auto")
    last = _checked(claim, out, resume=resume)
    if last is not None and (out / "bundle.json").is_file():
        return last
    films = films.of_views(recipe.views)
    seen = films.select("train")
    unseen = films.select("val") if (films.table["split"] == "val").any() else None
    if recipe.labels.teacher is None and not _has_both(_targets(recipe, seen)):
        raise RecipeError("films must be known to have a finding in one and not in another film of the split train")
    if recipe.training.keep == "best" and not (unseen and _has_both(unseen.all_labels)):
        raise RecipeError(
            "training.keep must be last where no finding is both present and absent in the split val, since no AUC "
            "is defined there. Use: --set training.keep=last"
        )
    _batches(recipe, seen, here)
    if recipe.training.mixup and claim["processes"] > 1:
        raise RecipeError(
            "training.mixup must be 0 for several processes, of which none has all films to mix with, got "
            f"{recipe.training.mixup}. Use: --set training.mixup=0, or one process"
        )
    if recipe.training.batch // claim["processes"] < recipe.training.accumulate:
        raise RecipeError(
            f"training.accumulate must be at most {recipe.training.batch // claim['processes']} for a batch of "
            f"{recipe.training.batch} in {claim['processes']} processes, got {recipe.training.accumulate}. "
            "Use: --set training.accumulate=..."
        )
    if unseen is not None and len(unseen) < claim["processes"]:
        raise RecipeError(
            f"processes must be at most {len(unseen)} for {len(unseen)} films of the split val, got "
            f"{claim['processes']}. Use fewer --devices"
        )
    return last


def _loaders(
    recipe: Recipe,
    seen: Films,
    unseen: Films | None,
    targets: Float32[np.ndarray, "films findings"],
    packs: Path,
    batches: ShuffledBatches,
    here: Processes,
) -> tuple[DataLoader[Any], DataLoader[Any] | None]:
    """This process's part of every batch, and of the validation films every n-th one."""
    # On a CPU the network uses every core itself; elsewhere workers keep it fed. Neither changes the result.
    workers = 0 if not torch.cuda.is_available() else min(8, (os.cpu_count() or 1) // here.local_count or 1)
    boxes = boxes_by_row(seen) if recipe.loss.boxes else None
    films = _dataset(recipe, seen, packs, targets=targets, augmented=not augments_on_device(recipe))
    learned = SeededFilms(films, boxes)
    remote = films.fetch is not None
    if remote:  # workers read ahead
        workers = max(workers, 2)
    feeding: dict[str, Any] = {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
        # What speaks to a store has threads, with which no process can be forked.
        "multiprocessing_context": "spawn" if remote else None,
    }
    loader: DataLoader[Any] = DataLoader(learned, batch_sampler=cast(Any, batches), **feeding)
    if unseen is None:
        return loader, None
    own = Subset(_dataset(recipe, unseen, packs, augmented=False), range(here.rank, len(unseen), here.count))
    per_step = -(-recipe.training.batch // here.count)
    return loader, DataLoader(own, batch_size=per_step, **feeding)


def augments_on_device(recipe: Recipe) -> bool:
    """Whether films are augmented in one pass on the GPU; regions of findings move with their films on the CPU."""
    return torch.cuda.is_available() and not recipe.loss.boxes


def _pack(recipe: Recipe, seen: Films, unseen: Films | None, packs: Path) -> None:
    for films in (seen, unseen):
        if films is not None:
            open_pack(films, recipe.preprocessing, packs)


def _probed(
    recipe: Recipe,
    films: Films,
    out: Path,
    packs: Path,
    model: Classifier,
    targets: Float32[np.ndarray, "films findings"],
    claim: dict[str, Any],
    *,
    resume: bool,
) -> Bundle:
    """The bundle of a linear probe, written.

    Raises:
        RecipeError: if the films are too many to be fitted at once.
    """
    seen, mirrored, started = films.select("train"), recipe.augmentation.flip > 0, time.monotonic()
    if len(seen) * (1 + mirrored) > MOST_ROWS:
        raise RecipeError(
            f"films must be at most {MOST_ROWS:,} for ridge, mirror images included, got "
            f"{len(seen) * (1 + mirrored):,}. Use: --set optimizer.name=adamw, which goes through them in batches"
        )
    with alone(out):
        _checked(claim, out, resume=resume)
        write_whole(out / "run.json", json.dumps(claim, indent=2).encode())
        probe = fit_classifier(
            model,
            _dataset(recipe, seen, packs, augmented=False),
            targets,
            seen.table["patient"].tolist(),
            mirrored=mirrored,
            penalty=recipe.optimizer.weight_decay or None,
            seed=recipe.seed,
        )
        chosen = {f"probe_{name}": round(value, 5) for name, value in probe._asdict().items() if np.isfinite(value)}
        told = _whom(films, seen) | {"processes": 1, "epochs": 1, "precision": "32-true"} | chosen
        minutes = round((time.monotonic() - started) / 60, 2)
        return _finished(recipe, films, out, packs, model, told | {"minutes_since_start_or_resume": minutes})


def _learned(
    recipe: Recipe,
    films: Films,
    out: Path,
    packs: Path,
    learner: Learner,
    trainer: pl.Trainer,
    *,
    minutes: float,
    compiled: bool,
) -> Bundle:
    """The bundle of a training that has come to its end, written."""
    kept = _take_weights(learner, out / "checkpoints" / f"{recipe.training.keep}.ckpt")
    told = _whom(films, films.select("train")) | _what_happened(trainer, kept, minutes=minutes, compiled=compiled)
    device = trainer.strategy.root_device.type
    return _finished(recipe, films, out, packs, learner.model, told, device=device)


def _finished(
    recipe: Recipe,
    films: Films,
    out: Path,
    packs: Path,
    model: Classifier,
    training: dict[str, Any],
    *,
    device: str = "cpu",
) -> Bundle:
    """The bundle of a network whose weights are fixed, calibrated and written."""
    seen = films.select("train")
    unseen = films.select("val") if (films.table["split"] == "val").any() else None
    model = model.eval()
    shown = _dataset(recipe, unseen or seen, packs, augmented=False)
    bundle = Bundle(
        model=model,
        findings=films.findings,
        recipe=recipe,
        films=films.fingerprint(),
        heatmap_logits=heatmap_logits(model, shown, films.findings, device=device),
        quality_check=_quality_check(recipe, seen, packs),
        sources=tuple(sorted(set(seen.table["source"]))),
        training=training,
    )
    if unseen is not None:
        bundle = calibrate(bundle, unseen, packs=packs, device=device)
    save_bundle(bundle, out)
    return bundle


def check_protocol(recipe: Recipe, films: Films) -> None:
    """Refuse films whose split leaks more than the recipe allows.

    Raises:
        RecipeError: if the recipe keeps patients apart and the films' split does not.
    """
    protocol = films.notes.get("protocol")
    if protocol == "image" and recipe.protocol != "image":
        raise RecipeError(
            f"films must be split by patient for the recipe {recipe.name}, got protocol image. Split them with: "
            "hilum split films.parquet --protocol patient; or accept the leak with: --set protocol=image"
        )
    if protocol is not None and protocol != recipe.protocol:
        messages().print(f"The recipe says protocol {recipe.protocol}; the films are split by {protocol}, which holds.")


def _checked(claim: dict[str, Any], out: Path, *, resume: bool) -> Path | None:
    """Check that the run's folder is new, or holds this very run; return the checkpoint to resume from."""
    path, last = out / "run.json", out / "checkpoints" / "last.ckpt"
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RecipeError(f"out must be a new or empty folder, got {out}. Choose another, or go on with --resume")
        return None
    if not path.is_file():
        raise RecipeError(f"out must hold a run to resume, but there is no {path}. Start it without --resume")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(f"run.json must be JSON, but {path} cannot be read: {error}") from None
    if isinstance(before, dict) and isinstance(before.get("recipe"), dict):
        with suppress(RecipeError):  # a run of before a key was added has that key's usual value
            before["recipe"] = recipe_from_dict(before["recipe"], where=str(path)).to_dict()
    for key, name in (("recipe", "recipe and --set"), ("films", "films and their split")):
        if not isinstance(before, dict) or before.get(key) != claim[key]:
            raise RecipeError(f"{name} must be those that the run in {out} was started with. Choose another --out")
    before_count = before.get("processes", 1)
    if before_count != claim["processes"]:
        raise RecipeError(
            f"processes must be {before_count}, with which the run in {out} was started, got {claim['processes']}: "
            f"sums would be rounded otherwise, and the run another. Use as many, e.g. --devices {before_count}"
        )
    if before.get("compiled", False) != claim["compiled"]:
        was = "with" if before.get("compiled") else "without"
        raise RecipeError(f"the run in {out} must go on {was} --compile, as it was started")
    return last if last.is_file() else None


def _targets(recipe: Recipe, films: Films, packs: Path | None = None) -> Float32[np.ndarray, "films findings"]:
    """What is trained towards; with the scores of the recipe's teacher, if it has one, where packs are named.

    Raises:
        RecipeError: if a finding has no known label, so that its output would stay as it was born.
    """
    targets = films.targets(recipe.labels.policies(films.findings), seed=recipe.seed)
    if recipe.labels.teacher is not None and packs is not None:
        weight = recipe.labels.teacher_weight
        targets = taught(targets, films, Path(recipe.labels.teacher), weight=weight, packs=packs)
    unknown = [name for name, labels in zip(films.findings, targets.T, strict=True) if np.isnan(labels).all()]
    if unknown:
        raise RecipeError(
            f"findings must each be known of some training film, got none for {', '.join(unknown)}. Leave them out "
            "with: --findings known"
        )
    return targets


def _say_what_is_special(films: Films, seen: Films, targets: Float32[np.ndarray, "films findings"]) -> None:
    """Say which films are left out for their view, and which findings can be told by the source alone."""
    left = films.other_views("train")
    if left:
        counts = ", ".join(f"{count:,} {view}" for view, count in left.items())
        messages().print(f"Training films of views that the recipe does not take are left out: {counts}.")
    for name, sources in constant_labels(seen, targets).items():
        told = ", ".join(f"{'present' if value else 'absent'} on all of {source}" for source, value in sources.items())
        messages().print(
            f"Warning: {name} is {told}: the network may learn to tell the source. Evaluate it within each source."
        )


def _new_model(
    recipe: Recipe,
    targets: Float32[np.ndarray, "films findings"],
    findings: Sequence[str],
    packs: Path,
    *,
    resumed: bool,
) -> Classifier:
    if isinstance(recipe.architecture, EnsembleChoices):
        raise RecipeError(f"recipe must be of a single network, got the ensemble {recipe.name}. Train its members")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            model = build(recipe.architecture, findings=targets.shape[1], channels=recipe.preprocessing.channels)
        except ValueError as error:
            raise RecipeError(f"architecture of {recipe.name}: {error}") from None
    if resumed:
        return model  # the checkpoint holds its weights
    if recipe.weights == "phantom":
        try:
            learned = phantom_bundle(recipe, packs, train)
        except TrainingStoppedError:
            raise TrainingStoppedError(
                f"training on phantom films was stopped and is saved in {packs}. Go on with the same command"
            ) from None
        untrained = load_weights(model, str(learned), keep_classifier=False)  # phantom prevalences are not real ones
    else:
        untrained = load_weights(model, recipe.weights, findings=findings)
    new = [k for k, name in enumerate(findings) if new_head(name) in untrained]
    if recipe.training.start_from_prevalence and ("classifier.bias" in untrained or new):
        start_from_prevalence(model, targets, rows=new or None)
    return model


def _batches(recipe: Recipe, films: Films, here: Processes) -> ShuffledBatches:
    try:
        return ShuffledBatches(
            len(films),
            recipe.training.batch,
            seed=recipe.seed,
            rank=here.rank,
            ranks=here.count,
            sources=None if recipe.training.sampling == "films" else films.table["source"].tolist(),
            power={"films": 1.0, "sqrt": 0.5, "sources": 0.0}[recipe.training.sampling],
        )
    except ValueError as error:
        raise RecipeError(f"training.{error}. Use: --set training.batch=...") from None


def _has_both(labels: Float32[np.ndarray, "films findings"]) -> bool:
    """Whether a finding is both present and absent, so that it can be learnt, and has an AUC."""
    return bool(((labels == 0).any(0) & (labels == 1).any(0)).any())


def _dataset(
    recipe: Recipe,
    films: Films,
    packs: Path,
    *,
    augmented: bool = True,
    targets: Float32[np.ndarray, "films findings"] | None = None,
) -> FilmDataset:
    chosen = recipe.augmentation if augmented else None
    return packed_films(films, recipe.preprocessing, packs, augmentation=chosen, targets=targets)


def _quality_check(recipe: Recipe, films: Films, packs: Path) -> QualityCheck | None:
    if len(films) < LEAST_FILMS:
        return None
    pack = open_pack(films, recipe.preprocessing, packs)
    laterals = lateral_views(seed=recipe.seed)
    sources = films.table["source"].tolist()
    return fit_quality_check(
        lambda row: pack.read(row)[0], len(films), laterals=laterals, seed=recipe.seed, sources=sources
    )


def _trainer(recipe: Recipe, out: Path, here: Processes, *, validated: bool, bar: bool, log_every: int) -> pl.Trainer:
    wanted, folder = recipe.training, out / "checkpoints"
    callbacks: list[Callback] = []
    if wanted.freeze_epochs:
        callbacks.append(FreezeBody(wanted.freeze_epochs))
    if wanted.ema_decay is not None:
        callbacks.append(MovingAverage(wanted.ema_decay))
    if wanted.stop_patience is not None:
        callbacks.append(StopEarly(wanted.stop_patience))
    if bar:
        seen = messages().is_terminal
        # A GPU would have to wait for each figure that the bar shows.
        rate = READ_EVERY if torch.cuda.is_available() else 1
        callbacks.append(RichProgressBar(rate, console_kwargs={"stderr": True}) if seen else _SayEpochs())
    callbacks.append(SaveBeforeStopping(folder / "last.ckpt"))
    if validated:
        callbacks.append(ModelCheckpoint(folder, "best", monitor="val_auroc", mode="max", enable_version_counter=False))
    # After `best`, so that it knows of it.
    callbacks.append(ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False))
    return pl.Trainer(
        devices=here.local_count,
        num_nodes=here.nodes,
        strategy=_ddp() if here.count > 1 else "auto",
        plugins=[Environment(here)] if here.count > 1 else None,
        max_epochs=wanted.epochs,
        precision=_precision(wanted.precision),
        gradient_clip_val=wanted.gradient_clip,
        callbacks=callbacks,
        logger=open_loggers(recipe, out) if here.first else False,
        log_every_n_steps=log_every,
        enable_progress_bar=bar and messages().is_terminal,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # ShuffledBatches shares the batches out
    )


def _ddp() -> DDPStrategy:
    """Gradients averaged over processes.

    Unused parameters are looked for, though there are none: without it, torch lays its buckets out anew after the first
    step, sums in another order, and a resumed run would not be the same bit for bit.
    """
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)  # batch norm sees the whole batch


class _SayEpochs(Callback):
    """A line for each epoch, where standard error is a file and shows no bar."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        known = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
        figures = {"train_loss": pl_module.mean_loss, **known}  # Lightning lets the learner log it after this
        told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        messages().print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {told}", soft_wrap=True)


def _precision(wanted: str) -> Literal["16-mixed", "bf16-mixed", "32-true"]:
    if wanted == "fp16":
        return "16-mixed"
    return "bf16-mixed" if computes_in_bf16(wanted) else "32-true"


def computes_in_bf16(precision: str) -> bool:
    """Whether to train in bf16; `auto` asks the hardware, since emulated bf16 is slower than fp32."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def _take_weights(learner: Learner, checkpoint: Path) -> dict[str, float | int]:
    """Give the model the weights of a checkpoint, the averaged ones if there are; return the figures of its epoch."""
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    learner.load_state_dict(kept["state_dict"])
    figures = {"kept_epoch": kept["epoch"] + 1, **kept["figures"]}
    return {name: value for name, value in figures.items() if name != "train_loss" and np.isfinite(value)}  # a batch's


def _whom(films: Films, seen: Films) -> dict[str, Any]:
    """On which films a network was trained."""
    return {
        "protocol": films.notes.get("protocol"),
        "groups": sorted(groups_of(films)),
        **({"merged": films.notes["merged"]} if films.notes.get("merged") else {}),
        "train_films": len(seen),
        "train_patients": int(seen.table["patient"].nunique()),
        "train_views": {str(view): int(count) for view, count in seen.table["view"].value_counts().items()},
    }


def _what_happened(
    trainer: pl.Trainer, kept: dict[str, float | int], *, minutes: float, compiled: bool
) -> dict[str, Any]:
    return {
        "processes": trainer.world_size,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        **({"compiled": True} if compiled else {}),
        "minutes_since_start_or_resume": round(minutes, 2),
        "precision": str(trainer.precision),
        **{name: round(value, 5) for name, value in kept.items()},
    }
