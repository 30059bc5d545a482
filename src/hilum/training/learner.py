"""The Lightning module of a training, and callbacks: save and resume, stop early, average weights."""

import math
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float32
from pytorch_lightning.callbacks import EarlyStopping, WeightAveraging
from torch import Tensor, nn

from hilum.data.augment_batch import augment_batch
from hilum.data.dataset import Augmentation
from hilum.errors import BundleError, HilumError, RecipeError, TrainingStoppedError
from hilum.metrics.ranking import auroc_per_finding
from hilum.nn.classifier import Classifier
from hilum.recipe import Optimizer, Recipe
from hilum.training.dropout import FilmDropout, drops
from hilum.training.losses import counts_of, loss_of, mean_per_finding, mixed, region_loss, smoothed
from hilum.training.processes import gathered, highest, process_count, process_rank, said_once, summed

Batch = list[Tensor]
"""Images, labels and, in training, each film's seed and, where the recipe learns from boxes, regions of findings."""


READ_EVERY = 25
"""Steps after which a GPU's losses are read and checked; on a CPU after each, where it costs nothing."""


class Learner(pl.LightningModule):
    """A network that learns as a recipe says.

    Args:
        model: the network, its starting weights in place.
        recipe: how to train it.
        steps: optimiser steps of the whole training, for the one-cycle schedule.
        prevalence: part of the training films that have each finding, for the loss that weighs by it; prevalence_of.
        findings: names of the outputs, for a noise rate by name.
        augmentation: what is done to training films on the device, by their seeds; None if they come augmented.

    Raises:
        RecipeError: if the recipe names a finding that is not among them.
    """

    def __init__(
        self,
        model: Classifier,
        recipe: Recipe,
        *,
        steps: int,
        prevalence: Float32[np.ndarray, " findings"] | None = None,
        findings: tuple[str, ...] = (),
        augmentation: Augmentation | None = None,
    ):
        super().__init__()
        self.noise = _noise(recipe.loss.noise, findings)
        self.model = model.to(memory_format=cast(Any, torch.channels_last))
        self.recipe = recipe
        self.steps = steps
        self.augmentation = augmentation
        self.prevalence = None if prevalence is None else torch.from_numpy(prevalence)
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._losses: list[float] = []
        self._unread: list[tuple[int, Tensor]] = []  # the step, and its loss in this process
        self._drops = drops(model)
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits in fp32, whatever precision the network computes in."""
        return cast(Tensor, self.model(images.contiguous(memory_format=torch.channels_last))).float()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch, or of this process's part of it.

        Each film draws its dropout from its own seed: a resumed run draws the same, and so do several processes. Where
        the recipe accumulates, the films go through the network in parts, all but the last also backward, here.

        Returns:
            The last part's loss over the labels of the whole batch, times the number of processes, whose gradients are
            averaged.
        """
        images, labels, *seeds = batch
        regions = seeds.pop() if self.recipe.loss.boxes and len(seeds) > 1 else None
        images, processes = self._shrunk(images), process_count()
        step_seed = self.recipe.seed * 1_000_003 + self.global_step
        parts, losses = self.recipe.training.accumulate, list[Tensor]()
        if parts > 1:
            self.zero_grad()  # Lightning would do so after the first parts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step_seed)
            if self.noise is not None:
                labels = smoothed(labels, self.noise.to(labels.device))
            if self.recipe.training.mixup:
                images, labels = mixed(images, labels, self.recipe.training.mixup)
            whole = summed(counts_of(labels)) if processes > 1 or parts > 1 else None
            boxed = None if regions is None else summed((regions.flatten(2).sum(2) > 0).sum().float())
            for films in np.array_split(np.arange(len(images)), parts):
                one = slice(films[0], films[-1] + 1)
                with self._dropout([seed[one] for seed in seeds], one, step_seed):
                    loss = self._loss(images[one], labels[one], whole, None if regions is None else regions[one], boxed)
                losses.append(loss.detach())
                if len(losses) < parts:
                    self.trainer.strategy.backward(loss * processes, None)
                    torch.clear_autocast_cache()  # its weights belong to the graph that is gone
        self._unread.append((self.global_step, torch.stack(losses).sum()))
        if len(self._unread) >= self._read_every():
            self._read_losses()
            self.log("train_loss", self._losses[-1], on_step=True, on_epoch=False, prog_bar=True)
        return loss * processes

    def _loss(
        self, images: Tensor, labels: Tensor, whole: Tensor | None, regions: Tensor | None, boxed: Tensor | None
    ) -> Tensor:
        """What these films add to the loss of the whole batch."""
        measure = mean_per_finding if self.recipe.labels.per_finding else loss_of
        logits, maps = (self(images), None) if regions is None else self._with_maps(images)
        loss = measure(logits, labels, self.recipe.loss, self.prevalence, whole=whole)
        if regions is not None and maps is not None:
            loss = loss + self.recipe.loss.boxes * region_loss(maps, regions, whole=boxed)
        return loss

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Nothing where parts of the batch have been backward already; else what Lightning does."""
        if self.recipe.training.accumulate == 1:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Training films augmented on the device, where they are not yet."""
        if self.augmentation is None or len(batch) < 3:
            return batch
        images, labels, seeds, *regions = batch
        return [augment_batch(images, self.augmentation, seeds.tolist()), labels, seeds, *regions]

    def _with_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and class maps in fp32."""
        logits, maps = self.model.class_maps(images.contiguous(memory_format=torch.channels_last))
        return logits.float(), maps.float()

    def _read_every(self) -> int:
        return 1 if self.device.type == "cpu" else READ_EVERY

    def _read_losses(self) -> None:
        """Bring the losses of the last steps, summed over processes, into the host's memory, which a GPU must wait for.

        Raises:
            HilumError: naming the first step whose loss is not finite.
        """
        if not self._unread:
            return
        steps, parts = zip(*self._unread, strict=True)
        self._unread = []
        losses = summed(torch.stack(parts)).tolist()
        for step, loss in zip(steps, losses, strict=True):
            if not math.isfinite(loss):
                raise _diverged("loss", step)
        self._losses += losses

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Read what is left at an epoch's end, in all processes, before anyone asks for its mean."""
        if self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._read_losses()

    def _dropout(self, seeds: list[Tensor], films: slice, step_seed: int) -> AbstractContextManager[object]:
        """Dropout by the films' seeds; for films without any, by the step and their places in the batch."""
        if not self._drops:
            return nullcontext()
        by_place = [step_seed * 65_537 + place for place in range(films.start, films.stop)]
        return FilmDropout(seeds[0].tolist() if seeds else by_place, self.device)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """All but the seeds, which are read in the host's memory."""
        return [part if place == 2 else part.to(device, non_blocking=True) for place, part in enumerate(batch)]

    def _shrunk(self, images: Tensor) -> Tensor:
        """The images at the size that this epoch trains on."""
        training = self.recipe.training
        if training.progressive_size is None or self.current_epoch >= training.progressive_until * training.epochs:
            return images
        side = (training.progressive_size, training.progressive_size)
        return nn.functional.interpolate(images, side, mode="bilinear", antialias=True, align_corners=False)

    @property
    def mean_loss(self) -> float:
        """The mean training loss of this epoch's batches so far."""
        return float(np.mean(self._losses))

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean training loss, and let the plateau schedule see it."""
        mean = self.mean_loss
        self._losses = []
        self.log("train_loss_epoch", mean)
        if self._plateau is not None:  # here and not by Lightning, which steps it after the checkpoint is written
            self._plateau.step(mean)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Collect logits and labels; AUC needs all of them at once."""
        images, labels = batch
        self._scores.append(self(images).cpu().numpy())
        self._labels.append(labels.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and the mean AUC over the findings for which it exists: all films, each once."""
        if not self._scores:
            return
        scores, labels = _interleaved(self._scores), _interleaved(self._labels)
        self._scores, self._labels = [], []
        if not np.isfinite(scores).all():
            raise _diverged("logits", self.global_step)
        loss = loss_of(torch.from_numpy(scores), torch.from_numpy(labels), self.recipe.loss, self.prevalence)
        areas = auroc_per_finding(scores, labels)
        self.log("val_loss", loss, prog_bar=True)
        defined = areas[np.isfinite(areas)]
        self.log("val_auroc", float(defined.mean()) if len(defined) else float("nan"), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule."""
        wanted, schedule = self.recipe.optimizer, self.recipe.schedule
        groups = parameter_groups(self.model, wanted)
        fused = self.recipe.training.precision != "fp16"  # whose gradients are scaled back before they are clipped
        optimizer: torch.optim.Optimizer
        match wanted.name:
            case "adam":
                optimizer = torch.optim.Adam(groups, lr=wanted.lr, fused=fused)
            case "adamw":
                optimizer = torch.optim.AdamW(groups, lr=wanted.lr, fused=fused)
            case "sgd":
                optimizer = torch.optim.SGD(
                    groups, lr=wanted.lr, momentum=wanted.momentum, nesterov=wanted.momentum > 0, fused=fused
                )
        match schedule.name:
            case "constant":
                return optimizer
            case "plateau":
                self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                    optimizer, factor=schedule.factor, patience=schedule.patience
                )
                return optimizer
            case "one-cycle":
                warmup = schedule.warmup
                if math.isclose(warmup * self.steps, 1):
                    warmup *= 1.001  # torch divides by the steps of the warm-up less one
                cycle = torch.optim.lr_scheduler.OneCycleLR(
                    optimizer, [group["lr"] for group in groups], total_steps=self.steps, pct_start=warmup
                )
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
            case "cosine":
                falling = torch.optim.lr_scheduler.LambdaLR(
                    optimizer, lambda step: _warm_cosine(step, self.steps, schedule.warmup)
                )
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm of all gradients; Lightning refuses to with bf16 and a fused optimiser, for fp16's sake."""
        if gradient_clip_val is not None:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know of: the plateau's memory, the losses of an epoch under way, the figures."""
        self._read_losses()  # nothing is saved of a training that has diverged
        checkpoint["figures"] = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        checkpoint["losses"] = list(self._losses)
        checkpoint["plateau"] = self._plateau and self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        self._losses = list(checkpoint["losses"])
        self._plateau_state = checkpoint["plateau"]

    def on_train_start(self) -> None:
        """Restore the plateau's memory, which is made only after the checkpoint was read."""
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)


