"""Thresholds from validation to calls."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hilum.batch import Asked, predict_to_file
from hilum.cli import app
from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.evaluation.inputs import read_predictions
from hilum.findings import CHESTXRAY14
from hilum.metrics.operating_points import OPERATING_POINTS
from hilum.metrics.thresholds import Threshold, choose
from hilum.model.bundle import load_bundle, save_bundle
from hilum.model.engines import TorchEngine
from hilum.model.metadata import ModelDescription, read_description
from hilum.model.thresholds import OperatingPoints, call, choose_points, stated_prevalence
from hilum.predict.scoring import score_films


def test_calls_are_present_absent_indeterminate_or_none() -> None:
    scores = [0.1, 0.3, 0.4, 0.5, 0.6, float("nan")]
    threshold = Threshold(0.4, 0.3, 0.5)
    assert [call(score, threshold) for score in scores] == ["absent", *2 * ["indeterminate"], "present", "present", ""]
    sure = Threshold(0.4, 0.4, 0.4)
    assert [call(score, sure) for score in scores] == ["absent", "absent", "present", "present", "present", ""]
    assert {call(score, None) for score in scores} == {"no threshold", ""}


def test_training_chooses_every_point_on_its_validation_films(tiny_run: Path, phantom_films: Films) -> None:
    bundle, unseen = load_bundle(tiny_run), phantom_films.select("val")
    assert bundle.thresholds is not None
    assert set(bundle.thresholds.points) == set(OPERATING_POINTS)
    scores = score_films(TorchEngine(bundle), unseen)
    quiet = bundle.thresholds.thresholds("alarms-10")
    for name, threshold in quiet.items():
        assert threshold is not None
        assert (scores[name] >= threshold.value + 1e-6).mean() <= 0.1


def test_films_keep_their_calls_when_their_scores_are_computed_anew() -> None:
    generator = np.random.default_rng(0)
    scores = np.round(generator.uniform(0.01, 0.99, size=(60, 1)), 3)  # some tie
    labels, patients = (generator.random((60, 1)) < scores).astype(np.float64), np.arange(60)
    anew = scores + generator.uniform(-1e-5, 1e-5, size=(60, 1))
    points = choose_points(scores, labels, patients, ("Mass",))
    for name, rule in ((name, point.rule) for name, point in OPERATING_POINTS.items()):
        found, ours = choose(scores[:, 0], labels[:, 0], patients, rule), points[name]["Mass"]
        assert found is not None
        assert ours is not None
        called = scores >= found.value
        assert np.array_equal(scores >= ours.value, called)
        assert np.array_equal(anew >= ours.value, called)
        assert 0 <= ours.low <= ours.value <= ours.high == min(found.high, 1)


def test_a_threshold_below_all_films_keeps_calling_them() -> None:
    scores, labels, patients = np.array([[0.2], [0.4], [0.6]]), np.array([[1.0], [0.0], [1.0]]), np.arange(3)
    threshold = choose_points(scores, labels, patients, ("Mass",))["sensitivity-90"]["Mass"]
    assert threshold is not None
    assert threshold.value == 0.1


def test_points_come_back_and_what_is_none_is_refused() -> None:
    rare = Threshold(0.5, 0.0, 1.0, "too few patients with the finding: 3")
    points = OperatingPoints(
        "ab", {"youden": {"Mass": Threshold(0.5, 0.25, 0.75), "Edema": None}, "x": {"Mass": rare, "Edema": None}}
    )
    again = OperatingPoints.from_dict(json.loads(json.dumps(points.to_dict())), ("Mass", "Edema"))
    assert again == points
    with pytest.raises(HilumError, match="operating point must be one of youden, x, got 'best'"):
        points.thresholds("best")
    for wrong in ([0.5, 0.6, 0.7], [0.5, 0.4], [float("nan")] * 3, "0.5", [True, True, True]):
        with pytest.raises(ValueError, match="threshold must"):
            OperatingPoints.from_dict({"bound_to": "", "points": {"youden": {"Mass": wrong}}}, ("Mass",))


def test_prevalence_is_stated_for_all_or_for_one() -> None:
    assert stated_prevalence([], ("Mass", "Edema")) == {}
    assert stated_prevalence(["0.02", "Edema=0.1"], ("Mass", "Edema")) == {"Mass": 0.02, "Edema": 0.1}
    for wrong in ("2", "Mass=x", "Hernia=0.1", "0", ""):
        with pytest.raises(HilumError, match=re.escape(f"got {wrong!r}")):
            stated_prevalence([wrong], ("Mass", "Edema"))


def test_predict_adds_calls_only_if_asked(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    films = [str(phantom_films.path(row)) for row in range(4)]
    for calls, suffix in (([], "csv"), (["--calls", "youden"], "csv"), (["--calls", "youden"], "parquet")):
        out = tmp_path / f"predictions.{suffix}"
        said = CliRunner().invoke(app, ["predict", str(tiny_run), *films, "--out", str(out), *calls])
        assert said.exit_code == 0
        table = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
        findings = list(phantom_films.findings)
        called = [f"call_{name}" for name in findings] if calls else []
        assert list(table.columns) == ["film", *findings, *called, "fit"]
        assert set(read_predictions(out, CHESTXRAY14).columns) == {"film", *findings}  # no call is taken for a score
    allowed = {"present", "absent", "indeterminate", "no threshold"}
    assert set(table.filter(like="call_").to_numpy().ravel()) <= allowed


def test_calls_without_thresholds_are_refused_with_the_remedy(
    tiny_run: Path, phantom_films: Films, tmp_path: Path
) -> None:
    run, film = tmp_path / "run", str(phantom_films.path(0))
    save_bundle(replace(load_bundle(tiny_run), thresholds=None), run)
    with pytest.raises(HilumError, match=r"thresholds, and .*run has none\. .* hilum calibrate"):
        predict_to_file(Asked(run, (film,), calls="youden"), tmp_path / "predictions.csv")
    with pytest.raises(HilumError, match="operating point must be one of youden, sensitivity-90"):
        predict_to_file(Asked(tiny_run, (film,), calls="best"), tmp_path / "predictions.csv")


def test_a_description_comes_back_from_json_with_its_thresholds(tiny_run: Path) -> None:
    description = read_description(tiny_run)
    assert description.thresholds is not None
    assert (
        ModelDescription.from_dict(json.loads(json.dumps(description.to_dict()))).thresholds == description.thresholds
    )
