"""Reader studies: several readers score the same films in several modalities (MRMC), by Obuchowski and Rockette."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.special import chdtrc, fdtrc, stdtr, stdtrit

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.influence import patient_codes, too_few
from hilum.metrics.ranking import auroc, placements

Aurocs = Float64[np.ndarray, "modalities readers"]
Covariances = Float64[np.ndarray, "modalities readers modalities readers"]


class Components(NamedTuple):
    """What the model of Obuchowski and Rockette is estimated by.

    Attributes:
        modality, reader, interaction: mean squares of the AUROCs' table.
        variance: of one AUROC, from the films' draw alone.
        cov1: of one reader in two modalities; cov2: of two readers in one; cov3: of two readers in two.
    """

    modality: float
    reader: float
    interaction: float
    variance: float
    cov1: float
    cov2: float
    cov3: float


class Test(NamedTuple):
    """Whether the modalities differ: F, its two degrees of freedom (the second may be infinite), and p."""

    f: float
    degrees: tuple[float, float]
    p_value: float


class Pair(NamedTuple):
    """The second modality minus the first, over the readers."""

    first: int
    second: int
    difference: Estimate
    p_value: float


@dataclass(frozen=True)
class Readers:
    """A reader study.

    Attributes:
        aurocs: by modality and reader.
        modalities: each modality's mean over readers, readers and patients both drawn.
        both: readers and patients are drawn from all such; patients: only patients are, for these readers alone;
            readers: only readers are, for these patients alone.
        pairs: for `both`.
        single: each reader's own differences, `pairs` by reader, for that reader alone.
        why: why there is no interval and no test, or empty.
    """

    aurocs: Aurocs
    components: Components
    modalities: tuple[Estimate, ...]
    both: Test
    patients: Test
    readers: Test
    pairs: tuple[Pair, ...]
    single: tuple[tuple[Estimate, ...], ...]
    why: str


def read_study(
    scores: Float64[np.ndarray, "modalities readers films"],
    labels: Shaped[np.ndarray, " films"],
    patients: Shaped[np.ndarray, " films"],
) -> Readers:
    """Compare modalities in which the same readers scored the same films.

    Args:
        scores: any finite numbers that rise with the finding.
        labels: 1 present, 0 absent.
        patients: whose film each is; they are the units of the jackknife.

    Raises:
        ValueError: if there are fewer than two modalities or readers, or the films are of one class.

    Source: Obuchowski and Rockette, Communications in Statistics B 24, 1995; Hillis, "A comparison of denominator
        degrees of freedom methods for multiple observer ROC analysis", Statistics in Medicine 26, 2007.
    """
    number, readers = scores.shape[:2]
    if number < 2 or readers < 2:
        raise ValueError(f"scores must be of two modalities and two readers at least, got {number} and {readers}")
    present = labels == 1
    if not present.any() or present.all():
        raise ValueError("labels must be present in some films and absent in others, got one class")
    codes, _ = patient_codes(patients)
    aurocs = np.array([[auroc(film, present.astype(np.float64)) for film in one] for one in scores])
    covariances = jackknife(scores, present, codes)
    people = [len(np.unique(codes[kind])) for kind in (present, ~present)]
    why = too_few(people[0], "with the finding") or too_few(people[1], "without the finding")
    return compare_modalities(aurocs, covariances, why)


def jackknife(
    scores: Float64[np.ndarray, "modalities readers films"],
    present: Shaped[np.ndarray, " films"],
    codes: Shaped[np.ndarray, " films"],
) -> Covariances:
    """Covariances of all AUROCs from leaving out one patient after the other.

    Args:
        codes: whose film each is, from 0.
    """
    modalities, readers, films = scores.shape
    flat = scores.reshape(-1, films).T
    placed = placements(flat, present.astype(np.float64))
    with_it, without = int(present.sum()), int((~present).sum())
    people = int(codes.max()) + 1
    wins = np.zeros((people, flat.shape[1]))
    np.add.at(wins, codes[present], placed.present * without)
    np.add.at(wins, codes[~present], placed.absent * with_it)
    total = placed.present.sum(axis=0) * without
    own = np.array([np.bincount(codes[kind], minlength=people) for kind in (present, ~present)])
    for person in np.flatnonzero((own > 0).all(axis=0)):  # whose films were counted from both sides
        mine, others = flat[present & (codes == person)], flat[~present & (codes == person)]
        above = (mine[:, np.newaxis] > others) + 0.5 * (mine[:, np.newaxis] == others)
        wins[person] -= above.sum(axis=(0, 1))
    left = (with_it - own[0]) * (without - own[1])
    whole = left > 0
    without_one = (total - wins[whole]) / left[whole][:, np.newaxis]
    apart = without_one - without_one.mean(axis=0)
    found = apart.T @ apart * (len(apart) - 1) / len(apart)
    return np.asarray(found.reshape(modalities, readers, modalities, readers), dtype=np.float64)


def compare_modalities(aurocs: Aurocs, covariances: Covariances, why: str = "") -> Readers:
    """The analysis from the AUROCs and their covariances alone.

    Args:
        why: why there is no interval and no test, or empty.
    """
    number, readers = aurocs.shape
    parts = components(aurocs, covariances)
    between = max(readers * (parts.cov2 - parts.cov3), 0.0)
    free = float((number - 1) * (readers - 1))
    error = parts.interaction + between
    degrees = error**2 / (parts.interaction**2 / free) if parts.interaction > 0 else math.inf
    fixed = parts.variance - parts.cov1 + (readers - 1) * max(parts.cov2 - parts.cov3, 0.0)
    means = aurocs.mean(axis=1)
    nothing = (float("nan"), float("nan"))
    pairs = []
    for first, second in combinations(range(number), 2):
        value = float(means[second] - means[first])
        spread = math.sqrt(2 / readers * error)
        ends = nothing if why else _ends(value, spread, degrees)
        p_value = float("nan") if why or spread == 0 else float(2 * stdtr(degrees, -abs(value) / spread))
        pairs.append(Pair(first, second, Estimate(value, *ends, 0, why), p_value))
    return Readers(
        aurocs,
        parts,
        tuple(_modality(aurocs[i], covariances[i][:, i], why) for i in range(number)),
        _test(parts.modality, error, number - 1, degrees, why),
        _test(parts.modality, fixed, number - 1, math.inf, why),
        _test(parts.modality, parts.interaction, number - 1, free, why),
        tuple(pairs),
        tuple(
            tuple(_of_reader(aurocs[:, j], covariances[:, j][:, :, j], pair, why) for j in range(readers))
            for pair in pairs
        ),
        why,
    )


def components(aurocs: Aurocs, covariances: Covariances) -> Components:
    """Mean squares of the AUROCs and means of their covariances."""
    number, readers = aurocs.shape
    whole, by_modality, by_reader = aurocs.mean(), aurocs.mean(axis=1), aurocs.mean(axis=0)
    rest = aurocs - by_modality[:, np.newaxis] - by_reader + whole
    modality, reader = np.eye(number, dtype=bool), np.eye(readers, dtype=bool)
    same_modality, same_reader = modality[:, np.newaxis, :, np.newaxis], reader[np.newaxis, :, np.newaxis, :]

    def mean(which: Shaped[np.ndarray, "..."]) -> float:
        return float(covariances[np.broadcast_to(which, covariances.shape)].mean())

    return Components(
        float(readers / (number - 1) * ((by_modality - whole) ** 2).sum()),
        float(number / (readers - 1) * ((by_reader - whole) ** 2).sum()),
        float((rest**2).sum() / ((number - 1) * (readers - 1))),
        mean(same_modality & same_reader),
        mean(~same_modality & same_reader),
        mean(same_modality & ~same_reader),
        mean(~same_modality & ~same_reader),
    )


def _modality(
    aurocs: Float64[np.ndarray, " readers"], covariances: Float64[np.ndarray, "readers readers"], why: str
) -> Estimate:
    """The mean over readers of one modality."""
    readers, value = len(aurocs), float(aurocs.mean())
    if why:
        return Estimate(value, float("nan"), float("nan"), 0, why)
    spread = float(aurocs.var(ddof=1))
    together = max(float(covariances[~np.eye(readers, dtype=bool)].mean()) * readers, 0.0)
    degrees = (spread + together) ** 2 / (spread**2 / (readers - 1)) if spread > 0 else math.inf
    low, high = _ends(value, math.sqrt((spread + together) / readers), degrees)
    return Estimate(value, max(low, 0.0), min(high, 1.0), 0)


def _of_reader(
    aurocs: Float64[np.ndarray, " modalities"],
    covariances: Float64[np.ndarray, "modalities modalities"],
    pair: Pair,
    why: str,
) -> Estimate:
    """One reader's difference, by the films' draw alone."""
    first, second = pair.first, pair.second
    value = float(aurocs[second] - aurocs[first])
    if why:
        return Estimate(value, float("nan"), float("nan"), 0, why)
    variance = covariances[first, first] + covariances[second, second] - 2 * covariances[first, second]
    return Estimate(value, *_ends(value, math.sqrt(max(float(variance), 0.0)), math.inf), 0)


def _ends(value: float, error: float, degrees: float) -> tuple[float, float]:
    reach = error * (1.959963984540054 if math.isinf(degrees) else float(stdtrit(degrees, 0.975)))
    return value - reach, value + reach


def _test(found: float, error: float, above: int, below: float, why: str) -> Test:
    if why or error <= 0:
        return Test(float("nan"), (float(above), below), float("nan"))
    f = found / error
    p_value = chdtrc(above, f * above) if math.isinf(below) else fdtrc(above, below, f)
    return Test(f, (float(above), below), float(p_value))