def _noise(rate: float | dict[str, float], findings: tuple[str, ...]) -> Tensor | None:
    """The noise rate of each finding; None if all labels are taken at their word."""
    if isinstance(rate, dict):
        unknown = sorted(set(rate) - set(findings))
        if unknown:
            raise RecipeError(f"loss.noise must name findings of the films, got {', '.join(unknown)}")
        return torch.tensor([rate.get(name, 0.0) for name in findings])
    return torch.tensor([rate]) if rate else None


def _warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Part of the highest learning rate at a step, counted from 0."""
    warm = warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2


def parameter_groups(model: Classifier, wanted: Optimizer) -> list[dict[str, Any]]:
    """The network's parameters by learning rate and weight decay: biases and norms do not decay.

    With `layer_decay`, the classifier learns at `lr`, the last stage at `lr * layer_decay`, and so on down to the stem.
    """
    stages = stages_of(model) if wanted.layer_decay < 1 else {name: 0 for name, _ in model.named_parameters()}
    top = max(stages.values())
    groups = []
    for stage in sorted(set(stages.values()), reverse=True):
        members = [parameter for name, parameter in model.named_parameters() if stages[name] == stage]
        lr = wanted.lr * wanted.layer_decay ** (top - stage)
        for chosen, decay in (
            ([p for p in members if p.ndim > 1], wanted.weight_decay),
            ([p for p in members if p.ndim <= 1], 0.0),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr": lr})
    return groups


def stages_of(model: nn.Module) -> dict[str, int]:
    """Depth of each parameter, 0 at the stem and deepest at the classifier, in the order of the network's modules.

    A stage is what the network's authors wrote as one: a dense block, a transition, a stage of timm's, a block of a
    transformer. A norm that stands alone belongs to the stage before it.
    """
    modules = dict(model.named_modules())
    stages: dict[str, int] = {}
    seen: list[str] = []
    for name, _ in model.named_parameters():
        part = _stage_name(name)
        norm = type(modules[part]).__name__ if part in modules else ""
        if part not in seen and not (seen and "Norm" in norm):
            seen.append(part)
        stages[name] = seen.index(part) if part in seen else len(seen) - 1
    return stages


_WRAPPERS = ("features", "body", "backbone")
_LISTS = ("blocks", "stages", "layers")


def _stage_name(name: str) -> str:
    """`body.blocks.3` of `body.blocks.3.0.conv_pw.weight`; `features.denseblock1`; `classifier`."""
    *modules, _ = name.split(".")
    depth = 2 if modules and modules[0] in _WRAPPERS else 1
    if len(modules) > depth and modules[depth - 1] in _LISTS:
        depth += 1
    return ".".join(modules[:depth]) or name


def _interleaved(batches: list[np.ndarray]) -> np.ndarray:
    """The rows of all films in their order, from processes of which each has every n-th one."""
    parts = gathered(np.concatenate(batches))
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole


def _diverged(what: str, steps: int) -> HilumError:
    return said_once(
        HilumError(
            f"{what} must be finite, but the training diverged after {steps} steps. Lower the learning rate, e.g. "
            "--set optimizer.lr=1e-4, or clip the gradient with --set training.gradient_clip=1.0, in another --out"
        )
    )


def prevalence_of(labels: Float32[np.ndarray, "films findings"]) -> Float32[np.ndarray, " findings"]:
    """Proportion of known labels that are present, kept off 0 and 1 by half a film."""
    present, absent = _counts(labels)
    part: Float32[np.ndarray, " findings"] = (present / (present + absent)).astype(np.float32)
    return part


def _counts(labels: Float32[np.ndarray, "films findings"]) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(labels).sum(0)
    present = np.clip(np.nansum(labels, 0), 0.5, np.maximum(known - 0.5, 0.5))
    return present, np.maximum(known - present, 0.5)


def start_from_prevalence(
    model: nn.Module, labels: Float32[np.ndarray, "films findings"], *, rows: Sequence[int] | None = None
) -> None:
    """Set the classifier's bias to the log odds of each finding's prevalence.

    Args:
        model: a network whose `classifier` is new.
        labels: the training films' labels; a finding that is never or always there counts as half a film of the other.
        rows: the findings whose bias is set; all if None.
    """
    present, absent = _counts(labels)
    odds = present / absent
    classifier = cast(nn.Linear, model.classifier)
    with torch.no_grad():
        chosen = range(len(odds)) if rows is None else rows  # DNetLoc's locations come after
        classifier.bias[list(chosen)] = torch.from_numpy(np.log(odds)).to(classifier.bias)[list(chosen)]


def resume_point(checkpoint: Path) -> tuple[int, int]:
    """The epoch with which a resumed training begins, and how many of its batches are done.

    Raises:
        BundleError: if the file is not a checkpoint of a training.
    """
    try:
        loops = torch.load(checkpoint, map_location="cpu", weights_only=True)["loops"]["fit_loop"]
        epochs = loops["epoch_progress"]["current"]
        batches = loops["epoch_loop.batch_progress"]["current"]
    except Exception as error:  # torch raises whatever its unpickler stumbles over
        raise BundleError(
            f"checkpoint must be one that hilum train wrote, but {checkpoint} cannot be read: {error!r}. "
            "Begin anew in another folder."
        ) from None
    mid_epoch = epochs["processed"] < epochs["started"]
    return int(epochs["processed"]), int(batches["processed"]) if mid_epoch else 0


SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C; what schedulers send before they kill; what SLURM is asked to send before the time is up."""


