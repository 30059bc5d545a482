"""Resume equals no stop, bit for bit; and nothing that ends a process loses a run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from hilum.data.films import Films
from hilum.errors import BundleError, TrainingStoppedError
from hilum.evaluation.model import training_history
from hilum.model.bundle import load_bundle
from hilum.recipe import Recipe, load_recipe
from hilum.training.learner import SIGNALS, Batch, Learner
from hilum.training.train import train

pytestmark = pytest.mark.slow  # they train

PLATEAU = ("schedule.name=plateau", "schedule.patience=0", "schedule.factor=0.5", "training.ema_decay=none")
EVERYTHING = (
    "architecture.dropout=0.3",
    "training.gradient_clip=0.1",
    "training.ema_decay=0.9",
    "training.accumulate=2",
)
EPOCHS, STEPS = 3, 4  # steps of one epoch

Trains = Callable[..., Path]


@pytest.fixture
def trains(tiny: Path, phantom_films: Films, packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trains:
    """Train the tiny recipe into a folder of `tmp_path`; a signal may arrive during one of the steps."""

    def run(
        name: str,
        *changes: str,
        stop_in: int | None = None,
        number: signal.Signals = signal.SIGTERM,
        resume: bool = False,
    ) -> Path:
        class Interrupted(Learner):
            def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
                if stop_in is not None and self.global_step == stop_in - 1:
                    signal.raise_signal(number)
                return super().training_step(batch, batch_index)

        recipe = load_recipe(tiny, [f"training.epochs={EPOCHS}", *changes])
        with monkeypatch.context() as patched:
            patched.setattr("hilum.training.train.Learner", Interrupted)
            train(recipe, phantom_films, tmp_path / name, packs=packs, resume=resume, bar=False)
        return tmp_path / name

    return run


def weights(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


def steps_per_epoch(films: Films, recipe: Recipe) -> int:
    return len(films.select("train")) // recipe.training.batch


def test_epochs_have_several_steps(phantom_films: Films, tiny: Path) -> None:
    assert steps_per_epoch(phantom_films, load_recipe(tiny)) == STEPS, "the steps below are chosen for it"


@pytest.mark.parametrize(
    ("recipe", "precision"), [(PLATEAU, "fp32"), (EVERYTHING, "bf16")], ids=["plateau", "everything"]
)
def test_resume_equals_no_stop(trains: Trains, recipe: tuple[str, ...], precision: str) -> None:
    changes = (*recipe, f"training.precision={precision}")
    whole = trains("whole", *changes)
    for stop_in in (1, STEPS, STEPS + 2, 2 * STEPS):  # inside an epoch, and in the last step of one
        with pytest.raises(TrainingStoppedError, match=f"SIGTERM after {stop_in} steps"):
            trains(f"stopped-{stop_in}", *changes, stop_in=stop_in)
        resumed = trains(f"stopped-{stop_in}", *changes, resume=True)
        assert weights(resumed) == weights(whole), f"stopped in step {stop_in}"
        assert load_bundle(resumed).heatmap_logits == load_bundle(whole).heatmap_logits


def test_resume_twice_with_the_best_epoch_kept_and_smaller_films_first(trains: Trains) -> None:
    changes = ("training.keep=best", "training.progressive_size=32", "training.progressive_until=0.5")
    whole = trains("whole", *changes)
    for stop_in, resume in ((2, False), (STEPS, True), (STEPS + 1, True)):
        with pytest.raises(TrainingStoppedError, match=f"SIGINT after {stop_in} steps"):
            trains("stopped", *changes, stop_in=stop_in, number=signal.SIGINT, resume=resume)
        assert not (whole.parent / "stopped" / "bundle.json").exists()
    resumed = trains("stopped", *changes, resume=True)
    assert weights(resumed) == weights(whole)
    told = [load_bundle(run).training for run in (resumed, whole)]
    for training in told:
        del training["minutes_since_start_or_resume"]
    assert told[0] == told[1]


@pytest.fixture(scope="module")
def whole(tiny: Path, phantom_films: Films, packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe without changes, trained without a stop; read only."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(load_recipe(tiny, [f"training.epochs={EPOCHS}"]), phantom_films, out, packs=packs, bar=False)
    return out


def test_a_signal_in_the_very_last_step_lets_the_training_end(trains: Trains, whole: Path) -> None:
    assert weights(trains("stopped", stop_in=STEPS * EPOCHS)) == weights(whole)


def test_training_curves_of_a_resumed_run_have_every_epoch_once(trains: Trains, whole: Path) -> None:
    with pytest.raises(TrainingStoppedError):
        trains("stopped", stop_in=5)
    resumed = trains("stopped", resume=True)
    assert [epoch["epoch"] for epoch in training_history(whole)] == list(range(EPOCHS))
    assert training_history(resumed) == training_history(whole)


@pytest.fixture
def default_sigterm() -> Iterator[None]:
    """SIGTERM as in a fresh process: Ray, which an earlier test may have started, keeps its own handler."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("default_sigterm")
