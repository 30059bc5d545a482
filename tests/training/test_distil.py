"""Distillation: targets are a teacher's calibrated scores, mixed with labels where these are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.data.films import Films
from hilum.errors import RecipeError
from hilum.model.engines import open_engine
from hilum.predict.scoring import score_films
from hilum.recipe import load_recipe
from hilum.training.distil import taught
from hilum.training.train import train


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_targets_are_the_teachers_scores_and_the_labels(
    weight: float, tiny_run: Path, phantom_films: Films, packs: Path
) -> None:
    films = phantom_films.select("train")
    labels = films.all_labels.copy()
    labels[:5, 2] = np.nan
    mixed = taught(labels, films, tiny_run, weight=weight, packs=packs)
    scores = score_films(open_engine(tiny_run, engine="torch"), films)[list(films.findings)].to_numpy()
    expected = np.where(np.isnan(labels), scores, (1 - weight) * labels + weight * scores)
    np.testing.assert_allclose(mixed, expected, atol=2e-5)


def test_a_finding_that_the_teacher_does_not_have_keeps_its_labels(
    tiny_run: Path, phantom_films: Films, packs: Path
) -> None:
    films = phantom_films.select("train")
    own = films.findings[0]
    table = films.table.rename(columns={own: "Own_Finding"})
    other = replace(films, table=table, findings=("Own_Finding", *films.findings[1:]))
    mixed = taught(other.all_labels, other, tiny_run, weight=1.0, packs=packs)
    np.testing.assert_array_equal(mixed[:, 0], films.all_labels[:, 0])
    alone = other.only(["Own_Finding"])
    with pytest.raises(RecipeError, match="teacher must have one of Own_Finding"):
        taught(alone.all_labels, alone, tiny_run, weight=1.0, packs=packs)


def test_a_teacher_needs_a_loss_that_is_linear_in_labels(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="teacher needs the loss bce"):
        load_recipe(tiny, ["loss.name=focal", "labels.teacher=somewhere"])


@pytest.mark.slow  # it trains
def test_a_pupil_learns_from_films_without_labels(
    tiny: Path, tiny_run: Path, phantom_films: Films, packs: Path, tmp_path: Path
) -> None:
    table = phantom_films.table.copy()
    unlabelled = table["split"] == "train"
    table[list(phantom_films.findings)] = table[list(phantom_films.findings)].astype("float32")
    table.loc[unlabelled, list(phantom_films.findings)] = np.nan
    films = replace(phantom_films, table=table)
    with pytest.raises(RecipeError, match="findings must each be known"):
        train(load_recipe(tiny, ["loss.name=bce"]), films, tmp_path / "no", packs=packs, bar=False)
    changes = ["loss.name=bce", f"labels.teacher={tiny_run}", "labels.teacher_weight=1.0", "optimizer.lr=3e-3"]
    bundle = train(load_recipe(tiny, changes), films, tmp_path / "pupil", packs=packs, bar=False)
    assert bundle.recipe.labels.teacher == str(tiny_run)
    assert bundle.training["train_films"] == int(unlabelled.sum())
    assert np.isfinite(bundle.training["val_loss"])
