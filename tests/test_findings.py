import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.errors import FilmsError
from hilum.findings import (
    CHESTXRAY14,
    CODES,
    NO_FINDING,
    PLAIN,
    PRIVATE,
    RADLEX,
    canonical,
    codes_of,
    drawn,
    folded,
    name_fault,
    plain,
    resolve,
)


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


NAMES = st.text(min_size=1, max_size=40).filter(lambda name: name_fault([name]) is None)


@pytest.mark.parametrize(
    ("name", "findings", "meant"),
    [
        ("Effusion", ("Pleural_Effusion", "Effusion"), "Effusion"),  # the same name before all else
        ("pleural effusion", ("Effusion", "Pleural_Effusion"), "Pleural_Effusion"),
        ("Effusion", ("Mass", "Pleural_Effusion"), "Pleural_Effusion"),  # a synonym, either way
        ("Pleural_Effusion", ("Mass", "Effusion"), "Effusion"),
        ("LUNG OPACITY", ("Lung_Opacity",), "Lung_Opacity"),
        ("lung-lesion", ("Lung Lesion", "Mass"), "Lung Lesion"),
        ("e\u0301panchement", ("\u00c9panchement",), "\u00c9panchement"),
        ("\u80ba\u7ed3\u6838", ("Mass", "\u80ba\u7ed3\u6838"), "\u80ba\u7ed3\u6838"),
        ("Lung Opacity", ("Airspace opacity", "Mass"), None),  # similar is not the same
        ("Hernia", ("Mass",), None),
    ],
)
def test_a_name_is_looked_up_among_one_s_own_findings(name: str, findings: tuple[str, ...], meant: str | None) -> None:
    assert resolve(name, findings) == meant


def test_a_synonym_of_two_findings_is_refused() -> None:
    with pytest.raises(
        FilmsError, match="finding must mean one of Effusion and Pleural Effusion, got 'PleuralEffusion'"
    ):
        resolve("PleuralEffusion", ("Effusion", "Pleural Effusion"))


@given(st.lists(NAMES, min_size=1, max_size=8, unique_by=folded))
def test_codes_are_unique_and_fit_into_dicom(names: list[str]) -> None:
    codes = {name: code for name, (code, *_) in codes_of(tuple(names)).items()}
    assert list(codes) == names
    assert len({code.value for code in codes.values()}) == len(names)
    for name, code in codes.items():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+( [A-Za-z0-9_.-]+)*", code.value)
        assert len(code.value) <= 16
        assert len(code.meaning) <= 64
        if code.scheme == PRIVATE and code.value != "pleural-thick":
            assert code.meaning == name
        else:
            assert resolve(name, CHESTXRAY14) is not None


def test_only_what_means_the_same_has_the_code() -> None:
    names = (
        "Effusion",
        "Pleural Effusion",
        "Lung Lesion",
        "Support_Devices",
        "Enlarged Cardiomediastinum",
        "\u7ed3\u6838",
    )
    codes = codes_of(names)
    assert [codes[name][0].scheme for name in names] == ["SCT", *[PRIVATE] * 5]
    assert [codes[name][0].value for name in names[1:4]] == ["Pleural Effusion", "Lung Lesion", "Support_Devices"]
    assert codes_of(("pleural_effusion",))["pleural_effusion"] == (CODES["Effusion"], RADLEX["Effusion"])
    assert len(codes["Effusion"]) == 2
    assert codes["Enlarged Cardiomediastinum"][0].value.startswith("Enlarge-")
    assert codes["\u7ed3\u6838"][0].value.startswith("finding-")


def test_plain_words_and_pictures() -> None:
    assert set(PLAIN) == set(CHESTXRAY14)
    assert plain("pleural effusion") == PLAIN["Effusion"]
    assert plain("Tuberculosis") == ("", 4)
    assert drawn("Pleural_Thickening") == "Pleural Thickening"
    assert drawn("\u00c9panchement") == "\u00c9panchement"
    assert drawn("\u7ed3\u6838") == codes_of(("\u7ed3\u6838",))["\u7ed3\u6838"][0].value


@pytest.mark.parametrize(
    "names",
    [
        [],
        [""],
        [" Mass"],
        ["a/b"],
        ["a\\b"],
        ['a"b'],
        ["a\nb"],
        [3],
        ["Mass", "mass"],
        ["A_b", "a b"],
        ["fit"],
        ["call_x"],
        ["x" * 65],
    ],
)
def test_names_that_can_head_no_column_or_file_are_refused(names: list[object]) -> None:
    assert name_fault(names) is not None
    assert name_fault(["Mass", "\u80ba\u7ed3\u6838", "\u00c9panchement pleural", "Support_Devices"]) is None
