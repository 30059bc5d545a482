"""Models of a node: copied, verified, switched whole, and gone back to by name."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_node import configured

from hilum.errors import BundleError, HilumError
from hilum.model.bundle import load_bundle, save_bundle
from hilum.model.engines import file_sha256, read_choice
from hilum.pacs.config import NodeConfig
from hilum.pacs.models import Models
from hilum.pacs.queue import Places


@pytest.fixture
def config(untrained_run: Path, tmp_path: Path) -> NodeConfig:
    shutil.copytree(untrained_run, tmp_path / "model")
    return configured(tmp_path, port=11112, pacs=4242)


@pytest.fixture
def models(config: NodeConfig) -> Models:
    models = Models(Places(config.store.folder).models)
    models.load(config)
    return models


def change(run: Path) -> None:
    """Another model in the same folder: one weight differs."""
    import torch

    bundle = load_bundle(run)
    with torch.no_grad():
        next(bundle.model.parameters()).add_(0.01)
    save_bundle(replace(bundle, films="other"), run)


def test_a_model_is_switched_whole_and_gone_back_to(config: NodeConfig, models: Models) -> None:
    first = models.loaded["main"]
    assert first.name == f"{file_sha256(config.model.run / 'bundle.json')[:12]}-torch-fp32"
    assert first.results.engine == "torch fp32"
    change(config.model.run)
    assert models.loaded["main"] is first  # nothing happens by itself
    (said,) = models.load(config)
    second = models.loaded["main"]
    assert said == f"main is {second.name}, was {first.name}"
    assert first.results.identity != second.results.identity
    assert {one.name for one in models.kept()} == {first.name, second.name}
    models.load(config, to={"main": first.name})
    assert models.loaded["main"].name == first.name
    again = Models(config.store.folder / "models")  # the next start
    again.load(config)
    assert again.loaded["main"].name == first.name
    again.load(config, to={})
    assert again.loaded["main"].name == second.name
    with pytest.raises(HilumError, match="model must be one that the node keeps"):
        again.load(config, to={"main": "../../etc"})
    with pytest.raises(HilumError, match="route must be one of main"):
        again.load(config, to={"other": first.name})


@pytest.mark.parametrize("fault", ["cut", "overwritten", "gone", "half new"])
def test_a_faulty_model_changes_nothing(config: NodeConfig, models: Models, tmp_path: Path, fault: str) -> None:
    first, weights = models.loaded["main"], config.model.run / "weights.safetensors"
    content = weights.read_bytes()
    if fault == "cut":
        weights.write_bytes(content[:1000])
    elif fault == "overwritten":
        weights.write_bytes(bytes(len(content)))
    elif fault == "gone":
        weights.unlink()
    else:
        change(config.model.run)
        weights.write_bytes(content)
    with pytest.raises(BundleError):
        models.load(config)
    assert models.loaded["main"] is first
    assert [one.name for one in models.kept()] == [first.name]
    if fault != "half new":  # bundle.json still names the same model
        Models(config.store.folder / "models").load(config, to={"main": first.name})


def test_routes_choose_by_sender_station_and_study(config: NodeConfig, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "bedside", "run": config.model.run, "calling": "PORT*"},
        {"name": "thorax", "run": config.model.run, "station": "room?", "study": "*thorax*", "heatmaps": 1},
    ]
    routed = NodeConfig.model_validate({**config.model_dump(), "route": rows})
    models = Models(Places(config.store.folder).models)
    models.load(routed)

    def chosen(calling: str, station: str = "", study: str = "") -> int:
        one = models.choose(calling=calling, station=station, study=study)
        return [id(loaded) for loaded in models.loaded.values()].index(id(one))

    assert chosen("PORTABLE2") == 0
    assert chosen("FIX", "ROOM7", "Rx Thorax 2 E") == 1
    assert chosen("FIX", "ROOM77", "Rx Thorax 2 E") == chosen("FIX") == 2


def test_the_engine_is_written_down_in_the_node_s_folder(config: NodeConfig, models: Models) -> None:
    digest = file_sha256(config.model.run / "bundle.json")
    written = read_choice(config.store.folder / "models" / "engines" / f"{digest[:32]}.json", digest)
    assert written is not None
    assert written[:2] == ("torch", "fp32")
