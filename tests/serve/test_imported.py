"""A model of someone else's in the reading room."""

from pathlib import Path

import pytest
from imported import FINDINGS, imported
from servers import opened, png

import hilum
from hilum.serve.client import Client


@pytest.mark.slow
def test_an_imported_model_is_served_with_its_own_preprocessing(tmp_path: Path) -> None:
    run, film = imported(tmp_path), tmp_path / "film.png"
    film.write_bytes(png(side=90))
    with opened(run) as room, Client(room.url) as client:
        assert [one.finding for one in client.model().findings] == list(FINDINGS)
        answer = client.predict([film])
    (one,) = answer.films
    expected = hilum.load(run).predict(film).scores
    assert {found.finding: found.score for found in one.findings} == pytest.approx(dict(expected), abs=1e-5)
    assert all(found.call == "no threshold" for found in one.findings)  # nobody has chosen a threshold for it
