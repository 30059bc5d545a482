"""The paper's tables and claims, by the recipes that stand for its systems."""

from collections.abc import Sequence
from typing import NamedTuple

from hilum.metrics.seeds import SeedDifference

OURS = "am-densenet"
"""The recipe of the paper's own system."""

PUBLISHED = {
    "wang-resnet50": ("Wang 2017",),
    "chestnet": ("ChestNet",),
    "dnetloc": ("DNetLoc (as printed)", "DNetLoc"),
    "densenet": ("DenseNet-121",),
    "am-densenet-bce": ("AM_DenseNet + BCE",),
    OURS: ("AM_DenseNet + focal",),
}
"""Each recipe's columns among the published values."""

TABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Table 1: AM_DenseNet and the systems that it is compared with", ("wang-resnet50", "chestnet", "dnetloc", OURS)),
    (
        "Table 2: without attention, against with it; both with binary cross-entropy",
        ("densenet", "am-densenet-bce"),
    ),
    ("Table 3: binary cross-entropy against focal loss", ("am-densenet-bce", OURS)),
)
"""What each table of the paper sets side by side."""


class Claim(NamedTuple):
    """What the paper says of two systems: the mean AUROC of `second` minus `first` lies on one side of 0."""

    first: str
    second: str
    text: str
    sign: int


def claims_of(systems: Sequence[str]) -> list[Claim]:
    """The paper's claims that a suite of these systems can speak to."""
    claims = [
        Claim("densenet", "am-densenet-bce", "attention raises the mean AUROC (tables 2 and 3)", 1),
        Claim("am-densenet-bce", OURS, "focal loss raises the mean AUROC (table 3)", 1),
    ]
    claims += [
        Claim(OURS, system, f"AM_DenseNet with focal loss is better than {PUBLISHED[system][-1]} (table 1)", -1)
        for system in ("wang-resnet50", "chestnet", "dnetloc")
    ]
    claims += [
        Claim(OURS, system, "", 0) for system in systems if system not in PUBLISHED
    ]  # the paper says nothing of them
    return [claim for claim in claims if claim.first in systems and claim.second in systems]


def verdict(mean: SeedDifference, sign: int) -> str:
    """Whether the measured difference supports that it lies on the side of `sign`.

    Only where its interval lies wholly on one side of 0, and every single seed's difference too.
    """
    low, high, _ = mean.auroc.low, mean.auroc.high, mean.auroc.undefined
    if sign * low > 0 and sign * high > 0 and all(sign * seed > 0 for seed in mean.seeds):
        return "supported"
    if sign * low < 0 and sign * high < 0 and all(sign * seed < 0 for seed in mean.seeds):
        return "not supported"
    return "undecided"