class SaveBeforeStopping(pl.Callback):
    """Save the state at a signal after the batch under way, then stop; and save it every few minutes.

    Processes agree after each batch: a signal to one of them stops all of them after the same one.

    Args:
        path: the checkpoint that a resumed training begins with.
        every_s: seconds between two savings inside an epoch.
    """

    def __init__(self, path: Path, *, every_s: float = 600.0):
        self.path, self.every_s = path, every_s
        self._asked: int | None = None
        self._saved_at = time.monotonic()
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to the signals from now on; if there is one process only, a second one ends it at once."""
        self._saved_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():  # no other may
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Save if it is time or was asked for."""
        late = process_rank() == 0 and time.monotonic() - self._saved_at > self.every_s
        asked, due = highest(self._asked or 0, int(late))
        if not asked and not due:
            return
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:  # at an epoch's end, `last` is saved anyway
            trainer.save_checkpoint(self.path)
            self._saved_at = time.monotonic()
            self._stop(trainer, asked)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop here if asked during the last batch of an epoch, which has been saved since."""
        self._stop(trainer, highest(self._asked or 0)[0])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back; later, at teardown, Lightning would take what we give back for its own."""
        self._give_back()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        if process_count() == 1:  # several get a signal twice: from the terminal, and from who started them
            signal.signal(number, signal.SIG_DFL)

    def _stop(self, trainer: pl.Trainer, agreed: int) -> None:
        """Stop by the signal that all know of; one that came to this process since then waits for the next step."""
        if agreed:
            name = signal.Signals(agreed).name
            raise said_once(
                TrainingStoppedError(
                    f"training was stopped by {name} after {trainer.global_step} steps and is saved in {self.path}. "
                    "Go on with the same command and --resume"
                )
            )


class StopEarly(EarlyStopping):
    """Stop after some epochs without a lower training loss; a run that did so stays stopped when it is resumed.

    Args:
        patience: how many such epochs.
    """

    def __init__(self, patience: int):
        super().__init__("train_loss_epoch", patience=patience, check_on_train_epoch_end=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again if the checkpoint says so: the loop itself does not remember."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class MovingAverage(WeightAveraging):
    """Keep an exponential moving average of weights and batch-norm statistics; it is what is evaluated and kept.

    Args:
        decay: the part of the average that each step leaves; less at the start, to forget the random weights.
    """

    def __init__(self, decay: float):
        def average(kept: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
            if not kept.is_floating_point():
                return current
            return torch.lerp(kept, current, 1 - min(decay, (1 + float(steps)) / (10 + float(steps))))

        super().__init__(avg_fn=average)
