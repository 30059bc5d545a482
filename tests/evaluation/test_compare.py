import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.evaluation.compare import compare_reports, comparison_tables, render_comparison
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.inputs import evaluation_set, read_evaluation_set
from hilum.findings import CHESTXRAY14
from hilum.metrics.bootstrap import estimate_json
from hilum.metrics.compare import compare_systems
from hilum.metrics.ranking import placements

FINDINGS = list(CHESTXRAY14)


def some_films(number: int = 180, *, seed: int = 0) -> Films:
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, number // 3, number)
    films = {"film": [f"{patient:08d}_{i:03d}.png" for i, patient in enumerate(patients)], "path": "x.png"}
    facts = {"source": "nih", "patient": [f"p{patient}" for patient in patients], "study": "s", "view": "PA"}
    table = pd.DataFrame(films | facts | {"age": 50.0, "sex": "F", "split": np.where(patients % 2, "train", "test")})
    table[FINDINGS] = (generator.random((number, 14)) < 0.25).astype(np.float32)
    return Films(table, Path(), CHESTXRAY14, {"protocol": "patient"})


FILMS = some_films()


def some_scores(gain: float, seed: int) -> pd.DataFrame:
    numbers = np.random.default_rng(seed).random((len(FILMS), 14)) + gain * FILMS.all_labels
    scores = pd.DataFrame(numbers, columns=FINDINGS)
    scores.insert(0, "film", FILMS.table["film"])
    return scores


def report(folder: Path, scores: pd.DataFrame, *, films: Films = FILMS, **options: Any) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".csv")
    scores.to_csv(path, index=False)
    evaluate_to_folder(path, films, folder, bootstrap_samples=100, **options)
    return folder


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(tmp_path_factory.mktemp("reports") / "weak", some_scores(0.1, 1))


@pytest.fixture(scope="module")
def strong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(tmp_path_factory.mktemp("reports") / "strong", some_scores(0.7, 2).sample(frac=1, random_state=0))


def test_a_report_s_folder_holds_all_that_a_comparison_needs(weak: Path) -> None:
    names = {path.name for path in weak.iterdir()}
    assert names == {"judged.parquet", "predictions.csv", "report.html", "report.json", "roc.png"}
    chosen = evaluation_set(FILMS, some_scores(0.1, 1), split="test")
    read = read_evaluation_set(weak, FINDINGS)
    order = np.argsort(chosen.truth["film"].to_numpy(str))
    np.testing.assert_array_equal(read.numbers, chosen.numbers[order])  # every digit
    np.testing.assert_array_equal(read.labels, chosen.labels[order])
    assert read.patients.tolist() == chosen.patients[order].tolist()


def test_values_are_those_of_the_reports_and_of_compare(weak: Path, strong: Path) -> None:
    result = compare_reports([weak, strong])
    for system, folder in zip(result["systems"], (weak, strong), strict=True):
        content = json.loads((folder / "report.json").read_text())
        assert system["name"] == content["system"]
        assert system["mean"]["auroc"]["value"] == pytest.approx(content["mean"]["auroc"]["value"], abs=1e-12)
        for name, finding in content["findings"].items():
            assert system["findings"][name]["auroc"]["value"] == finding["auroc"]["value"]
            counts = ("films", "patients", "positives", "positive_patients")
            assert result["findings"][name] == {key: finding[key] for key in counts}
            precision = system["findings"][name]["average_precision"]
            assert precision == pytest.approx(finding["average_precision"], abs=1e-12)
    sides = [read_evaluation_set(folder, FINDINGS) for folder in (weak, strong)]
    direct = compare_systems([[side.numbers] for side in sides], sides[0].labels, sides[0].patients).pairs[0]
    (pair,) = result["differences"]
    assert (pair["first"], pair["second"]) == ("weak.csv", "strong.csv")
    assert pair["mean"]["auroc"] == estimate_json(direct.mean_auroc.estimate)
    assert pair["mean"]["p_value"] == direct.mean_auroc.p_value
    assert pair["mean"]["average_precision"]["difference"] == estimate_json(direct.mean_average_precision.estimate)
    assert pair["mean"]["auroc"]["low"] > 0
    place = FINDINGS.index("Mass")
    mass = pair["findings"]["Mass"]
    assert set(mass) == {"auroc", "p_value", "p_value_holm", "average_precision", "delong"}
    assert mass["auroc"] == estimate_json(direct.auroc[place].estimate)
    assert mass["average_precision"]["p_value_holm"] == direct.average_precision[place].p_value_holm
    both = np.stack([side.numbers[:, place] for side in sides], axis=1)
    assert mass["delong"]["p_value"] == placements(both, sides[0].labels[:, place]).test(0, 1).p_value


