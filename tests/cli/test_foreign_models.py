import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Hilum
from PIL import Image

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of timm for two findings."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save(timm.create_model("test_convnext", num_classes=2).state_dict(), path)
    return path


def test_a_model_is_imported_and_used_and_views_of_films_are_averaged(
    hilum: Hilum, weights: Path, tmp_path: Path
) -> None:
    run, film = tmp_path / "run", tmp_path / "film.png"
    pixels = np.random.default_rng(0).integers(0, 256, (80, 70), dtype=np.uint8)
    Image.fromarray(pixels).save(film)
    said = hilum("import", "timm", "test_convnext", weights, "--findings", "Mass, Nodule", "--size", 64, "--out", run)
    assert said.code == 0, said.err
    assert "Mass, Nodule" in said.out
    assert "provisional scale" in said.err
    again = hilum("import", "timm", "test_convnext", weights, "--findings", "Mass,Nodule", "--out", run)
    assert (again.code, "out must be a new or empty folder" in again.err) == (2, True)
    scores = []
    for options in ([], ["--tta"]):
        said = hilum("predict", run, film, "--engine", "torch", "--json", *options)
        assert said.code == 0, said.err
        scores.append(json.loads(said.out)[0]["Mass"])
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], abs=0.2)
    assert (run / "tta" / "bundle.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "timm", "test_convnext", "W", "--out", "OUT"], "findings must be distinct names, at least one"),
        (["import", "timm", "test_convnext", "W", "--mean", "a", "--out", "OUT"], "mean must be numbers"),
        (["import", "nowhere", "x", "--out", "OUT"], "source must be one of torchxrayvision"),
        (["ensemble", "RUN", "--out", "OUT"], "ensemble must have at least two members"),
        (["ensemble", "RUN", "RUN", "--average", "median", "--out", "OUT"], "average must be logits, scores"),
        (["push", "RUN", "owner/name", "--licence", "mit"], "address must be hf://owner/name"),
        (["pull", "hf://owner", "--out", "OUT"], "address must be hf://owner/name"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, hilum: Hilum, weights: Path, untrained_run: Path, tmp_path: Path
) -> None:
    places = {"W": weights, "RUN": untrained_run, "OUT": tmp_path / "out"}
    said = hilum(*(places.get(word, word) for word in arguments))
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert message in said.err
    assert not (tmp_path / "out").exists()
