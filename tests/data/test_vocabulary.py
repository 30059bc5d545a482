import csv
import gzip
import math
import re
import tarfile
from ast import literal_eval
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.data.vocabulary import CHEXPERT13, combined, findings_of, labeller, only_extremes, page
from hilum.errors import FilmsError
from hilum.findings import CHESTXRAY14, NO_FINDING, vocabulary

VALUES = st.sampled_from([0.0, 1.0, -1.0, math.nan])
SAID = st.lists(st.tuples(st.sampled_from("=<>"), VALUES), max_size=5)
PAGE = Path(__file__).parents[2] / "docs" / "vocabulary.md"
ORDER = {"unknown": 0, 0.0: 1, -1.0: 2, 1.0: 3}


def rank(value: float) -> int:
    return 0 if math.isnan(value) else ORDER[value]


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ([("=", 1)], 1),
        ([("=", 0)], 0),
        ([("=", -1)], -1),
        ([("=", math.nan)], math.nan),
        ([("<", 1)], 1),
        ([("<", 0)], math.nan),
        ([("<", -1)], math.nan),
        ([(">", 0)], 0),
        ([(">", 1)], math.nan),
        ([(">", -1)], math.nan),
        ([("=", 0), ("=", math.nan)], 0),  # all known ones say so
        ([("=", 0), ("=", 1)], 1),
        ([("=", 0), ("=", -1)], -1),
        ([("=", -1), ("<", 1)], 1),
        ([("=", 0), ("<", 0)], 0),
        ([], math.nan),
    ],
)
def test_signs_are_golden(said: list[tuple[str, float]], label: float) -> None:
    assert combined([(sign, float(value)) for sign, value in said]) == pytest.approx(label, nan_ok=True)


@given(SAID, st.randoms(use_true_random=False))
def test_the_order_of_words_does_not_matter(said: list[tuple[str, float]], random: object) -> None:
    assert combined(said[::-1]) == pytest.approx(combined(said), nan_ok=True)


@given(SAID)
def test_unknown_words_change_nothing(said: list[tuple[str, float]]) -> None:
    assert combined([*said, ("=", math.nan), ("<", math.nan), (">", math.nan)]) == pytest.approx(
        combined(said), nan_ok=True
    )


@given(SAID, st.integers(0, 4))
def test_a_word_that_becomes_present_never_makes_a_finding_less_present(
    said: list[tuple[str, float]], place: int
) -> None:
    raised = [(sign, 1.0 if place == at and sign != ">" else value) for at, (sign, value) in enumerate(said)]
    assert rank(combined(raised)) >= rank(combined(said))


def test_there_are_27_findings_each_with_its_signs() -> None:
    known = vocabulary()
    assert len(known.findings) == 27
    assert tuple(known.findings)[:14] == CHESTXRAY14
    for finding in known.findings.values():
        assert finding.sources, finding.name
        for source, words in finding.sources.items():
            assert source in known.sources
            assert {sign for sign, _ in words} <= set("=<>")
            assert len({word for _, word in words}) == len(words), (finding.name, source)


def test_what_blank_and_normal_mean() -> None:
    names = ("Cardiomegaly", "Mass", "Support Devices", "Emphysema")
    absent, unknown = labeller("chexpert", names), labeller("chexpert", names, blank="unknown")
    assert absent({}) == pytest.approx((0, 0, 0, math.nan), nan_ok=True)
    assert unknown({}) == pytest.approx((math.nan,) * 4, nan_ok=True)
    assert unknown({NO_FINDING: 1.0}) == pytest.approx((0, 0, math.nan, 0), nan_ok=True)
    assert absent({NO_FINDING: 1.0, "Support Devices": 1.0}) == (0, 0, 1, 0)
    assert unknown({"Lung Lesion": 1.0, "Cardiomegaly": -1.0}) == pytest.approx(
        (-1, math.nan, math.nan, math.nan), nan_ok=True
    )
    assert absent({"Cardiomegaly": math.nan})[0] != 0
    assert absent(None) == pytest.approx((math.nan,) * 4, nan_ok=True)


def test_words_that_a_table_cannot_say_are_unknown() -> None:
    said = labeller("vindr", ("Pneumothorax", "Edema"), words={"Pneumothorax"})
    assert said({}) == pytest.approx((0, math.nan), nan_ok=True)


def test_findings_of_a_source() -> None:
    assert findings_of("nih", "own") == findings_of("padchest", "nih") == CHESTXRAY14
    assert findings_of("mimic", "own") == CHEXPERT13
    assert set(findings_of("siim", "own")) == {"Pneumothorax"}
    assert "Lung Opacity" not in findings_of("padchest", "own")
    assert len(findings_of("siim", "union")) == 27
    assert set(only_extremes("padchest", findings_of("padchest", "union"))) == {
        "Lung Opacity", "Lung Lesion", "Enlarged Cardiomediastinum", "Pleural Other", "Tuberculosis", "ILD",
        "Calcification",
    }  # fmt: skip
    with pytest.raises(FilmsError, match="vocabulary must be one of own, nih, chexpert, union"):
        findings_of("nih", "mine")


def test_the_page_is_as_the_file_says() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m hilum.data.vocabulary docs/vocabulary.md"


def tables() -> Path:
    found = find_spec("torchxrayvision")
    if found is None or found.origin is None:
        pytest.skip("torchxrayvision is not installed: its wheel holds the sources' tables")
    return Path(found.origin).parent / "data"


def words(source: str) -> set[str]:
    return {word for finding in vocabulary().findings.values() for _, word in finding.sources.get(source, ())}


def test_every_word_of_a_source_occurs_in_its_real_table() -> None:
    with gzip.open(tables() / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", "rt") as file:
        texts = {row["Labels"] for row in csv.DictReader(file) if row["Labels"]}
    found = {word.strip() for text in texts if text.startswith("[") for word in literal_eval(text)}
    assert words("padchest") - found == set()
    with gzip.open(tables() / "chexpert_train.csv.gz", "rt") as file:
        assert words("chexpert") - set(next(csv.reader(file))) == set()
    with gzip.open(tables() / "vinbigdata-train.csv.gz", "rt") as file:
        found = {row["class_name"] for row in csv.DictReader(file)}
    assert words("vindr") - found == {  # of the full set of 28, which the table of the challenge lacks
        "Edema", "Emphysema", "Pneumonia", "Tuberculosis", "Rib fracture", "Clavicle fracture",
    }  # fmt: skip
    with tarfile.open(tables() / "NLMCXR_reports.tgz") as reports:
        major = {
            term.lower()
            for member in reports
            if member.isfile()
            for term in re.findall("<major>(.*?)</major>", reports.extractfile(member).read().decode())  # type: ignore[union-attr]
        }
    found = {"/".join(term.split("/")[:many]) for term in major for many in (1, 2)}
    assert words("openi") - found == set()