def test_random_scores_with_one_positive_film_get_no_p_value(tmp_path: Path) -> None:
    films = some_films()
    films.table["Hernia"] = np.float32(0)
    films.table.loc[films.table.index[films.table["split"] == "test"][0], "Hernia"] = np.float32(1)
    folders = [report(tmp_path / name, some_scores(0.0, seed), films=films) for seed, name in enumerate("ab")]
    result = compare_reports(folders)
    hernia = result["differences"][0]["findings"]["Hernia"]
    assert hernia["auroc"]["why"] == "too few patients with the finding: 1"
    assert hernia["auroc"]["low"] is hernia["p_value"] is hernia["p_value_holm"] is None
    assert hernia["average_precision"]["p_value"] is hernia["delong"]["p_value"] is None
    [row] = [row for row in comparison_tables(result)[1].rows if row[0] == "Hernia"]
    assert "[too few patients with the finding: 1]" in row[1]
    assert row[2:5] == ["undefined"] * 3
    assert row[5:] == ["1", "1"]
    page = render_comparison(result)
    assert "too few patients with the finding: 1" in page
    assert "Too few patients to test: " in page


def test_the_result_is_plain_json_and_the_same_for_the_same_seed(weak: Path, strong: Path) -> None:
    result = compare_reports([weak, strong])
    assert json.loads(json.dumps(result, allow_nan=False)) == result == compare_reports([weak, strong])
    assert (result["protocol"], result["split"]) == ("patient", "test")
    assert result["films_fingerprint"] == FILMS.fingerprint()
    assert any("DeLong" in note and "independent" in note for note in result["notes"])


def test_undefined_findings_are_null_and_said(tmp_path: Path) -> None:
    films = some_films()
    films.table["Hernia"] = np.float32(0)
    folders = [report(tmp_path / name, some_scores(0.3, seed), films=films) for seed, name in enumerate("ab")]
    result = compare_reports(folders)
    assert result["undefined_findings"] == ["Hernia"]
    hernia = result["differences"][0]["findings"]["Hernia"]
    assert hernia["auroc"] == {
        "value": None,
        "low": None,
        "high": None,
        "undefined": 0,
        "why": "no film with the finding",
    }
    assert hernia["p_value"] is hernia["p_value_holm"] is hernia["delong"]["p_value"] is None
    assert ["Hernia", "undefined", "undefined", "undefined", "undefined", "0", "0"] in comparison_tables(result)[1].rows


def test_only_what_all_judged_is_compared(weak: Path, tmp_path: Path) -> None:
    other = report(tmp_path / "other", some_scores(0.5, 3).drop(columns=["Mass", "Edema"]))
    result = compare_reports([weak, other])
    assert result["not_compared"] == ["Mass", "Edema"]
    assert len(result["findings"]) == len(result["systems"][0]["findings"]) == 12


def test_tables_show_every_pair(weak: Path, strong: Path, tmp_path: Path) -> None:
    third = report(tmp_path / "third", some_scores(0.3, 4))
    tables = comparison_tables(compare_reports([weak, strong, third]))
    titles = ["strong.csv minus weak.csv", "third.csv minus weak.csv", "third.csv minus strong.csv"]
    assert [table.title for table in tables[1:]] == titles
    assert tables[1].rows[-1][0] == "mean"
    assert tables[1].rows[-1][1].startswith("+0.")
    for table in tables:
        assert all(len(row) == len(table.header) for row in table.rows)


