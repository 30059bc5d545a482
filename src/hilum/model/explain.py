"""Measure the scale of class activation maps; compute Grad-CAM and CBAM's spatial gates."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hilum.data.dataset import FilmDataset
from hilum.nn.classifier import Classifier, ClassMaps, Images
from hilum.nn.densenet import CBAM, DenseNet, SpatialAttention

_FILMS_FOR_SCALE = 256
_BATCH = 16


def heatmap_logits(
    model: Classifier, dataset: FilmDataset, findings: tuple[str, ...], *, device: str = "cpu"
) -> dict[str, tuple[float, float]]:
    """The scale of a model's heatmaps, per finding: the logits that are drawn as nothing and as full.

    Nothing is the median film's mean over its map (its logit, where the system averages), full the 99th percentile of
    the films' strongest places, both over up to 256 films spread over the data set. Every film is drawn on this scale,
    so that an empty map stays empty.

    Args:
        device: where the network computes: cpu, cuda or mps. It is left on the CPU.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _FILMS_FOR_SCALE)).round().astype(int))
    means, peaks = [], []
    model.eval().to(device)
    with torch.inference_mode():
        for first in range(0, len(rows), _BATCH):
            images = torch.stack([dataset[int(row)][0] for row in rows[first : first + _BATCH]])
            _, maps = model.class_maps(images.to(device))
            means.append(maps.mean((2, 3)).cpu().numpy())
            peaks.append(maps.amax((2, 3)).cpu().numpy())
    model.to("cpu")
    clear = np.median(np.concatenate(means), axis=0)
    full = np.maximum(np.percentile(np.concatenate(peaks), 99, axis=0), clear + 1e-3)
    return {name: (float(clear[k]), float(full[k])) for k, name in enumerate(findings)}


LAST = "relu"
"""The stage of the last feature map, whose mean the classifier sees."""


def spatial_gates(model: DenseNet, images: Images) -> dict[str, Float[Tensor, "batch rows columns"]]:
    """The gate of each place in each attention block that has one, by the block's name; it knows no finding."""
    gates = {}
    features = model.scaled(images)
    for name, part in model.features.named_children():
        match part:
            case CBAM():
                gates[name] = part.spatial.gate(part.channel(features))[:, 0]
            case SpatialAttention():
                gates[name] = part.gate(features)[:, 0]
        features = part(features)
    return gates


def grad_cam(model: DenseNet, images: Images, *, stage: str) -> ClassMaps:
    """Grad-CAM of every finding: the channels of a stage weighed by the logit's mean slope along each, then ReLU.

    At the last stage it is the class map without its bias, divided by the number of places, its negative part cut off.

    Args:
        stage: a part of the model's features, such as denseblock3, or `relu`, the last one.

    Raises:
        ValueError: if the model has no such stage.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2. https://arxiv.org/abs/1610.02391
    """
    parts: dict[str, nn.Module] = {**dict(model.features.named_children()), LAST: nn.ReLU()}
    if stage not in parts:
        raise ValueError(f"stage must be one of {', '.join(parts)}, got {stage!r}")
    cut = list(parts).index(stage) + 1
    before, after = (nn.Sequential(*some) for some in (list(parts.values())[:cut], list(parts.values())[cut:]))
    with torch.no_grad():
        features = before(model.scaled(images))
    with torch.enable_grad():
        features.requires_grad_()
        logits = model.classifier(after(features).mean((2, 3)))
        maps = []
        for finding in range(logits.shape[1]):
            (slopes,) = torch.autograd.grad(logits[:, finding].sum(), features, retain_graph=True)
            maps.append((slopes.mean((2, 3), keepdim=True) * features).sum(1).relu())
    return torch.stack(maps, dim=1).detach()
