import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from commands import Hilum, Said

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker for each core; before torch is imported
    for package in (
        *("pytorch_lightning", "torchvision", "pandas", "pyarrow.parquet", "sklearn.metrics"),
        *("matplotlib.pyplot", "scipy.stats", "scipy.sparse", "pydantic", "jinja2", "typer", "beartype.claw"),
        *("nncf", "openvino", "timm", "highdicom", "pynetdicom", "dicomweb_client", "playwright.sync_api"),
        *("fastapi", "python_multipart", "uvicorn", "httpx2"),
    ):
        with contextlib.suppress(ImportError):  # of extras
            importlib.import_module(package)  # in hilum, jaxtyping's hook would compile all of it again

if TYPE_CHECKING:
    from hilum.data.films import Films

hypothesis.settings.register_profile("hilum", deadline=None)  # a busy machine is no fault of the code
hypothesis.settings.load_profile("hilum")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: a worker that took one of them last would work on alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real films, which no user's machine has and this repository does not carry."""
    folder = Path(os.environ.get("HILUM_REAL_DATA", REPOSITORY.parent / "shared"))
    if not (folder / "nih" / "films.csv").is_file():
        pytest.skip(f"no real films in {folder}: set HILUM_REAL_DATA to a folder with nih/films.csv")
    return folder


TINY = """
extends = "demo"
name = "tiny"
about = "The smallest network that can be trained: for tests."

[architecture]
block_layers = [1, 1, 1, 1]
growth = 16
stem = 16
reduction = 4

[preprocessing]
size = 64

[training]
batch = 8
epochs = 3
precision = "fp32"
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains in a fraction of a second."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def phantom_layout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Sixty phantom films of 64 px in the layout of a source, drawn when they are asked for; read only."""
    from hilum.phantom.dataset import write_phantom

    @cache
    def folder(source: str) -> Path:
        path = tmp_path_factory.mktemp("layouts") / source
        write_phantom(path, films=60, size=64, layout=source)
        return path

    return folder


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty phantom films of 64 px in NIH's layout; read only."""
    from hilum.phantom.dataset import write_phantom  # not above: jaxtyping checks what is imported after it

    folder = tmp_path_factory.mktemp("source") / "phantom"
    write_phantom(folder, films=60, size=64, seed=3)
    return folder


@pytest.fixture(scope="session")
def films_file(phantom_folder: Path) -> Path:
    """The manifest of the phantom films, split by patient; read only."""
    from hilum.data.films import write_films
    from hilum.data.sources.nih import index_nih

    path = phantom_folder.parent / "films.parquet"
    write_films(index_nih(phantom_folder).split("patient", fractions=(0.5, 0.2, 0.3)), path)
    return path


@pytest.fixture(scope="session")
def phantom_films(films_file: Path) -> "Films":
    """The phantom films themselves."""
    from hilum.data.films import read_films

    return read_films(films_file)


@pytest.fixture(scope="session")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all tests pack the phantom films."""
    return tmp_path_factory.mktemp("packs")


@pytest.fixture(scope="session")
def tiny_run(tiny: Path, phantom_films: "Films", packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a tiny training; read only."""
    from hilum.recipe import load_recipe
    from hilum.training.train import train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(load_recipe(tiny), phantom_films, out, packs=packs, bar=False)
    return out


@pytest.fixture(scope="session")
def untrained_run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose network was never trained, without quality check, thresholds and calibration: noise."""
    from hilum.findings import CHESTXRAY14
    from hilum.model.bundle import Bundle, save_bundle
    from hilum.nn.build import build
    from hilum.recipe import load_recipe

    recipe = load_recipe(tiny)
    bundle = Bundle(
        model=build(recipe.architecture, findings=len(CHESTXRAY14), channels=recipe.preprocessing.channels).eval(),
        findings=CHESTXRAY14,
        recipe=recipe,
        films="none",
        heatmap_logits=dict.fromkeys(CHESTXRAY14, (0.0, 1.0)),
        thresholds=None,
        calibration=None,
        calibration_set=None,
        quality_check=None,
        training={},
    )
    out = tmp_path_factory.mktemp("untrained") / "run"
    save_bundle(bundle, out)
    return out


@pytest.fixture
def hilum(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Hilum:
    """Run a command as the shell would, but in this process."""

    from hilum.cli import main

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["hilum", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return Said(ended.value.code or 0, said.out, said.err)

    return run
