import io

import pytest
from PIL import Image

from hilum.errors import RecipeError
from hilum.model.info import architecture_png, blocks
from hilum.recipe import load_recipe


def test_the_papers_figure_1() -> None:
    """Dense block -> transition -> CBAM, three times, on 128, 256 and 512 channels; then block 4 and the head."""
    boxes = blocks(load_recipe("am-densenet"), 14)
    assert [(box.name, box.shape) for box in boxes] == [
        ("film", (3, 512, 512)),
        ("stem", (64, 128, 128)),
        ("dense block 1", (256, 128, 128)),
        ("transition 1", (128, 64, 64)),
        ("CBAM 1", (128, 64, 64)),
        ("dense block 2", (512, 64, 64)),
        ("transition 2", (256, 32, 32)),
        ("CBAM 2", (256, 32, 32)),
        ("dense block 3", (1024, 32, 32)),
        ("transition 3", (512, 16, 16)),
        ("CBAM 3", (512, 16, 16)),
        ("dense block 4", (1024, 16, 16)),
        ("14 logits", (14,)),
    ]
    assert [box.about for box in boxes if box.kind == "dense block"] == [f"{n} layers" for n in (6, 12, 24, 16)]
    assert [box.parameters for box in boxes if box.kind == "attention"] == [2_048 + 98, 8_192 + 98, 32_768 + 98]
    assert boxes[4].about == "128 - 8 - 128, then 7 x 7"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("am-densenet", 7_011_508), ("densenet", 6_968_206), ("am-densenet-before-transition", 7_140_532)],
)
def test_no_parameter_is_left_out(name: str, parameters: int) -> None:
    assert sum(box.parameters for box in blocks(load_recipe(name), 14, size=64)) == parameters


def test_the_other_reading_is_drawn_as_it_is() -> None:
    names = [box.name for box in blocks(load_recipe("am-densenet-before-transition"), 14, size=64)]
    assert names[2:5] == ["dense block 1", "CBAM 1", "transition 1"]


def test_the_drawing_is_a_png() -> None:
    with Image.open(io.BytesIO(architecture_png(load_recipe("am-densenet"), 14, size=224))) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(RecipeError, match="figure must be of a DenseNet with or without attention, got wang2017"):
        blocks(load_recipe("wang-alexnet"), 14)
    with pytest.raises(RecipeError, match="size must be at least 32 px for am-densenet, got 16"):
        architecture_png(load_recipe("am-densenet"), 14, size=16)
