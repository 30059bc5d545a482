import os
import re
from pathlib import Path

import pytest

from hilum.evaluation.published import ERRATA, MEAN, VALUES, others, peers
from hilum.findings import CHESTXRAY14


def column(system: str) -> dict[str, float]:
    return {value.finding: value.auroc for value in VALUES if value.system == system}


SYSTEMS = tuple(dict.fromkeys(value.system for value in VALUES))


def test_seven_columns_of_fifteen_values() -> None:
    assert len(SYSTEMS) == 7
    assert len(VALUES) == 7 * 15
    for system in SYSTEMS:
        assert set(column(system)) == {*CHESTXRAY14, MEAN}


GOLDEN = {
    "Wang 2017": ".7003 .8100 .7585 .6614 .6933 .6687 .6580 .7993 .7032 .8052 .8330 .7859 .6835 .8717 .7451",
    "ChestNet": ".7433 .8748 .8114 .6772 .7833 .6975 .6959 .8098 .7256 .8327 .8222 .8041 .7513 .8996 .7806",
    "DNetLoc (as printed)": ".872 .826 .885 .854 .774 .765 .925 .806 .941 .785 .911 .820 .892 .716 .841",
    "DNetLoc": ".826 .911 .885 .716 .854 .774 .765 .872 .806 .892 .925 .820 .785 .941 .841",
    "DenseNet-121": ".8006 .9007 .8794 .6978 .8232 .7117 .7334 .8671 .7884 .8860 .9006 .7719 .7842 .8256 .8122",
    "AM_DenseNet + BCE": ".8364 .8868 .8897 .7272 .8623 .8083 .7750 .8913 .8048 .8850 .9076 .7887 .7996 .7551 .8298",
    "AM_DenseNet + focal": ".8341 .9138 .8894 .7305 .8757 .8184 .7692 .9115 .8181 .9010 .9479 .8191 .8369 .8859 .8537",
}
"""Typed a second time from the paper's tables, in canonical order, then the mean."""


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_value_is_the_papers(system: str) -> None:
    names = [*CHESTXRAY14, MEAN]
    assert [column(system)[name] for name in names] == [float(number) for number in GOLDEN[system].split()]


def test_every_value_has_a_protocol_a_source_and_its_erratum() -> None:
    facts = {value.system: (value.protocol, value.source, value.erratum, value.misprinted) for value in VALUES}
    protocols = {system: protocol for system, (protocol, *_) in facts.items()}
    assert protocols == {
        "Wang 2017": "official",
        "ChestNet": "official",
        "DNetLoc (as printed)": "patient",
        "DNetLoc": "patient",
        "DenseNet-121": "image",
        "AM_DenseNet + BCE": "image",
        "AM_DenseNet + focal": "image",
    }
    for system, arxiv in (("Wang 2017", "1705.02315"), ("ChestNet", "1807.03058"), ("DNetLoc", "1803.04565")):
        assert f"arXiv {arxiv}" in facts[system][1]
    assert all("1848 (2021) 012030" in source for _, source, _, _ in facts.values())
    assert [system for system, (*_, misprinted) in facts.items() if misprinted] == ["DNetLoc (as printed)"]
    assert facts["DNetLoc (as printed)"][2] == ERRATA[0]
    assert "Hernia" in facts["AM_DenseNet + focal"][2]


@pytest.mark.parametrize("system", SYSTEMS)
def test_means_are_the_means_of_their_columns(system: str) -> None:
    values = column(system)
    mean = sum(values[finding] for finding in CHESTXRAY14) / 14
    assert values[MEAN] == pytest.approx(mean, abs=6e-4)


def test_re_aligning_dnetloc_reads_the_printed_list_in_canonical_order() -> None:
    printed = [value.auroc for value in VALUES if value.system == "DNetLoc (as printed)" and value.finding != MEAN]
    realigned = column("DNetLoc")
    assert [realigned[finding] for finding in CHESTXRAY14] == printed


def test_errata_as_checked() -> None:
    rivals = [column(system) for system in ("Wang 2017", "ChestNet", "DNetLoc")]
    ours = column("AM_DenseNet + focal")
    best = [f for f in CHESTXRAY14 if ours[f] > max(rival[f] for rival in rivals)]
    assert sorted(set(CHESTXRAY14) - set(best)) == ["Fibrosis", "Hernia"]
    bce = column("AM_DenseNet + BCE")
    assert ours["Hernia"] - bce["Hernia"] == pytest.approx(0.1308)
    assert ours["Nodule"] - bce["Nodule"] == pytest.approx(0.0101)
    assert len(ERRATA) == 3


def test_peers_share_the_protocol_and_no_misprint() -> None:
    assert {value.system for value in peers("official")} == {"Wang 2017", "ChestNet"}
    assert {value.system for value in peers("patient")} == {"DNetLoc"}
    assert {value.system for value in peers("image")} == {"DenseNet-121", "AM_DenseNet + BCE", "AM_DenseNet + focal"}
    assert peers(None) == ()
    for protocol in ("official", "patient", "image"):
        assert len(peers(protocol)) + len(others(protocol)) == 6 * 15
        assert not any(value.protocol == protocol for value in others(protocol))


@pytest.mark.real
def test_every_value_of_the_specification_is_carried(real_data: Path) -> None:
    specification = real_data / "paper.md"
    if not specification.is_file():
        pytest.skip(f"no {specification}: {os.environ.get('HILUM_REAL_DATA', 'default folder')}")
    rows = {}
    for line in specification.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and re.fullmatch(r"0\.\d+", cells[1]):
            rows[cells[0]] = [float(cell) for cell in cells[1:]]
    assert len(rows) == 15
    for finding, values in rows.items():
        assert values == [column(system)[finding] for system in SYSTEMS], finding
