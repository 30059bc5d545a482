"""The localisation section of a report: counted by hand, with its controls, on the phantom's exact boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_reports import shown

from hilum.data.films import Films
from hilum.evaluation import localization
from hilum.evaluation.case import score_with_maps
from hilum.evaluation.localization import Boxed, boxed_findings, localization_section
from hilum.findings import CHESTXRAY14
from hilum.metrics.localization import MEASURES
from hilum.model.bundle import load_bundle

UPPER_LEFT = [0.0, 0.0, 0.25, 0.25]


def peak(row: int, column: int) -> np.ndarray:
    class_map = np.zeros((8, 8), dtype=np.float32)
    class_map[row, column] = 1.0
    return class_map


def case(finding: str, patient: str, class_map: np.ndarray, *truths: list[float]) -> Boxed:
    return Boxed(finding, f"{patient}.png", patient, class_map, np.array(truths))


def some_cases() -> list[Boxed]:
    """Masses: two of three hit, one of them by the second box. A nodule on a flat map: missed."""
    return [
        case("Mass", "a", peak(0, 0), UPPER_LEFT),
        case("Mass", "b", peak(7, 7), UPPER_LEFT, [0.75, 0.75, 0.25, 0.25]),
        case("Mass", "b", peak(7, 0), UPPER_LEFT),
        case("Nodule", "c", np.full((8, 8), 2.0, dtype=np.float32), [0.45, 0.45, 0.1, 0.1]),
    ]


def test_shares_counts_and_controls_by_hand() -> None:
    section = localization_section(some_cases(), CHESTXRAY14, bootstrap_samples=200, seed=0)
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    assert (section["films_with_findings"], section["patients"], section["flat_maps"]) == (4, 3, 1)
    mass, nodule = section["findings"]["Mass"], section["findings"]["Nodule"]
    assert (mass["films"], mass["patients"], nodule["films"]) == (3, 2, 1)
    assert mass["model"]["pointing"]["value"] == pytest.approx(2 / 3)
    assert mass["centre"]["pointing"]["value"] == 0
    assert nodule["model"]["pointing"]["value"] == 0
    assert nodule["centre"]["pointing"]["value"] == 1
    assert section["mean"]["model"]["pointing"]["value"] == pytest.approx(1 / 3)
    assert section["mean"]["model_minus_centre"]["pointing"]["value"] == pytest.approx(1 / 3 - 1 / 2)
    share = (0.0625 + 0.125 + 0.0625) / 3  # of the film, in the boxes
    assert mass["random"]["pointing"]["value"] == pytest.approx(share, abs=0.02)
    for finding in (mass, nodule):
        for system in ("model", "random", "centre"):
            assert set(finding[system]) == set(MEASURES)
            for found in finding[system].values():
                assert found["low"] <= found["value"] <= found["high"]


def test_a_share_of_all_or_none_has_an_interval_that_says_how_few_patients_there_were() -> None:
    cases = [case("Mass", str(patient), peak(0, 0), UPPER_LEFT) for patient in range(4)]
    section = localization_section(cases, CHESTXRAY14, bootstrap_samples=50, seed=0)
    found = section["findings"]["Mass"]["model"]["pointing"]
    assert (found["value"], found["high"]) == (1, 1)
    assert found["low"] == pytest.approx(0.025**0.25)
    assert section["mean"]["model"]["pointing"] == found


def test_without_a_box_there_is_no_section() -> None:
    assert localization_section([], CHESTXRAY14, bootstrap_samples=50, seed=0) == {}


def test_the_phantom_s_own_maps_find_its_boxes(tiny_run: Path, phantom_films: Films) -> None:
    films, bundle = phantom_films.select("test"), load_bundle(tiny_run)
    boxed = boxed_findings(films, bundle.findings, score_with_maps(bundle, films).class_maps)
    listed = [box for box in films.notes["boxes"] if box["film"] in set(films.table["film"])]
    assert sum(len(one.truths) for one in boxed) == len(listed) > 5
    perfect = [one._replace(class_map=_drawn(one)) for one in boxed]
    mean = localization_section(perfect, CHESTXRAY14, bootstrap_samples=50, seed=0)["mean"]
    assert mean["model"]["pointing"]["value"] == 1
    assert mean["model"]["iou_0.5"]["value"] > mean["centre"]["iou_0.5"]["value"]
    assert mean["model_minus_random"]["pointing"]["low"] > 0


def _drawn(one: Boxed) -> np.ndarray:
    """A map that is 1 inside the first true box."""
    left, top, width, height = one.truths[0]
    cells = (np.arange(64) + 0.5) / 64
    across, down = (
        abs(cells - low - side / 2) <= max(side / 2, 0.5 / 64) for low, side in ((left, width), (top, height))
    )
    return np.outer(down, across).astype(np.float32)


def test_the_page_says_what_the_heatmaps_are_worth() -> None:
    view = shown(
        localization, {"localization": localization_section(some_cases(), CHESTXRAY14, bootstrap_samples=200, seed=0)}
    )
    text = " ".join(view.sentences)
    assert "Localized no better than by always pointing at the image centre: Nodule." in text
    assert "1 map had one value everywhere" in text
    assert [len(table.rows) for table in view.tables] == [3, 3, 3, 3]
    assert all(len(row) == len(table.header) for table in view.tables for row in table.rows)
    assert ["Wang 2017" in table.header for table in view.tables] == [False, True, True, True]
    assert "do not compare" in view.legend


def test_heatmaps_that_point_worse_than_the_film_s_centre_are_named() -> None:
    cases = [case("Mass", str(patient), peak(0, 0), [0.4, 0.4, 0.2, 0.2]) for patient in range(30)]
    view = shown(localization, {"localization": localization_section(cases, CHESTXRAY14, bootstrap_samples=50, seed=0)})
    assert "do not use these heatmaps for location" in " ".join(view.sentences)


def test_intervals_of_few_patients_are_wider_than_resamples_of_them_show() -> None:
    """7 of 10 patients: Jeffreys' interval, widened by t of 9 degrees; resamples would say 0.4 to 1.0 at most."""
    cases = [case("Mass", str(n), peak(0, 0) if n < 7 else peak(7, 7), UPPER_LEFT) for n in range(10)]
    found = localization_section(cases, CHESTXRAY14, bootstrap_samples=50, seed=0)["findings"]["Mass"]["model"][
        "pointing"
    ]
    assert found["value"] == pytest.approx(0.7)
    assert 0.3 < found["low"] < 0.38
    assert 0.9 < found["high"] < 0.94
