"""What keeps a training from being lost: saving on Ctrl-C, SIGTERM and every few minutes; stopping early; averaging."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, WeightAveraging
from torch import Tensor

from hilum.errors import TrainingStoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SaveBeforeStopping(pl.Callback):
    """Save the state at Ctrl-C or SIGTERM after the batch under way, then stop; and save it every few minutes.

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
        """Listen to the signals from now on; a second one ends the process at once."""
        self._saved_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():  # no other may
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Save if it is time or was asked for."""
        due = time.monotonic() - self._saved_at > self.every_s
        if self._asked is None and not due:
            return
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:  # at an epoch's end, `last` is saved anyway
            trainer.save_checkpoint(self.path)
            self._saved_at = time.monotonic()
            self._stop_if_asked(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop here if asked during the last batch of an epoch, which has been saved since."""
        self._stop_if_asked(trainer)

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
        signal.signal(number, signal.SIG_DFL)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if self._asked is not None:
            name = signal.Signals(self._asked).name
            raise TrainingStoppedError(
                f"training was stopped by {name} after {trainer.global_step} steps and is saved in {self.path}. "
                "Go on with the same command and --resume"
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
    """Keep an exponential moving average of weights and batch-norm statistics; it is what is judged and kept.

    Args:
        decay: the part of the average that each step leaves; less at the start, to forget the random weights.
    """

    def __init__(self, decay: float):
        def average(kept: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
            if not kept.is_floating_point():
                return current
            return torch.lerp(kept, current, 1 - min(decay, (1 + float(steps)) / (10 + float(steps))))

        super().__init__(avg_fn=average)
