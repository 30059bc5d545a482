import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Hilum

from hilum.data.films import Films
from hilum.evaluation.evaluate import evaluate_to_folder


@pytest.fixture(scope="module")
def reports(phantom_films: Films, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Reports of three systems on the phantom films: guesses, a fair one and one that knows."""
    folder = tmp_path_factory.mktemp("reports")
    made: list[Path] = []
    for name, gain in (("guess", 0.0), ("fair", 0.4), ("good", 2.0)):
        numbers = np.random.default_rng(len(made)).random((len(phantom_films), 14)) + gain * phantom_films.all_labels
        scores = pd.DataFrame(numbers, columns=list(phantom_films.findings))
        scores.insert(0, "film", phantom_films.table["film"])
        scores.to_csv(folder / f"{name}.csv", index=False)
        evaluate_to_folder(folder / f"{name}.csv", phantom_films, folder / name, bootstrap_samples=100)
        made.append(folder / name)
    return made


def test_differences_as_json_as_tables_and_as_a_folder(hilum: Hilum, reports: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    said = hilum("compare", *reports, "--draws", 200, "--seed", 4, "--out", out, "--json")
    assert said.code == 0, said.err
    compared = json.loads(said.out)
    assert [(pair["first"], pair["second"]) for pair in compared["differences"]] == [
        ("guess.csv", "fair.csv"),
        ("guess.csv", "good.csv"),
        ("fair.csv", "good.csv"),
    ]
    assert compared == json.loads((out / "comparison.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["comparison.csv", "comparison.html", "comparison.json"]
    table = pd.read_csv(out / "comparison.csv")
    assert len(table) == 3 * 15
    mean = compared["differences"][1]["mean"]
    row = table[(table["finding"] == "mean") & (table["second"] == "good.csv") & (table["first"] == "guess.csv")]
    assert row["difference"].item() == mean["auroc"]["value"] > 0.2
    numbers = mean["auroc"]["low"], mean["p_value"]
    found = row["difference_low"].item(), row["p_value"].item()
    np.testing.assert_array_equal(np.array(found), np.array(numbers, dtype=np.float64))  # null is NaN here
    shown = hilum("compare", *reports[:2], "--draws", 100)
    assert shown.code == 0
    assert "fair.csv minus guess.csv" in shown.out
    assert "Without effect, and gone in the next release: --draws" in shown.err
    assert "DeLong's test takes every film for independent" in shown.err
    assert "not a medical device" in shown.err


def test_reports_that_do_not_compare_are_refused_in_one_line(
    hilum: Hilum, reports: list[Path], phantom_films: Films, tmp_path: Path
) -> None:
    evaluate_to_folder(
        reports[0].with_suffix(".csv"), phantom_films, tmp_path / "val", split="val", bootstrap_samples=100
    )
    for arguments, says in (
        ([reports[0]], "reports must be at least two, got 1"),
        ([reports[0], tmp_path / "val"], "reports must have one split, got test in"),
        ([reports[0], tmp_path / "missing"], f"with report.json, got {tmp_path / 'missing'}, which is none. Name"),
        ([reports[0], reports[1], "--draws", 5], "'--draws'"),
    ):
        said = hilum("compare", *arguments, "--out", tmp_path / "out")
        assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
        assert says in said.err
        assert not (tmp_path / "out").exists()


def test_a_margin_must_be_one(hilum: Hilum, reports: list[Path]) -> None:
    shown = hilum("compare", *reports[:2], "--margin", 0.05)
    assert shown.code == 0
    assert "by 0.05" in " ".join(shown.out.split())  # a column
    wrong = hilum("compare", *reports[:2], "--margin", -0.05)
    assert (wrong.code, "margin must be between 0 and 1, got -0.05" in wrong.err) == (2, True)


def test_plans_are_told_as_tables_and_as_a_page(hilum: Hilum, reports: list[Path], tmp_path: Path) -> None:
    said = hilum("plan", "--difference", 0.03, "--prevalence", 0.1, "--out", tmp_path / "plan", "--json")
    assert said.code == 0, said.err
    content = json.loads(said.out)
    assert content == json.loads((tmp_path / "plan" / "plan.json").read_text())
    needed = content["needed"]
    assert needed["power"] >= 0.8
    assert needed["positive_patients"] == round(0.1 * needed["patients"])
    assert f"{needed['patients']:,} patients" in (tmp_path / "plan" / "plan.html").read_text()
    for wrong, says in (
        ((), "plan must have one aim"),
        (("--width", 0.1, "--margin", 0.1), "plan must have one aim"),
        (("--difference", 0), "difference must not be 0"),
        (("--difference", 0.3), r"value + difference must be between 0 and 1"),
        (("--width", 0.1, "--pilot", reports[0]), "finding must be one of the pilot's"),
        (("--width", 0.1, "--prevalence", 0), "prevalence must be between 0 and 1"),
    ):
        refused = hilum("plan", *wrong)
        assert (refused.code, len(refused.err.splitlines())) == (2, 1), refused.err
        assert says in refused.err
