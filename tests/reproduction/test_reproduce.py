"""The suite: stopped and gone on with, refused by name, and a page whose numbers are those of reproduce.json."""

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hilum import DISCLAIMER
from hilum.data.films import Films, read_films
from hilum.errors import BundleError, FilmsError, HilumError, RecipeError, TrainingStoppedError
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.published import VALUES
from hilum.evaluation.views import interval
from hilum.files import write_whole
from hilum.reproduction import run as reproduce
from hilum.reproduction.plan import Run, TrainingCost
from hilum.reproduction.run import Suite
from hilum.training.train import train

pytestmark = pytest.mark.slow  # they train

SYSTEMS = ("densenet", "am-densenet-bce", "am-densenet")
TINY = (
    "architecture.block_layers=[1,1,1,1]",
    "architecture.growth=16",
    "architecture.stem=16",
    "architecture.reduction=4",
    "preprocessing.size=64",
    "training.epochs=2",
    "training.precision=fp32",
    "weights=none",
)

Reproduce = Callable[..., dict[str, Any]]


@pytest.fixture
def run_suite(phantom_films: Films, packs: Path) -> Reproduce:
    def run(out: Path, films: Films | None = None, **asked: Any) -> dict[str, Any]:
        wanted: dict[str, Any] = {"systems": SYSTEMS, "changes": TINY, "bar": False, **asked}
        return reproduce.reproduce(films or phantom_films, out, packs=packs, **wanted)

    return run


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No training takes place; the names of those that would have."""
    names: list[str] = []

    def note(suite: Suite, run: Run, *, bar: bool) -> None:
        names.append(run.name)

    monkeypatch.setattr(reproduce, "_run", note)
    return names


def text_of(page: Path) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.read_text())).split())


def test_what_is_not_trained_is_a_dash(run_suite: Reproduce, untrained: list[str], tmp_path: Path) -> None:
    content = run_suite(tmp_path / "out")
    assert untrained == [f"patient/{system}-seed0" for system in SYSTEMS]
    assert content == json.loads((tmp_path / "out" / "reproduce.json").read_text())
    assert not content["finished"]
    [one] = content["protocols"]
    assert all(system["mean"] is None for system in one["systems"].values())
    said = text_of(tmp_path / "out" / "reproduce.html")
    assert "0 of 3 trainings are finished: what is not trained yet is a dash" in said
    assert "\N{EN DASH} not trained yet: attention raises the mean AUROC" in said
    assert "Not the paper's training: films split by patient instead of image, random weights" in said
    assert DISCLAIMER in said
    shown = {float(number) for number in re.findall(r"\b0\.\d{3}\b", said)}
    printed = {round(value.auroc, 3) for value in VALUES}
    assert shown - printed <= {0.746, 0.001}  # the identity control that a text quotes, and the learning rate
    assert (tmp_path / "out" / "architecture.png").is_file()
    assert not (tmp_path / "out" / "roc.png").exists()


def test_protocols_are_dealt_anew_from_one_seed(run_suite: Reproduce, untrained: list[str], tmp_path: Path) -> None:
    run_suite(tmp_path, protocols=("patient", "image"), systems=("densenet",), seeds=2)
    assert untrained == [f"{protocol}/densenet-seed{seed}" for seed in (0, 1) for protocol in ("patient", "image")]
    dealt = {protocol: read_films(tmp_path / f"films-{protocol}.parquet") for protocol in ("patient", "image")}
    assert all(films.notes["protocol"] == protocol for protocol, films in dealt.items())
    assert {films.notes["split_seed"] for films in dealt.values()} == {0}


def test_a_budget_is_planned_before_anything_is_trained(
    run_suite: Reproduce, untrained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(recipe: object, findings: int) -> TrainingCost:
        return TrainingCost(1.0, 0.1)

    monkeypatch.setattr(reproduce, "probe", measured)
    changes = [change for change in TINY if "epochs" not in change]
    content = run_suite(tmp_path, budget=3.0, changes=changes)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["scale"]["epochs"] == content["scale"]["epochs"] < 20
    assert {recipe["training"]["epochs"] for recipe in plan["recipes"]["patient"].values()} == {plan["scale"]["epochs"]}
    said = text_of(tmp_path / "reproduce.html")
    assert "Scaled down to 3 minutes for all trainings together" in said
    assert f"{plan['scale']['epochs']} of 20 epochs" in said
    monkeypatch.setattr(reproduce, "probe", None)  # the plan holds; nothing is measured again
    assert run_suite(tmp_path, budget=3.0, changes=changes)["scale"] == content["scale"]


def test_what_is_refused(run_suite: Reproduce, untrained: list[str], phantom_films: Films, tmp_path: Path) -> None:
    from dataclasses import replace

    whole = replace(phantom_films, notes={k: v for k, v in phantom_films.notes.items() if k != "protocol"})
    with pytest.raises(FilmsError, match="films must be split by a protocol"):
        run_suite(tmp_path / "a", whole)
    with pytest.raises(FilmsError, match="protocol must be one of"):
        run_suite(tmp_path / "a", protocols=("hospital",))
    with pytest.raises(FilmsError, match="official split must know films"):
        run_suite(tmp_path / "a", replace(phantom_films, notes={}), protocols=("official",))
    with pytest.raises(RecipeError, match="recipe must be"):
        run_suite(tmp_path / "a", systems=("nothing",))
    with pytest.raises(RecipeError, match="architecture of am-densenet-bce: channels must be a multiple"):
        run_suite(tmp_path / "a", changes=[*TINY, "architecture.reduction=7"])
    assert not (tmp_path / "a").exists()
    run_suite(tmp_path / "b")
    with pytest.raises(HilumError, match=r"seeds must be those that the suite in .* began with"):
        run_suite(tmp_path / "b", seeds=2)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(HilumError, match=r"out must be a new or empty folder, or hold a suite's plan\.json"):
        run_suite(tmp_path)


def test_imagenet_weights_are_never_replaced_in_silence(
    run_suite: Reproduce, untrained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))

    def offline(*arguments: object, **more: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(BundleError, match=r"no network.*weights=none"):
        run_suite(tmp_path / "out", changes=[change for change in TINY if "weights" not in change])
    assert not (tmp_path / "out").exists()
    assert untrained == []


def test_one_failed_training_does_not_keep_the_others_from_theirs(
    run_suite: Reproduce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def fail(suite: Suite, run: Run, *, bar: bool) -> None:
        tried.append(run.system)
        if run.system == "am-densenet-bce":
            raise HilumError("loss must be finite, but the training diverged.")

    monkeypatch.setattr(reproduce, "_run", fail)
    with pytest.raises(HilumError, match="1 of 3 failed, the first is patient/am-densenet-bce-seed0: loss must be"):
        run_suite(tmp_path)
    assert tried == list(SYSTEMS)
    assert "patient/am-densenet-bce-seed0 failed: loss must be finite" in text_of(tmp_path / "reproduce.html")


def test_a_suite_is_stopped_everywhere_and_ends_as_if_it_had_not_been(
    run_suite: Reproduce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systems = ("densenet", "am-densenet")
    whole = run_suite(tmp_path / "whole", seeds=2, systems=systems)
    assert whole["finished"]
    trained: list[Path] = []
    evaluated: list[Path] = []

    def interrupted(recipe: Any, films: Films, out: Path, **more: Any) -> Any:
        trained.append(out)
        match len(trained):
            case 2:  # killed before the run had begun
                (out / "checkpoints").mkdir(parents=True)
                raise KeyboardInterrupt
            case 4:  # stopped before its first checkpoint
                claim = {"recipe": recipe.to_dict(), "films": films.fingerprint()}
                write_whole(out / "run.json", json.dumps(claim).encode())
                raise TrainingStoppedError("stopped")
        return train(recipe, films, out, **more)

    def unjudged(*arguments: Any, **more: Any) -> Any:
        evaluated.append(arguments[0])
        if len(evaluated) == 2:  # trained, and killed before it was evaluated
            raise KeyboardInterrupt
        return evaluate_to_folder(*arguments, **more)

    monkeypatch.setattr(reproduce, "train", interrupted)
    monkeypatch.setattr(reproduce, "evaluate_to_folder", unjudged)
    stops: list[str] = []
    for _ in range(6):
        try:
            ended = run_suite(tmp_path / "parts", seeds=2, systems=systems)
            break
        except (KeyboardInterrupt, TrainingStoppedError) as stop:
            stops.append(str(stop))
    assert len(stops) == 3
    assert any("Go on with the same command" in stop for stop in stops)
    assert ended["protocols"] == whole["protocols"]
    assert not list((tmp_path / "parts").glob("runs/*/*/checkpoints"))
    assert (len(trained), len(evaluated)) == (4 + 2, 4 + 1)

    shutil.rmtree(tmp_path / "parts" / "reports" / "patient" / "densenet-seed1")
    again = run_suite(tmp_path / "parts", seeds=2, systems=systems)
    assert again["protocols"] == whole["protocols"]
    assert (len(trained), len(evaluated)) == (4 + 2, 4 + 2)  # evaluated again, not trained
    _check_page(tmp_path / "parts", again)


def _check_page(out: Path, content: dict[str, Any]) -> None:
    """Each number of reproduce.json stands on the page, and belongs to a report."""
    said = text_of(out / "reproduce.html")
    assert json.loads((out / "reproduce.json").read_text()) == content
    [one] = content["protocols"]
    for name, system in one["systems"].items():
        assert system["trained_seeds"] == 2
        for measured in (system["mean"], *system["findings"].values()):
            value = measured["auroc"]["value"]
            if value is not None:
                assert f"{value:.3f} {interval(measured['auroc'])}" in said
        reports = [json.loads((out / report / "report.json").read_text()) for report in system["reports"]]
        means = [report["mean"]["auroc"]["value"] for report in reports]
        assert system["mean"]["seeds"] == pytest.approx(means)
        assert system["mean"]["auroc"]["value"] == pytest.approx(sum(means) / 2)
        assert name in said
    for difference in one["differences"]:
        value = difference["mean"]["auroc"]["value"]
        means = [one["systems"][difference[key]]["mean"]["auroc"]["value"] for key in ("second", "first")]
        assert value == pytest.approx(means[0] - means[1])
        assert f"{value:+.4f}" in said
        assert difference["verdict"] in ("supported", "not supported", "undecided")
    assert (out / "roc.png").is_file()
    assert "src=" not in re.sub(r'src="data:[^"]*"', "", (out / "reproduce.html").read_text())


def test_under_the_image_protocol_the_controls_are_cited(run_suite: Reproduce, tmp_path: Path) -> None:
    content = run_suite(tmp_path, protocols=("image",), systems=("am-densenet",))
    [one] = content["protocols"]
    assert set(one["controls"]) == {"system", "identity", "view_age_sex"}
    said = text_of(tmp_path / "reproduce.html")
    assert "knows only the labels of the same patient's training films" in said
    assert "81.6 %" in said


def test_the_command_prints_json_or_the_means(
    untrained: list[str], films_file: Path, packs: Path, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from hilum import cli

    changes = [word for change in TINY if "weights" not in change for word in ("--set", change)]
    command = ["reproduce", "--films", str(films_file), "--out", str(tmp_path), "--packs", str(packs), *changes]
    command += ["--weights", "none", "--systems", "densenet,am-densenet", "--systems", "am-densenet-bce"]
    said = CliRunner().invoke(cli.app, [*command, "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout) == json.loads((tmp_path / "reproduce.json").read_text())
    assert untrained == [f"patient/{system}-seed0" for system in ("densenet", "am-densenet", "am-densenet-bce")]
    assert "0.8537 (image)" in CliRunner().invoke(cli.app, command).stdout
