"""A cross-validation by patient, from training to the report of its out-of-fold scores."""

from pathlib import Path
from typing import Any

import pytest

from hilum.data.films import Films, read_films
from hilum.errors import PredictionsError, RecipeError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.recipe import load_recipe
from hilum.training.folds import MANIFEST, train_folds
from hilum.training.train import train

pytestmark = pytest.mark.slow  # they train


def test_each_fold_is_trained_and_evaluated_by_the_others(
    tiny: Path, phantom_films: Films, packs: Path, tmp_path: Path
) -> None:
    def quiet(*arguments: Any, **options: Any) -> Any:
        return train(*arguments, **options, bar=False)

    recipe, out = load_recipe(tiny, ["training.epochs=1", "training.keep=last"]), tmp_path / "cv"
    bundles = train_folds(recipe, phantom_films, out, number=3, packs=packs, train_one=quiet)
    assert len({bundle.films for bundle in bundles}) == 3
    with pytest.raises(RecipeError, match="out must be a new folder"):
        train_folds(recipe, phantom_films, out, number=3, packs=packs, train_one=quiet)
    again = train_folds(recipe, phantom_films, out, number=3, packs=packs, resume=True, train_one=quiet)
    assert [one.films for one in again] == [one.films for one in bundles]
    manifest = read_films(out / MANIFEST)
    paths = [out / f"fold-{fold}" for fold in (2, 3, 1)]
    report = evaluate_to_folder(paths, manifest, tmp_path / "report", gallery=False)
    assert report["runs"]["kind"] == "folds"
    assert report["films"] == len(manifest.select("test")) == sum(run["films"] for run in report["runs"]["runs"])
    assert "3 folds" in report["system"]
    with pytest.raises(PredictionsError, match="bundles of all 3 folds"):
        evaluate_to_folder(paths[:2], manifest, tmp_path / "other")
