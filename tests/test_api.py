"""The front door in Python beside the commands that do the same."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Hilum
from graphs import traced_once
from PIL import Image

import hilum as front
from hilum.errors import BundleError, FilmsError, HilumError, ImageError, PredictionsError, RecipeError
from hilum.metrics.bootstrap import estimate_json


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> front.Model:
    return front.load(str(tiny_run))


@pytest.fixture
def film(phantom_films: front.Films) -> Path:
    return phantom_films.path(0)


def command(hilum: Hilum, run: Path, *arguments: object) -> list[dict[str, Any]]:
    """What `hilum predict` writes, with every digit."""
    said = hilum("predict", run, *arguments, "--json")
    assert said.code == 0, said.err
    return list(json.loads(said.out))


def same(result: front.Result, row: dict[str, Any]) -> None:
    """To the bit: nine digits tell every float32."""
    assert {name: np.float32(score) for name, score in result.scores.items()} == {
        name: np.float32(row[name]) for name in result.findings
    }


def grey(depth: type, size: int = 100) -> np.ndarray:
    return np.random.default_rng(5).integers(0, np.iinfo(depth).max, (size, size + 20), endpoint=True).astype(depth)


def test_import_is_light_and_lists_what_there_is() -> None:
    code = (
        "import sys, hilum; assert {'load', 'train', 'evaluate', 'Films'} <= set(dir(hilum)); "
        "assert not {'numpy', 'pandas', 'torch', 'typing', 'hilum.api'} & set(sys.modules) - before; print(hilum.load)"
    )
    code = f"import sys; before = set(sys.modules); {code}"
    assert "function load" in subprocess.check_output([sys.executable, "-c", code], text=True)
    with pytest.raises(AttributeError, match="nothing_such"):
        front.nothing_such  # noqa: B018


def test_a_model_says_what_it_is(model: front.Model, tiny_run: Path) -> None:
    assert (model.name, model.size, len(model.findings), model.calibrated) == ("tiny", 64, 14, True)
    assert "youden" in model.operating_points
    assert set(model.thresholds("youden")) == set(model.findings)
    assert (model.engine, model.precision, model.run) == ("torch", "fp32", tiny_run)
    for word in ("tiny", "14 findings", "64 px", "torch fp32", "calibrated", "youden"):
        assert word in repr(model)


def test_scores_are_the_command_s(model: front.Model, tiny_run: Path, film: Path, hilum: Hilum) -> None:
    (row,) = command(hilum, tiny_run, film, "--calls", "youden")
    result = model.predict(str(film))
    same(result, row)
    same(model.predict(film), row)
    assert result.calls("youden") == {name: row[f"call_{name}"] for name in model.findings}
    assert result.quality == row["fit"] != ""
    assert (result.film, result.error) == (str(film), "")
    assert result.film in repr(result)
    assert result.quality in repr(result)
    with pytest.raises(HilumError, match="operating point must be one of"):
        result.calls("sometimes")


def test_a_list_gives_a_list_and_a_stream_one_by_one(
    model: front.Model, tiny_run: Path, phantom_films: front.Films, hilum: Hilum
) -> None:
    paths = [phantom_films.path(row) for row in range(11)]
    rows = command(hilum, tiny_run, *paths)
    results = model.predict([*paths])
    assert [result.film for result in results] == [str(path) for path in paths]
    for result, row in zip(results, rows, strict=True):
        same(result, row)
    assert model.predict([]) == []

    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield paths[0]

    first = list(islice(model.stream(endless()), 3))
    assert [result.scores for result in first] == [first[0].scores] * 3
    assert taken < 500


def test_a_film_that_does_not_fit_has_no_verdict(model: front.Model, film: Path) -> None:
    turned = 255 - np.asarray(Image.open(film).convert("L"))
    result = model.predict(turned)
    assert (result.fits, result.forced, result.error) == (False, False, "")
    assert result.quality.startswith("inverted")
    assert all(np.isnan(score) for score in result.scores.values())
    assert set(result.calls("youden").values()) == {""}
    assert "not analysed; input quality: inverted" in repr(result)
    with pytest.raises(ImageError, match=r"film must fit the model to have heatmaps, got inverted: .*force=True"):
        result.heatmap("Mass")
    (forced,) = model.predict([turned], force=True)
    assert (forced.fits, forced.forced) == (False, True)
    assert not any(np.isnan(score) for score in forced.scores.values())
    assert forced.heatmap("Mass").note == "Forced: the film does not fit the model (inverted)"
    assert model.predict(film).fits


@pytest.mark.parametrize("kind", ["grey 8", "grey 16", "rgb", "rgba", "jpeg"])
def test_a_film_in_memory_scores_as_its_file(
    model: front.Model, tiny_run: Path, tmp_path: Path, hilum: Hilum, kind: str
) -> None:
    pixels = grey(np.uint16 if kind == "grey 16" else np.uint8)
    if kind.startswith("rgb"):
        pixels = np.stack([pixels, pixels // 2, 255 - pixels], axis=-1)
    if kind == "rgba":
        pixels = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, dtype=np.uint8)], axis=-1)
    path = tmp_path / ("film.jpg" if kind == "jpeg" else "film.png")
    Image.fromarray(pixels).save(path)
    (row,) = command(hilum, tiny_run, path, "--force")
    with Image.open(path) as image:
        same(model.predict(image, force=True), row)
    same(model.predict(path.read_bytes(), force=True), row)
    same(model.predict(path, force=True), row)
    if kind != "jpeg":
        same(model.predict(pixels, force=True), row)
        same(model.predict([pixels], force=True)[0], row)
    if kind == "grey 16":
        same(model.predict(pixels.astype(">u2"), force=True), row)


def test_floats_are_films_from_black_to_white(model: front.Model) -> None:
    pixels = grey(np.uint8)
    whole, floats = model.predict(pixels, force=True), model.predict(pixels / 255, force=True)
    assert list(floats.scores.values()) == pytest.approx(list(whole.scores.values()), abs=1e-5)
    assert model.predict((pixels / 255).astype(np.float32), force=True).scores == floats.scores


def test_data_sets_score_as_their_files(model: front.Model, tiny_run: Path, tmp_path: Path, hilum: Hilum) -> None:
    pydicom = pytest.importorskip("pydicom")
    from dicom_files import header, written

    stored = grey(np.uint16) >> 4
    for syntax in ("implicit", "big endian", "deflated", "jpeg 2000 lossless"):
        path = written(tmp_path / f"{syntax}.dcm", stored, syntax, bits=12, PhotometricInterpretation="MONOCHROME1")
        (row,) = command(hilum, tiny_run, path, "--force")
        same(model.predict(pydicom.dcmread(path), force=True), row)
        same(model.predict(path.read_bytes(), force=True), row)
    with pytest.raises(ImageError, match="say its transfer syntax"):
        model.predict(header(stored))
    computed_tomography = pydicom.dcmread(path)
    computed_tomography.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    with pytest.raises(ImageError, match="be a CR, DX or Secondary Capture film"):
        model.predict(computed_tomography)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((64, 64), 1.5), "floats from 0 .black. to 1 .white., got 1.5 to 1.5"),
        (np.full((64, 64), -0.5, dtype=np.float32), "got -0.5 to -0.5"),
        (np.full((64, 64), np.nan), "got NaN"),
        (np.zeros((64, 64), dtype=np.int32), "uint8, uint16, or floats in .0, 1., got int32"),
        (np.zeros((64, 64), dtype=bool), "got bool"),
        (np.zeros(64, dtype=np.uint8), r"height x width, or height x width x 3 for RGB, got uint8 of shape \(64,\)"),
        (np.zeros((1, 64, 64), dtype=np.uint8), r"got uint8 of shape \(1, 64, 64\)"),
        (np.zeros((2, 64, 64, 3), dtype=np.uint8), "without a batch dimension"),
        (np.zeros((64, 64, 3), dtype=np.uint16), "be uint8 if it is in colour"),
        (np.zeros((64, 64, 4), dtype=np.uint8), "be opaque"),
        (np.zeros((8, 64), dtype=np.uint8), "pixels a side"),
        (np.zeros((0, 64)), "pixels a side"),
    ],
)
def test_arrays_that_are_no_films_are_refused(model: front.Model, array: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        model.predict(array)


def test_bad_films_are_named(model: front.Model, tiny_run: Path, film: Path, tmp_path: Path, hilum: Hilum) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(film.read_bytes()[:500])
    said = hilum("predict", tiny_run, bad, "--json")
    sentence = json.loads(said.out)[0]["error"]
    with pytest.raises(ImageError) as raised:
        model.predict(bad)
    assert str(raised.value) == sentence
    with pytest.raises(ImageError) as raised:
        model.predict([film, bad, film])
    assert str(raised.value) == f"films[1]: {sentence}"
    good, kept, last = model.predict([film, bad, film], errors="keep")
    assert (kept.error, good.error, last.error) == (sentence, "", "")
    assert np.isnan(list(kept.scores.values())).all()
    assert set(kept.calls("youden").values()) == {""}
    assert sentence in repr(kept)
    with pytest.raises(ImageError, match="complete PNG"):
        kept.heatmap("Mass")
    with pytest.raises(ImageError, match=r"got nothing in 'none\.png'"):
        model.predict("none.png")
    with pytest.raises(ImageError, match="be grey or RGB"):
        model.predict(Image.new("CMYK", (64, 64)))


SLIPS = """
import sys, hilum
model, film = hilum.load(sys.argv[1]), sys.argv[2]
for slip in (
    lambda: model.predict([film, {}]),
    lambda: model.predict(None),
    lambda: model.predict(film, errors="never"),
    lambda: hilum.load(sys.argv[1], engine="tensorflow"),
    lambda: hilum.evaluate([[0.5]], [[1]], patients=[1]),
):
    try:
        slip()
    except (TypeError, ValueError) as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_slips_are_named(untrained_run: Path, film: Path) -> None:
    """In a process of its own: in this one, the types are checked before the functions run."""
    said = subprocess.check_output([sys.executable, "-c", SLIPS, untrained_run, film], text=True).splitlines()
    kinds = "a path, bytes, an image of Pillow's, a NumPy array or a pydicom data set"
    assert said == [
        f"TypeError films[1] must be {kinds}, got dict",
        f"TypeError film must be {kinds}, got NoneType",
        "ValueError errors must be one of raise, keep, got 'never'",
        "ValueError engine must be one of auto, torch, onnx, openvino, got 'tensorflow'",
        "TypeError scores and labels must be two arrays or two data frames, got list and list",
    ]


