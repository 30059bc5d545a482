"""Losses of logits against labels. NaN labels are unknown and weigh nothing."""

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from hilum.recipe import Loss

Logits = Float[Tensor, "batch findings"]
Labels = Float[Tensor, "batch findings"]


Counts = Float[Tensor, "2 findings"]
"""How many labels of a whole batch are present, and how many are absent, of each finding."""


def counts_of(labels: Labels) -> Counts:
    """The counts of a batch, or of a part of one: those of the parts add up."""
    known, targets = _known(labels)
    return torch.stack([(known * targets).sum(0), (known * (1 - targets)).sum(0)])


def loss_of(
    logits: Logits, labels: Labels, loss: Loss, prevalence: Tensor | None = None, *, whole: Counts | None = None
) -> Float[Tensor, ""]:
    """The recipe's loss.

    Args:
        prevalence: of each finding in training, in (0, 1); `class-weighted-bce` needs it.
        whole: counts of the whole batch where these films are a part of it, as in one of several processes: the losses
            of all parts then add up to that of the batch.

    Raises:
        ValueError: if it is needed and absent.
    """
    match loss.name:
        case "bce":
            return bce_loss(logits, labels, whole=whole)
        case "focal":
            return focal_loss(logits, labels, gamma=loss.gamma, alpha=loss.alpha, whole=whole)
        case "w-cel":
            return weighted_cross_entropy_loss(logits, labels, whole=whole)
        case "class-weighted-bce":
            if prevalence is None:
                raise ValueError("prevalence must be given for the loss class-weighted-bce, got None")
            prevalence = prevalence.to(logits.device)
            return class_weighted_bce_loss(logits, labels, prevalence=prevalence, whole=whole)


def smoothed(labels: Labels, noise: Float[Tensor, "#findings"]) -> Labels:
    """Labels of which a part is taken to be wrong: present becomes 1 - noise, absent noise, unknown stays NaN.

    Args:
        noise: part of each finding's labels that is wrong, in [0, 0.5); one number is for all findings.

    Source: Pham et al., "Interpreting chest X-rays via CNNs that exploit hierarchical disease dependencies and
        uncertainty labels", 2019, smooth labels where they are uncertain; by finding and with one rate it is ours.
    """
    return labels * (1 - 2 * noise) + noise


def mixed(
    images: Float[Tensor, "batch channels height width"], labels: Labels, alpha: float
) -> tuple[Float[Tensor, "batch channels height width"], Labels]:
    """Each film mixed with the batch's film at the other end, its labels with it; torch's random state draws the part.

    A label that is unknown in one of the two stays unknown.

    Args:
        alpha: of Beta(alpha, alpha), above 0; the larger part is the film's own.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. https://arxiv.org/abs/1710.09412
    """
    drawn = torch.distributions.Beta(alpha, alpha).sample().item()
    own = max(drawn, 1 - drawn)
    return own * images + (1 - own) * images.flip(0), own * labels + (1 - own) * labels.flip(0)


def mean_per_finding(
    logits: Logits, labels: Labels, loss: Loss, prevalence: Tensor | None = None, *, whole: Counts | None = None
) -> Float[Tensor, ""]:
    """The recipe's loss of each finding over its own known labels, averaged over the findings that have one."""
    known = (~labels.isnan()).any(0) if whole is None else whole.sum(0) > 0
    losses = [
        loss_of(
            logits[:, [place]],
            labels[:, [place]],
            loss,
            None if prevalence is None else prevalence[[place]],
            whole=None if whole is None else whole[:, [place]],
        )
        for place in range(labels.shape[1])
    ]
    return (torch.stack(losses) * known).sum() / known.sum().clamp(min=1)


