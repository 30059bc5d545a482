"""A model of someone else's in a node beside a PACS."""

from pathlib import Path

import pytest
from dicom_pacs import Pacs, film, free_port, send, until
from fake_node import configured
from imported import FINDINGS, imported

import hilum
from hilum.pacs.results import scores_of
from hilum.pacs.service import Node

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),  # pydicom, in the threads of the sender
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_an_imported_model_reports_its_own_findings(tmp_path: Path) -> None:
    imported(tmp_path).rename(tmp_path / "model")
    pacs, port = Pacs(free_port()).start(), free_port()
    node = Node(configured(tmp_path, port=port, pacs=pacs.port), path=tmp_path / "node.toml")
    sent = film(tmp_path, 1)
    try:
        node.start()
        send([sent], port)
        until(lambda: any(one.Modality == "SR" for one in pacs.kept.values()))
    finally:
        node.stop()
        pacs.stop()
    report = next(one for one in pacs.kept.values() if one.Modality == "SR")
    found = scores_of(report)
    assert set(found) == set(FINDINGS)
    expected = hilum.load(tmp_path / "model").predict(sent).scores
    assert {name: score for name, (score, _, _) in found.items()} == pytest.approx(dict(expected), abs=1e-3)
