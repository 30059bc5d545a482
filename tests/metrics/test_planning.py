"""Plans against studies that are simulated, and against numbers of others."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtri

from hilum.metrics.influence import against_zero, auroc_difference, non_inferiority
from hilum.metrics.planning import Aim, Design, patients_needed, power, standard_error
from hilum.metrics.ranking import auroc


def simulated(design: Design, difference: float, generator: np.random.Generator, patients: int) -> tuple[float, float]:
    """Both systems' AUROCs in one study of the design."""
    films = int(design.films)
    present = (np.arange(patients) < round(patients * design.prevalence)).repeat(films)
    people = np.arange(patients).repeat(films)
    shared = math.sqrt(design.correlation)
    alone = math.sqrt(1 - design.correlation)

    def noise() -> np.ndarray:
        own = generator.normal(size=len(people)) * math.sqrt(1 - design.alike)
        return own + generator.normal(size=patients)[people] * math.sqrt(design.alike)

    common = noise()
    first, second = (shared * common + alone * noise() for _ in range(2))
    means = [math.sqrt(2) * float(ndtri(value)) for value in (design.value, design.value + difference)]
    labels = present.astype(np.float64)
    return auroc(first + means[0] * present, labels), auroc(second + means[1] * present, labels)


@pytest.mark.parametrize(
    ("design", "difference"),
    [
        (Design(value=0.8, prevalence=0.2, correlation=0.5), 0.0),
        (Design(value=0.75, prevalence=0.5, correlation=0.8), 0.1),
        (Design(value=0.8, prevalence=0.3, films=4.0, alike=0.6, correlation=0.3), 0.05),
    ],
)
def test_standard_errors_are_those_of_simulated_studies(design: Design, difference: float) -> None:
    generator = np.random.default_rng(0)
    found = np.array([simulated(design, difference, generator, 200) for _ in range(600)])
    assert standard_error(design, 200) == pytest.approx(found[:, 0].std(), rel=0.1)
    gained = found[:, 1] - found[:, 0]
    assert standard_error(design, 200, difference=difference) == pytest.approx(gained.std(), rel=0.1)


def test_power_is_how_often_simulated_studies_show_it() -> None:
    design, aim = Design(value=0.8, prevalence=0.5, correlation=0.6), Aim("difference", 0.0, 0.06)
    patients = patients_needed(design, aim, 0.8)
    assert patients is not None
    generator, shown = np.random.default_rng(1), 0
    labels = (np.arange(patients) < round(patients / 2)).astype(np.float64)
    means = [math.sqrt(2) * float(ndtri(value)) for value in (0.8, 0.86)]
    for _ in range(300):
        common = generator.normal(size=patients)
        first, second = (
            math.sqrt(0.6) * common + math.sqrt(0.4) * generator.normal(size=patients) + mean * labels for mean in means
        )
        gained = auroc_difference([first], [second], labels, np.arange(patients), patients)
        shown += against_zero(gained).p_value < 0.05
    assert shown / 300 == pytest.approx(0.8, abs=0.07)


def test_a_sensitivity_is_the_textbooks() -> None:
    """Of 196 films with the finding, 0.5 has an interval of 0.07 to either side; by Student's t a little more."""
    design, aim = Design("sensitivity", 0.5, prevalence=0.5), Aim("width", 0.14)
    needed = patients_needed(design, aim, 0.8)
    assert needed is not None
    assert needed / 2 == pytest.approx(196 * (1.972 / 1.96) ** 2, abs=2)


def test_more_is_needed_for_less_and_for_films_that_are_alike() -> None:
    aim = Aim("margin", 0.05)
    few, more, same_again, others, many = (
        patients_needed(design, asked, 0.8) or 0
        for design, asked in (
            (Design(), aim),
            (Design(), Aim("margin", 0.03)),
            (Design(films=3.0, alike=1.0), aim),
            (Design(films=3.0, alike=0.0), aim),
            (Design(), Aim("margin", 0.05, tests=14)),
        )
    )
    assert 0 < others < few == same_again < min(more, many)
    assert power(Design(), aim, few) >= 0.8 > power(Design(), aim, few - 1)
    assert patients_needed(Design(), Aim("difference", 0.0, 0.00001), 0.8) is None


def test_a_pilots_spread_shrinks_with_the_root_of_the_patients() -> None:
    design, aim = Design(prevalence=0.5), Aim("width", 0.1)
    needed = patients_needed(design, aim, 0.8, pilot=(100.0, 0.05))
    assert needed == pytest.approx(100 * (2 * 1.97 * 0.05 / 0.1) ** 2, rel=0.02)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: Design(value=1.0), "value"),
        (lambda: Design(prevalence=0.0), "prevalence"),
        (lambda: Design(films=0.5), "films"),
        (lambda: Design(correlation=1.0), "correlation"),
    ],
)
def test_assumptions_that_cannot_be_are_refused(wrong: Callable[[], Design], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        wrong()


def test_non_inferiority_is_an_interval_above_the_margin() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        labels = (generator.random(200) < 0.4).astype(np.float64)
        first, second = (generator.normal(size=200) + labels for _ in range(2))
        gained = auroc_difference([first], [second], labels, np.arange(200), 200)
        low, p = against_zero(gained).estimate.low, non_inferiority(gained, 0.08)
        assert (low > -0.08) == (p < 0.025)
        assert non_inferiority(gained, -low) == pytest.approx(0.025) if low < 0 else True
    same = auroc_difference([first], [first], labels, np.arange(200), 200)
    assert non_inferiority(same, 0.01) == 0.0
    with pytest.raises(ValueError, match="margin must be above 0"):
        non_inferiority(same, 0.0)
