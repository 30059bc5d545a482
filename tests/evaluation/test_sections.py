"""A section is one module: what has a line in SECTIONS is measured, shown, listed and on the card."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_reports import full_report, some_report

from hilum.data.films import Films
from hilum.evaluation import evaluate, sections
from hilum.evaluation.case import Case
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.page import render_page
from hilum.evaluation.render import model_card
from hilum.evaluation.sections import SECTIONS, views
from hilum.evaluation.views import Cell, TableView, View
from hilum.model import engines
from hilum.model.engines import GreyFilms, Outputs, TorchEngine


class Dummy:
    """A section that counts films."""

    key = "dummy"

    def measure(self, case: Case) -> dict[str, Any]:
        case.notes.append("A dummy was here.")
        return {"films": len(case.evaluated.truth)}

    def view(self, report: dict[str, Any]) -> View | None:
        table = TableView("Counts", ("Name", "Number"), ((Cell("films"), Cell(str(report["dummy"]["films"]))),))
        return View("dummy", "A dummy: what it counts", ("It counts films.",), tables=(table,))


def test_a_new_section_needs_its_line_only(
    phantom_films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "SECTIONS", (*SECTIONS, Dummy()))
    scores = phantom_films.table[["film"]].assign(Mass=np.linspace(0, 1, len(phantom_films)))
    report = evaluate.evaluate_scores(phantom_films, scores, bootstrap_samples=10)
    assert report.to_dict()["dummy"] == {"films": len(phantom_films.select("test"))}
    assert "A dummy was here." in report.notes
    report.save(tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert '<a href="#dummy">A dummy</a>' in page
    assert '<h2 id="dummy">A dummy: what it counts</h2>' in page
    assert "## A dummy: what it counts" in model_card(full_report(dummy={"films": 3}))


def test_a_report_of_an_earlier_version_is_shown_without_the_sections_that_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sections, "SECTIONS", (*SECTIONS, Dummy()))
    older = some_report()
    del older["gallery"], older["shift"]
    assert "dummy" not in [view.name for view in views(older)]
    assert "dummy" not in render_page(older)


def test_keys_and_anchors_are_unique() -> None:
    keys = [section.key for section in SECTIONS]
    assert len(keys) == len(set(keys))
    shown = [view.name for view in views(full_report())]
    assert len(shown) == len(set(shown))


def test_one_engine_scores_each_film_once(
    tiny_run: Path, phantom_films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    class Counting(TorchEngine):
        """The engine itself, which counts the films that go through the network."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.films = 0
            opened.append(self)

        def run(self, grey: GreyFilms) -> Outputs:
            self.films += len(grey)
            return super().run(grey)

    monkeypatch.setattr(engines, "TorchEngine", Counting)
    report = evaluate_to_folder(tiny_run, phantom_films, tmp_path / "report", bootstrap_samples=100)
    assert report["localization"]["films_with_findings"] > 0
    assert report["gallery"]
    assert [engine.films for engine in opened] == [len(phantom_films.select("test"))]
