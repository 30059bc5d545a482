import os
import re
from pathlib import Path

import pytest

from hilum.findings import CHESTXRAY14
from hilum.published import ERRATA, MEAN, VALUES, others, peers


def column(system: str) -> dict[str, float]:
    return {value.finding: value.auroc for value in VALUES if value.system == system}


SYSTEMS = tuple(dict.fromkeys(value.system for value in VALUES))


def test_seven_columns_of_fifteen_values() -> None:
    assert len(SYSTEMS) == 7
    assert len(VALUES) == 7 * 15
    for system in SYSTEMS:
        assert set(column(system)) == {*CHESTXRAY14, MEAN}


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
