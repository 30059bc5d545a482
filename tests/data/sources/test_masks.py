"""Run lengths of four kinds, their boxes and the masks on the grid; CheXlocalize and CheXmask beside films."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Hilum
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from hilum.data.films import Films, read_films
from hilum.data.sources.masks import (
    GRID,
    absolute_runs,
    add_masks,
    coco_runs,
    grid_of,
    masked_box,
    packed,
    relative_runs,
    unpacked,
)
from hilum.errors import FilmsError
from hilum.metrics.localization import Marks, hits


def test_golden_runs() -> None:
    wanted = np.array([[0, 0, 1], [1, 0, 1]], dtype=bool)
    for mask in (
        relative_runs("1 1 2 2", (2, 3)),
        absolute_runs("3 2 6 1", (2, 3)),
        coco_runs([1, 1, 2, 2], (2, 3)),
        coco_runs(packed([1, 1, 2, 2]), (2, 3)),
    ):
        assert mask is not None
        np.testing.assert_array_equal(mask, wanted)
    assert unpacked("ifdl3") == [2021 * 2021]  # CheXlocalize's empty outline


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=9))
def test_packing_is_undone(runs: list[int]) -> None:
    assert unpacked(packed(runs)) == runs


@given(st.text(max_size=30), st.tuples(st.integers(-1, 40), st.integers(-1, 40)))
def test_any_text_is_a_mask_or_none(text: str, size: tuple[int, int]) -> None:
    for read in (relative_runs, absolute_runs, coco_runs):
        mask = read(text, size)
        assert mask is None or mask.shape == size


@given(nps.arrays(bool, st.tuples(st.integers(1, 300), st.integers(1, 300))).filter(lambda mask: mask.any()))
def test_the_box_surrounds_the_mask_and_the_grid_keeps_some_of_it(mask: np.ndarray) -> None:
    box = masked_box("a", "Mass", mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert box["y"] * mask.shape[0] == pytest.approx(rows[0])
    assert (box["x"] + box["width"]) * mask.shape[1] == pytest.approx(columns[-1] + 1)
    assert grid_of(box["mask"]).any()


def test_a_point_is_right_in_the_outline_alone() -> None:
    mask = np.zeros((GRID, GRID), dtype=bool)
    mask[:, :64], mask[192:, :] = True, True  # an L, whose box is the whole film
    box = masked_box("a", "Mass", mask)
    truths = np.array([[box["x"], box["y"], box["width"], box["height"]]])
    marks = Marks(np.array([[0.1, 0.1], [0.9, 0.1], [np.nan, np.nan]]), np.full((3, 4), 0.25))
    assert hits(marks, truths)[:, 0].tolist() == [True, True, False]
    assert hits(marks, truths, [grid_of(box["mask"])])[:, 0].tolist() == [True, False, False]


def chexpert(folder: Path) -> Films:
    paths = [f"valid/patient6454{place}/study1/view1_frontal.jpg" for place in (1, 2)]
    frame = pd.DataFrame({"path": paths, "patient": ["1", "2"], "Lung Opacity": [1, 0], "Cardiomegaly": [1, 0]})
    return Films.from_frame(frame, root=folder, findings=["Lung Opacity", "Cardiomegaly"], check_files=False)


def test_chexlocalize(tmp_path: Path) -> None:
    films, file = chexpert(tmp_path), tmp_path / "gt_segmentations_val.json"
    outline = {"size": [4, 4], "counts": packed([5, 2, 9])}
    empty = {"size": [2021, 2021], "counts": "ifdl3"}
    name = "patient64541_study1_view1_frontal"
    file.write_text(
        json.dumps({name: {"Airspace Opacity": outline, "Cardiomegaly": empty}, "other": {"Edema": outline}})
    )
    boxes = add_masks(films, [file]).notes["boxes"]
    assert [(box["film"], box["finding"]) for box in boxes] == [(films.table["film"][0], "Lung Opacity")]
    assert [boxes[0][side] for side in ("x", "y", "width", "height")] == [0.25, 0.25, 0.25, 0.5]
    file.write_text(json.dumps({name: {"Cardiomegaly": {"size": [4, 4], "counts": "xyz"}}}))
    with pytest.raises(FilmsError, match=r"outline must be COCO's run lengths.*'Cardiomegaly'"):
        add_masks(films, [file])
    for bad in ("[1]", "{", '{"a": 1}'):
        file.write_text(bad)
        with pytest.raises(FilmsError, match="masks must be JSON"):
            add_masks(films, [file])


def test_chexmask_is_of_the_heart_where_it_is_enlarged(tmp_path: Path) -> None:
    films, file = chexpert(tmp_path), tmp_path / "CheXpert.csv"
    row = {"Dice RCA (Mean)": 0.9, "Heart": "6 2 10 2", "Height": 4, "Width": 4}
    names = [f"CheXpert-v1.0-small/{path}" for path in films.table["path"]]
    pd.DataFrame([{"Path": name, **row} for name in names]).to_csv(file, index=False)
    boxes = add_masks(films, [file]).notes["boxes"]
    assert [(box["film"], box["finding"], box["x"], box["width"]) for box in boxes] == [
        (films.table["film"][0], "Cardiomegaly", 0.25, 0.5)
    ]
    pd.DataFrame([{"Path": names[0], **row, "Dice RCA (Mean)": 0.6}]).to_csv(file, index=False)
    with pytest.raises(FilmsError, match="got none of its 2 films"):
        add_masks(films, [file])
    pd.DataFrame([{"Path": names[0], **row, "Heart": "15 9"}]).to_csv(file, index=False)
    with pytest.raises(FilmsError, match=r"Heart must be pairs .*row 2"):
        add_masks(films, [file])


def test_the_command_adds_outlines_of_both_kinds(
    phantom_layout: Callable[[str], Path], hilum: Hilum, tmp_path: Path
) -> None:
    """Through `hilum index`, as files of CheXlocalize and CheXmask lie beside CheXpert's films."""
    folder, out = phantom_layout("chexpert"), tmp_path / "films.parquet"
    assert hilum("index", "chexpert", folder, "--out", out).code == 0
    films = read_films(out)
    big = films.table["path"][np.flatnonzero(films.table["Cardiomegaly"] == 1)[0]]
    other = films.table["path"][0]
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:32, 8:24] = True
    counts = packed([8 * 64 + 16, *([16, 48] * 15), 16, 64 * 64 - 23 * 64 - 32])
    drawn = {
        other.removesuffix(".jpg").replace("/", "_").partition("_")[2]: {"Edema": {"size": [64, 64], "counts": counts}}
    }
    (tmp_path / "gt_segmentations_val.json").write_text(json.dumps(drawn))
    heart = " ".join(f"{row * 64 + 9} 16" for row in range(16, 32))
    row = {"image_id": big, "Dice RCA (Mean)": 0.9, "Heart": heart, "Height": 64, "Width": 64}
    pd.DataFrame([row]).to_csv(tmp_path / "CheXpert.csv.gz", index=False)
    files = ["--masks", tmp_path / "gt_segmentations_val.json", "--masks", tmp_path / "CheXpert.csv.gz"]
    said = hilum("index", "chexpert", folder, *files, "--out", out, "--json")
    assert said.code == 0, said.err
    boxes = read_films(out).notes["boxes"]
    assert [(box["film"], box["finding"]) for box in boxes] == [(other, "Edema"), (big, "Cardiomegaly")]
    for box in boxes:
        assert [box[side] for side in ("x", "y", "width", "height")] == [0.125, 0.25, 0.25, 0.25]
        assert grid_of(box["mask"]).sum() == 64 * 64
    (tmp_path / "CheXpert.csv.gz").write_bytes(b"no gzip")
    said = hilum("index", "chexpert", folder, *files, "--out", out)
    assert said.code == 2
    assert "CheXpert.csv.gz" in said.err
