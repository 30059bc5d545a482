"""Sums over films in resamples of the patients: what rates, shares and mean errors are made of."""

import numpy as np
from jaxtyping import Float64, Shaped
from scipy import sparse

from hilum.metrics.bootstrap import Estimate, PerDraw, estimate, patient_counts
from hilum.metrics.ranking import Table

SumsPerDraw = Float64[np.ndarray, "draws columns"]


def resampled_sums(per_film: Table, patients: Shaped[np.ndarray, " _"], *, draws: int, seed: int) -> SumsPerDraw:
    """The sum of each column over the films of each resample; the resamples are those of `bootstrap`.

    All NaN for a single patient: resampling one patient gives that patient, which is no news and not certainty.

    Args:
        per_film: films x columns, finite.
        patients: whose film each row is.
        draws: number of resamples.

    Raises:
        ValueError: if the two differ in length or there is no film.
    """
    if len(per_film) != len(patients) or not len(patients):
        raise ValueError(f"per_film and patients must be of one length, not 0, got {len(per_film)} and {len(patients)}")
    names, codes = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return np.full((draws, per_film.shape[1]), np.nan)
    films = np.arange(len(codes))
    per_patient = sparse.csr_matrix((np.ones(len(codes)), (codes, films)), shape=(len(names), len(codes))) @ per_film
    result = np.empty((draws, per_film.shape[1]))
    done = 0
    for counts in patient_counts(len(names), draws=draws, seed=seed):
        here = slice(done, done + counts.shape[1])
        result[here] = counts.T @ per_patient
        done = here.stop
    return result


def quotient(part: PerDraw, whole: PerDraw) -> PerDraw:
    """Part by whole in each resample; NaN where the whole is 0."""
    result: PerDraw = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return result


def share(part: float, whole: float, part_drawn: PerDraw, whole_drawn: PerDraw, *, patients: int) -> Estimate:
    """A share of films with its 95 % interval from resampled patients; NaN if there are no films.

    Where all films agree, every resample does too, which is no certainty: the interval is then the exact one for as
    many independent patients.

    Args:
        part: films that count.
        whole: films that could.
        part_drawn, whole_drawn: the same in each resample.
        patients: whose films the whole is.
    """
    value = part / whole if whole else float("nan")
    result = estimate(value, quotient(part_drawn, whole_drawn))
    if value not in (0.0, 1.0):
        return result
    return Estimate(value, *unanimous(value, patients), result.undefined)


def unanimous(value: float, patients: int) -> tuple[float, float]:
    """The exact 95 % interval of a share that is 0 or 1 in as many independent patients.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
    """
    outside = 1 - 0.025 ** (1 / patients)  # of one patient: 0.975, so that the interval says nothing
    return (0.0, outside) if value == 0 else (1 - outside, 1.0)
