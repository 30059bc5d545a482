"""INT8 is kept if it costs almost nothing, refused if it does not, and a loss that is accepted is said and recorded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import traced_once

from hilum.data.films import Films
from hilum.errors import HilumError
from hilum.model import quantize as quantise
from hilum.model.bundle import Bundle, load_bundle, save_bundle
from hilum.model.engines import TorchEngine, open_engine
from hilum.model.ensemble import combine
from hilum.model.export import export_bundle
from hilum.model.quantize import Accuracy, accuracy_of
from hilum.predict.scoring import score_films

pytest.importorskip("nncf")

TRUTH = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)


def test_accuracy_is_the_change_of_the_auc() -> None:
    exact = np.array([[0.1, 5], [0.2, 6], [0.3, 1], [0.4, 7]], dtype=np.float32)  # AUC 1 and 1
    other = np.array([[0.1, 5], [0.35, 6], [0.3, 5.5], [0.4, 7]], dtype=np.float32)  # AUC 3/4 and 1
    found = accuracy_of(other, exact, TRUTH, ("Mass", "Edema"))
    assert (found.films, found.mean_change, found.worst_change, found.good) == (4, -0.125, -0.25, False)
    assert found.findings["Mass"] == {"fp32": 1.0, "int8": 0.75, "positives": 2}
    assert "that of Mass from 1.0000 to 0.7500" in str(found)
    assert "4 validation films, 2 of them with Mass" in str(found)


def test_a_finding_without_an_auc_is_left_out_and_films_without_any_are_refused() -> None:
    truth = TRUTH.copy()
    truth[:, 1] = np.nan
    logits = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert list(accuracy_of(logits, logits, truth, ("Mass", "Edema")).findings) == ["Mass"]
    with pytest.raises(HilumError, match="none of the findings has both"):
        accuracy_of(logits, logits, np.zeros((4, 2), dtype=np.float32), ("Mass", "Edema"))
    with pytest.raises(HilumError, match="logits must be finite"):
        accuracy_of(np.full_like(logits, np.inf), logits, TRUTH, ("Mass", "Edema"))


@pytest.mark.parametrize(
    ("mean", "worst", "good"), [(-0.002, -0.01, True), (-0.0021, 0.0, False), (0.1, -0.0101, False), (0.1, 0.0, True)]
)
def test_the_bounds(mean: float, worst: float, good: bool) -> None:
    assert Accuracy(10, mean, worst, {}).good is good


def with_the_models_own_truth(bundle: Bundle, films: Films) -> Films:
    """Films with a finding where its score is among the highest third, without among the lowest: its AUC is 1."""
    scores = score_films(TorchEngine(bundle), films)
    table = films.table.copy()
    for name in bundle.findings:
        low, high = np.quantile(scores[name], [1 / 3, 2 / 3])
        table[name] = np.where(scores[name] > high, 1.0, np.where(scores[name] < low, 0.0, np.nan)).astype(np.float32)
    table["split"] = np.where(np.arange(len(table)) % 3 == 0, "train", "val")
    return replace(films, table=table)


def spoiled(bundle: Bundle) -> Bundle:
    """The same function in fp32, but with a channel of some layers so strong that eight bits hold no other."""
    for block in (1, 2, 3, 4):
        layer = bundle.model.get_submodule(f"features.denseblock{block}.denselayer1")
        with torch.no_grad():
            layer.norm1.weight[0] *= 1e4  # type: ignore[union-attr, index, operator]
            layer.norm1.bias[0] *= 1e4  # type: ignore[union-attr, index, operator]
            layer.conv1.weight[:, 0] /= 1e4  # type: ignore[union-attr, index, operator]
    return bundle


@pytest.mark.slow
def test_int8_is_kept_where_it_costs_nothing(tiny_run: Path, phantom_films: Films, tmp_path: Path) -> None:
    bundle, said = load_bundle(tiny_run), list[str]()
    save_bundle(bundle, tmp_path)
    films = with_the_models_own_truth(bundle, phantom_films)
    exported = export_bundle(tmp_path, "openvino", precision="int8", films=films, say=said.append)
    assert exported.accuracy is not None
    assert not exported.accuracy["accepted_loss"]
    assert len(said) == 1
    assert said[0].startswith("INT8: the mean AUC changed by")
    engine = open_engine(tmp_path, films=1)
    assert (engine.name, engine.precision, engine.note) == ("openvino", "int8", "")
    grey = np.stack([bundle.preprocessing.read(films.path(row))[0] for row in range(8)])
    exact, rounded = open_engine(tmp_path, engine="torch").run(grey), engine.run(grey)
    assert 1e-4 < np.abs(exact.logits - rounded.logits).max() < 0.5


@pytest.mark.slow
def test_an_ensemble_is_quantised_and_compared_as_one_model(
    tiny_run: Path, phantom_films: Films, tmp_path: Path
) -> None:
    second = load_bundle(tiny_run)
    with torch.no_grad():
        second.model.classifier.weight.mul_(0.5)
    save_bundle(replace(second, thresholds=None, calibration=None, calibration_set=None), tmp_path / "second")
    save_bundle(combine([tiny_run, tmp_path / "second"]), tmp_path / "both")
    bundle, said = load_bundle(tmp_path / "both"), list[str]()
    films = with_the_models_own_truth(bundle, phantom_films)
    exported = export_bundle(tmp_path / "both", "openvino", precision="int8", films=films, say=said.append)
    assert exported.accuracy is not None
    assert said[0].startswith("INT8: the mean AUC changed by")
    grey = np.stack([bundle.preprocessing.read(films.path(row))[0] for row in range(8)])
    engines = [open_engine(tmp_path / "both", engine="torch"), open_engine(tmp_path / "both", films=1)]
    assert (engines[1].name, engines[1].precision) == ("openvino", "int8")
    exact, rounded = (engine.run(grey).logits for engine in engines)
    assert 1e-4 < np.abs(exact - rounded).max() < 0.5


@pytest.mark.slow
def test_int8_is_refused_where_it_costs_much_unless_accepted(
    tiny_run: Path, phantom_films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "SEARCH_MINUTES", 0.0)
    bundle = load_bundle(tiny_run)
    films = with_the_models_own_truth(bundle, phantom_films)
    save_bundle(replace(spoiled(bundle), thresholds=None), tmp_path)  # chosen for the weights before
    said: list[str] = []
    with traced_once():
        with pytest.raises(HilumError, match=r"INT8 must keep the accuracy of fp32, but the mean AUC changed by -"):
            export_bundle(tmp_path, "openvino", precision="int8", films=films, say=said.append)
        assert not (tmp_path / "openvino-int8").exists()
        made = export_bundle(tmp_path, "openvino", precision="int8", films=films, accept_loss=True, say=said.append)
    assert said[-1].endswith("THIS LOSS WAS ACCEPTED")
    assert made.accuracy is not None
    assert made.accuracy["accepted_loss"]
    assert open_engine(tmp_path, films=1).name == "torch"  # never taken unasked
    assert "--accept-loss" in open_engine(tmp_path, engine="openvino", precision="int8", films=1).note