def test_models_and_findings_that_are_not_there_are_named(model: front.Model, film: Path) -> None:
    with pytest.raises(ValueError, match="finding must be one of Atelectasis"):
        model.predict(film).heatmap("Masss")
    with pytest.raises(BundleError, match=r"there is no .*bundle\.json"):
        front.load("nowhere")


def test_calls_need_thresholds(untrained_run: Path, film: Path) -> None:
    untrained = front.load(untrained_run)
    assert untrained.operating_points == ()
    result = untrained.predict(film)
    assert result.quality == ""
    assert "not checked" in repr(result)
    with pytest.raises(HilumError, match=r"calls must come from thresholds.* hilum calibrate"):
        result.calls("youden")


def test_logits_become_scores(untrained_run: Path, film: Path) -> None:
    result = front.load(untrained_run).predict(film)
    logits = np.array(list(result.logits.values()))
    assert 1 / (1 + np.exp(-logits)) == pytest.approx(np.array(list(result.scores.values())), abs=1e-6)


def test_heatmaps_are_the_command_s(
    model: front.Model, tiny_run: Path, film: Path, tmp_path: Path, hilum: Hilum
) -> None:
    command(hilum, tiny_run, film, "--heatmaps", tmp_path / "there")
    (written, *_) = sorted((tmp_path / "there").iterdir())
    finding = written.name.split(".")[-2]
    heatmap = model.predict(film).heatmap(finding)
    heatmap.save(str(tmp_path / "here.png"))
    assert (tmp_path / "here.png").read_bytes() == written.read_bytes()
    with Image.open(written) as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(heatmap.image))
    assert heatmap.strength.ndim == 2
    assert 0 <= heatmap.strength.min() <= heatmap.strength.max() <= 1
    assert finding in repr(heatmap)
    assert heatmap._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(HilumError, match=r"heatmap must be written as \.png"):
        heatmap.save("mass.jpg")


