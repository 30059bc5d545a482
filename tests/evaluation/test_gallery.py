import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.evaluation.gallery import LONGER_SIDE, SHOWN, gallery_section
from hilum.evaluation.localization import Boxed
from hilum.model.metadata import ModelDescription

FINDINGS = ("Mass", "Nodule")
DESCRIPTION = ModelDescription(FINDINGS, Preprocessing(size=64), dict.fromkeys(FINDINGS, (0.0, 1.0)), None, None, None)
BOX = np.array([[0.0, 0.0, 0.25, 0.25]])


def peak(row: int, column: int) -> np.ndarray:
    class_map = np.zeros((8, 8), dtype=np.float32)
    class_map[row, column] = 1.0
    return class_map


@pytest.fixture
def scores(phantom_films: Films) -> pd.DataFrame:
    return pd.DataFrame({"film": phantom_films.table["film"], "Mass": 0.25, "Nodule": 0.75})


def cases(films: Films) -> list[Boxed]:
    """Twenty masses, every other hit, and one nodule that is missed on a flat map."""
    names = films.table["film"].tolist()
    found = [Boxed("Mass", names[i], str(i), peak(0, 0) if i % 2 else peak(7, 7), BOX) for i in range(20)]
    return [*found, Boxed("Nodule", names[20], "20", np.zeros((8, 8), dtype=np.float32), BOX)]


def test_hits_and_misses_are_few_and_of_every_kind(phantom_films: Films, scores: pd.DataFrame) -> None:
    shown = gallery_section(cases(phantom_films), phantom_films, scores, DESCRIPTION, seed=0)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert [film["hit"] for film in shown] == [True] * SHOWN + [False] * SHOWN
    nodule = next(film for film in shown if film["finding"] == "Nodule")
    assert (nodule["hit"], nodule["point"], nodule["drawn"], nodule["score"]) == (False, None, None, 0.75)
    hit = shown[0]
    assert hit["point"] == [0.0625, 0.0625]
    assert hit["boxes"] == BOX.tolist()
    assert len({film["film"] for film in shown}) == 2 * SHOWN


def test_the_picture_is_the_film_with_its_heat(phantom_films: Films, scores: pd.DataFrame) -> None:
    shown = gallery_section(cases(phantom_films)[1:2], phantom_films, scores, DESCRIPTION, seed=0)
    assert len(shown) == 1
    head, _, content = shown[0]["picture"].partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (shown[0]["width"], shown[0]["height"])
        assert max(picture.size) <= LONGER_SIDE
        red, green, blue = np.asarray(picture.convert("RGB"), dtype=np.float64)[2, 2]
    assert red > max(green, blue) + 50  # where the map is strongest


def test_the_same_seed_shows_the_same_films(phantom_films: Films, scores: pd.DataFrame) -> None:
    one, two, other = (
        [film["film"] for film in gallery_section(cases(phantom_films), phantom_films, scores, DESCRIPTION, seed=seed)]
        for seed in (0, 0, 1)
    )
    assert one == two != other
    assert gallery_section([], phantom_films, scores, DESCRIPTION, seed=0) == []
