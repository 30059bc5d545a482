"""The scale of a model's heatmaps: its class activation maps in closed form, measured on films of the training."""

import numpy as np
import torch

from hilum.data.dataset import FilmDataset
from hilum.nn.classifier import Classifier

_FILMS_FOR_SCALE = 256
_BATCH = 16


def heatmap_logits(
    model: Classifier, dataset: FilmDataset, findings: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """The scale of a model's heatmaps, per finding: the logits that are drawn as nothing and as full.

    Nothing is the median film's mean over its map (its logit, where the system averages), full the 99th percentile of
    the films' strongest places, both over up to 256 films spread over the data set. Every film is drawn on this scale,
    so that an empty map stays empty.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _FILMS_FOR_SCALE)).round().astype(int))
    means, peaks = [], []
    with torch.inference_mode():
        for first in range(0, len(rows), _BATCH):
            images = torch.stack([dataset[int(row)][0] for row in rows[first : first + _BATCH]])
            _, maps = model.eval().class_maps(images)
            means.append(maps.mean((2, 3)).numpy())
            peaks.append(maps.amax((2, 3)).numpy())
    clear = np.median(np.concatenate(means), axis=0)
    full = np.maximum(np.percentile(np.concatenate(peaks), 99, axis=0), clear + 1e-3)
    return {name: (float(clear[k]), float(full[k])) for k, name in enumerate(findings)}
