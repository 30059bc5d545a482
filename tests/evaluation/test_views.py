"""The page's sections, from report.json's: curves, thresholds, confusions, gallery, films."""

import pytest
from made_reports import full_report, shown, some_report

from hilum.evaluation import cohort
from hilum.evaluation.confusions import confusions_table
from hilum.evaluation.curves import Step, curve_views, rates, steps, threshold_view
from hilum.evaluation.gallery import gallery_view


def test_curves_of_defined_findings() -> None:
    views = {view.name: view for view in curve_views(some_report())}
    assert "Hernia" not in views
    assert len(views) == 13
    mass = views["Mass"]
    assert mass.roc == "M0.0 100.0 L25.0 25.0 L100.0 0.0"
    assert mass.precision_recall == "M75.0 71.0 L100.0 88.0"  # starts where a film is called
    assert mass.prevalence == pytest.approx(0.12)


def test_steps_count_films() -> None:
    findings = some_report()["findings"]
    assert steps(findings["Mass"]) == [Step(0.4, 9, 22), Step(0.1, 12, 88)]
    assert steps(findings["Hernia"]) == []


def test_rates_at_a_threshold_by_hand() -> None:
    found = rates(Step(0.4, 9, 22), 12, 88)
    assert found == {
        "threshold": 0.4,
        "sensitivity": 0.75,
        "specificity": 0.75,
        "ppv": pytest.approx(9 / 31),
        "npv": pytest.approx(66 / 69),
        "positive_calls": 31.0,
    }
    assert rates(Step(0.1, 12, 88), 12, 88)["npv"] is None  # all are called


def test_the_table_for_paper_stands_at_the_first_threshold_that_finds_enough() -> None:
    view = threshold_view(some_report())
    assert [row["sensitivity"] for row in view["rows"]] == [1.0] * 13
    assert not view["chosen"]
    assert view["findings"]["Mass"]["start"] == 0.4  # sensitivity + specificity - 1 is 0.5 here, 0 there
    assert view["findings"]["Mass"]["steps"] == [[0.4, 9, 22], [0.1, 12, 88]]


def test_the_slider_starts_at_the_threshold_of_validation() -> None:
    report = full_report()
    report["operating_points"]["youden"]["Mass"] = report["operating_points"]["youden"]["Mass"] | {"threshold": 0.33}
    view = threshold_view(report)
    assert view["chosen"]
    assert view["findings"]["Mass"]["start"] == 0.33


def test_confusions_are_shares_with_their_counts() -> None:
    view = confusions_table(full_report())
    assert view is not None
    assert view["header"] == ["Mass", "Edema"]
    assert [name for name, _ in view["rows"]] == ["Mass", "Edema", "No finding"]
    mass, edema = view["rows"][0][1]
    assert (mass.text, mass.title, mass.own) == ("20", "4 of 20", True)
    assert (edema.text, edema.title, edema.own) == ("75", "9 of 12", False)
    assert view["sentences"] == [
        "Edema is called falsely on 9 of 12 films with Mass (75 %), and on 20 % of films without any finding."
    ]


def test_confusions_without_films_or_calls() -> None:
    assert confusions_table(some_report()) is None
    assert confusions_table(some_report(confusions={"point": "youden", "true": {"none": {}}})) is None
    nothing = {"Mass": {"films": 0, "called": 0}}
    view = confusions_table(some_report(confusions={"point": "youden", "true": {"Mass": nothing, "none": nothing}}))
    assert view is not None
    assert view["rows"][0][1][0].text == ""
    assert view["sentences"] == []


def test_gallery_places_are_pixels_and_hits_come_first() -> None:
    hits, misses = gallery_view(full_report())
    film = hits["films"][0]
    assert (film["point"], film["drawn"], film["boxes"]) == ([2.0, 2.0], [0.0, 1.0, 4.0, 2.0], [[2.0, 1.0, 4.0, 2.0]])
    assert film["label"] == "Film a.png with its heatmap for Mass: the strongest place lies inside the true box."
    assert misses["films"][0]["drawn"] is None
    assert gallery_view(some_report()) == []


def test_films_are_audited_in_words() -> None:
    view = shown(cohort, full_report())
    said = " ".join(view.sentences)
    assert "Patient leakage: 3 patients with films in training and test. Values are inflated." in said
    assert "7 films that the label file lists have no image" in said
    assert "2 groups of files are copies of each other, 1 of them across splits; the first is a.png = b.png." in said
    assert [row[0].text for row in view.tables[0].rows] == ["All", "PA", "AP"]
    assert view.tables[0].rows[1][1].text == "60.0 %"
    assert (view.tables[1].rows[0][1].text, view.tables[1].rows[0][1].small) == ("12.0 %", "6 of 50")


def test_what_was_not_looked_at_is_said() -> None:
    report = full_report()
    report["manifest"] |= {"copies": None, "problems": dict.fromkeys(report["manifest"]["problems"])}
    report["manifest"]["shared_patients"] = dict.fromkeys(report["manifest"]["shared_patients"], 0)
    said = " ".join(shown(cohort, report).sentences)
    assert "was not looked at" in said
    assert "the manifest holds no notes" in said
    assert "No patient has films in two splits." in said