def test_signals_are_given_back(trains: Trains) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    assert signal.SIG_DFL in before
    with pytest.raises(TrainingStoppedError):
        trains("stopped", stop_in=2)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    trains("stopped", resume=True)
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("changes", [EVERYTHING, (*PLATEAU, "training.stop_patience=1", "optimizer.lr=1e-12")])
def test_a_run_that_died_after_its_last_step_is_finished_by_resume(
    trains: Trains, phantom_films: Films, changes: tuple[str, ...]
) -> None:
    whole = trains("whole", "training.epochs=6", *changes)
    before = weights(whole)
    for name in ("bundle.json", "weights.safetensors", "MODEL_CARD.md"):
        (whole / name).unlink()
    assert weights(trains("whole", "training.epochs=6", *changes, resume=True)) == before
    assert load_bundle(whole).training["train_films"] == len(phantom_films.select("train"))


def test_a_run_that_died_before_its_first_checkpoint_is_started_anew(
    trains: Trains, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingStoppedError):
        trains("stopped", stop_in=1)
    (tmp_path / "stopped" / "checkpoints" / "last.ckpt").unlink()
    assert weights(trains("stopped", resume=True)) == weights(whole)


def test_a_finished_run_is_not_trained_again(
    trains: Trains, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "finished")
    made = (tmp_path / "finished" / "weights.safetensors").stat().st_mtime_ns
    again = trains("finished", resume=True)
    assert (again / "weights.safetensors").stat().st_mtime_ns == made
    assert "nothing to resume" in " ".join(capsys.readouterr().err.split())


def test_a_damaged_checkpoint_is_refused(trains: Trains, tmp_path: Path) -> None:
    with pytest.raises(TrainingStoppedError):
        trains("stopped", stop_in=2)
    for content in (b"", b"not a checkpoint", b"PK\x03\x04broken"):
        (tmp_path / "stopped" / "checkpoints" / "last.ckpt").write_bytes(content)
        with pytest.raises(BundleError, match=r"last\.ckpt cannot be read"):
            trains("stopped", resume=True)


# --- real processes


def command(tiny: Path, films_file: Path, out: Path, packs: Path, *more: str) -> list[str]:
    arguments = ["train", str(tiny), "--films", str(films_file), "--out", str(out), "--packs", str(packs), *more]
    arguments += ["--set", "training.epochs=60"]
    return [sys.executable, "-c", "from hilum.cli import main; main()", *arguments]


def killed(arguments: list[str], out: Path, number: signal.Signals) -> tuple[int, str]:
    """Start a training, send it a signal once it has saved an epoch, and return its exit code and standard error."""
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        give_up = time.monotonic() + 600
        while not (out / "checkpoints" / "last.ckpt").is_file():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        os.kill(process.pid, number)
        told, errors = process.communicate(timeout=600)
    assert told == ""
    return process.returncode, errors


@pytest.fixture(scope="module")
def long(tiny: Path, phantom_films: Films, packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `command` would train if it were not ended; read only."""
    out = tmp_path_factory.mktemp("long") / "run"
    train(load_recipe(tiny, ["training.epochs=60"]), phantom_films, out, packs=packs, bar=False)
    return out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_process_that_is_ended_is_resumed_bit_for_bit(
    number: signal.Signals, tiny: Path, films_file: Path, long: Path, packs: Path, tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    code, errors = killed(command(tiny, films_file, stopped, packs), stopped, number)
    assert "Traceback" not in errors
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 1
        assert errors.splitlines()[-1].startswith(f"training was stopped by {number.name} after ")
        assert errors.splitlines()[-1].endswith("--resume")
    assert not (stopped / "bundle.json").exists()
    resumed = subprocess.run(
        command(tiny, films_file, stopped, packs, "--resume"), capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert weights(stopped) == weights(long)
