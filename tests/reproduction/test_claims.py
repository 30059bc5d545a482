"""The paper's claims: which a suite can speak to, and when a difference supports one."""

import pytest

from hilum.reproduction.plan import SYSTEMS
from hilum.reproduction.tables import OURS, PUBLISHED, claim_sentence, claims_of, verdict


@pytest.mark.parametrize(
    ("low", "high", "p_value", "seeds", "said"),
    [
        (0.01, 0.03, 0.01, [0.02], "supported"),
        (-0.03, -0.01, 0.01, [-0.02], "not supported"),
        (-0.01, 0.03, 0.01, [0.01], "undecided"),
        (0.01, 0.03, 0.08, [0.02], "undecided"),
        (0.01, 0.03, 0.01, [0.05, -0.01], "undecided"),
        (None, None, None, [0.02], "undecided"),
    ],
)
def test_a_verdict_needs_the_corrected_test_the_interval_and_every_seed(
    low: float | None, high: float | None, p_value: float | None, seeds: list[float], said: str
) -> None:
    auroc = {"value": 0.02, "low": low, "high": high, "undefined": 0}
    assert verdict({"auroc": auroc, "p_value": 0.001, "p_value_holm": p_value, "seeds": seeds}) == said


def test_the_papers_systems_have_five_claims() -> None:
    claims = claims_of(SYSTEMS)
    assert len(claims) == 5
    assert {claim.second for claim in claims} == {OURS, "am-densenet-bce"}  # one sign: the second is the better one
    others = {"wang-resnet50", "chestnet", "dnetloc", "am-densenet-bce"}
    assert {claim.first for claim in claims if claim.second == OURS} == others
    assert set(PUBLISHED) == set(SYSTEMS)
    [other] = claims_of([OURS, "se-densenet"])
    assert (other.first, other.second, other.text) == ("se-densenet", OURS, "")
    assert claims_of(["chestnet"]) == []


def test_a_sentence_says_the_number_and_how_far_it_reaches() -> None:
    mean = {"auroc": {"value": 0.02, "low": 0.01, "high": 0.03, "undefined": 0}, "p_value": 0.001}
    mean |= {"p_value_holm": 0.004, "seeds": [0.02]}
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
        "+0.030, p 0.004 after Holm's correction); one training each, and another seed could change it. The paper's "
        "printed difference is +0.0176."
    )
    assert "seed by seed +0.0300; -0.0100" in claim_sentence(
        {**difference, "mean": {**mean, "seeds": [0.03, -0.01]}, "verdict": "undecided"}
    )
    assert claim_sentence({**difference, "mean": None}).startswith("\N{EN DASH} not trained yet")