def test_systems_of_one_name_are_told_apart(weak: Path, tmp_path: Path) -> None:
    twin = report(tmp_path / "weak", some_scores(0.2, 5))
    names = [system["name"] for system in compare_reports([weak, twin])["systems"]]
    assert names == [f"weak.csv in {weak}", f"weak.csv in {twin}"]


def other_manifest() -> dict[str, Any]:
    films = some_films()
    films.table.loc[films.table["split"] == "train", "Mass"] = np.float32(1)
    return {"films": films}


def fewer_films() -> dict[str, Any]:
    return {"allow_missing": True}


@pytest.mark.parametrize(
    ("options", "rows", "message"),
    [
        (other_manifest, 180, r"one manifest \(films_fingerprint\), .* hilum evaluate REPORT/predictions\.csv --films"),
        (lambda: {"split": "train"}, 180, "one split, got test in .* and train in"),
        (fewer_films, 150, "the same films, got [0-9]+ that only one of .* the first of which is '0.*png' in .*weak"),
    ],
)
def test_reports_on_other_films_are_refused(
    weak: Path, tmp_path: Path, options: Callable[[], dict[str, Any]], rows: int, message: str
) -> None:
    other = report(tmp_path / "other", some_scores(0.5, 3).iloc[:rows], **options())
    with pytest.raises(HilumError, match=message):
        compare_reports([weak, other])


def change_labels(folder: Path) -> None:
    truth = pd.read_parquet(folder / "judged.parquet")
    truth["Mass"] = 1 - truth["Mass"]
    truth.to_parquet(folder / "judged.parquet")


def drop_films(folder: Path) -> None:
    for name, read, write in (
        ("judged.parquet", pd.read_parquet, "to_parquet"),
        ("predictions.csv", pd.read_csv, "to_csv"),
    ):
        getattr(read(folder / name).iloc[1:], write)(folder / name, index=False)


@pytest.fixture(scope="module")
def middling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(tmp_path_factory.mktemp("reports") / "middling", some_scores(0.5, 3))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "report.json").unlink(), "must be a folder with report.json"),
        (lambda folder: (folder / "report.json").write_text("{"), "report.json must be JSON"),
        (lambda folder: (folder / "report.json").write_bytes(b"\xff\xfe\x00"), "report.json must be JSON"),
        (lambda folder: (folder / "report.json").write_text("{}"), "report.json must have 'system'"),
        (lambda folder: (folder / "report.json").write_text("[]"), "report.json must have 'system'"),
        (lambda folder: (folder / "predictions.csv").unlink(), "report must hold predictions.csv, got none"),
        (lambda folder: (folder / "judged.parquet").unlink(), r"judged.parquet, got none .* hilum evaluate"),
        (lambda folder: (folder / "judged.parquet").write_bytes(b"PAR1"), "judged.parquet must be a Parquet table"),
        (lambda folder: (folder / "predictions.csv").write_text("film,Mass\nx,1\n"), "got no column 'Atelectasis'"),
        (drop_films, "judged.parquet must hold the [0-9]+ films of report.json, got"),
        (change_labels, "the same patients and labels, got others in"),
    ],
)
def test_damaged_reports_are_named(
    weak: Path, middling: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    other = Path(shutil.copytree(middling, tmp_path / "other"))
    damage(other)
    with pytest.raises(HilumError, match=message) as raised:
        compare_reports([weak, other])
    assert str(raised.value).count("\n") == 0


def test_mistakes_are_named(weak: Path, strong: Path) -> None:
    with pytest.raises(HilumError, match="at least two, got 1"):
        compare_reports([weak])
    with pytest.raises(HilumError, match=r"different folders, got .* twice"):
        compare_reports([weak, strong, weak / "." / ""])


def test_reports_without_a_common_finding_are_refused(tmp_path: Path) -> None:
    scores = some_scores(0.5, 3)
    folders = [report(tmp_path / name, scores[["film", name]]) for name in ("Mass", "Edema")]
    with pytest.raises(HilumError, match="a finding in common, got none in"):
        compare_reports(folders)
