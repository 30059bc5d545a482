"""Every system takes the same road: train, bundle, predict, heatmaps."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hilum.batch import Asked, predict_to_file
from hilum.data.films import Films
from hilum.model.bundle import load_bundle
from hilum.recipe import load_recipe, shipped_recipes
from hilum.training.train import train

pytestmark = pytest.mark.slow  # they train

SMALL_DENSENET = ("architecture.block_layers=[1,1,1,1]", "architecture.growth=16", "architecture.stem=16")
SMALL_REDUCTION = (*SMALL_DENSENET, "architecture.reduction=4")
SYSTEMS = {
    "wang-alexnet": (63, ()),
    "chestnet": (64, ("architecture.size=64", "architecture.stage_blocks=[1,1,1,1]")),
    "dnetloc": (128, (*SMALL_DENSENET, "training.start_from_prevalence=true")),
    "se-densenet": (32, SMALL_REDUCTION),
    "spatial-densenet": (32, SMALL_DENSENET),
    "channel-densenet": (32, SMALL_REDUCTION),
    "am-densenet-before-transition": (32, SMALL_REDUCTION),
}
WHOLE = {"wang-googlenet": (32, ()), "wang-vgg16": (32, ()), "wang-resnet50": (32, ())}
"""The systems of which there is no small form."""
TRANSFORMER = "architecture.size=64"
BACKBONES = {
    "efficientnet-lite0": (64, ()),
    "efficientnet-lite0 as a transformer": (64, ("architecture.network=timm:test_vit", TRANSFORMER)),
    "efficientnet-lite0 with relative places": (64, ("architecture.network=timm:test_vit_relpos", TRANSFORMER)),
}
"""Networks of timm: those with tables that are not weights must come back from a bundle with them."""


@pytest.mark.parametrize("name", [*SYSTEMS, *WHOLE, *BACKBONES])
def test_a_system_from_films_to_heatmaps(name: str, phantom_films: Films, packs: Path, tmp_path: Path) -> None:
    size, choices = (SYSTEMS | WHOLE | BACKBONES)[name]
    changes = ["weights=none", "protocol=patient", "training.epochs=1", "training.keep=last", "training.precision=fp32"]
    changes += [f"preprocessing.size={size}", "preprocessing.channels=1", "preprocessing.interpolation=area"]
    run = tmp_path / "run"
    recipe = load_recipe(name.partition(" ")[0], [*changes, *choices])
    trained = train(recipe, phantom_films, run, packs=packs, bar=False)
    loaded = load_bundle(run)
    image = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, maps = loaded.model.class_maps(image)
        torch.testing.assert_close(logits, loaded.model(image))
        torch.testing.assert_close(logits, trained.model.class_maps(image)[0])  # another memory layout: not bit by bit
    kept = trained.model.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in loaded.model.state_dict().items())
    assert maps.shape[:2] == logits.shape == (2, len(phantom_films.findings))
    assert maps.isfinite().all()
    assert all(math.isfinite(bound) for scale in loaded.heatmap_logits.values() for bound in scale)
    paths = tuple(str(phantom_films.path(row)) for row in range(3))
    predict_to_file(Asked(run, paths, heatmaps=tmp_path / "heatmaps", top=2), tmp_path / "predictions.csv")
    table = pd.read_csv(tmp_path / "predictions.csv")
    scores = table[list(loaded.findings)].to_numpy()
    assert ((scores > 0) & (scores < 1)).all()
    assert len(list((tmp_path / "heatmaps").glob("*.png"))) == 6
    assert np.unique(scores, axis=0).shape[0] == 3  # no film's scores are another's


def test_the_ten_systems_of_the_comparison_are_shipped() -> None:
    assert len({*SYSTEMS, *WHOLE}) == 10
    assert {*SYSTEMS, *WHOLE} <= set(shipped_recipes())
