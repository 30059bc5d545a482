import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.data.images import Preprocessing
from hilum.errors import BundleError, HilumError
from hilum.model.bundle import load_bundle
from hilum.model.engines import TorchEngine, open_engine
from hilum.model.metadata import ModelDescription, read_description


def grey_films(run: Path, count: int) -> np.ndarray:
    size = read_description(run).preprocessing.size
    return np.random.default_rng(count).random((count, size, size), dtype=np.float32)


def test_torch_gives_what_the_network_gives(tiny_run: Path) -> None:
    bundle, films = load_bundle(tiny_run), grey_films(tiny_run, 3)
    engine = open_engine(tiny_run, engine="torch")
    assert (engine.name, engine.precision, engine.description) == ("torch", "fp32", bundle.description)
    found = engine.run(films)
    with torch.inference_mode():
        logits, maps = bundle.model.class_maps(torch.from_numpy(films)[:, None])
    np.testing.assert_allclose(found.logits, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.maps, maps.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.scores, bundle.description.scores(logits.numpy()), atol=1e-6)


def test_scores_are_calibrated_and_logits_are_not(tiny_run: Path) -> None:
    bundle, films = load_bundle(tiny_run), grey_films(tiny_run, 2)
    calibration = {name: (0.5 + k, -0.25 * k) for k, name in enumerate(bundle.findings)}
    plain, calibrated = (TorchEngine(b).run(films) for b in (bundle, replace(bundle, calibration=calibration)))
    assert np.array_equal(plain.logits, calibrated.logits)
    assert np.array_equal(plain.maps, calibrated.maps)
    for k, (slope, intercept) in enumerate(calibration.values()):
        expected = 1 / (1 + np.exp(-(slope * plain.logits[:, k].astype(np.float64) + intercept)))
        np.testing.assert_allclose(calibrated.scores[:, k], expected, rtol=1e-5)


def test_bf16_is_near_fp32(tiny_run: Path) -> None:
    films = grey_films(tiny_run, 2)
    exact, rounded = (open_engine(tiny_run, engine="torch", precision=p).run(films) for p in ("fp32", "bf16"))
    assert 0 < np.abs(exact.logits - rounded.logits).max() < 0.1
    assert rounded.scores.dtype == rounded.maps.dtype == np.float32


def test_scores_of_extreme_logits_are_finite() -> None:
    description = ModelDescription(("Mass",), Preprocessing(64), {"Mass": (0.0, 1.0)}, None, None)
    logits = np.array([[-1e4], [-20.0], [0.0], [20.0], [1e4]], dtype=np.float32)
    np.testing.assert_allclose(description.scores(logits)[:, 0], [0, 2.0611537e-9, 0.5, 1, 1], rtol=1e-6)


def test_torch_has_no_int8_and_a_wrong_folder_is_named(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(HilumError, match="fp32 or bf16 for torch, got int8"):
        open_engine(tiny_run, engine="torch", precision="int8")
    with pytest.raises(BundleError, match="there is no"):
        open_engine(tmp_path)


def test_a_description_is_read_without_torch(tiny_run: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import hilum.model.engines; "
        "from hilum.model.metadata import read_description; "
        f"print(read_description(Path({str(tiny_run)!r})).preprocessing.size); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("64\n", "")
