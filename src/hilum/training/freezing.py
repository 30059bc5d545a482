"""Linear probe: epochs in which the classifier alone learns."""

from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import nn

from hilum.nn.classifier import Classifier


class FreezeBody(pl.Callback):
    """Keep everything but the classifier as it is for the first epochs, the statistics of batch norms included.

    Among several processes, a network that thaws later computes its gradients all along, since every process must
    expect the same ones; they are thrown away until then.

    Args:
        epochs: how many; as many as the training has is a linear probe.
    """

    def __init__(self, epochs: int):
        self.epochs = epochs
        self._frozen: bool | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Freeze before processes agree on which gradients there are, if it is for good."""
        if self._for_good(trainer):
            self._freeze(pl_module, True)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_index: int
    ) -> None:
        """Freeze or thaw; batch norms anew each time, since every validation has them learn again."""
        frozen = trainer.current_epoch < self.epochs
        if frozen != self._frozen and (trainer.world_size == 1 or self._for_good(trainer)):
            self._freeze(pl_module, frozen)
        self._frozen = frozen
        if frozen:
            model = _model(pl_module)
            model.eval()
            model.classifier.train()
        elif not _model(pl_module).training:
            _model(pl_module).train()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Throw away the body's gradients."""
        if self._frozen:
            for parameter in _body(pl_module):
                parameter.grad = None

    def _for_good(self, trainer: pl.Trainer) -> bool:
        return trainer.max_epochs is not None and self.epochs >= trainer.max_epochs

    def _freeze(self, pl_module: pl.LightningModule, frozen: bool) -> None:
        for parameter in _body(pl_module):
            parameter.requires_grad_(not frozen)


def _model(pl_module: pl.LightningModule) -> Classifier:
    return cast(Classifier, pl_module.model)


def _body(pl_module: pl.LightningModule) -> list[nn.Parameter]:
    return [value for name, value in _model(pl_module).named_parameters() if not name.startswith("classifier.")]
