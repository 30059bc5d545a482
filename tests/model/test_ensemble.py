import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import hilum
from hilum.errors import BundleError, RecipeError
from hilum.model.bundle import Bundle, load_bundle, save_bundle
from hilum.model.calibrate import calibrate
from hilum.model.ensemble import TTA, combine, with_views
from hilum.model.export import export_bundle
from hilum.nn.build import build
from hilum.nn.classifier import overlap
from hilum.nn.ensemble import Ensemble, Member
from hilum.recipe import load_recipe
from hilum.training.train import train

if TYPE_CHECKING:
    from hilum.data.films import Films

SMALL = ["architecture.block_layers=[1,1,1,1]", "architecture.growth=16", "architecture.stem=16"]


def written(folder: Path, findings: tuple[str, ...], *changes: str, lines: tuple[float, float] | None = None) -> Path:
    """A bundle of a small random network."""
    torch.manual_seed(len(folder.name))
    recipe = load_recipe("demo", [*SMALL, "architecture.reduction=4", "preprocessing.size=64", *changes])
    model = build(recipe.architecture, findings=len(findings), channels=recipe.preprocessing.channels).eval()
    scale = dict.fromkeys(findings, (0.0, 1.0))
    calibration = None if lines is None else dict.fromkeys(findings, lines)
    save_bundle(Bundle(model, findings, recipe, "f" * 64, scale, calibration=calibration), folder)
    return folder


FILM = np.random.default_rng(0).integers(0, 256, (130, 110), dtype=np.uint8)


def logits(run: Path, **options: Any) -> dict[str, float]:
    return hilum.load(run, **{"engine": "torch", **options}).predict(FILM).logits


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two bundles whose findings and calibration differ."""
    first = written(tmp_path / "a", ("Mass", "Nodule", "Effusion"), lines=(2.0, 0.5))
    return [first, written(tmp_path / "bb", ("Pleural Effusion", "Mass"), "preprocessing.channels=3")]


def test_logits_are_averaged_on_the_members_own_calibration(pair: list[Path], tmp_path: Path) -> None:
    bundle = combine(pair)
    save_bundle(bundle, tmp_path / "both")
    assert bundle.findings == ("Mass", "Effusion")
    first, second, both = (logits(run) for run in (*pair, tmp_path / "both"))
    assert both["Mass"] == pytest.approx((2 * first["Mass"] + 0.5 + second["Mass"]) / 2, abs=1e-6)
    assert both["Effusion"] == pytest.approx((2 * first["Effusion"] + 0.5 + second["Pleural Effusion"]) / 2, abs=1e-6)
    assert bundle.calibration is None
    assert bundle.recipe.about.startswith("The mean of the logits of demo and demo")
    assert "put together, not trained here" in (tmp_path / "both" / "MODEL_CARD.md").read_text()


def test_scores_are_averaged(pair: list[Path], tmp_path: Path) -> None:
    save_bundle(combine(pair, average="scores"), tmp_path / "both")
    models = [hilum.load(run, engine="torch").predict(FILM) for run in (*pair, tmp_path / "both")]
    first, second, both = (one.scores["Mass"] for one in models)
    assert both == pytest.approx((first + second) / 2, abs=1e-6)


def test_the_mean_of_a_map_is_the_logit() -> None:
    torch.manual_seed(0)
    networks = [
        build(load_recipe("demo", [*SMALL, "architecture.reduction=4"]).architecture, findings=2, channels=1).eval()
        for _ in range(2)
    ]
    for average in ("logits", "scores"):
        for views in (("plain",), ("plain", "left", "right", "up", "down", "mirror")):
            members = [Member(networks[0], 96, 1, (0, 1)), Member(networks[1], 64, 1, (1, 0))]
            ensemble = Ensemble(members, size=96, average=average, views=views).eval()
            films = torch.rand(2, 1, 96, 96)
            found, maps = ensemble.class_maps(films)
            assert maps.shape == (2, 2, 3, 3)
            torch.testing.assert_close(maps.mean((2, 3)), found, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(ensemble(films), found)


def test_views_are_averaged_and_laid_back() -> None:
    torch.manual_seed(0)
    network = build(
        load_recipe("demo", [*SMALL, "architecture.reduction=4"]).architecture, findings=2, channels=1
    ).eval()
    films = torch.rand(1, 1, 64, 64)
    mirrored = Ensemble([Member(network, 64, 1, (0, 1))], size=64, views=("mirror",))
    found, maps = network.class_maps(films.flip(3))
    for ours, theirs in zip(mirrored.class_maps(films), (found, maps.flip(3)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    right = Ensemble([Member(network, 64, 1, (0, 1))], size=64, views=("right",))
    moved = torch.cat([films[..., :1], films[..., :1], films[..., :-2]], dim=3)
    torch.testing.assert_close(right(films), network(moved), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), [(64, 48), (3, 7), (7, 7), (2, 5)])
def test_areas_keep_the_mean(before: int, after: int) -> None:
    share = overlap(before, after)
    torch.testing.assert_close(share.sum(1), torch.ones(after))
    torch.testing.assert_close(share.sum(0), torch.full((before,), after / before))


def test_what_does_not_fit_together_is_refused(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="at least two members, or --tta, got 1"):
        combine(pair[:1])
    other = written(tmp_path / "ccc", ("Edema",))
    with pytest.raises(BundleError, match="must share a finding"):
        combine([pair[0], other])
    cropped = written(tmp_path / "dddd", ("Mass",), "preprocessing.crop=square")
    with pytest.raises(BundleError, match="must see the same part of a film, but crop is square"):
        combine([pair[0], cropped])
    save_bundle(combine(pair), tmp_path / "both")
    with pytest.raises(BundleError, match="members must be single networks"):
        combine([tmp_path / "both", pair[0]])


def test_views_of_one_bundle_are_made_once_and_anew_when_it_changes(pair: list[Path]) -> None:
    out = with_views(pair[0])
    assert out == pair[0] / TTA
    before = (out / "bundle.json").stat().st_mtime_ns
    assert logits(out) != logits(pair[0])
    assert with_views(pair[0]) == out
    assert (out / "bundle.json").stat().st_mtime_ns == before
    again = load_bundle(pair[0])
    again.model.classifier.weight.data += 1
    save_bundle(again, pair[0])
    assert (
        load_bundle(with_views(pair[0]))
        .model.state_dict()["members.0.classifier.weight"]
        .equal(again.model.classifier.weight)
    )


@pytest.mark.slow
def test_an_ensemble_goes_the_whole_way(tiny_run: Path, phantom_films: "Films", packs: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "tiny")
    findings = load_bundle(tiny_run).findings
    second = written(tmp_path / "second", findings, "preprocessing.size=48")
    both = tmp_path / "both"
    bundle = calibrate(combine([tmp_path / "tiny", second], tta=True), phantom_films.select("val"), packs=packs)
    save_bundle(bundle, both)
    assert bundle.thresholds is not None
    export_bundle(both, "onnx", say=print)
    by_torch, by_onnx = logits(both), logits(both, engine="onnx")
    np.testing.assert_allclose(list(by_onnx.values()), list(by_torch.values()), rtol=0, atol=1e-5)
    with pytest.raises(RecipeError, match="Train its members"):
        train(load_recipe(both), phantom_films, tmp_path / "more", packs=packs, bar=False)
