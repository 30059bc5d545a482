"""Every system takes the same road: train, bundle, predict, heatmaps."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.bundle import load_bundle
from hilum.data.films import Films
from hilum.predict import predict_files
from hilum.recipe import load_recipe
from hilum.train import train

SMALL_DENSENET = ("architecture.block_layers=[1,1,1,1]", "architecture.growth=16", "architecture.stem=16")
SYSTEMS = {
    "wang-alexnet": (64, ()),
    "chestnet": (64, ("architecture.size=64", "architecture.stage_blocks=[1,1,1,1]")),
    "dnetloc": (128, (*SMALL_DENSENET, "training.start_from_prevalence=true")),
    "se-densenet": (64, (*SMALL_DENSENET, "architecture.reduction=4")),
    "spatial-densenet": (64, SMALL_DENSENET),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_from_films_to_heatmaps(name: str, phantom_films: Films, packs: Path, tmp_path: Path) -> None:
    size, choices = SYSTEMS[name]
    changes = ["weights=none", "protocol=patient", "training.epochs=1", "training.keep=last", "training.precision=fp32"]
    changes += [f"preprocessing.size={size}", "preprocessing.channels=1", "preprocessing.interpolation=area"]
    run = tmp_path / "run"
    trained = train(load_recipe(name, [*changes, *choices]), phantom_films, run, packs=packs, bar=False)
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
    paths = [phantom_films.path(row) for row in range(3)]
    table = predict_files(loaded, paths, heatmaps=tmp_path / "heatmaps", top=2)
    scores = table[list(loaded.findings)].to_numpy()
    assert ((scores > 0) & (scores < 1)).all()
    assert len(list((tmp_path / "heatmaps").glob("*.png"))) == 6
    assert np.unique(scores, axis=0).shape[0] == 3  # no film's scores are another's
