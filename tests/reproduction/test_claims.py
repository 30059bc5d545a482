"""The paper's claims: which a suite can speak to, and when a difference supports one."""

import math

import pytest

from hilum.metrics.bootstrap import Estimate
from hilum.metrics.compare import SeedDifference
from hilum.reproduction.plan import SYSTEMS
from hilum.reproduction.tables import OURS, PUBLISHED, claim_sentence, claims_of, verdict


@pytest.mark.parametrize(
    ("low", "high", "seeds", "of_a_rise", "of_a_fall"),
    [
        (0.01, 0.03, (0.02,), "supported", "not supported"),
        (-0.03, -0.01, (-0.02,), "not supported", "supported"),
        (-0.01, 0.03, (0.01,), "undecided", "undecided"),
        (0.01, 0.03, (0.05, -0.01), "undecided", "undecided"),
        (math.nan, math.nan, (0.02,), "undecided", "undecided"),
    ],
)
def test_a_verdict_needs_the_interval_and_every_seed(
    low: float, high: float, seeds: tuple[float, ...], of_a_rise: str, of_a_fall: str
) -> None:
    measured = SeedDifference(Estimate(0.02, low, high, 0), 0.01, math.nan, seeds)
    assert (verdict(measured, 1), verdict(measured, -1)) == (of_a_rise, of_a_fall)


def test_the_papers_systems_have_five_claims() -> None:
    claims = claims_of(SYSTEMS)
    assert len(claims) == 5
    assert {claim.second for claim in claims if claim.first == OURS} == {"wang-resnet50", "chestnet", "dnetloc"}
    assert set(PUBLISHED) == set(SYSTEMS)
    [other] = claims_of([OURS, "se-densenet"])
    assert (other.text, other.sign) == ("", 0)
    assert claims_of(["chestnet"]) == []


def test_a_sentence_says_the_number_and_how_far_it_reaches() -> None:
    mean = {"auroc": {"value": 0.02, "low": 0.01, "high": 0.03, "undefined": 0}, "p_value": 0.004, "seeds": [0.02]}
    difference = {
        "first": "densenet",
        "second": "am-densenet-bce",
        "claim": "attention raises the mean AUROC",
        "mean": mean,
        "verdict": "supported",
        "published": 0.0176,
    }
    assert claim_sentence(difference) == (
        "Supported here: attention raises the mean AUROC. AM_DenseNet + BCE minus DenseNet-121: +0.0200 (+0.010 to "
        "+0.030, p 0.004); one training each, and another seed could change it. The paper's printed difference is "
        "+0.0176."
    )
    assert "seed by seed +0.0300; -0.0100" in claim_sentence(
        {**difference, "mean": {**mean, "seeds": [0.03, -0.01]}, "verdict": "undecided"}
    )
    assert claim_sentence({**difference, "mean": None}).startswith("\N{EN DASH} not trained yet")
