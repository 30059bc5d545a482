"""Values from the literature with their protocol, source and errata: what a report may stand beside, and what not."""

from dataclasses import dataclass
from typing import Literal

Protocol = Literal["official", "patient", "image"]

MEAN = "mean"
"""The finding's name of a mean over the 14 findings."""

PAPER = (
    'Zhao et al., "A deep learning method for classification of chest X-ray images", '
    "J. Phys.: Conf. Ser. 1848 (2021) 012030"
)

ERRATA: tuple[str, ...] = (
    "Table 1 prints DNetLoc's values, which are in canonical order, on rows in another order: its rank agreement with "
    "CheXNet's values is -0.26 as printed and 0.95 re-aligned. Re-aligned, AM_DenseNet is the best of the four systems "
    "in 12 findings, not 7; it loses Hernia and Fibrosis to DNetLoc.",
    "The text credits focal loss with +13.08 % on Nodule; by table 3 that is Hernia (0.7551 to 0.8859). Nodule gains "
    "1.01 %.",
    "The table's protocols do not compare: Wang 2017 and ChestNet report the official split, DNetLoc a random split of "
    "patients, AM_DenseNet a random split of images, in which a control that sees no pixel reaches about 0.746.",
)
"""What is wrong in the paper, each checked."""

_TABLE = """
Cardiomegaly       0.8100  0.8748   0.826   0.911  0.9007  0.8868  0.9138
Emphysema          0.8330  0.8222   0.911   0.925  0.9006  0.9076  0.9479
Effusion           0.7585  0.8114   0.885   0.885  0.8794  0.8897  0.8894
Hernia             0.8717  0.8996   0.716   0.941  0.8256  0.7551  0.8859
Infiltration       0.6614  0.6772   0.854   0.716  0.6978  0.7272  0.7305
Mass               0.6933  0.7833   0.774   0.854  0.8232  0.8623  0.8757
Nodule             0.6687  0.6975   0.765   0.774  0.7117  0.8083  0.8184
Atelectasis        0.7003  0.7433   0.872   0.826  0.8006  0.8364  0.8341
Pneumothorax       0.7993  0.8098   0.806   0.872  0.8671  0.8913  0.9115
Pleural_Thickening 0.6835  0.7513   0.892   0.785  0.7842  0.7996  0.8369
Pneumonia          0.6580  0.6959   0.925   0.765  0.7334  0.7750  0.7692
Fibrosis           0.7859  0.8041   0.820   0.820  0.7719  0.7887  0.8191
Edema              0.8052  0.8327   0.785   0.892  0.8860  0.8850  0.9010
Consolidation      0.7032  0.7256   0.941   0.806  0.7884  0.8048  0.8181
mean               0.7451  0.7806   0.841   0.841  0.8122  0.8298  0.8537
"""
"""The paper's tables in their order of rows, which is not the canonical one; the columns are _SYSTEMS."""


@dataclass(frozen=True)
class Published:
    """One printed AUROC on ChestX-ray14.

    `erratum` is empty where nothing is known to be wrong; `misprinted` says that the number stands on a wrong row.
    """

    finding: str
    system: str
    protocol: Protocol
    auroc: float
    source: str
    erratum: str = ""
    misprinted: bool = False


def peers(protocol: str | None) -> tuple[Published, ...]:
    """The published values that were measured under this protocol; misprinted ones are left out."""
    return tuple(value for value in VALUES if value.protocol == protocol and not value.misprinted)


def others(protocol: str | None) -> tuple[Published, ...]:
    """The published values of every other protocol, which do not compare; misprinted ones are left out."""
    return tuple(value for value in VALUES if value.protocol != protocol and not value.misprinted)


@dataclass(frozen=True)
class PublishedLocalization:
    """Published proportions of NIH's boxes whose finding was found, per overlap and finding."""

    system: str
    source: str
    caveat: str
    iobb: dict[str, dict[str, float]]


WANG_LOCALIZATION = PublishedLocalization(
    system="Wang 2017",
    source='Wang et al., "ChestX-ray8", CVPR 2017. https://arxiv.org/abs/1705.02315',
    caveat=(
        "Wang et al. counted all 984 boxes of NIH's official test list, by a rule of their own from maps to boxes. It "
        "may give several boxes on a film and could not be checked at the source from here. Here one box is drawn, and "
        "other films were evaluated: the columns do not compare."
    ),
    iobb={
        overlap: dict(
            zip(
                (
                    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration"),
                    *("Mass", "Nodule", "Pneumonia", "Pneumothorax", MEAN),
                ),
                values,
                strict=True,
            )
        )
        for overlap, values in {
            "0.1": (0.622, 1.0, 0.797, 0.911, 0.588, 0.152, 0.858, 0.520, 0.681),
            "0.25": (0.394, 0.986, 0.634, 0.797, 0.459, 0.051, 0.708, 0.337, 0.546),
            "0.5": (0.194, 0.945, 0.418, 0.650, 0.306, 0.0, 0.483, 0.265, 0.408),
        }.items()
    },
)
"""The source's accuracies by intersection over the drawn box."""


@dataclass(frozen=True)
class _System:
    """What the values of one column have in common."""

    system: str
    protocol: Protocol
    source: str
    erratum: str = ""
    misprinted: bool = False


_SYSTEMS = (
    _System("Wang 2017", "official", f"arXiv 1705.02315, as printed in {PAPER}, table 1"),
    _System("ChestNet", "official", f"arXiv 1807.03058, as printed in {PAPER}, table 1"),
    _System("DNetLoc (as printed)", "patient", f"arXiv 1803.04565, as printed in {PAPER}, table 1", ERRATA[0], True),
    _System(
        "DNetLoc",
        "patient",
        f"arXiv 1803.04565, from {PAPER}, table 1, re-aligned",
        "Re-aligned: table 1 prints these values on the wrong rows.",
    ),
    _System("DenseNet-121", "image", f"{PAPER}, table 2"),
    _System("AM_DenseNet + BCE", "image", f"{PAPER}, table 3", ERRATA[1]),
    _System("AM_DenseNet + focal", "image", f"{PAPER}, tables 1 and 3", ERRATA[1]),
)


def _values() -> tuple[Published, ...]:
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    return tuple(
        Published(
            row[0], column.system, column.protocol, float(number), column.source, column.erratum, column.misprinted
        )
        for i, column in enumerate(_SYSTEMS)
        for row, number in ((row, row[i + 1]) for row in rows)
    )


VALUES: tuple[Published, ...] = _values()
"""Every value of the paper's tables, column by column."""