WITHOUT_TORCH = """
import sys
class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name=name)

sys.meta_path.insert(0, Absent)
import hilum
model = hilum.load(sys.argv[1])
assert (model.engine, model.name) == (sys.argv[2], sys.argv[3]), model
one, two = model.predict([sys.argv[4], sys.argv[4]])
assert one.scores == two.scores
print(*model.predict(sys.argv[4]).scores.values())
one.heatmap("Mass").save(sys.argv[5])
assert not {"pandas", "scipy.stats", "torch"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def graphs() -> Iterator[None]:
    with traced_once():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_exports_work_without_torch(untrained_run: Path, film: Path, tmp_path: Path, hilum: Hilum, engine: str) -> None:
    pytest.importorskip("openvino" if engine == "openvino" else "onnxruntime")
    from hilum.model.export import export_bundle

    made = export_bundle(untrained_run, engine, out=tmp_path / "exported", say=print)  # type: ignore[arg-type]
    (row,) = command(hilum, made.folder, film)
    picture = tmp_path / "mass.png"
    words = [str(made.folder), engine, "exported", str(film), str(picture)]
    said = subprocess.check_output([sys.executable, "-c", WITHOUT_TORCH, *words], text=True)
    assert [np.float32(number) for number in said.split()] == [np.float32(row[name]) for name in list(row)[1:]]
    assert picture.is_file()


# --- films


def table(films: front.Films) -> pd.DataFrame:
    """What a user has: paths, patients, labels of a vocabulary of their own."""
    return pd.DataFrame(
        {
            "path": [str(films.path(row)) for row in range(len(films))],
            "patient": range(1000, 1000 + len(films)),
            "Tuberculosis": [row % 2 for row in range(len(films))],
            "hospital": "ours",
        }
    )


def test_films_come_from_a_frame(phantom_films: front.Films, tmp_path: Path) -> None:
    films = front.Films.from_frame(table(phantom_films), root=str(phantom_films.root), findings=["Tuberculosis"])
    assert films.findings == ("Tuberculosis",)
    assert films.path(3) == phantom_films.path(3)
    first = films.table.iloc[0]
    assert first["patient"] == "1000"
    assert first["film"] == first["path"] == first["study"]
    assert (first["view"], first["sex"], first["source"]) == ("unknown", "unknown", "frame")
    assert films.table["split"].isna().all()
    split = films.split("patient", seed=1)
    split.write(str(tmp_path / "films.parquet"))
    again = front.Films.read(str(tmp_path / "films.parquet"))
    assert again.fingerprint() == split.fingerprint()
    assert list(again.table.columns) == list(split.table.columns)
    with pytest.raises(FilmsError, match="films must be split"):
        films.select("test")


def test_a_frame_may_say_more(phantom_films: front.Films) -> None:
    unknown: Any = None
    frame = table(phantom_films).assign(
        film=[f"film-{row}" for row in range(len(phantom_films))],
        view=["PA", unknown] * 30,
        sex="F",
        age=[30, unknown] * 30,
        split=["train", "val", "test", unknown] * 15,
        patient=[1.0, np.nan, *range(2, 60)],
    )
    with pytest.raises(FilmsError, match=r"patient must be text that is not empty, got (None|nan) in the frame, row 2"):
        front.Films.from_frame(frame, root=phantom_films.root, findings=["Tuberculosis"])
    frame["patient"] = frame["patient"].fillna(7)
    films = front.Films.from_frame(frame, root=phantom_films.root, findings=["Tuberculosis"])
    assert films.table["patient"].iloc[1] == "7"
    assert films.table["view"].tolist()[:2] == ["PA", "unknown"]
    assert len(films.select("val")) == 15
    assert films.table["split"].isna().sum() == 15


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("path", "../secret.png", "path must be relative to the manifest's root.* row 3, film"),
        ("path", "gone.png", "path must name a file below .* got 'gone.png' in the frame, row 3"),
        ("path", None, "path must be text that is not empty, got (None|nan) in the frame, row 3"),
        (
            "Tuberculosis",
            2,
            r"Tuberculosis must be 0 \(absent\), 1 \(present\), -1 \(uncertain\) or NaN.* got .*2.0.* row 3",
        ),
        ("Tuberculosis", "yes", "Tuberculosis must be a number or NaN, got 'yes' in the frame, row 3"),
        ("view", "oblique", "view must be one of PA.* got 'oblique' in the frame, row 3"),
        ("patient", "", "patient must be text that is not empty.* row 3"),
    ],
)
def test_faults_of_a_frame_are_named(phantom_films: front.Films, column: str, value: object, words: str) -> None:
    frame = table(phantom_films).assign(view="PA").astype({"Tuberculosis": object, "patient": object})
    values: list[Any] = frame[column].tolist()
    values[2] = value
    frame[column] = values
    with pytest.raises(FilmsError, match=words) as raised:
        front.Films.from_frame(frame, root=phantom_films.root, findings=["Tuberculosis"])
    assert "hilum index" not in str(raised.value)


def test_a_frame_lacks_nothing(phantom_films: front.Films) -> None:
    frame = table(phantom_films)
    with pytest.raises(FilmsError, match="got no column 'Fracture' in the frame"):
        front.Films.from_frame(frame, root=".", findings=["Tuberculosis", "Fracture"])
    with pytest.raises(FilmsError, match="got no column 'patient' in the frame"):
        front.Films.from_frame(frame.drop(columns="patient"), root=".", findings=["Tuberculosis"])
    with pytest.raises(FilmsError, match="findings must be a list of names"):
        front.Films.from_frame(frame, root=".", findings="Tuberculosis")


# --- train


@pytest.mark.slow
def test_train_is_the_command_s(
    phantom_films: front.Films, films_file: Path, tiny: Path, tiny_run: Path, packs: Path, tmp_path: Path, film: Path
) -> None:
    from hilum.recipe import load_recipe

    trained = front.train(phantom_films, recipe=str(tiny), out=str(tmp_path / "run"), packs=packs, bar=False)
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (tiny_run / "weights.safetensors").read_bytes()
    assert isinstance(trained, front.Model)
    changes = {"training.epochs": 1, "training.precision": "fp32", "training.ema_decay": None, "optimizer.lr": 1e-5}
    other = front.train(films_file, load_recipe(tiny), tmp_path / "other", changes=changes, packs=packs, bar=False)
    recipe = json.loads((other.run / "bundle.json").read_text())["recipe"]
    assert (recipe["training"]["epochs"], recipe["optimizer"]["lr"]) == (1, 1e-5)
    with pytest.raises(RecipeError, match="out must be a new or empty folder"):
        front.train(phantom_films, tiny, tmp_path / "run", packs=packs)
    with pytest.raises(RecipeError, match=r"recipe must be a TOML file or one of"):
        front.train(phantom_films, "nothing", tmp_path / "new", packs=packs)
    with pytest.raises(RecipeError, match=r"training\.epoch"):
        front.train(phantom_films, tiny, tmp_path / "new", changes={"training.epoch": 1}, packs=packs)


# --- evaluate


@pytest.fixture(scope="module")
def scores(phantom_films: front.Films) -> pd.DataFrame:
    """Scores of all films that know a little."""
    noise = np.random.default_rng(0)
    labels = np.nan_to_num(phantom_films.all_labels.astype(np.float64))
    numbers = 1 / (1 + np.exp(noise.normal(0, 1, labels.shape) - labels))
    found = pd.DataFrame(numbers, columns=list(phantom_films.findings))
    found.insert(0, "film", phantom_films.table["film"].to_numpy())
    return found


def test_evaluate_has_the_command_s_numbers(
    phantom_films: front.Films, films_file: Path, scores: pd.DataFrame, tmp_path: Path, hilum: Hilum
) -> None:
    scores.to_csv(tmp_path / "theirs.csv", index=False)
    words = ("--films", films_file, "--out", tmp_path / "there", "--draws", 100, "--json")
    said = hilum("evaluate", tmp_path / "theirs.csv", *words)
    theirs = json.loads(said.out)
    assert said.code == 0

    whole = front.evaluate(scores, phantom_films, name="theirs.csv", bootstrap_samples=100)
    assert whole.content == theirs
    whole.save(str(tmp_path / "here"))
    for name in ("report.json", "report.html", "predictions.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name

    tested = phantom_films.select("test").table
    ours = scores.set_index("film").loc[tested["film"]]
    labels = tested.set_index("film")[list(phantom_films.findings)]
    arrays = front.evaluate(
        ours.to_numpy(),
        labels.to_numpy(),
        patients=tested["patient"],
        findings=phantom_films.findings,
        bootstrap_samples=100,
    )
    shuffled = labels.sample(frac=1, random_state=1)
    frames = front.evaluate(
        ours.reset_index(),
        shuffled,
        patients=tested.set_index("film")["patient"].loc[shuffled.index],
        bootstrap_samples=100,
    )
    columns = front.evaluate(scores[scores["film"].isin(tested["film"])], tested, bootstrap_samples=100)
    for report in (arrays, frames, columns):
        assert report.content["mean"] == theirs["mean"]
        assert report.content["findings"] == theirs["findings"]
        assert report.content["patients"] == theirs["patients"]
    assert columns.content["subgroups"] == theirs["subgroups"]
    for finding, told in theirs["findings"].items():
        assert estimate_json(arrays.auroc[finding]) == told["auroc"]
        assert estimate_json(arrays.average_precision[finding]) == told["average_precision"]
    assert arrays.auroc["Mass"].why.startswith("too few patients")  # of 18 films
    assert estimate_json(arrays.mean_auroc) == theirs["mean"]["auroc"]
    assert f"{arrays.mean_auroc.value:.3f}" in repr(arrays)


def test_films_are_never_silently_patients() -> None:
    noise = np.random.default_rng(0)
    numbers, labels = noise.random((40, 1)), noise.integers(0, 2, (40, 1)).astype(float)
    with pytest.raises(ValueError, match="patients must say whose film each row of labels is, got None"):
        front.evaluate(numbers, labels, findings=["Tuberculosis"])
    report = front.evaluate(numbers, labels, patients="film", findings=["Tuberculosis"], bootstrap_samples=100)
    assert report.content["patients"] == 40
    assert any("too narrow" in note for note in report.notes)
    labels[:7] = np.nan
    unknown = front.evaluate(
        numbers, labels, patients=[k // 2 for k in range(40)], findings=["Tuberculosis"], bootstrap_samples=100
    )
    assert unknown.content["findings"]["Tuberculosis"]["films"] == 33
    assert not any("too narrow" in note for note in unknown.notes)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"findings": None}, ValueError, "findings must be the names of the 2 columns, got none"),
        ({"findings": ["Mass"]}, ValueError, "got 1"),
        ({"findings": "Mass"}, TypeError, "findings must be a list of names"),
        ({"patients": [1, 2, 3]}, ValueError, "one for each of the 30 rows of labels, got 3"),
        ({"labels": np.zeros((30, 3))}, ValueError, r"of one shape, got \(30, 2\) and \(30, 3\)"),
        ({"labels": np.full((30, 2), 0.5)}, FilmsError, r"Mass must be 0 .* row 1"),
        ({"scores": np.full((30, 2), np.nan)}, PredictionsError, "scores must be finite numbers"),
        ({"labels": pd.DataFrame({"Mass": [0.0] * 30})}, TypeError, "two arrays or two data frames"),
        (
            {
                "scores": pd.DataFrame({"Lump": [0.0] * 30}),
                "labels": pd.DataFrame({"Mass": [0.0] * 30}),
                "findings": None,
            },
            ValueError,
            "must share columns, got Lump and Mass",
        ),
        (
            {
                "scores": pd.DataFrame({"Mass": [0.0] * 29}),
                "labels": pd.DataFrame({"Mass": [0.0] * 30}),
                "findings": None,
            },
            PredictionsError,
            "scores must cover every film",
        ),
        (
            {
                "scores": pd.DataFrame({"Mass": [0.0] * 31}),
                "labels": pd.DataFrame({"Mass": [0.0] * 30}),
                "findings": None,
            },
            PredictionsError,
            "got '30'",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_named(change: dict[str, Any], error: type[Exception], words: str) -> None:
    given: dict[str, Any] = {
        "scores": np.random.default_rng(0).random((30, 2)),
        "labels": np.zeros((30, 2)),
        "patients": list(range(30)),
        "findings": ["Mass", "Nodule"],
        **change,
    }
    with pytest.raises(error, match=words):
        front.evaluate(given.pop("scores"), given.pop("labels"), **given, bootstrap_samples=100)
