import json
from pathlib import Path

from commands import Hilum
from PIL import Image


def test_layers_and_cost_at_a_size(hilum: Hilum) -> None:
    said = hilum("info", "demo", "--size", 64, "--layers", "--json")
    assert said.code == 0, said.err
    facts = json.loads(said.out)
    assert facts["cost"]["size"] == 64
    assert facts["preprocessing"]["size"] == 128
    assert sum(layer["parameters"] for layer in facts["layers"]) == facts["parameters"]
    assert facts["layers"][0] == {
        "name": "features.conv0",
        "kind": "Conv2d",
        "shape": [32, 32, 32],
        "parameters": 32 * 49,
    }


def test_the_tables_are_for_people(hilum: Hilum) -> None:
    said = hilum("info", "am-densenet", "--size", 224, "--layers")
    assert "7,011,508" in said.out
    assert "multiply-adds of one 224 px film" in said.out
    assert "{" not in said.out
    assert "features.denseblock4.denselayer16.conv2" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())


def test_figure_1_is_drawn(hilum: Hilum, tmp_path: Path) -> None:
    figure = tmp_path / "figure1.png"
    said = hilum("info", "am-densenet", "--figure", figure)
    assert said.code == 0, said.err
    with Image.open(figure) as picture:
        assert picture.format == "PNG"


def test_mistakes_are_named(hilum: Hilum, tmp_path: Path) -> None:
    figure = tmp_path / "figure1.png"
    for arguments, says in (
        (["--layers"], "a recipe or a run must be named"),
        (["am-densenet", "--size", 16], "size must be at least 32 px for am-densenet, got 16"),
        (["wang-vgg16", "--figure", figure], "figure must be of a DenseNet"),
        (["am-densenet", "--figure", tmp_path], "is a folder"),
    ):
        said = hilum("info", *arguments)
        assert (said.code, said.out) == (2, "")
        assert len(said.err.splitlines()) == 1
        assert says in said.err
    assert list(tmp_path.iterdir()) == []
