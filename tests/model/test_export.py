"""Exported models against torch: the same numbers, from verified files, without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graphs import traced_once

from hilum.errors import BundleError, HilumError, MissingExtraError
from hilum.model.bundle import Bundle, load_bundle, save_bundle
from hilum.model.engines import (
    Engine,
    TorchEngine,
    file_sha256,
    open_engine,
    open_exported,
    read_choice,
    read_exported,
    write_choice,
)
from hilum.model.export import export_bundle, write_onnx
from hilum.nn.build import build
from hilum.recipe import load_recipe

pytestmark = pytest.mark.slow  # they export
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")


def silent(message: str) -> None:
    pytest.fail(f"nothing must be said, got {message}")


def grey(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, size, size), dtype=np.float32)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "export.json"
    fields = json.loads(path.read_text())
    edit(fields)
    path.write_text(json.dumps(fields))


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained bundle with a calibration, exported to ONNX and to OpenVINO; read only."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    bundle = load_bundle(tiny_run)
    calibration = {name: (0.5 + 0.1 * k, -0.2 * k) for k, name in enumerate(bundle.findings)}
    save_bundle(replace(bundle, calibration=calibration, thresholds=None), folder)
    with traced_once():
        export_bundle(folder, "onnx", say=silent)
        export_bundle(folder, "openvino", say=silent)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    import shutil

    return Path(shutil.copytree(run, tmp_path / "run"))


def check_parity(engine: Engine, bundle: Bundle, counts: tuple[int, ...] = (1, 2, 7)) -> None:
    torch_engine = TorchEngine(bundle)
    for count in counts:
        films = grey(count, bundle.preprocessing.size)
        expected, found = torch_engine.run(films), engine.run(films)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.maps, expected.maps, rtol=0, atol=1e-3)
        assert found.scores.dtype == found.logits.dtype == found.maps.dtype == np.float32


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("films", [1, None])
def test_engines_give_torchs_numbers(run: Path, engine: Any, films: int | None) -> None:
    bundle = load_bundle(run)
    opened = open_engine(run, engine=engine, films=films)
    assert (opened.name, opened.precision, opened.description) == (engine, "fp32", bundle.description)
    check_parity(opened, bundle)


def test_one_graph_takes_films_of_every_shape_and_depth(run: Path) -> None:
    import onnxruntime
    import openvino

    bundle = load_bundle(run)
    session = onnxruntime.InferenceSession(run / "onnx-fp32" / "weights.onnx")
    compiled = openvino.Core().compile_model(
        run / "openvino-fp32" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    generator = np.random.default_rng(0)
    for count, height, width in ((1, 64, 64), (2, 200, 333), (7, 40, 50), (1, 1024, 1000), (2, 30, 200)):
        films: list[np.ndarray] = [generator.integers(0, 256, (height, width), dtype=np.uint8) for _ in range(count)]
        films[1::2] = [film.astype(np.uint16) * 200 for film in films[1::2]]
        seen = np.concatenate([bundle.preprocessing.apply(film) for film in films])
        expected = TorchEngine(bundle).run(seen)
        feed = {
            "pixels": np.stack([film.astype(np.float32) for film in films]),
            "full_scale": np.array([np.iinfo(film.dtype).max for film in films], dtype=np.float32),
        }
        for answer in (
            dict(zip(["logits", "film"], session.run(["logits", "film"], feed), strict=True)),
            compiled(feed),
        ):
            np.testing.assert_allclose(answer["film"], seen, rtol=0, atol=1e-6)
            np.testing.assert_allclose(answer["logits"], expected.logits, rtol=0, atol=1e-4)


def test_runs_of_several_threads_do_not_mix(run: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine, films = open_engine(run, engine="openvino"), grey(16, 64)
    alone = engine.run(films)
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(lambda film: engine.run(film[None]), films))
    assert np.array_equal(np.concatenate([part.logits for part in parts]), alone.logits)
    assert np.array_equal(np.concatenate([part.maps for part in parts]), alone.maps)


@pytest.mark.parametrize("folder", ["onnx-fp32", "openvino-fp32"])
def test_an_exported_folder_alone_runs_without_torch(run: Path, folder: str) -> None:
    program = (
        "import sys; from pathlib import Path; import numpy as np; from hilum.model.engines import open_engine; "
        f"engine = open_engine(Path({str(run / folder)!r}), films=1); "
        "answer = engine.run(np.zeros((1, 64, 64), np.float32)); "
        "print(engine.name, len(engine.description.findings), answer.maps.shape); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{folder.split('-')[0]} 14 (1, 14, 2, 2)\n", "")


def test_auto_takes_what_was_exported_else_torch(copy: Path) -> None:
    assert open_engine(copy).name in ("openvino", "onnx")  # whichever was faster when the second was exported
    (copy / "engine.json").unlink()  # a stopwatch's word, which a busy machine changes
    assert open_engine(copy, films=5).name == "openvino"
    assert open_engine(copy, precision="fp32", films=1).name == "openvino"
    assert open_engine(copy, precision="bf16").name == "torch"
    change(copy / "openvino-fp32", lambda fields: fields.update(accuracy=LOSS))
    assert open_engine(copy, films=1).name == "onnx"  # a loss that was accepted is not taken unasked
    with pytest.raises(BundleError, match="exported for openvino, but"):
        open_engine(copy, engine="openvino")
    asked = open_engine(copy, engine="openvino", precision="fp32")
    assert "changed by -0.0500, the worst finding's by -0.2000" in asked.note
    assert open_engine(copy / "openvino-fp32").note == asked.note


def test_the_engine_is_chosen_once_and_written_down(copy: Path) -> None:
    bundle = file_sha256(copy / "bundle.json")
    written = read_choice(copy / "engine.json", bundle)
    assert written is not None
    assert set(written.films_per_second) == {"openvino-fp32", "onnx-fp32"}
    for engine in ("onnx", "openvino"):
        write_choice(copy / "engine.json", written._replace(engine=engine), bundle)
        assert {open_engine(copy).name for _ in range(3)} == {engine}
    write_choice(copy / "engine.json", written._replace(engine="onnx"), "of another bundle")
    assert open_engine(copy).name == "openvino"
    (copy / "engine.json").write_text('{"format": 1}')
    assert open_engine(copy).name == "openvino"


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_files_that_are_overwritten_under_an_engine_change_nothing(copy: Path, engine: Any) -> None:
    opened = open_engine(copy, engine=engine)
    before = opened.run(grey(2, 64))
    for path in (copy / f"{engine}-fp32").iterdir():
        with path.open("r+b") as file:  # in place, as cp does; then cut
            file.write(bytes(path.stat().st_size))
            file.truncate(100)
    np.testing.assert_array_equal(opened.run(grey(2, 64)).scores, before.scores)


LOSS = {"accepted_loss": True, "mean_change": -0.05, "worst_change": -0.2}


def test_what_is_not_exported_is_said_with_the_command(run: Path) -> None:
    with pytest.raises(
        BundleError, match=r"exported for openvino in int8.*hilum export RUN --to openvino --precision int8"
    ):
        open_engine(run, engine="openvino", precision="int8")


def test_an_engine_that_is_not_installed_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"openvino must be installed.*pip install 'hilum\[cpu\]'"):
        open_exported(read_exported(run / "openvino-fp32"), films=1)


@pytest.mark.parametrize("name", ["model.bin", "model.xml"])
def test_another_file_is_refused_by_name(copy: Path, name: str) -> None:
    path = copy / "openvino-fp32" / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} must be the file that export.json was written for"):
        open_engine(copy, engine="openvino")
    path.unlink()
    with pytest.raises(BundleError, match=f"there is no .*{name}"):
        open_engine(copy, engine="openvino")


@pytest.mark.parametrize(
    "edit",
    [
        lambda fields: fields.pop("files"),
        lambda fields: fields["files"].pop("model.bin"),
        lambda fields: fields.update(engine="../onnx"),
        lambda fields: fields.update(precision="int4"),
        lambda fields: fields.update(findings=[]),
        lambda fields: fields["calibration"].popitem(),
        lambda fields: fields.update(preprocessing={"size": 64}),
        lambda fields: fields.update(accuracy={"accepted_loss": True}),
        lambda fields: fields.update(format=2),
    ],
)
def test_a_manifest_that_is_none_is_refused(copy: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    change(copy / "openvino-fp32", edit)
    with pytest.raises(BundleError, match=r"export\.json"):
        read_exported(copy / "openvino-fp32")


def test_an_export_of_the_bundle_before_it_changed_is_refused(copy: Path) -> None:
    save_bundle(replace(load_bundle(copy), calibration=None), copy)
    for engine in ("openvino", "auto"):
        with pytest.raises(BundleError, match=r"has changed since.*hilum export .* --to openvino --precision fp32"):
            open_engine(copy, engine=engine, films=1)
    assert open_engine(copy, engine="torch").name == "torch"


def test_what_cannot_be_made_is_refused_before_any_work(tiny_run: Path, phantom_films: Any) -> None:
    with pytest.raises(HilumError, match=r"precision must be fp32 for onnx, got int8\. Use --to openvino"):
        export_bundle(tiny_run, "onnx", precision="int8", films=phantom_films, say=silent)
    with pytest.raises(HilumError, match="films must be given for int8"):
        export_bundle(tiny_run, "openvino", precision="int8", say=silent)
    with pytest.raises(HilumError, match="films must be given for int8 alone, got them for bf16"):
        export_bundle(tiny_run, "openvino", precision="bf16", films=phantom_films, say=silent)


def test_the_command_line(tiny_run: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from hilum.cli import app

    runner = CliRunner()
    out = tmp_path / "out"
    done = runner.invoke(
        app, ["export", str(tiny_run), "--to", "openvino", "--precision", "bf16", "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"out": str(out), "engine": "openvino", "precision": "bf16", "accuracy": None}
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.bin", "model.xml"]
    exported = json.loads((out / "export.json").read_text())
    assert set(exported["versions"]) == {"hilum", "python", "torch", "onnx", "onnxscript", "openvino"}
    wrong = runner.invoke(app, ["export", str(tiny_run), "--to", "tensorrt"])
    assert isinstance(wrong.exception, HilumError)


SYSTEMS = {
    "wang-alexnet": (64, ()),
    "wang-googlenet": (64, ()),
    "wang-vgg16": (64, ("architecture.pooling=max",)),
    "chestnet": (64, ("architecture.size=64", "architecture.stage_blocks=[1,1,1,1]")),
    "dnetloc": (128, ("architecture.block_layers=[1,1,1,1]",)),
    "se-densenet": (64, ("architecture.block_layers=[1,1,1,1]", "architecture.reduction=4")),
    "am-densenet": (224, ()),  # the real one
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_gives_torchs_numbers(name: str, tmp_path: Path) -> None:
    import onnxruntime

    size, changes = SYSTEMS[name]
    recipe = load_recipe(name, [f"preprocessing.size={size}", *changes])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(recipe.architecture, findings=14, channels=recipe.preprocessing.channels)
        with torch.no_grad():
            model.train()(torch.rand(3, recipe.preprocessing.channels, size, size))  # moves the norms' statistics
    names = tuple(f"finding {k}" for k in range(14))
    bundle = Bundle(model.eval(), names, recipe, "0" * 64, dict.fromkeys(names, (0.0, 1.0)))
    write_onnx(bundle, tmp_path / "weights.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "weights.onnx")
    for count in (1, 2, 7):
        films = grey(count, size)
        expected = TorchEngine(bundle).run(films)
        feed = {"pixels": films, "full_scale": np.ones(count, dtype=np.float32)}
        scores, logits, maps = session.run(["scores", "logits", "maps"], feed)
        np.testing.assert_allclose(logits, expected.logits, rtol=0, atol=1e-4)
        np.testing.assert_allclose(scores, expected.scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(maps, expected.maps, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "channels"), [("timm:test_convnext", 3), ("timm:test_vit", 1)])
def test_a_network_of_timm_gives_torchs_numbers_for_any_number_of_films(
    network: str, channels: int, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    changes = [f"architecture.network={network}", "architecture.size=64", "preprocessing.size=64"]
    recipe = load_recipe("efficientnet-lite0", [*changes, f"preprocessing.channels={channels}"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(recipe.architecture, findings=2, channels=channels).eval()
    scale = dict.fromkeys(("Mass", "Nodule"), (0.0, 1.0))
    save_bundle(Bundle(model, ("Mass", "Nodule"), recipe, films="none", heatmap_logits=scale), tmp_path / "run")
    export_bundle(tmp_path / "run", "onnx", say=silent)
    films = grey(3, 64)
    expected = open_engine(tmp_path / "run", engine="torch", precision="fp32", films=3).run(films)
    found = open_engine(tmp_path / "run", engine="onnx", precision="fp32", films=3).run(films)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-5)
