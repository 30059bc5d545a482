"""Files in, one row per file out; a bad file is a row with a reason."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from hilum.bundle import Bundle, load_bundle
from hilum.data.films import Films
from hilum.errors import HilumError, ImageError
from hilum.explain import enlarged
from hilum.predict import (
    Scored,
    check_out,
    expand,
    predict_files,
    score_files,
    score_films,
    write_heatmaps,
    write_predictions,
)
from hilum.report.evaluation import evaluate_to_folder


@pytest.fixture(scope="module")
def bundle(tiny_run: Path) -> Bundle:
    return load_bundle(tiny_run)


@pytest.fixture(scope="module")
def paths(phantom_films: Films) -> list[Path]:
    return [phantom_films.path(row) for row in range(20)]


def scores_of(bundle: Bundle, paths: list[Path], batch: int) -> np.ndarray:
    rows = [scored.scores for scored in score_files(bundle, paths, batch=batch)]
    return np.stack([row for row in rows if row is not None])


def test_scores_are_the_networks_in_any_batch(bundle: Bundle, paths: list[Path]) -> None:
    images = torch.from_numpy(np.stack([bundle.preprocessing.read(path) for path in paths]))
    with torch.inference_mode():
        expected = bundle.model(images).sigmoid().numpy()
    for batch in (1, 7, 16):
        np.testing.assert_allclose(scores_of(bundle, paths, batch), expected, atol=1e-5)


def test_maps_average_to_the_logit(bundle: Bundle, paths: list[Path]) -> None:
    for scored in score_files(bundle, paths[:3]):
        assert scored.maps is not None
        assert scored.scores is not None
        np.testing.assert_allclose(1 / (1 + np.exp(-scored.maps.mean((1, 2)))), scored.scores, atol=1e-5)


def test_rows_come_in_the_order_of_the_files(bundle: Bundle, paths: list[Path]) -> None:
    forward = predict_files(bundle, paths)
    backward = predict_files(bundle, paths[::-1])
    assert forward["film"].tolist() == [path.name for path in paths]
    assert list(forward.columns) == ["film", *bundle.findings]
    pd.testing.assert_frame_equal(forward, backward[::-1].reset_index(drop=True), atol=1e-5, rtol=0)


def test_memory_is_bounded_by_a_few_batches(bundle: Bundle, paths: list[Path]) -> None:
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield paths[asked % len(paths)]

    scoring = score_files(bundle, endless(), batch=4)
    for _ in range(9):
        next(scoring)
    assert asked <= 12 + 2 * 4
    scoring.close()  # type: ignore[attr-defined]


def test_a_bad_file_is_a_row_with_a_reason(bundle: Bundle, paths: list[Path], tmp_path: Path) -> None:
    whole = paths[0].read_bytes()
    bad = {"empty.png": b"", "text.png": b"no film", "cut.png": whole[: len(whole) // 2], "film.dcm": b"\0" * 200}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    mixed = [paths[0], *(tmp_path / name for name in bad), tmp_path / "missing.png", paths[1]]
    table = predict_files(bundle, mixed, heatmaps=tmp_path / "maps")
    assert table["film"].tolist() == [path.name for path in mixed]
    assert (table["error"] == "").tolist() == [True, False, False, False, False, False, True]
    for row in range(1, 6):
        assert mixed[row].name in table["error"][row]
        assert table.loc[row, list(bundle.findings)].isna().all()
    alone = predict_files(bundle, paths[:2])
    np.testing.assert_allclose(
        table.loc[[0, 6], list(bundle.findings)].to_numpy(float), alone[list(bundle.findings)].to_numpy(), atol=1e-5
    )
    assert len(list((tmp_path / "maps").iterdir())) == 2 * 3
    only_bad = predict_files(bundle, mixed[1:4])
    assert (only_bad["error"] != "").all()


def test_films_of_the_same_name_keep_their_folders(bundle: Bundle, paths: list[Path], tmp_path: Path) -> None:
    copies = [tmp_path / folder / "film.png" for folder in ("a", "b")]
    for copy in copies:
        copy.parent.mkdir()
        shutil.copy(paths[0], copy)
    table = predict_files(bundle, [*copies, paths[1]], heatmaps=tmp_path / "maps", top=1)
    assert table["film"].tolist() == [copies[0].as_posix(), copies[1].as_posix(), paths[1].name]
    assert len(list((tmp_path / "maps").iterdir())) == 3


def test_inputs_are_files_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/2.png", "a/1.PNG", "a/deep/3.jpeg", "a/notes.txt", "b/4.jpg", "b/film", "[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    def names(*inputs: str) -> list[str]:
        return [path.as_posix() for path in expand(inputs)]

    assert names("a") == ["a/1.PNG", "a/2.png", "a/deep/3.jpeg"]
    assert names("b/film", "a/2.png") == ["b/film", "a/2.png"]
    assert names("*/*.??g") == ["a/2.png", "b/4.jpg"]
    assert names("**/*.jp*g") == ["a/deep/3.jpeg", "b/4.jpg"]
    assert names("a/2.png", "a", "a/2.png") == ["a/2.png", "a/1.PNG", "a/deep/3.jpeg"]
    assert names("[1].png") == ["[1].png"]  # a file of that name is taken before a pattern
    assert names(str(tmp_path / "b" / "*.jpg")) == [(tmp_path / "b" / "4.jpg").as_posix()]
    (tmp_path / "c").mkdir()
    for nothing in ("missing.png", "*.tif", "c"):
        with pytest.raises(ImageError, match="which names none"):
            expand(["a", nothing])


def test_heatmaps_are_on_one_scale(bundle: Bundle, paths: list[Path], tmp_path: Path) -> None:
    [scored] = score_files(bundle, paths[:1])
    low = replace(bundle, heatmap_logits=dict.fromkeys(bundle.findings, (50.0, 60.0)))
    high = replace(bundle, heatmap_logits=dict.fromkeys(bundle.findings, (-60.0, -50.0)))
    assert scored.image is not None
    grey = np.round(enlarged(scored.image).astype(np.float64) * 255).astype(np.uint8)
    assert grey.shape == (512, 512)
    for path in write_heatmaps(low, scored, tmp_path / "low", name="film.png"):
        film = np.asarray(Image.open(path))[:512, :512]
        np.testing.assert_array_equal(film, np.repeat(grey[..., None], 3, axis=2))
    for path in write_heatmaps(high, scored, tmp_path / "high", name="film.png", top=2):
        film = np.asarray(Image.open(path))[:512, :512].astype(int)
        assert (film[..., 0] > film[..., 2]).all()
    assert len(list((tmp_path / "high").iterdir())) == 2


def test_heatmaps_are_those_of_the_highest_scores(bundle: Bundle, tmp_path: Path) -> None:
    maps = np.full((len(bundle.findings), 2, 2), 20, dtype=np.float32)
    scores = np.full(len(bundle.findings), 0.1, dtype=np.float32)
    scores[[4, 9]] = 0.5, 0.9
    scored = Scored(Path("x.png"), "", np.zeros((64, 64), dtype=np.float32), scores, maps)
    written = write_heatmaps(bundle, scored, tmp_path, name="x")
    assert [path.name for path in written] == [f"x.{bundle.findings[k]}.png" for k in (9, 4, 0)]
    assert write_heatmaps(bundle, Scored(Path("y.png"), "bad"), tmp_path, name="y") == []


def test_csv_json_and_parquet_hold_the_same(bundle: Bundle, paths: list[Path], tmp_path: Path) -> None:
    table = predict_files(bundle, [*paths[:3], tmp_path / "missing.png"])
    for suffix in (".csv", ".json", ".parquet"):
        write_predictions(table, tmp_path / "deep" / f"predictions{suffix}")
    read = {
        "csv": pd.read_csv(tmp_path / "deep" / "predictions.csv", keep_default_na=True),
        "json": pd.DataFrame(json.loads((tmp_path / "deep" / "predictions.json").read_text())),
        "parquet": pd.read_parquet(tmp_path / "deep" / "predictions.parquet"),
    }
    for kind, again in read.items():
        assert list(again.columns) == ["film", *bundle.findings, "error"], kind
        assert again["film"].tolist() == table["film"].tolist()
        numbers = again[list(bundle.findings)].astype(np.float32).to_numpy()
        if kind == "json":
            np.testing.assert_allclose(numbers, table[list(bundle.findings)].to_numpy(), atol=1e-8)
        else:
            np.testing.assert_array_equal(numbers, table[list(bundle.findings)].to_numpy())
    assert len(list((tmp_path / "deep").iterdir())) == 3


def test_output_is_whole_or_not_there(bundle: Bundle, paths: list[Path], tmp_path: Path) -> None:
    table = predict_files(bundle, paths[:1])
    for name in ("predictions.txt", "predictions"):
        with pytest.raises(HilumError, match=r"out must end in \.csv, \.json or \.parquet"):
            write_predictions(table, tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(HilumError, match="is a folder"):
        check_out(tmp_path / "folder.csv")
    old = tmp_path / "old.parquet"
    old.write_text("as it was")
    table["unwritable"] = pd.Series([object()], dtype=object)
    with pytest.raises(Exception, match="object"):
        write_predictions(table, old)
    assert old.read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"folder.csv", "old.parquet"}


def test_manifest_films_are_scored_or_refused(bundle: Bundle, phantom_films: Films) -> None:
    films = phantom_films.select("val")
    table = score_films(bundle, films)
    assert table["film"].tolist() == films.table["film"].tolist()
    broken = replace(films, root=films.root / "elsewhere")
    with pytest.raises(ImageError, match=r"Find all such films with: hilum audit films\.parquet"):
        score_films(bundle, broken)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_judging_predictions_equals_judging_the_bundle(
    suffix: str, bundle: Bundle, tiny_run: Path, phantom_films: Films, tmp_path: Path
) -> None:
    tested = phantom_films.select("test")
    table = predict_files(bundle, [tested.path(row) for row in range(len(tested))][::-1])
    write_predictions(table, tmp_path / f"predictions{suffix}")
    whole = evaluate_to_folder(tiny_run, phantom_films, tmp_path / "bundle", draws=100)
    again = evaluate_to_folder(tmp_path / f"predictions{suffix}", phantom_films, tmp_path / "file", draws=100)
    assert again["mean"] == whole["mean"]
    assert again["findings"] == whole["findings"]
    assert whole["mean"]["auroc"]["value"] is not None
