"""Predictors that see no pixel: how far patient identity, or view, age and sex, come by themselves on these films."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Shaped
from scipy.optimize import minimize
from scipy.special import expit

from hilum.metrics.influence import Measured, auroc_difference, measured_auroc, nothing, patient_codes
from hilum.metrics.ranking import Table

PSEUDO_FILMS = 1.0
"""How many films of the training prevalence are added to a patient's own."""

AGE_KNOTS_YEARS = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
"""Where the slope over age may change."""

Texts = Shaped[np.ndarray, " films"]


@dataclass(frozen=True)
class Records:
    """What is written about films, without their pixels; a row, or an element, per film."""

    labels: Table  # 1 present, 0 absent, NaN unknown
    patients: Texts
    views: Texts
    ages: Float64[np.ndarray, " films"]  # years, NaN if unknown
    sexes: Texts


class Control(NamedTuple):
    """A control's AUROC per finding, and how far a system lies above it on the same films; NaN if undefined."""

    auroc: tuple[Measured, ...]
    ahead: tuple[Measured, ...]


def run_controls(training: Records, evaluated: Records, system: Table) -> dict[str, Control]:
    """Both controls, learned from the training films and measured on the evaluated ones.

    A finding that a control cannot learn is NaN.

    Args:
        system: scores of the evaluated films, which the controls are set against.
    """
    scores = {
        "identity": identity_scores(training, evaluated),
        "view_age_sex": view_age_sex_scores(training, evaluated),
    }
    return {name: _measure(table, evaluated, system) for name, table in scores.items()}


def identity_scores(
    training: Records, evaluated: Records, *, pseudo_films: float = PSEUDO_FILMS
) -> Float64[np.ndarray, "films findings"]:
    """For each evaluated film the mean label of the same patient's training films, drawn towards the prevalence.

    A patient without training films gets the prevalence. NaN for findings of which no training label is known.

    Args:
        pseudo_films: films of the training prevalence that are added to each patient's own, above 0.
    """
    known = ~np.isnan(training.labels)
    present = np.where(known, training.labels, 0.0).astype(np.float64)
    films, positives = known.sum(axis=0), present.sum(axis=0)
    prevalence = np.divide(positives, films, out=np.full(len(films), np.nan), where=films > 0)
    names, codes = np.unique(training.patients, return_inverse=True)
    of_patient = np.zeros((2, len(names) + 1, len(films)))  # the last row is of patients without training films
    np.add.at(of_patient[0], codes, present)
    np.add.at(of_patient[1], codes, known)
    place = np.searchsorted(names, evaluated.patients)
    found = np.append(names, names[:1])[place] == evaluated.patients if len(names) else np.zeros(len(place), dtype=bool)
    own_positives, own_films = of_patient[:, np.where(found, place, len(names))]
    scores: Float64[np.ndarray, "films findings"] = (own_positives + pseudo_films * prevalence) / (
        own_films + pseudo_films
    )
    return scores


def view_age_sex_scores(training: Records, evaluated: Records) -> Float64[np.ndarray, "films findings"]:
    """Logits of a logistic regression on view, sex and age, fitted to the training films of each finding.

    It has an L2 penalty, scikit-learn's (C = 1), so that an age without a positive film gets no infinite slope.
    Films with the same view, age and sex are one weighted row: the same fit in a hundredth of the time. Age enters as a
    line whose slope may change every ten years; an unknown age is a category of its own. NaN for findings whose known
    training labels are of one class.
    """
    rows, codes = _distinct(_design(training))
    asked = _design(evaluated)
    scores = np.full((len(asked), training.labels.shape[1]), np.nan)
    for finding, labels in enumerate(training.labels.T):
        weights = np.concatenate([np.bincount(codes[labels == value], minlength=len(rows)) for value in (0, 1)])
        if not weights[: len(rows)].any() or not weights[len(rows) :].any():
            continue
        truth = np.repeat([0.0, 1.0], len(rows))
        there = weights > 0
        slopes = _logistic_regression(np.tile(rows, (2, 1))[there], truth[there], weights[there])
        scores[:, finding] = asked @ slopes[:-1] + slopes[-1]
    return scores


def _logistic_regression(
    rows: Float64[np.ndarray, "rows features"],
    truth: Float64[np.ndarray, " rows"],
    weights: Shaped[np.ndarray, " rows"],
) -> Float64[np.ndarray, " slopes"]:
    """The slope of each feature, then the intercept, at the least log loss with a penalty of half the slopes' square.

    Source: scikit-learn, "LogisticRegression", solver lbfgs: the same loss, start, solver and tolerances.
    https://scikit-learn.org/stable/modules/linear_model.html#logistic-regression
    """
    total = weights.sum()

    def loss(slopes: Float64[np.ndarray, " slopes"]) -> tuple[float, Float64[np.ndarray, " slopes"]]:
        logits = rows @ slopes[:-1] + slopes[-1]
        wrong = weights * (expit(logits) - truth) / total
        value = (weights * (np.logaddexp(0, logits) - truth * logits)).sum() / total + slopes[:-1] @ slopes[:-1] / (
            2 * total
        )
        return value, np.append(wrong @ rows + slopes[:-1] / total, wrong.sum())

    options = {"maxiter": 2000, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    start = np.zeros(rows.shape[1] + 1)
    found: Float64[np.ndarray, " slopes"] = minimize(loss, start, method="L-BFGS-B", jac=True, options=options).x
    return found


def _design(films: Records) -> Float64[np.ndarray, "films features"]:
    """A row of numbers per film: a column for each known view and sex, then age as a bent line."""
    known = ~np.isnan(films.ages)
    years = np.where(known, films.ages, 0.0)
    columns = [films.views == view for view in ("PA", "AP", "LATERAL")]
    columns += [films.sexes == sex for sex in ("M", "F")]
    columns += [~known, years / 100]  # of the size of the others, for the solver
    columns += [np.maximum(years - knot, 0.0) / 100 for knot in AGE_KNOTS_YEARS]
    return np.stack(columns, axis=1).astype(np.float64)


def _distinct(
    design: Float64[np.ndarray, "films features"],
) -> tuple[Float64[np.ndarray, "rows features"], Int[np.ndarray, " films"]]:
    """The distinct rows, and which of them each film has."""
    rows, codes = np.unique(design, axis=0, return_inverse=True)
    return rows, codes.reshape(-1)


def _measure(scores: Float64[np.ndarray, "films findings"], evaluated: Records, system: Table) -> Control:
    codes, people = patient_codes(evaluated.patients)
    auroc, ahead = [], []
    for k, labels in enumerate(np.asarray(evaluated.labels, dtype=np.float64).T):
        own = scores[:, k]
        if np.isnan(own).any():
            auroc.append(nothing(people))
            ahead.append(nothing(people))
        else:
            theirs = np.asarray(system[:, k], dtype=np.float64)
            auroc.append(measured_auroc(own, labels, codes, people))
            ahead.append(auroc_difference([own], [theirs], labels, codes, people))
    return Control(tuple(auroc), tuple(ahead))
