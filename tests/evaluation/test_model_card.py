"""The model card: everything in it is from report.json."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_reports import full_report, some_report

from hilum import DISCLAIMER
from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.page import PROTOCOLS, citation, limits
from hilum.evaluation.render import model_card
from hilum.model.bundle import load_bundle


@pytest.fixture
def own_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A bundle that may be written to."""
    return shutil.copytree(tiny_run, tmp_path / "run")


NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
FIXED = {"95", "0.30", "30", "100", "50", "0.4", "1", "64", "0.1", "0.25", "0.5", "0.75", "0", "10", "90", "71"}
"""Numbers of the fixed sentences: intervals, examples, axes, overlaps, operating points."""


def numbers_of(value: Any) -> set[str]:
    """Every number of a report, in all the forms in which Hilum writes numbers."""
    match value:
        case bool() | None:
            return set()
        case int() | float():
            forms = (f"{value:.3f}", f"{value:+.3f}", f"{value:,}", f"{value}", f"{value:.1f}", f"{100 * value:.0f}")
            return {form.lstrip("+-") for form in forms}
        case str():
            return set(NUMBER.findall(value))
        case dict():
            return set().union(*(numbers_of(part) for pair in value.items() for part in pair))
        case _:
            return set().union(*map(numbers_of, value))


def unknown_numbers(card: str, report: dict[str, Any]) -> set[str]:
    """Numbers of the card that the report does not hold; shares count if they are of the counts beside them."""
    for text in (*citation(report), *(text for pair in limits(report) for text in pair), *PROTOCOLS["image"]):
        card = card.replace(text, "")
    defined = {str(len(report["findings"]) - len(report["undefined_findings"]))}
    wrong = set()
    for share, part, whole in re.findall(r"([\d.]+) % \(([\d,]+) of ([\d,]+)\)", card):
        if share != f"{100 * int(part.replace(',', '')) / int(whole.replace(',', '')):.1f}":
            wrong.add(share)
    card = re.sub(r"[\d.]+ % \(", "(", card)
    card = re.sub(r"`[^`]*`|\b[0-9a-f]{12,16}\b|[A-Za-z_][\w-]*\d[\w-]*", "", card)  # code, fingerprints, names
    return wrong | (set(NUMBER.findall(card)) - numbers_of(report) - defined - FIXED)


def test_the_card_has_what_a_hospital_asks_for() -> None:
    card = model_card(full_report())
    for heading in (
        "# Model card: nih-small",
        "## What it is",
        "## Use",
        "## Intended use",
        "## Not intended",
        "## What it learned from, and was evaluated on",
        "## Performance",
        "## What a score means: calibration",
        "## Calls: what thresholds chosen on validation do here",
        "## What this does not show",
        "## How to cite",
    ):
        assert f"\n{heading}\n" in f"\n{card}"
    assert DISCLAIMER in card
    assert (
        "| Atelectasis | 0.700 (0.670 to 0.720) | 0.300 (0.270 to 0.320) | 100 (40 patients) | 12 (9 patients) |"
        in card
    )


def test_a_table_of_the_card_has_one_width() -> None:
    widths: list[int] = []
    for line in model_card(full_report()).splitlines():
        if line.startswith("|"):
            widths.append(line.replace("\\|", "").count("|"))
        else:
            assert len(set(widths)) <= 1
            widths = []


def test_strangers_text_is_no_markup() -> None:
    report = full_report()
    report["model"]["about"] = "a | b <script>\n# heading"
    assert "a \\| b &lt;script> # heading" in model_card(report)


def test_scores_of_nobody_s_model_have_no_card() -> None:
    with pytest.raises(HilumError, match="model card must be of a bundle, but the report is of the scores AM_DenseNet"):
        model_card(some_report())


def test_a_number_that_the_report_lacks_is_found() -> None:
    report = full_report()
    assert unknown_numbers(model_card(report), report) == set()
    assert unknown_numbers(model_card(report).replace("0.765", "0.766"), report) == {"0.766"}


def test_evaluate_renews_the_bundle_s_card_from_its_report(own_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    before = (own_run / "MODEL_CARD.md").read_text()
    evaluate_to_folder(own_run, phantom_films, tmp_path / "val", split="val", bootstrap_samples=100, gallery=False)
    assert (own_run / "MODEL_CARD.md").read_text() == before  # choices were made on these films
    evaluate_to_folder(own_run, phantom_films, tmp_path / "report", bootstrap_samples=100)
    card = (own_run / "MODEL_CARD.md").read_text()
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert card == model_card(report)
    assert unknown_numbers(card, report) == set()
    assert load_bundle(own_run).findings == tuple(report["model"]["findings"])
    pictures = [film["picture"] for film in report["gallery"]]
    assert 0 < len(pictures) <= 12
    assert all(picture.startswith("data:image/jpeg;base64,") and len(picture) < 60_000 for picture in pictures)
    assert report["manifest"]["copies"] == {"groups": 0, "across_splits": 0, "first": []}
