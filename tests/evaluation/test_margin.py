"""Non-inferiority of reports, and plans from a pilot's reports."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.evaluation.compare import compare_reports, comparison_tables, write_comparison
from hilum.evaluation.evaluate import evaluate_scores
from hilum.evaluation.plan import plan_study, write_plan
from hilum.metrics.planning import Aim, Design

FINDINGS = ["Mass", "Hernia"]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Reports of a system, of nearly the same one, and of a worse one, on 600 films of 300 patients."""
    folder, generator = tmp_path_factory.mktemp("margin"), np.random.default_rng(0)
    labels = (generator.random((600, 2)) < [0.3, 0.002]).astype(np.float64)
    labels[5, 1] = 1.0
    frame = pd.DataFrame(labels, columns=FINDINGS).assign(
        film=[f"{i}.png" for i in range(600)], patient=np.arange(600) // 2, split="test"
    )
    films = Films.from_frame(frame.assign(path=frame["film"]), root=".", findings=FINDINGS, check_files=False)
    own = generator.normal(size=(600, 2)) + 1.5 * labels
    made = []
    for name, noise in (("a", 0.0), ("b", 0.05), ("c", 3.0)):
        scores = pd.DataFrame(own + noise * generator.normal(size=own.shape), columns=FINDINGS)
        report = evaluate_scores(films, scores.assign(film=frame["film"]), system=name)
        report.save(folder / name)
        made.append(folder / name)
    return made


def test_a_margin_says_who_is_not_inferior(reports: list[Path], tmp_path: Path) -> None:
    compared = compare_reports(reports, margin=0.05)
    alike, worse, _ = (pair["non_inferiority"] for pair in compared["differences"])
    assert alike["mean"]["shown"]
    assert alike["findings"]["Mass"]["shown"]
    assert not worse["mean"]["shown"]
    assert alike["findings"]["Hernia"] == {"p_value": None, "p_value_holm": None, "shown": False}
    for pair in compared["differences"]:
        low, tested = pair["mean"]["auroc"]["low"], pair["non_inferiority"]
        assert tested["mean"]["shown"] == (low > -0.05) == (tested["mean"]["p_value"] < 0.025)
    write_comparison(compared, tmp_path)
    page = (tmp_path / "comparison.html").read_text()
    assert "In mean AUROC b is not inferior by a margin of 0.05" in page
    assert "That c is not inferior in mean AUROC is not shown, by a margin of 0.05" in page
    assert 'class="margin"' in page
    assert set(pd.read_csv(tmp_path / "comparison.csv")["margin"]) == {0.05}
    assert comparison_tables(compared)[1].rows[1][-1] == "not tested, p undefined"


def test_a_pilot_gives_its_spread(reports: list[Path], tmp_path: Path) -> None:
    aim = Aim("margin", 0.02)
    content = plan_study(Design(), aim, pilot=[reports[0], reports[2]], finding="Mass", patients=300)
    pair = compare_reports([reports[0], reports[2]])["differences"][0]["findings"]["Mass"]["auroc"]
    width = 2 * content["stated"]["half_width"]  # of as many patients as the pilot had
    assert width == pytest.approx(pair["high"] - pair["low"], rel=0.02)
    assert content["pilot"]["patients"] == 300
    assert content["needed"]["patients"] > 300
    write_plan(content, tmp_path / "plan")
    assert "The spread is that of the pilot" in (tmp_path / "plan" / "plan.html").read_text()
    for folders, finding, says in (
        (reports[:1], "Mass", "two reports for a difference or a margin, got 1"),
        (reports[:2], "Edema", "finding must be one of the pilot's"),
        (reports[:2], "Hernia", "too few patients with the finding"),
    ):
        with pytest.raises(HilumError, match=says):
            plan_study(Design(), aim, pilot=folders, finding=finding)
