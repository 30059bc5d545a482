"""Dropout that each film draws for itself, so that it does not depend on the films beside it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_OTHER_THAN_AUGMENTATION = 0x5DEECE66D  # a film's augmentation draws from its seed too


class FilmDropout(TorchFunctionMode):
    """In this block, what a network drops of a film is drawn from the film's own seed.

    A film then loses the same features in whatever process, in whatever place of a batch. It holds for torch's dropout
    and for whatever draws by `bernoulli_`, such as timm's stochastic depth.

    Args:
        seeds: one for each film of the batch, in its order.
        device: where the network computes.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device):
        super().__init__()
        self.generators = [torch.Generator(device).manual_seed(seed ^ _OTHER_THAN_AUGMENTATION) for seed in seeds]

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Draw in place of torch."""
        named = kwargs or {}
        if function is functional.dropout:
            return self._dropout(*args, **named)
        if function is Tensor.bernoulli_ and self._draws(args[0]):
            return self._drawn(args[0], *args[1:], **named)
        return function(*args, **named)

    def _dropout(self, features: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0 or not self._draws(features):
            return functional.dropout(features, p, training, inplace)
        return features * self._drawn(torch.empty_like(features), 1 - p) / (1 - p)

    def _draws(self, features: Tensor) -> bool:
        """Whether the films can be told apart: each has an equal part of the first axis, e.g. its windows."""
        return features.ndim > 0 and len(features) % len(self.generators) == 0

    def _drawn(self, features: Tensor, p: float = 0.5) -> Tensor:
        part = len(features) // len(self.generators)
        for film, generator in enumerate(self.generators):
            features[film * part : (film + 1) * part].bernoulli_(p, generator=generator)
        return features


def drops(model: nn.Module) -> bool:
    """Whether a network drops anything in training."""
    names = ("p", "drop_rate", "drop_prob")
    return any(
        isinstance(value, float) and value > 0
        for module in model.modules()
        for name in names
        if isinstance(module, nn.modules.dropout._DropoutNd) or name != "p"
        for value in (getattr(module, name, 0),)
    )