def region_loss(
    maps: Float[Tensor, "batch findings rows columns"],
    regions: Float[Tensor, "batch findings grid grid"],
    *,
    whole: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """How little of a finding's map lies in its true region: minus the log of the part of its softmax that does.

    It is averaged over the findings of films that have a region, each counted once, and 0 if none has. The softmax is
    taken over the places of the film, so that only the shape of a map counts, and the logits stay free.

    Args:
        maps: a class map for each finding, in logits.
        regions: which part of each place belongs to the finding, in [0, 1]; 0 everywhere where nothing is known.
        whole: how many findings have a region in the whole batch, where these films are a part of it.

    Source: ours; Li et al., "Thoracic Disease Identification and Localization with Limited Supervision", CVPR 2018,
        learn from boxes beside labels with another likelihood. https://arxiv.org/abs/1711.06373
    """
    known = regions.flatten(2).sum(2) > 0
    number = known.sum() if whole is None else whole
    inside = F.adaptive_avg_pool2d(regions, (maps.shape[2], maps.shape[3]))[known].flatten(1)
    inside = inside / inside.amax(1, keepdim=True).clamp_min(1e-6)  # a region smaller than a place fills it
    shares = F.log_softmax(maps[known].flatten(1), dim=1)
    losses = -torch.logsumexp(shares + inside.clamp_min(1e-6).log(), dim=1)
    return losses.sum() / number.clamp(min=1)


def bce_loss(logits: Logits, labels: Labels, *, whole: Counts | None = None) -> Float[Tensor, ""]:
    """Binary cross-entropy, averaged over the known labels; 0 if none is known.

    Source: Zhao et al., "A deep learning method for classification of chest X-ray images", 2021, eq. 3.
    """
    known, targets = _known(labels)
    return _mean_over(known, _cross_entropy(logits, targets), _number(known, whole))


def weighted_bce_loss(logits: Logits, labels: Labels, *, alpha: float) -> Float[Tensor, ""]:
    """Binary cross-entropy with a present finding weighing alpha and an absent one 1 - alpha, over the known labels.

    Args:
        alpha: weight of a present finding, in (0, 1).

    Raises:
        ValueError: if alpha is not in (0, 1).
    """
    return focal_loss(logits, labels, gamma=0.0, alpha=alpha)


def focal_loss(
    logits: Logits, labels: Labels, *, gamma: float, alpha: float, whole: Counts | None = None
) -> Float[Tensor, ""]:
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
    cross_entropy = _cross_entropy(logits, targets)
    p_wrong = -torch.expm1(-cross_entropy)  # 1 - p_t, still exact when p_t is almost 1
    balance = alpha * targets + (1 - alpha) * (1 - targets)  # in the logits' precision, unlike where() of two floats
    return _mean_over(known, balance * p_wrong**gamma * cross_entropy, _number(known, whole))


def weighted_cross_entropy_loss(logits: Logits, labels: Labels, *, whole: Counts | None = None) -> Float[Tensor, ""]:
    """W-CEL: cross-entropy in which a batch's present and its absent labels weigh the same; 0 if none is known.

    A present label weighs (|P| + |N|) / |P| and an absent one (|P| + |N|) / |N|, counted over all films and findings
    of the batch. A batch of one kind has no other to balance and weighs it once. The source sums; we divide by
    |P| + |N|, so that the learning rate does not hang on the batch: what is left is one mean over each kind.

    Source: Wang et al., "ChestX-ray8", CVPR 2017, section 3.2, eq. 1. https://arxiv.org/abs/1705.02315
    """
    known, targets = _known(labels)
    cross_entropy = _cross_entropy(logits, targets)
    present, absent = (counts_of(labels) if whole is None else whole).sum(1)
    return _mean_over(known * targets, cross_entropy, present) + _mean_over(
        known * (1 - targets), cross_entropy, absent
    )


def class_weighted_bce_loss(
    logits: Logits, labels: Labels, *, prevalence: Float[Tensor, " findings"], whole: Counts | None = None
) -> Float[Tensor, ""]:
    """Binary cross-entropy, averaged over the known labels, in which the rarer state of each finding weighs more.

    Args:
        prevalence: proportion of the training films that have the finding, in (0, 1); a present label weighs
            1 / prevalence and an absent one 1 / (1 - prevalence).

    Raises:
        ValueError: if a prevalence is not in (0, 1).

    Source: Guendel et al., "Learning to recognize abnormalities in chest X-rays with location-aware dense networks",
        2018; the weights, (P + N) / P and (P + N) / N over the training set, are our reading of "class-weighted".
        https://arxiv.org/abs/1803.04565
    """
    if not ((prevalence > 0) & (prevalence < 1)).all():
        raise ValueError(f"prevalence must be between 0 and 1, got {prevalence.tolist()}")
    known, targets = _known(labels)
    balance = targets / prevalence + (1 - targets) / (1 - prevalence)
    return _mean_over(known, balance * _cross_entropy(logits, targets), _number(known, whole))


def _known(labels: Labels) -> tuple[Tensor, Labels]:
    known = ~labels.isnan()
    return known, torch.where(known, labels, 0.0)  # not later: masking a NaN loss leaves a NaN gradient


def _cross_entropy(logits: Logits, targets: Labels) -> Float[Tensor, "batch findings"]:
    """Equation 3 before its mean, label by label.

    Torch's own takes the difference of two large numbers where an absent finding has a low logit: it is 0 in fp32 from
    a logit of -15 on.
    """
    return -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits))


def _number(known: Tensor, whole: Counts | None) -> Tensor:
    """How many labels are known, here or in the whole batch."""
    return known.sum() if whole is None else whole.sum()


def _mean_over(weights: Tensor, per_label: Tensor, number: Tensor) -> Float[Tensor, ""]:
    return (per_label * weights).sum() / number.clamp(min=1)
