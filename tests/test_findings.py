import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.errors import FilmsError
from hilum.findings import CHESTXRAY14, CODES, NO_FINDING, RADLEX, canonical


def test_the_order_is_golden() -> None:
    """It is the order of every network's outputs: should it change, old weights would mean something else."""
    assert " ".join(CHESTXRAY14) == (
        "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax "
        "Consolidation Edema Emphysema Fibrosis Pleural_Thickening Hernia"
    )


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("Infiltrate", "Infiltration"),  # BBox_List_2017.csv
        ("Pleural_Thickening", "Pleural_Thickening"),
        ("pleural thickening", "Pleural_Thickening"),
        ("Pleural-Thickening", "Pleural_Thickening"),
        ("PleuralThickening", "Pleural_Thickening"),
        ("PLEURAL EFFUSION", "Effusion"),
        ("Pleural_Effusion", "Effusion"),
        (" hernia\n", "Hernia"),
    ],
)
def test_other_names(name: str, finding: str) -> None:
    assert canonical(name) == finding


@given(st.sampled_from(CHESTXRAY14), st.randoms(use_true_random=False), st.text(" \t", max_size=3))
def test_case_and_space_do_not_matter(finding: str, random: Random, space: str) -> None:
    name = "".join(random.choice((letter.lower(), letter.upper())) for letter in finding)
    assert canonical(space + name.replace("_", random.choice("_ -")) + space) == finding


@given(st.text())
def test_no_other_text_is_a_finding(name: str) -> None:
    with pytest.raises(FilmsError, match=re.escape("got " + repr(f"{name}?"))):
        canonical(f"{name}?")


@pytest.mark.parametrize("name", ["", NO_FINDING, "Pneumonia|Mass", "Lung Opacity", "Masses"])
def test_what_is_no_finding_is_refused(name: str) -> None:
    with pytest.raises(FilmsError, match=r"finding must be one of Atelectasis, .*, Hernia, got"):
        canonical(name)


def test_snomed_codes_have_their_check_digit() -> None:
    """Source: Verhoeff, "Error Detecting Decimal Codes", 1969, as SNOMED CT uses it for its identifiers."""
    turns = [list(range(10))]
    for _ in range(7):
        turns.append([(1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit] for digit in turns[-1]])

    def times(one: int, other: int) -> int:  # in the group of the pentagon's turns (0 to 4) and mirrors (5 to 9)
        turned = (one + other if one < 5 else one - other) % 5
        return turned + 5 if (one < 5) != (other < 5) else turned

    def checks(code: str) -> bool:
        product = 0
        for place, digit in enumerate(reversed(code)):
            product = times(product, turns[place % 8][int(digit)])
        return product == 0

    assert not checks("8186010")
    assert [code.value for code in CODES.values() if code.scheme == "SCT" and not checks(code.value)] == []


def test_radlex_is_beside_another_code() -> None:
    assert set(RADLEX) < set(CODES) == set(CHESTXRAY14)
    assert all(code.scheme == "RADLEX" and re.fullmatch(r"RID[0-9]+", code.value) for code in RADLEX.values())
