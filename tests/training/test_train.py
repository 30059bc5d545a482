"""Training: what it needs, what it keeps, what it never looks at."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from hilum.data.films import Films
from hilum.errors import HilumError, ImageError, RecipeError
from hilum.files import alone
from hilum.metrics.ranking import auroc_per_finding
from hilum.model.bundle import load_bundle
from hilum.model.engines import TorchEngine
from hilum.nn.build import build
from hilum.predict.scoring import score_films
from hilum.recipe import Recipe, load_recipe
from hilum.training.train import check_protocol, computes_in_bf16, train

pytestmark = pytest.mark.slow  # they train

Trains = Callable[..., Path]


@pytest.fixture
def trains(tiny: Path, phantom_films: Films, packs: Path, tmp_path: Path) -> Trains:
    """Train the tiny recipe with changes into a folder of `tmp_path`."""

    def run(name: str, *changes: str, films: Films = phantom_films, resume: bool = False) -> Path:
        recipe = load_recipe(tiny, ["training.epochs=2", *changes])
        train(recipe, films, tmp_path / name, packs=packs, resume=resume, bar=False)
        return tmp_path / name

    return run


def weights(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


def test_same_seed_same_weights_another_seed_others(trains: Trains) -> None:
    torch.manual_seed(1)
    one = trains("one", "architecture.dropout=0.2")
    torch.manual_seed(2)  # nothing may depend on the global state
    same, other = trains("same", "architecture.dropout=0.2"), trains("other", "architecture.dropout=0.2", "seed=1")
    assert weights(same) == weights(one)
    assert weights(other) != weights(one)


def test_what_a_run_leaves(trains: Trains, phantom_films: Films) -> None:
    run = trains("run")
    assert {path.name for path in run.iterdir()} == {
        "run.json",
        "checkpoints",
        "logs",
        "weights.safetensors",
        "bundle.json",
        "MODEL_CARD.md",
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert any(path.name.startswith("events.out.tfevents") for path in (run / "logs").iterdir())
    bundle = load_bundle(run)
    assert bundle.films == phantom_films.fingerprint()
    assert bundle.findings == phantom_films.findings
    told = bundle.training
    assert (told["epochs"], told["kept_epoch"], told["steps"], told["precision"]) == (2, 2, 8, "32-true")
    assert (told["protocol"], told["train_films"]) == ("patient", len(phantom_films.select("train")))
    assert {"train_loss_epoch", "val_loss", "val_auroc"} <= told.keys()


def test_films_augmented_on_the_device_train_the_same(trains: Trains, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ("training.epochs=1", "augmentation.rotation_deg=10", "augmentation.contrast=0.2")
    plain = trains("plain", *changes)
    monkeypatch.setattr("hilum.training.train.augments_on_device", lambda recipe: True)
    other = trains("device", *changes)
    losses = [load_bundle(run).training["train_loss_epoch"] for run in (plain, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert weights(plain) != weights(other)  # sums are rounded otherwise: it was another road


def test_a_compiled_network_trains_and_its_run_is_resumed_as_such(
    tiny: Path, phantom_films: Films, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the compiled network is the one that trains; compiling it would take minutes."""
    calls: list[bool] = []

    def counted(self: torch.nn.Module) -> None:
        def call(*images: torch.Tensor) -> Any:
            calls.append(self.training)
            return self._call_impl(*images)  # type: ignore[no-untyped-call]

        self._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", counted)
    recipe, out = load_recipe(tiny, ["training.epochs=1"]), tmp_path / "run"
    bundle = train(recipe, phantom_films, out, packs=packs, bar=False, compiled=True)
    assert sum(calls) == bundle.training["steps"]
    assert bundle.training["compiled"] is True
    plain = train(recipe, phantom_films, tmp_path / "plain", packs=packs, bar=False)
    assert weights(out) == weights(tmp_path / "plain")
    assert "compiled" not in plain.training
    with pytest.raises(RecipeError, match="must go on with --compile"):
        train(recipe, phantom_films, out, packs=packs, resume=True, bar=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.precision=fp16", "must not be fp16 without a CUDA GPU"),
        ("training.accumulate=9", "accumulate must be at most the batch of 8"),
    ],
)
def test_what_cannot_be_trained_here_is_refused(trains: Trains, tmp_path: Path, change: str, message: str) -> None:
    if torch.cuda.is_available() and "fp16" in change:
        pytest.skip("there is a GPU")
    with pytest.raises(RecipeError, match=message):
        trains("run", change)
    assert not (tmp_path / "run").exists()


