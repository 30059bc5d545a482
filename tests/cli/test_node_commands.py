"""What an operator says to a node, on a queue that is made by hand; no node runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from dicom_pacs import Pacs, film, free_port
from fake_node import configured

from hilum.pacs.queue import FAILED, SCORED, MadeResult, Places, Queue


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node with a film that failed and one whose report was sent."""
    configured(tmp_path, port=free_port(), pacs=free_port(), store__keep_sent_days=1)
    places = Places(tmp_path / "node")
    queue = Queue(places.folder)
    for number in (1, 2):
        film(tmp_path, number).rename(places.film(f"1.2.3.{number}-ab"))
        queue.add(f"1.2.3.{number}", "1.9", now=0.0, sender="CT1", fingerprint="ab", file=f"1.2.3.{number}-ab")
    failed, scored = queue.ready(quiet_s=0.0, now=1e9, most=9)
    queue.finish(failed, FAILED, why="film must be right, got none", now=1.0)
    queue.finish(scored, SCORED, results=[MadeResult("2.2", "SR", "2.9", ("pacs",))], now=1.0)
    queue.sent(queue.to_send(now=2.0, most=1)[0], now=2.0)
    places.sent_result("2.2").write_bytes(b"report")
    queue.close()
    return tmp_path / "node.toml"


def test_films_are_listed_and_shown(config: Path, hilum: Any) -> None:
    said = json.loads(hilum("node", "list", config, "--json").out)["films"]
    assert [(one["number"], one["state"], one["sender"]) for one in said] == [
        (2, "scored", "CT1"),
        (1, "failed", "CT1"),
    ]
    listed = " ".join(hilum("node", "list", config, "--state", "failed").out.split())
    assert "film must be right," in listed
    assert "1.2.3.1" in listed
    (shown,) = json.loads(hilum("node", "show", config, "1.2.3.2", "--json").out)["films"]
    assert [(one["result"], one["state"]) for one in shown["results"]] == [("2.2", "sent")]
    assert "1.2.3.1" in hilum("node", "show", config, "1").out
    said = hilum("node", "show", config, "7")
    assert (said.code, "film must be a number" in said.err) == (2, True)
    assert hilum("node", "list", config, "--state", "lost").code == 2


def test_films_are_done_again_sent_again_and_forgotten(config: Path, hilum: Any) -> None:
    places = Places(config.parent / "node")
    assert "1 films are done again" in hilum("node", "retry", config, "1").err
    assert hilum("node", "retry", config, "2").code == 2
    assert hilum("node", "retry", config).code == 2
    assert "1 results are sent again" in hilum("node", "resend", config, "2").err
    assert places.result("2.2").is_file()
    assert hilum("node", "resend", config, "1").code == 2
    assert "2 films are forgotten" in hilum("node", "forget", config, "1", "1.2.3.2").err
    assert not places.film("1.2.3.1-ab").exists()
    assert not places.result("2.2").exists()
    assert json.loads(hilum("node", "list", config, "--json").out)["films"] == []
    assert hilum("node", "forget", config, "--target", "pacs").code == 2
    assert "0 results are given up" in hilum("node", "forget", config, "--target", "old").err


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_all_that_a_node_needs_is_tried(untrained_run: Path, tmp_path: Path, hilum: Any) -> None:
    pacs = Pacs(free_port(), kinds=("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.7"))
    configured(tmp_path, port=free_port(), pacs=pacs.port, watch=free_port())
    said = json.loads(hilum("node", "check", tmp_path / "node.toml", "--json").out)
    assert {one["what"] for one in said["checks"] if not one["well"]} == {"model main", "send pacs"}
    shutil.copytree(untrained_run, tmp_path / "model")
    pacs.start()
    try:
        said = hilum("node", "check", tmp_path / "node.toml", "--json")
    finally:
        pacs.stop()
    found = {one["what"]: one["words"] for one in json.loads(said.out)["checks"]}
    assert said.code == 0, found
    assert found["send pacs"] == "PACS answers C-ECHO, takes reports as comprehensive SR and pictures"
    assert "torch fp32, no calls" in found["model main"]
    assert list(found) == ["store", "model main", "receive", "send pacs", "watch", "watch token"]


def test_a_node_that_does_not_run_is_reloaded_at_its_next_start(
    untrained_run: Path, tmp_path: Path, hilum: Any
) -> None:
    shutil.copytree(untrained_run, tmp_path / "model")
    configured(tmp_path, port=free_port(), pacs=free_port())
    assert "no node runs" in hilum("node", "reload", tmp_path / "node.toml").err
    (kept,) = json.loads(hilum("node", "models", tmp_path / "node.toml", "--json").out)["models"]
    assert "gone back to" in hilum("node", "reload", tmp_path / "node.toml", "--to", kept["name"]).err
    assert kept["name"] in hilum("node", "models", tmp_path / "node.toml").out
    assert hilum("node", "reload", tmp_path / "node.toml", "--to", "other").code == 2
