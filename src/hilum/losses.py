"""Losses of logits against labels. NaN labels are unknown and weigh nothing."""

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

Logits = Float[Tensor, "batch findings"]
Labels = Float[Tensor, "batch findings"]


def bce_loss(logits: Logits, labels: Labels) -> Float[Tensor, ""]:
    """Binary cross-entropy, averaged over the known labels; 0 if none is known.

    Source: Zhao et al., "A deep learning method for classification of chest X-ray images", 2021, eq. 3.
    """
    known, targets = _known(labels)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _mean_over(known, cross_entropy)


def weighted_bce_loss(logits: Logits, labels: Labels, *, alpha: float) -> Float[Tensor, ""]:
    """Binary cross-entropy with a present finding weighing alpha and an absent one 1 - alpha, over the known labels.

    Args:
        alpha: weight of a present finding, in (0, 1).

    Raises:
        ValueError: if alpha is not in (0, 1).
    """
    return focal_loss(logits, labels, gamma=0, alpha=alpha)


def focal_loss(logits: Logits, labels: Labels, *, gamma: float, alpha: float) -> Float[Tensor, ""]:
    """Binary focal loss, averaged over the known labels; 0 if none is known.

    Args:
        gamma: focus on hard examples; 0 leaves weighted cross-entropy.
        alpha: weight of a present finding, in (0, 1); an absent one weighs 1 - alpha.

    Raises:
        ValueError: if gamma is negative or 0 < gamma < 1, whose gradient is NaN once a logit saturates; if alpha is
            not in (0, 1).

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3. https://arxiv.org/abs/1708.02002
        Zhao et al., 2021, eq. 4, is the same.
    """
    if gamma != 0 and not gamma >= 1:
        raise ValueError(f"gamma must be 0 or at least 1, got {gamma}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    known, targets = _known(labels)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_wrong = -torch.expm1(-cross_entropy)  # 1 - p_t, still exact when p_t is almost 1
    balance = torch.where(targets == 1, alpha, 1 - alpha)
    return _mean_over(known, balance * p_wrong**gamma * cross_entropy)


def _known(labels: Labels) -> tuple[Tensor, Labels]:
    known = ~labels.isnan()
    return known, torch.where(known, labels, 0.0)  # not later: masking a NaN loss leaves a NaN gradient


def _mean_over(known: Tensor, per_label: Tensor) -> Float[Tensor, ""]:
    return (per_label * known).sum() / known.sum().clamp(min=1)
