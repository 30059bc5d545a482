from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from hilum.errors import RecipeError
from hilum.recipe import load_recipe
from hilum.training.train import train

if TYPE_CHECKING:
    from hilum.data.films import Films

pytestmark = pytest.mark.slow  # it trains


@pytest.fixture(scope="module")
def start(tiny: Path, tiny_run: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    from hilum.model.bundle import load_bundle

    return tiny_run, dict(load_bundle(tiny_run).model.state_dict())


@pytest.mark.parametrize(("epochs", "ema"), [(1, "none"), (2, "0.9")])
def test_a_linear_probe_trains_the_classifier_alone(
    epochs: int,
    ema: str,
    start: tuple[Path, dict[str, torch.Tensor]],
    phantom_films: "Films",
    packs: Path,
    tmp_path: Path,
) -> None:
    run, before = start
    changes = [f"training.epochs={epochs}", f"training.freeze_epochs={epochs}", f"training.ema_decay={ema}"]
    bundle = train(load_recipe(run, changes), phantom_films, tmp_path / "run", packs=packs, bar=False)
    after = bundle.model.state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_the_body_learns_after_the_probe(
    start: tuple[Path, dict[str, torch.Tensor]], phantom_films: "Films", packs: Path, tmp_path: Path
) -> None:
    run, before = start
    recipe = load_recipe(run, ["training.epochs=2", "training.freeze_epochs=1"])
    bundle = train(recipe, phantom_films, tmp_path / "run", packs=packs, bar=False)
    after = bundle.model.state_dict()
    assert not any(
        torch.equal(after[key], before[key]) for key in before if key.endswith(("conv1.weight", "running_mean"))
    )


def test_no_more_epochs_can_be_frozen_than_there_are(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="freeze_epochs must be at most the 3 epochs, got 4"):
        load_recipe(tiny, ["training.freeze_epochs=4"])
