"""How many patients a study needs, and what power it has: for an interval, a difference, or non-inferiority."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import nctdtr, ndtri, stdtrit

from hilum.metrics.influence import FEWEST_PATIENTS

Question = Literal["width", "difference", "margin"]
MeasureName = Literal["auroc", "sensitivity", "specificity"]

MOST_PATIENTS = 10_000_000
"""Beyond so many no study is planned."""


@dataclass(frozen=True)
class Design:
    """What is assumed of the patients and of both systems.

    Attributes:
        measure: whose difference is planned for.
        value: of the first system, such as an AUROC of 0.80.
        prevalence: proportion of patients with the finding, in (0, 1).
        films: per patient; all of a patient's films have the finding, or none has.
        alike: how alike the films of one patient are, 0 (as of other patients) to 1 (the same film again).
        correlation: of both systems' scores on films of one kind, 0 to below 1; of a sensitivity, of the calls.
    """

    measure: MeasureName = "auroc"
    value: float = 0.8
    prevalence: float = 0.05
    films: float = 1.0
    alike: float = 0.5
    correlation: float = 0.5

    def __post_init__(self) -> None:
        for name, inside in (
            ("value", 0 < self.value < 1),
            ("prevalence", 0 < self.prevalence < 1),
            ("alike", 0 <= self.alike <= 1),
            ("correlation", 0 <= self.correlation < 1),
            ("films", self.films >= 1),
        ):
            if not inside:
                raise ValueError(f"{name} must be {_RANGES[name]}, got {getattr(self, name)}")


_RANGES = {
    "value": "between 0 and 1",
    "prevalence": "between 0 and 1",
    "alike": "from 0 to 1",
    "correlation": "from 0 to below 1",
    "films": "at least 1",
}


@dataclass(frozen=True)
class Aim:
    """What the study is to show.

    Attributes:
        question: width, a 95 % interval no wider than `size`; difference, a difference of `difference` between two
            systems on the same films, two-sided; margin, that the second is not worse by `size` where the truth is
            `difference`, one-sided at half the level.
        level: of the two-sided test.
        tests: findings that are tested together; the level is divided by them (Bonferroni, which Holm never exceeds).
    """

    question: Question
    size: float
    difference: float = 0.0
    level: float = 0.05
    tests: int = 1

    @property
    def tail(self) -> float:
        """The error on one side of one test."""
        return self.level / 2 / self.tests


def standard_error(design: Design, patients: float | int, *, difference: float | None = None) -> float:
    """Of the measure (`difference` None), or of the second system's minus the first's.

    AUROC: exact for normal scores of equal spread in both kinds of film. Sensitivity and specificity: binomial.

    Args:
        patients: all, with the finding or not.
        difference: second minus first.

    Source: Bamber, Journal of Mathematical Psychology 12, 1975 (variance from placements); Plackett, "A reduction
        formula for normal multivariate integrals", Biometrika 41, 1954 (their covariance); Obuchowski, Biometrics 53,
        1997 (films in patients).
    """
    with_it, without = patients * design.prevalence, patients * (1 - design.prevalence)
    of_films = (1 + (design.films - 1) * design.alike) / design.films
    if design.measure == "auroc":
        each = of_films * (1 / with_it + 1 / without)
    else:
        each = of_films / (with_it if design.measure == "sensitivity" else without)
    if difference is None:
        return math.sqrt(_covariance(design, design.value, design.value, 1.0) * each)
    other = design.value + difference
    if not 0 < other < 1:
        raise ValueError(f"value + difference must be between 0 and 1, got {other:.3f}")
    own, others = (_covariance(design, value, value, 1.0) for value in (design.value, other))
    both = _covariance(design, design.value, other, design.correlation)
    return math.sqrt(max(own + others - 2 * both, 1e-12) * each)


def power(design: Design, aim: Aim, patients: float | int, *, error: float | None = None) -> float:
    """The chance that the study shows what it is to show; of a width, 1 if the interval is narrow enough, else 0.

    Args:
        error: standard error for so many patients, instead of the design's: from a pilot study.
    """
    degrees, critical = _degrees(design, patients), reach(design, aim, patients)
    if aim.question == "width":
        error = standard_error(design, patients) if error is None else error
        return float(2 * critical * error <= aim.size)
    error = standard_error(design, patients, difference=aim.difference) if error is None else error
    if aim.question == "margin":
        return float(1 - nctdtr(degrees, (aim.difference + aim.size) / error, critical))
    away = aim.difference / error
    return float(1 - nctdtr(degrees, away, critical) + nctdtr(degrees, away, -critical))


def reach(design: Design, aim: Aim, patients: float | int) -> float:
    """How many standard errors an interval reaches to either side."""
    return float(stdtrit(_degrees(design, patients), 1 - aim.tail))


def _degrees(design: Design, patients: float | int) -> float:
    return max(1.0, min(patients * design.prevalence, patients * (1 - design.prevalence)) - 1)


def patients_needed(design: Design, aim: Aim, wanted: float, *, pilot: tuple[float, float] | None = None) -> int | None:
    """The fewest patients with this power, of whom at least 10 have the finding and 10 do not; None beyond 10 million.

    Args:
        wanted: power, in (0, 1); not looked at for a width.
        pilot: patients of a pilot study and the standard error that it had.
    """

    def enough(patients: int) -> bool:
        error = None if pilot is None else pilot[1] * math.sqrt(pilot[0] / patients)
        return power(design, aim, patients, error=error) >= (1.0 if aim.question == "width" else wanted)

    low = math.ceil(FEWEST_PATIENTS / min(design.prevalence, 1 - design.prevalence))
    if enough(low):
        return low
    high = low
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST_PATIENTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _covariance(design: Design, first: float, second: float, correlation: float) -> float:
    """What two systems' films add to the covariance of their measures, times the number of films."""
    if design.measure != "auroc":
        return correlation * math.sqrt(first * (1 - first) * second * (1 - second))
    one, other = float(ndtri(first)), float(ndtri(second))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    half = correlation / 4
    r = half * (nodes + 1)  # from 0 to half the correlation: the other film's score is not shared
    density = np.exp(-(one**2 - 2 * r * one * other + other**2) / (2 * (1 - r**2))) / np.sqrt(1 - r**2)
    return float(half * (weights @ density) / (2 * math.pi))
