"""Decision curves: what calls at a threshold are worth when a needless call costs a stated part of a missed finding."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from hilum.metrics.influence import Codes, Measured, measured_mean, patient_codes, too_few

Numbers = Float64[np.ndarray, " films"]
Thresholds = Float64[np.ndarray, " thresholds"]

STEPS = 40
"""Thresholds of a curve, from one step above 0 to its upper end."""

_PREVALENCES = 4.0
"""A curve ends at so many times the prevalence, or at 0.1: above, treating none is hard to beat."""


class Decision(NamedTuple):
    """What one threshold is worth, per film.

    Attributes:
        threshold: the probability at which a call is worth its costs: odds of it are what a needless call costs, in
            findings missed.
        net_benefit: true calls minus needless calls weighed by these odds, per film.
        treat_all: the same if all films are called; if none is, it is 0.
        gain: net benefit minus the better of the two.
    """

    threshold: float
    net_benefit: Measured
    treat_all: Measured
    gain: Measured


def decision_curve(scores: Numbers, labels: Numbers, patients: Shaped[np.ndarray, " films"]) -> tuple[Decision, ...]:
    """Net benefit of calling films whose score reaches a threshold, over thresholds; empty for films of one class.

    Patients are the units of the intervals, which hold threshold by threshold. `gain` is set against the default that
    is better on these films, whose error it holds; where both are near, a claim must beat both (`gains_on_both`).

    Args:
        scores: probabilities, in [0, 1].
        labels: 1 present, 0 absent, NaN unknown (left out).
        patients: whose film each is.

    Source: Vickers and Elkin, "Decision curve analysis", Medical Decision Making 26, 2006.
    """
    known = ~np.isnan(labels)
    kept, present = scores[known], labels[known] == 1
    if not present.any() or present.all():
        return ()
    codes, people = patient_codes(patients[known])
    why = _why(present, codes)
    return tuple(_decision(kept, present, codes, people, float(one), why) for one in thresholds(float(present.mean())))


def thresholds(prevalence: float) -> Thresholds:
    """Those of a finding's curve: equal steps up to four times its prevalence, but at least 0.1 and at most 0.95."""
    limit = min(0.95, max(0.1, round(np.ceil(20 * _PREVALENCES * prevalence) / 20, 2)))
    return np.linspace(0, limit, STEPS + 1)[1:]


def gains_on_both(one: Decision) -> bool:
    """Whether calling by the score beats both defaults by more than chance, at this threshold alone."""
    if one.net_benefit.why or one.gain.why:
        return False
    return one.gain.estimate.low > 0 and one.net_benefit.estimate.low > 0


def net_benefit(called: Bool[np.ndarray, " films"], present: Bool[np.ndarray, " films"], threshold: float) -> Numbers:
    """What each film adds to the net benefit: 1 for a true call, minus the threshold's odds for a needless one."""
    return np.where(called, np.where(present, 1.0, -threshold / (1 - threshold)), 0.0)


def _decision(
    scores: Numbers, present: Bool[np.ndarray, " films"], codes: Codes, people: int, threshold: float, why: str
) -> Decision:
    by_score = net_benefit(scores >= threshold, present, threshold)
    by_all = net_benefit(np.ones(len(scores), dtype=bool), present, threshold)
    default = by_all if by_all.mean() > 0 else np.zeros(len(scores))
    measured = (
        measured_mean(values, codes, people, scale="plain") for values in (by_score, by_all, by_score - default)
    )
    return Decision(threshold, *(replace(one, why=one.why or why) for one in measured))


def _why(present: Bool[np.ndarray, " films"], codes: Codes) -> str:
    """Why there are no intervals, or empty."""
    with_it, without = (len(np.unique(codes[kind])) for kind in (present, ~present))
    return too_few(with_it, "with the finding") or too_few(without, "without the finding")
