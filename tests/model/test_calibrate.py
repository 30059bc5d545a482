"""Calibration of a bundle on validation films, from the fit to the scores that predict gives."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

from hilum.cli import app
from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.metrics.calibration import logit, measured_calibration
from hilum.model.bundle import Bundle, binding_of, load_bundle, save_bundle, weights_sha256
from hilum.model.calibrate import LEAST_BOXED, calibrate, calibrate_sources, calibration_method
from hilum.model.engines import TorchEngine
from hilum.model.metadata import ModelDescription, SourceCalibration
from hilum.model.thresholds import OperatingPoints, choose_points
from hilum.predict.scoring import score_files, score_films


@pytest.fixture(scope="module")
def bundle(tiny_run: Path) -> Bundle:
    return load_bundle(tiny_run)


def far_too_sure(bundle: Bundle, films: Films) -> tuple[Bundle, Films]:
    """The model with logits that spread by 3, and films whose labels bear out half of each logit, and 0.3."""
    plain = replace(bundle, calibration=None, calibration_set=None)
    own = logit(score_films(TorchEngine(plain), films)[list(films.findings)].to_numpy(np.float64))
    factor = (3 / own.std(axis=0)).astype(np.float32)
    model = copy.deepcopy(bundle.model)
    with torch.no_grad():
        model.classifier.weight.mul_(torch.from_numpy(factor)[:, None])
        model.classifier.bias.sub_(torch.from_numpy(own.mean(axis=0).astype(np.float32))).mul_(torch.from_numpy(factor))
    truth = 1 / (1 + np.exp(-(0.5 * (own - own.mean(axis=0)) * factor + 0.3)))
    labels = (np.random.default_rng(0).random(truth.shape) < truth).astype(np.float32)
    table = films.table.assign(**dict(zip(films.findings, labels.T, strict=True)))
    return replace(plain, model=model), replace(films, table=table)


def test_training_calibrates_on_its_validation_films(bundle: Bundle, phantom_films: Films) -> None:
    unseen = phantom_films.select("val")
    assert bundle.calibration is not None
    assert bundle.calibration_set is not None
    assert set(bundle.calibration) == set(bundle.calibration_set.how) == set(bundle.findings)
    assert all(slope > 0 for slope, _ in bundle.calibration.values())
    assert bundle.calibration_set.fingerprint == unseen.fingerprint()
    assert (bundle.calibration_set.films, bundle.calibration_set.method) == (len(unseen), "platt")


def test_predict_applies_slope_and_intercept_to_scores_and_not_to_maps(bundle: Bundle, phantom_films: Films) -> None:
    lines = {name: (1.5 - k / 20, k / 10 - 1) for k, name in enumerate(bundle.findings)}
    paths = [phantom_films.path(row) for row in range(5)]
    plain = list(score_files(TorchEngine(replace(bundle, calibration=None)), paths))
    calibrated = list(score_files(TorchEngine(replace(bundle, calibration=lines)), paths))
    for before, after in zip(plain, calibrated, strict=True):
        assert before.scores is not None
        assert after.scores is not None
        expected = [slope * x + shift for x, (slope, shift) in zip(logit(before.scores), lines.values(), strict=True)]
        np.testing.assert_allclose(logit(after.scores), expected, atol=1e-4)
        np.testing.assert_array_equal(after.maps, before.maps)


def test_a_deliberately_miscalibrated_bundle_comes_back(bundle: Bundle, phantom_films: Films, packs: Path) -> None:
    wrong, films = far_too_sure(bundle, phantom_films)
    fitted = calibrate(wrong, films, packs=packs)
    assert fitted.calibration_set is not None
    assert fitted.calibration is not None
    assert set(fitted.calibration_set.how.values()) == {"its own slope and intercept"}
    slopes, intercepts = np.array(list(fitted.calibration.values())).T
    assert np.median(slopes) == pytest.approx(0.5, abs=0.12)
    assert np.median(intercepts) == pytest.approx(0.3, abs=0.25)
    assert error_of(fitted, films) < 0.7 * error_of(wrong, films)  # of 60 films, where chance alone makes 0.1


def error_of(bundle: Bundle, films: Films) -> float:
    """Mean calibration error over the findings."""
    scores, patients = score_films(TorchEngine(bundle), films), films.table["patient"].to_numpy(str)
    errors = []
    for name in films.findings:
        numbers, labels = (table[name].to_numpy(np.float64) for table in (scores, films.table))
        errors.append(measured_calibration(numbers, labels, patients, seed=0, bins=4).ece.value)
    return float(np.mean(errors))


def test_a_temperature_changes_no_order_and_is_one_for_all(bundle: Bundle, phantom_films: Films, packs: Path) -> None:
    fitted = calibrate(bundle, phantom_films.select("val"), packs=packs, method="temperature")
    assert fitted.calibration is not None
    assert len(set(fitted.calibration.values())) == 1
    scores = [
        score_films(TorchEngine(one), phantom_films.select("test"))
        for one in (fitted, replace(bundle, calibration=None))
    ]
    for name in bundle.findings:
        assert scores[0][name].rank().tolist() == scores[1][name].rank().tolist()


def test_a_second_calibration_starts_from_the_network_and_not_from_the_first(
    bundle: Bundle, phantom_films: Films, packs: Path
) -> None:
    unseen = phantom_films.select("val")
    once = calibrate(bundle, unseen, packs=packs)
    assert calibrate(once, unseen, packs=packs).calibration == once.calibration


def test_films_of_another_vocabulary_and_unknown_methods_are_refused(
    bundle: Bundle, phantom_films: Films, packs: Path
) -> None:
    fewer = replace(phantom_films, findings=("Mass",))
    with pytest.raises(HilumError, match=r"films must have the bundle's findings .* got Mass"):
        calibrate(bundle, fewer, packs=packs)
    with pytest.raises(HilumError, match="method must be platt or temperature, got 'isotonic'"):
        calibration_method("isotonic")


def test_the_level_of_regions_is_chosen_on_true_boxes(bundle: Bundle, phantom_films: Films, packs: Path) -> None:
    films = phantom_films.select("val")
    names = films.table["film"].tolist()
    box = {"x": 0.2, "y": 0.3, "width": 0.3, "height": 0.3}
    every = [{"film": name, "finding": finding, **box} for name in names for finding in films.findings]
    few = replace(films, notes={**films.notes, "boxes": every[: LEAST_BOXED - 1]})
    assert calibrate(bundle, few, packs=packs).regions is None
    many = replace(
        films, notes={**films.notes, "boxes": [*every[: 2 * LEAST_BOXED], {**every[0], "film": "elsewhere"}]}
    )
    chosen = calibrate(bundle, many, packs=packs).regions
    assert chosen is not None
    assert (chosen.boxed, 0 < chosen.level < 1, 0 <= chosen.iou <= 1) == (2 * LEAST_BOXED, True, True)
    assert (
        ModelDescription.from_dict(
            json.loads(json.dumps(replace(bundle, regions=chosen).description.to_dict()))
        ).regions
        == chosen
    )


def test_the_command_rewrites_the_bundle(tiny_run: Path, films_file: Path, packs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_bundle(replace(load_bundle(tiny_run), calibration=None, calibration_set=None, thresholds=None), run)
    arguments = ["calibrate", str(run), "--films", str(films_file), "--packs", str(packs)]
    said = CliRunner().invoke(app, [*arguments, "--json"])
    assert said.exit_code == 0
    content = json.loads(said.stdout)
    after, trained = load_bundle(run), load_bundle(tiny_run)
    assert after.calibration_set == trained.calibration_set
    assert after.calibration is not None
    assert trained.calibration is not None
    for name in after.findings:  # up to the order in which the processor adds
        assert after.calibration[name] == pytest.approx(trained.calibration[name], abs=1e-4)
    assert content["calibration_set"]["films"] == after.calibration_set.films  # type: ignore[union-attr]
    assert "calibrated (platt) on" in (run / "MODEL_CARD.md").read_text()
    assert CliRunner().invoke(app, arguments).stdout.count("intercept") >= len(after.findings)


def of_three_sources(bundle: Bundle) -> Bundle:
    """The model calibrated on films of a, whose scores hold, b, whose odds are a seventh, and c, which are few."""
    generator, count = np.random.default_rng(0), 1210
    sources = np.array(["a"] * 600 + ["b"] * 600 + ["c"] * 10)
    logits = generator.normal(0, 1.5, (count, len(bundle.findings)))
    truth = 1 / (1 + np.exp(-logits + 2.0 * (sources == "b")[:, None]))
    labels = (generator.random(truth.shape) < truth).astype(np.float64)
    labels[:, 1] = np.where((sources == "b") & (np.cumsum(labels[:, 1]) % 2 == 0), np.nan, labels[:, 1])
    labels[sources == "a", 2] = 0  # nobody of a has it
    patients = np.arange(count) // 2
    table = pd.DataFrame(
        {
            "film": np.arange(count).astype(str),
            "path": np.arange(count).astype(str),
            "source": sources,
            "patient": patients.astype(str),
            "study": patients.astype(str),
            "view": "PA",
            "age": 50.0,
            "sex": "F",
            "split": "val",
            **dict(zip(bundle.findings, labels.T.astype(np.float32), strict=True)),
        }
    )
    films = Films(table, Path(), bundle.findings, {})
    lines = dict.fromkeys(bundle.findings, (0.8, -0.9))
    fitted = replace(bundle.calibration_set, fingerprint=films.fingerprint())  # type: ignore[type-var]
    pooled = replace(bundle, calibration=lines, calibration_set=fitted)
    points = choose_points(
        pooled.description.scores(logits.astype(np.float32)).astype(float), labels, patients, bundle.findings
    )
    pooled = replace(pooled, thresholds=OperatingPoints(binding_of(pooled), points))
    return replace(pooled, by_source=calibrate_sources(pooled, films, logits, labels, "platt"))


def test_each_source_with_enough_films_has_lines_and_thresholds_of_its_own(bundle: Bundle, tmp_path: Path) -> None:
    whole = of_three_sources(bundle)
    first, third = bundle.findings[0], bundle.findings[2]
    assert set(whole.by_source) == {"a", "b"}
    a, b = whole.by_source["a"], whole.by_source["b"]
    assert third not in a.own
    assert a.calibration[third] == (0.8, -0.9)
    assert (a.films, a.patients, b.films) == (600, 300, 600)
    for of, shift in ((a, 0.0), (b, -2.0)):
        np.testing.assert_allclose(of.calibration[first], (1, shift), atol=0.3)
    assert whole.thresholds is not None
    assert a.thresholds.points["youden"][third] == whole.thresholds.points["youden"][third]
    assert a.thresholds.points["youden"][first] != b.thresholds.points["youden"][first]
    save_bundle(whole, tmp_path / "run")
    again = load_bundle(tmp_path / "run")
    assert again.by_source == whole.by_source
    assert "by themselves for films of: a (" in (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert again.description.for_source("b") == again.for_source("b").description
    assert again.for_source("c") is again
    other = replace(again, by_source={"a": replace(a, calibration=b.calibration)})
    with pytest.raises(HilumError, match="thresholds must have been chosen for these weights"):
        save_bundle(other, tmp_path / "other")


def test_the_command_writes_a_bundle_for_one_source(bundle: Bundle, tmp_path: Path) -> None:
    whole = of_three_sources(bundle)
    save_bundle(whole, tmp_path / "run")

    def said(*more: str) -> Result:
        return CliRunner().invoke(app, ["calibrate", str(tmp_path / "run"), *more])

    out = tmp_path / "for-b"
    assert said("--source", "b", "--out", str(out)).exit_code == 0
    written = load_bundle(out)
    assert written.calibration == whole.by_source["b"].calibration
    assert written.thresholds == whole.by_source["b"].thresholds
    assert written.by_source == {}
    assert said("--source", "c", "--out", str(tmp_path / "c")).exit_code == 1
    assert said("--source", "b", "--out", str(out)).exit_code == 1
    assert said("--source", "b").exit_code == 1
    assert said().exit_code == 1


def test_films_of_one_source_are_evaluated_by_its_own_calibration(
    bundle: Bundle, phantom_films: Films, tmp_path: Path
) -> None:
    lines = dict.fromkeys(bundle.findings, (1.5, -1.0))
    described = replace(bundle.description, calibration=lines)
    assert bundle.calibration_set is not None
    assert bundle.thresholds is not None
    bound = described.binding(weights_sha256(bundle), bundle.calibration_set.fingerprint)
    own = SourceCalibration(lines, replace(bundle.thresholds, bound_to=bound), bundle.findings, 100, 50)
    source = str(phantom_films.table["source"].iloc[0])
    save_bundle(replace(bundle, by_source={source: own}), tmp_path / "run")
    evaluate_to_folder(tmp_path / "run", phantom_films, tmp_path / "report", bootstrap_samples=20, gallery=False)
    written = pd.read_csv(tmp_path / "report" / "predictions.csv")[list(bundle.findings)]
    expected = score_films(TorchEngine(replace(bundle, calibration=lines)), phantom_films.select("test"))
    np.testing.assert_allclose(written, expected[list(bundle.findings)], atol=1e-4)
