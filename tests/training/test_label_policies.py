"""Uncertain labels, views, findings without labels and several sources, as training and evaluation take them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Hilum

from hilum.data.films import Films, write_films
from hilum.errors import FilmsError, RecipeError
from hilum.evaluation.evaluate import evaluate_scores
from hilum.model.bundle import Bundle, load_bundle
from hilum.recipe import load_recipe
from hilum.training.train import train

pytestmark = pytest.mark.slow  # they train


Trained = Callable[..., Bundle]


def changed(films: Films, **columns: Any) -> Films:
    return replace(films, table=films.table.assign(**columns))


@pytest.fixture
def trained(tiny: Path, packs: Path, tmp_path: Path) -> Trained:
    def run(films: Films, *changes: str, resume: bool = False, name: str = "run") -> Bundle:
        recipe = load_recipe(tiny, ["training.epochs=1", *changes])
        return train(recipe, films, tmp_path / name, packs=packs, resume=resume, bar=False)

    return run


def test_a_finding_without_a_known_label_is_refused_and_can_be_left_out(
    trained: Trained, phantom_films: Films, hilum: Hilum, tiny: Path, packs: Path, tmp_path: Path
) -> None:
    films = changed(phantom_films, Hernia=np.full(len(phantom_films), np.nan, dtype=np.float32))
    with pytest.raises(RecipeError, match=r"known of some training film, got none for Hernia.*--findings known"):
        trained(films)
    write_films(films, tmp_path / "films.parquet")
    run = tmp_path / "dropped"
    arguments = ("--films", tmp_path / "films.parquet", "--out", run, "--packs", packs, "--set", "training.epochs=1")
    said = hilum("train", tiny, *arguments, "--findings", "known")
    assert said.code == 0, said.err
    assert "Hernia" not in load_bundle(run).findings
    said = hilum("evaluate", run, "--films", tmp_path / "films.parquet", "--out", tmp_path / "report")
    assert said.code == 0, said.err
    assert "another manifest" not in said.out + said.err


def test_uncertain_labels_are_trained_by_their_policy_and_never_evaluated(
    trained: Trained, phantom_films: Films
) -> None:
    uncertain = phantom_films.table["Mass"].where(phantom_films.table["Mass"] == 0, -1.0).astype(np.float32)
    films = changed(phantom_films, Mass=uncertain)
    bundles = {
        policy: trained(films, "loss.name=bce", f'labels.by_finding={{Mass="{policy}"}}', name=policy)
        for policy in ("ignore", "ones", "soft")
    }
    weights = {policy: bundle.model.state_dict()["classifier.weight"] for policy, bundle in bundles.items()}
    assert not np.array_equal(weights["ignore"], weights["ones"])
    assert not np.array_equal(weights["soft"], weights["ones"])
    scores = films.table[["film"]].assign(Mass=np.linspace(0, 1, len(films)))
    report = evaluate_scores(films, scores)
    assert report.findings["Mass"].positives == 0
    assert any("labels of these films are uncertain" in note for note in report.notes)
    with pytest.raises(FilmsError, match="got 'Fracture'"):
        trained(films, 'labels.by_finding={Fracture="ones"}', name="other")


def test_lateral_films_are_neither_trained_on_nor_evaluated(
    trained: Trained, phantom_films: Films, capsys: pytest.CaptureFixture[str]
) -> None:
    split = phantom_films.table["split"]
    lateral = np.zeros(len(split), dtype=bool)
    for name in ("train", "test"):
        lateral[np.flatnonzero(split == name)[:2]] = True
    films = changed(phantom_films, view=phantom_films.table["view"].mask(lateral, "LATERAL"))
    bundle = trained(films)
    assert bundle.training["train_films"] == int((split == "train").sum()) - 2
    assert "LATERAL" not in bundle.training["train_views"]
    assert "not take are left out: 2 LATERAL" in capsys.readouterr().err
    scores = films.table[["film"]].assign(Mass=np.linspace(0, 1, len(films)))
    report = evaluate_scores(films, scores)
    assert report.content["films"] == int((split == "test").sum()) - 2
    assert report.content["films_of_other_views"] == {"LATERAL": 2}
    assert any("not evaluated: 2 LATERAL" in note for note in report.notes)
    assert report.content["films_fingerprint"] == films.fingerprint()
    alone = evaluate_scores(films, scores, views=["LATERAL"])
    assert alone.content["films"] == 2


def test_sources_are_balanced_and_told_of_and_a_second_run_is_the_same(
    trained: Trained, phantom_films: Films, tiny: Path, packs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = np.where(np.arange(len(phantom_films)) % 3 == 0, "other", "phantom")
    mass = phantom_films.table["Mass"].mask(source == "other", 0).astype(np.float32)
    films = changed(phantom_films, source=source, Mass=mass)
    changes = ("training.sampling=sqrt", "labels.per_finding=true", "training.epochs=2")
    whole = trained(films, *changes, name="whole")
    assert "Warning: Mass is absent on all of other" in capsys.readouterr().err
    assert whole.sources == ("other", "phantom")
    again = trained(films, *changes, name="again")
    for name, weight in whole.model.state_dict().items():
        np.testing.assert_array_equal(weight, again.model.state_dict()[name])
    scores = films.table[["film"]].assign(Mass=np.linspace(0, 1, len(films)))
    assert any("Mass is absent on all of other" in note for note in evaluate_scores(films, scores).notes)


def test_soft_labels_need_a_loss_that_takes_them(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="soft needs the loss bce or class-weighted-bce, not focal"):
        load_recipe(tiny, ["loss.name=focal", "labels.uncertain=soft"])
