"""Checklists: every item has its number, what the report knows is filled, the rest is visibly open."""

import re
from pathlib import Path

import pytest
from commands import Hilum
from made_reports import full_report, some_report

from hilum.errors import HilumError
from hilum.evaluation.checklists import CLAIM, STARD_AI, TRIPOD_AI, checklist
from hilum.evaluation.page import render_page, write_report

TRIPOD = """
1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17
18a 18b 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c
"""
NUMBERS = {"claim": [str(number) for number in range(1, 45)], "tripod-ai": TRIPOD.split()}


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "][2:]


@pytest.mark.parametrize("name", ["claim", "tripod-ai", "stard-ai"])
def test_what_is_known_is_filled_with_its_section_and_the_rest_is_open(name: str) -> None:
    report = full_report(decision_curves={"undefined": "", "findings": {}}, runs=None)
    text, page = checklist(report, name), render_page(report)
    found = rows(text)
    if name in NUMBERS:
        assert [row[0] for row in found] == NUMBERS[name]
    filled = [row for row in found if "**open" not in row[2]]
    assert len(filled) == int(re.findall(r"^(\d+) of \d+ items", text, flags=re.M)[0])
    assert 10 < len(filled) < len(found)
    for row in filled:
        anchor = row[3].partition("#")[2].partition(":")[0]
        assert not anchor or f'id="{anchor}"' in page
    assert report["disclaimer"] in text
    open_items = {row[0] for row in found} - {row[0] for row in filled}
    assert {"claim": "44", "tripod-ai": "18a", "stard-ai": "30"}[name] in open_items  # funding: no report knows it


def test_a_table_of_scores_leaves_the_model_open() -> None:
    known = {row[0]: row[2] for row in rows(checklist(some_report(), "claim"))}
    assert known["22"].startswith("**open")
    assert known["7"].startswith("100 films of 40 patients")
    with_model = {row[0]: row[2] for row in rows(checklist(full_report(), "claim"))}
    assert "am-densenet" in with_model["22"]


def test_numbers_are_unique_but_for_what_has_none() -> None:
    for items in (CLAIM, TRIPOD_AI, STARD_AI):
        numbers = [item.number for item in items if item.number != "AI"]
        assert len(numbers) == len(set(numbers))
    with pytest.raises(HilumError, match="checklist must be one of claim, tripod-ai, stard-ai, got 'prisma'"):
        checklist(some_report(), "prisma")


def test_the_command_writes_them(hilum: Hilum, tmp_path: Path) -> None:
    write_report(full_report(), tmp_path / "report")
    said = hilum("report", tmp_path / "report", "--checklist", "claim", "--checklist", "stard-ai")
    assert said.code == 0, said.err
    assert (tmp_path / "report" / "checklist-claim.md").read_text().startswith("# CLAIM 2024: AM_DenseNet")
    assert (tmp_path / "report" / "checklist-stard-ai.md").is_file()
    wrong = hilum("report", tmp_path / "report", "--checklist", "prisma")
    assert (wrong.code, len(wrong.err.splitlines())) == (2, 1)
