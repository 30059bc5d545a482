import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_hub import FakeHub, fake_hub

import hilum
from hilum.errors import BundleError, HilumError
from hilum.model.hub import Address, fetch, hub_card, is_address, parse, push

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on loopback, and a cache of one's own."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


FILM = np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)


def test_a_bundle_goes_to_the_hub_and_comes_back(untrained_run: Path, tmp_path: Path, hub: FakeHub) -> None:
    shutil.copytree(untrained_run, tmp_path / "run")
    (tmp_path / "run" / "secret.txt").write_text("not for others")
    pinned = push(tmp_path / "run", "hf://someone/tiny", licence="apache-2.0")
    commit, files = hub.commits["someone/tiny"][-1]
    assert pinned == f"hf://someone/tiny@{commit}"
    assert files.keys() - {".gitattributes"} == {"bundle.json", "weights.safetensors", "MODEL_CARD.md", "README.md"}
    theirs = hilum.load(pinned).predict(FILM).scores
    assert theirs == hilum.load(untrained_run, engine="torch").predict(FILM).scores
    assert fetch("hf://someone/tiny").name == commit


def test_a_pinned_revision_stays_and_needs_no_network(untrained_run: Path, tmp_path: Path, hub: FakeHub) -> None:
    pinned = push(untrained_run, "hf://someone/tiny", licence="apache-2.0")
    folder = fetch(pinned)
    shutil.copytree(untrained_run, tmp_path / "run")
    card = tmp_path / "run" / "MODEL_CARD.md"
    card.write_text(card.read_text() + "\nAnother word.\n")
    newer = push(tmp_path / "run", "hf://someone/tiny", licence="apache-2.0")
    assert newer != pinned
    assert fetch("hf://someone/tiny").name == parse(newer).revision
    asked = len(hub.asked)
    assert fetch(pinned) == folder
    assert not [line for line in hub.asked[asked:] if "resolve" in line]
    hub.commits.clear()
    assert hilum.load(pinned).predict(FILM).scores


def test_what_was_changed_on_the_way_is_refused(untrained_run: Path, hub: FakeHub) -> None:
    pinned = push(untrained_run, "hf://someone/tiny", licence="apache-2.0")
    files = hub.commits["someone/tiny"][-1][1]
    content = bytearray(files["weights.safetensors"])
    content[-1] ^= 1
    files["weights.safetensors"] = bytes(content)
    with pytest.raises(BundleError, match=r"must be the file that bundle\.json was written for, but its SHA-256"):
        hilum.load(pinned)


def test_the_card_has_the_hubs_metadata(untrained_run: Path) -> None:
    import yaml  # type: ignore[import-untyped]

    auroc = {"Mass": {"auroc": {"value": 0.81234}}, "Hernia": {"auroc": {"value": None}}}
    report = {"findings": auroc, "films": 20, "protocol": "patient", "split": "test"}
    _, front, card = hub_card(untrained_run, licence="cc-by-nc-4.0", results=report).split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["pipeline_tag"] == "image-classification"
    assert (data["library_name"], data["license"]) == ("hilum", "cc-by-nc-4.0")
    (entry,) = data["model-index"]
    metrics = [metric for result in entry["results"] for metric in result["metrics"]]
    assert [(one["name"], one["value"]) for one in metrics] == [("AUROC Mass", 0.8123)]
    assert card.strip() == (untrained_run / "MODEL_CARD.md").read_text().strip()


def test_results_of_other_weights_are_refused(untrained_run: Path, tmp_path: Path, hub: FakeHub) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"model": {"weights_sha256": "0" * 64}}))
    with pytest.raises(HilumError, match="is of other weights"):
        push(untrained_run, "hf://someone/tiny", licence="mit", report=tmp_path)
    assert not hub.commits


def test_what_is_not_there_is_named(hub: FakeHub) -> None:
    with pytest.raises(BundleError, match="hf://someone/none could not be had"):
        hilum.load("hf://someone/none")


@pytest.mark.parametrize("text", ["hf://", "hf://owner", "hf://owner/name/more", "hf://owner/name@", "hf://a b/c"])
def test_an_address_is_owner_name_and_revision(text: str) -> None:
    with pytest.raises(HilumError, match="address must be hf://owner/name"):
        parse(text)
    assert parse("hf://owner/some.name-1@v1.0/a") == Address("owner/some.name-1", "v1.0/a")
    assert str(parse("hf://owner/name")) == "hf://owner/name"
    assert is_address(text)
    assert not is_address(Path("hf:/owner/name"))
