"""One page about this machine."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Hilum

from hilum.bench import doctor
from hilum.errors import EXTRAS


def test_every_extra_has_a_word() -> None:
    assert set(doctor.ENABLES) == set(EXTRAS)


def test_what_is_here(tmp_path: Path) -> None:
    facts = doctor.examine(tmp_path)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cores"] >= 1
    assert facts["disk_free_gib"] > 0
    assert str(facts["torch"]).startswith(str(facts["engines"]["torch"]))  # without its build
    assert set(facts["extras"]) == set(EXTRAS)
    assert facts["extras"]["train"] == []


def test_what_would_be_in_the_way() -> None:
    facts: dict[str, Any] = {"memory_free_gib": 1.0, "disk_free_gib": 10.0, "torch": None, "devices": []}
    assert len(doctor.advice(facts)) == 3
    facts |= {"memory_free_gib": None, "disk_free_gib": 100.0, "torch": "2.9", "devices": [{"name": "GPU"}]}
    assert doctor.advice(facts) == []


def test_extras_that_are_missing_are_named(hilum: Hilum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._missing
    monkeypatch.setattr(doctor, "_missing", lambda modules: ["ray"] if modules == EXTRAS["scale"] else real(modules))
    said = hilum("doctor", "--folder", tmp_path)
    assert said.code == 0
    assert "hilum[scale]" in said.out
    assert doctor.ENABLES["scale"] in " ".join(said.out.split())
    assert hilum("doctor", "--folder", tmp_path / "nowhere").code == 2


def test_the_speed_of_a_recipe(hilum: Hilum, tiny: Path, tmp_path: Path) -> None:
    said = hilum("doctor", tiny, "--seconds", "0.1", "--device", "cpu", "--folder", tmp_path, "--json")
    assert said.code == 0, said.err
    speed = json.loads(said.out)["speed"]
    assert (speed["recipe"], speed["device"], speed["precision"], speed["size"]) == ("tiny", "cpu", "fp32", 64)
    assert speed["training_films_per_second"] > 0
    assert speed["scoring_films_per_second"] > 0