def test_each_epoch_is_a_line_with_its_own_figures_where_no_bar_is_seen(
    tiny: Path, phantom_films: Films, packs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(load_recipe(tiny, ["training.epochs=2"]), phantom_films, tmp_path / "run", packs=packs)
    said = re.findall(
        r"^epoch (\d) of 2: train_loss (\S+), val_loss (\S+), val_auroc (\S+)$", capsys.readouterr().err, re.M
    )
    logged = pd.read_csv(tmp_path / "run" / "logs" / "metrics.csv").groupby("epoch").last()
    expected = logged[["train_loss_epoch", "val_loss", "val_auroc"]]
    assert [epoch for epoch, *_ in said] == ["1", "2"]
    np.testing.assert_allclose(np.array([line[1:] for line in said], dtype=float), expected.to_numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "changes", [("training.ema_decay=none",), ("training.ema_decay=0.8",), ("training.keep=best",)]
)
def test_validation_auc_is_that_of_the_weights_that_are_kept(
    trains: Trains, phantom_films: Films, changes: tuple[str, ...]
) -> None:
    bundle = load_bundle(trains("run", *changes))
    unseen = phantom_films.select("val")
    areas = auroc_per_finding(
        score_films(TorchEngine(bundle), unseen)[list(bundle.findings)].to_numpy(), unseen.all_labels
    )
    assert bundle.training["val_auroc"] == pytest.approx(float(np.nanmean(areas)), abs=1e-5)


def test_best_takes_the_best_checkpoint(trains: Trains) -> None:
    changes = ("training.epochs=4", "training.ema_decay=none", "optimizer.lr=4e-2", "schedule.name=constant")
    for seed in range(8):  # which of them has its best epoch before the last depends on the processor
        best = trains(f"best-{seed}", *changes, f"seed={seed}", "training.keep=best")
        if load_bundle(best).training["kept_epoch"] < 4:
            break
    last = trains("last", *changes, f"seed={seed}")
    kept = torch.load(best / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    state = load_file(best / "weights.safetensors")
    assert all(torch.equal(state[key], kept[f"model.{key}"]) for key in state)
    told = [load_bundle(run).training for run in (best, last)]
    assert told[0]["kept_epoch"] < told[1]["kept_epoch"] == 4
    assert told[0]["val_auroc"] > told[1]["val_auroc"]
    assert weights(best) != weights(last)


def test_best_needs_a_validation_auc(trains: Trains, phantom_films: Films, tmp_path: Path) -> None:
    unvalidated = phantom_films.split("patient", fractions=(0.7, 0.0, 0.3))
    table = phantom_films.table.copy()
    table.loc[table["split"] == "val", list(phantom_films.findings)] = np.float32(0)
    for films in (unvalidated, replace(phantom_films, table=table)):
        with pytest.raises(RecipeError, match=r"training\.keep must be last .* --set training\.keep=last"):
            trains("best", "training.keep=best", films=films)
        shutil.rmtree(tmp_path / "best", ignore_errors=True)
    assert load_bundle(trains("last", films=unvalidated)).training["epochs"] == 2


def test_the_test_films_are_never_opened(trains: Trains, phantom_films: Films, tmp_path: Path) -> None:
    films = replace(phantom_films, root=tmp_path / "copy")
    shutil.copytree(phantom_films.root, films.root)
    tested = films.select("test")
    for row in range(len(tested)):
        tested.path(row).unlink()
    table = films.table.copy()
    run = trains("without", films=films)
    assert weights(run) == weights(trains("with"))
    table.loc[table["split"] == "test", list(films.findings)] = np.float32(1)
    assert weights(trains("relabelled", films=replace(phantom_films, table=table))) == weights(run)


def test_a_film_that_cannot_be_read_is_named(trains: Trains, phantom_films: Films, tmp_path: Path) -> None:
    films = replace(phantom_films, root=tmp_path / "copy")
    shutil.copytree(phantom_films.root, films.root)
    broken = films.select("train").path(3)
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(ImageError, match=broken.name):
        trains("run", films=films)


def test_out_must_be_new(trains: Trains, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(RecipeError, match="out must be a new or empty folder"):
            trains(name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    trains("empty")


def test_two_runs_do_not_share_a_folder(trains: Trains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with alone(tmp_path / "run"), pytest.raises(HilumError, match="out must be of one run at a time"):
        trains("run")

    def meanwhile(*given: Any, **named: Any) -> Any:
        (tmp_path / "late" / "checkpoints").mkdir(parents=True)
        return build(*given, **named)

    monkeypatch.setattr("hilum.training.train.build", meanwhile)
    with pytest.raises(RecipeError, match="out must be a new or empty folder"):
        trains("late")


def test_nothing_to_learn_is_refused(trains: Trains, phantom_films: Films) -> None:
    for label, message in (
        (0.0, "films must be known to have a finding"),
        (np.nan, "findings must each be known of some training film"),
    ):
        table = phantom_films.table.assign(**dict.fromkeys(phantom_films.findings, label))
        with pytest.raises(RecipeError, match=message):
            trains("run", films=replace(phantom_films, table=table))


def test_resume_needs_the_same_run(trains: Trains, phantom_films: Films, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Start it without --resume"):
        trains("nothing", resume=True)
    assert not (tmp_path / "nothing").exists()
    trains("run")
    for changes in (("optimizer.lr=1e-5",), ("training.epochs=3",), ("seed=1",)):
        with pytest.raises(RecipeError, match="recipe and --set must be those"):
            trains("run", *changes, resume=True)
    with pytest.raises(RecipeError, match="films and their split must be those"):
        trains("run", films=phantom_films.split("patient", seed=1), resume=True)
    (tmp_path / "run" / "run.json").write_text("[]")
    with pytest.raises(RecipeError, match="recipe and --set must be those"):
        trains("run", resume=True)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(RecipeError, match=r"run\.json must be JSON"):
        trains("run", resume=True)


def test_films_split_by_image_are_refused_for_a_patient_recipe(
    trains: Trains, phantom_films: Films, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = phantom_films.split("image")
    with pytest.raises(RecipeError, match=r"films must be split by patient .* --set protocol=image"):
        trains("run", films=leaking)
    check_protocol(load_recipe(tiny, ["protocol=image"]), leaking)
    assert capsys.readouterr().err == ""
    check_protocol(load_recipe(tiny, ["protocol=image"]), phantom_films)
    assert "split by patient, which holds" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.batch=33", r"training\.batch must be at most 32 for 32 films, got 33"),
        ("architecture.reduction=5", r"architecture of tiny: .* multiple of the reduction 5"),
        ("weights=nowhere.pth", r"weights must be none, imagenet, a file .*'nowhere\.pth'"),
    ],
)
def test_what_does_not_fit_is_said(trains: Trains, change: str, message: str) -> None:
    with pytest.raises(HilumError, match=message):
        trains("run", change)


def test_a_start_that_was_refused_can_be_corrected_in_the_same_folder(trains: Trains) -> None:
    with pytest.raises(RecipeError):
        trains("run", "training.batch=33")
    trains("run")


def test_training_stops_when_its_loss_does_not_fall(trains: Trains) -> None:
    changes = ("training.stop_patience=2", "training.epochs=30", "optimizer.lr=1e-12", "schedule.name=constant")
    told = load_bundle(trains("run", *changes)).training
    assert 3 <= told["epochs"] < 30
    assert told["kept_epoch"] == told["epochs"]


def test_diverged_training_is_said(trains: Trains) -> None:
    with pytest.raises(HilumError, match=r"^loss must be finite, but the training diverged after \d+ steps"):
        trains("run", "optimizer.lr=1e30", "schedule.name=constant", "training.gradient_clip=none")


def test_divergence_that_validation_sees_first_is_said(trains: Trains) -> None:
    changes = ("training.batch=32", "training.epochs=1", "training.ema_decay=none", "schedule.name=constant")
    with pytest.raises(HilumError, match="logits must be finite, but the training diverged after 1 steps"):
        trains("run", *changes, "optimizer.lr=1e30")


def test_clipping_limits_the_step_in_both_precisions(trains: Trains) -> None:
    for precision in ("fp32", "bf16"):
        plain = ("optimizer.name=adamw", f"training.precision={precision}", "training.epochs=1")
        assert weights(trains(f"loose-{precision}", *plain, "training.gradient_clip=none")) != weights(
            trains(f"tight-{precision}", *plain, "training.gradient_clip=1e-9")
        )


def test_a_run_starts_from_another(trains: Trains, tiny_run: Path) -> None:
    changes = (f"weights={tiny_run}", "optimizer.lr=1e-12", "optimizer.weight_decay=0.0", "training.ema_decay=none")
    before, after = (
        load_file(tiny_run / "weights.safetensors"),
        load_file(trains("on", *changes) / "weights.safetensors"),
    )
    torch.testing.assert_close(after["classifier.weight"], before["classifier.weight"])
    torch.testing.assert_close(after["classifier.bias"], before["classifier.bias"])  # not begun anew from prevalence


def test_precision_is_the_recipes(tiny: Path) -> None:
    recipe: Recipe = load_recipe(tiny)
    assert recipe.training.precision == "fp32"
    assert not computes_in_bf16("fp32")
    assert computes_in_bf16("bf16")
    assert isinstance(computes_in_bf16("auto"), bool)
