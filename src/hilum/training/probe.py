"""A linear probe fitted at once: a classifier on features that were never trained on films."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hilum.messages import track
from hilum.metrics.calibration import platt_lines
from hilum.metrics.ranking import auroc_per_finding
from hilum.nn.classifier import Classifier

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Penalties that cross-validation chooses from."""

FOLDS = 5
MOST_ROWS = 12_000
"""Films and mirror images that are fitted at once: every pair of them is held in memory, 8 bytes each."""

_BATCH = 16


class Probe(NamedTuple):
    """What a fit chose and how well it did on films that each part of it had not seen.

    Attributes:
        penalty: of the ridge regression, on features of mean 0 and deviation 1 over the square root of their number.
        auroc: mean AUROC out of fold over the findings that have one; NaN if none has.
    """

    penalty: float
    auroc: float


def fit_classifier(
    model: Classifier,
    films: Dataset[Any],
    targets: Float32[np.ndarray, "films findings"],
    patients: Sequence[str],
    *,
    mirrored: bool,
    penalty: float | None = None,
    seed: int = 0,
) -> Probe:
    """Fit the classifier of a network by ridge regression of the labels on its features; all else stays as it is.

    The features of each film are computed once, in evaluation mode. The penalty with the highest mean AUROC in
    cross-validation by patient is taken, one for all findings; then all films are fitted. Platt lines of the scores out
    of fold make logits of them.

    Args:
        model: its classifier's weights are replaced.
        films: image and labels each; only images are used.
        targets: 1, 0 or between; NaN is left out.
        patients: of the films; their films stay in one fold.
        mirrored: learn from each film's mirror image too.
        penalty: this one, instead of the choice.
        seed: deals the patients to folds.

    Source: Hoerl and Kennard, "Ridge Regression", Technometrics 1970, in its dual form (Saunders, Gammerman and Vovk,
        ICML 1998), since features are more than films.
    """
    features = _features(model, films, mirrored=mirrored)
    count = len(features) // len(targets)  # 2 with mirror images
    labels = np.concatenate([targets] * count).astype(np.float64)
    mean = features.mean(0)
    deviation = (features.std(0) + 1e-5) * features.shape[1] ** 0.5
    scaled = features.sub_(mean).div_(deviation)
    alike = (scaled @ scaled.T).double().numpy()
    fold = np.tile(_folds(patients, seed), count)
    choices = PENALTIES if penalty is None else (penalty,)
    unseen = _out_of_fold(alike, labels, fold, len(targets), choices)
    areas = {value: _mean_auroc(scores, targets) for value, scores in unseen.items()}
    chosen = max(choices, key=lambda value: np.nan_to_num(areas[value]))
    lines = platt_lines(unseen[chosen], np.round(targets.astype(np.float64)))
    slopes, intercepts = (torch.tensor([getattr(line, name) for line in lines]) for name in ("slope", "intercept"))
    by_row, base = _ridge(alike, labels, (chosen,))[chosen]
    weights = (scaled.T.double() @ torch.from_numpy(by_row)).T / deviation
    bias = torch.from_numpy(base) - weights @ mean.double()
    with torch.no_grad():
        model.classifier.weight.copy_(slopes[:, None] * weights)
        model.classifier.bias.copy_(slopes * bias + intercepts)
    return Probe(chosen, areas[chosen])


def _features(model: Classifier, films: Dataset[Any], *, mirrored: bool) -> Float[Tensor, "rows features"]:
    """What the classifier reads, of each film; then of each mirror image."""
    seen: list[Tensor] = []
    hook = model.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0].float()))
    model.eval()
    plain: list[Tensor] = []
    turned: list[Tensor] = []
    try:
        with torch.inference_mode():
            for images, _ in track(DataLoader(films, batch_size=_BATCH), "Features"):
                for into, seen_as in ((plain, images), (turned, images.flip(3))):
                    if into is turned and not mirrored:
                        continue
                    seen.clear()
                    model(seen_as.contiguous(memory_format=torch.channels_last))
                    into.append(seen[0])
    finally:
        hook.remove()
    return torch.cat(plain + turned).clone()  # clone: an inference tensor cannot be learned from


def _ridge(
    alike: Float64[np.ndarray, "rows rows"], labels: Float64[np.ndarray, "rows findings"], penalties: Sequence[float]
) -> dict[float, tuple[Float64[np.ndarray, "rows findings"], Float64[np.ndarray, " findings"]]]:
    """What each row weighs in each fit, and each mean label; rows whose label is unknown weigh nothing."""
    found = {value: (np.zeros_like(labels), np.zeros(labels.shape[1])) for value in penalties}
    patterns, of = np.unique(~np.isnan(labels), axis=1, return_inverse=True)
    for number, known in enumerate(patterns.T):
        findings = np.flatnonzero(of.ravel() == number)
        if not known.any():
            continue
        own = labels[np.ix_(known, findings)]
        off = torch.from_numpy(own - own.mean(0))
        for value, (rows, means) in found.items():
            penalised = torch.from_numpy(alike[np.ix_(known, known)])
            penalised.diagonal().add_(value)
            rows[np.ix_(known, findings)] = torch.cholesky_solve(off, torch.linalg.cholesky(penalised)).numpy()
            means[findings] = own.mean(0)
    return found


def _folds(patients: Sequence[str], seed: int) -> np.ndarray:
    """The fold of each film, by its patient."""
    names, of = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % FOLDS)[of.ravel()]


def _out_of_fold(
    alike: Float64[np.ndarray, "rows rows"],
    labels: Float64[np.ndarray, "rows findings"],
    fold: np.ndarray,
    films: int,
    penalties: Sequence[float],
) -> dict[float, Float64[np.ndarray, "films findings"]]:
    """Scores of each film by the fit that had not seen its patient, for each penalty."""
    scores = {value: np.zeros((films, labels.shape[1])) for value in penalties}
    for number in range(FOLDS):
        learned, unseen = np.flatnonzero(fold != number), np.flatnonzero(fold[:films] == number)
        if len(learned) and len(unseen):
            asked = alike[np.ix_(unseen, learned)]
            for value, (rows, means) in _ridge(alike[np.ix_(learned, learned)], labels[learned], penalties).items():
                scores[value][unseen] = asked @ rows + means
    return scores


def _mean_auroc(scores: Float64[np.ndarray, "films findings"], targets: Float32[np.ndarray, "films findings"]) -> float:
    areas = auroc_per_finding(scores, np.round(targets.astype(np.float64)))
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")
