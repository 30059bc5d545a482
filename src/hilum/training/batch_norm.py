"""Batch norm over the films of all processes, weighted by how many each has; torch's own needs a GPU."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.training.processes import process_count


class _Normalized(torch.autograd.Function):
    """Normalize by mean and variance over all processes; the backward pass sums over all processes too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        places = [axis for axis in range(x.ndim) if axis != 1]
        variance, mean = torch.var_mean(x.to(weight.dtype), places, correction=0)
        count = torch.full((1,), x.numel() // x.shape[1], dtype=torch.float64, device=x.device)
        here = torch.cat([count, mean.double(), variance.double()])
        parts = [torch.empty_like(here) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, here)
        counts, means, variances = torch.stack(parts).tensor_split([1, 1 + x.shape[1]], dim=1)
        total = counts.sum()
        whole = (counts * means).sum(0) / total
        spread = (counts * (variances + (means - whole) ** 2)).sum(0) / total  # within processes, and between them
        mean, variance = whole.to(weight.dtype), spread.to(weight.dtype)
        y = nn.functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, total)
        return y, mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, total = ctx.saved_tensors
        direct, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0].to(x.dtype), x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.cat([by_weight.double(), by_bias.double()])
        dist.all_reduce(sums)
        per_weight, per_bias = (sums / total).chunk(2)
        deviation = (variance.double() + ctx.eps).rsqrt()
        scale = weight.double() * deviation
        slope = scale * deviation * per_weight  # how far the variance moves with x
        constant = scale * per_bias - slope * mean
        shape = [1, -1] + [1] * (x.ndim - 2)
        moved = x * slope.to(weight.dtype).view(shape) + constant.to(weight.dtype).view(shape)
        return (direct - moved).to(x.dtype), by_weight, by_bias, None


class SharedBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of all processes' films; parameters, buffers and keys are the plain one's.

    Args:
        plain: the layer whose place it takes. What timm's layers do after the norm (`drop`, `act`) is done here too.
    """

    def __init__(self, plain: _BatchNorm):
        nn.Module.__init__(self)
        self.__dict__.update(plain.__dict__)
        self.kind = type(plain)

    def forward(self, input: Tensor) -> Tensor:
        """Features normalized over the whole batch in training, by the running statistics after it."""
        if self.training and process_count() > 1:
            channels = input.shape[1]
            weight = (
                torch.ones(channels, dtype=torch.float32, device=input.device) if self.weight is None else self.weight
            )
            bias = torch.zeros(channels, dtype=torch.float32, device=input.device) if self.bias is None else self.bias
            y, mean, variance, total = _Normalized.apply(input, weight, bias, self.eps)
            self._remember(mean, variance, total)
        else:
            y = super().forward(input)
        for name in ("drop", "act"):
            if name in self._modules:
                y = cast(nn.Module, self._modules[name])(y)
        return cast(Tensor, y)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        """Move the running statistics, as torch does: the variance unbiased."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        part = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, part)
        self.running_var.lerp_((variance.double() * total / (total - 1).clamp(min=1)).to(mean.dtype), part)

    def _check_input_dim(self, input: Tensor) -> None:
        """Whatever has channels."""

    def plain(self) -> _BatchNorm:
        """The layer whose place this one took, with what was learned."""
        return _as(self.kind, self)


def _as(kind: type[_BatchNorm], layer: _BatchNorm) -> _BatchNorm:
    """The same layer, its very parameters and buffers, as one of another kind."""
    other: _BatchNorm = kind.__new__(kind)
    other.__dict__.update(layer.__dict__)
    return other


def share_batch_norm(model: nn.Module, *, fused: bool = False) -> None:
    """Let every batch norm of a model see the films of all processes, in place.

    Args:
        fused: torch's SyncBatchNorm in place of its BatchNorm2d; it needs CUDA and is faster there.
    """
    for name, child in model.named_children():
        if fused and type(child) is nn.BatchNorm2d:
            setattr(model, name, cast(Any, nn.SyncBatchNorm).convert_sync_batchnorm(child))
        elif isinstance(child, _BatchNorm):
            setattr(model, name, SharedBatchNorm(child))
        else:
            share_batch_norm(child, fused=fused)


def plain_batch_norm(model: nn.Module) -> None:
    """Put the plain layers back, with what was learned."""
    for name, child in model.named_children():
        if isinstance(child, SharedBatchNorm):
            setattr(model, name, child.plain())
        elif isinstance(child, nn.SyncBatchNorm):
            setattr(model, name, _as(nn.BatchNorm2d, child))
        else:
            plain_batch_norm(child)
