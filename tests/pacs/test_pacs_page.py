"""The commands of docs/pacs.md, run as they stand there, with an untrained network, Orthanc and free ports."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import written
from dicom_pacs import Orthanc, free_port, until, with_orthanc

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE = (REPOSITORY / "docs" / "pacs.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]


@pytest.mark.slow
@with_orthanc
def test_the_page_leads_to_a_result(untrained_run: Path, tmp_path: Path) -> None:
    install, example, check, run, to_pacs, echo, to_node, status, predict, dicomweb = COMMANDS
    assert install.startswith("apt-get install ")
    shutil.copytree(untrained_run, tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 255, (90, 80)).astype(np.uint8)
    written(tmp_path / "film.dcm", pixels, StudyDate="20260110")
    (tmp_path / "films").mkdir()
    shutil.copy(tmp_path / "film.dcm", tmp_path / "films")
    (tmp_path / "orthanc").mkdir()
    orthanc, port = Orthanc(tmp_path / "orthanc"), str(free_port())
    ports = {"11112": port, "4242": str(orthanc.dicom), "8042": str(orthanc.http), "9112": str(free_port())}
    untrained = {" --calls youden": "", 'operating_point = "youden"': ""}  # it has no thresholds

    def changed(text: str, changes: dict[str, str]) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    def shell(command: str) -> str:
        command = changed(command, ports | untrained | {"hilum ": f"{sys.executable} -m hilum "})
        return subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    shell(example)
    text = changed((tmp_path / "node.toml").read_text(), ports | untrained)
    text = changed(text, {"quiet_s = 20 ": "quiet_s = 1 ", "keep_free_mb = 1024": "keep_free_mb = 1"})
    (tmp_path / "node.toml").write_text(text)
    orthanc.start()
    assert "WRONG" not in shell(check)
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen([sys.executable, "-m", *run.split()], cwd=tmp_path, stderr=log)
    try:
        until(lambda: "the node listens" in (tmp_path / "log").read_text(), seconds=120)
        shell(to_pacs)
        shell(echo)
        shell(to_node)
        until(lambda: len(orthanc.get("/instances")) == 3)
        until(lambda: json.loads(shell(f"{status} --json"))["results_sent"] == 2)  # each time a process of its own
        assert "results sent" in shell(status)
        (study,) = orthanc.get("/studies?expand")
        series = [orthanc.get(f"/series/{one}")["MainDicomTags"]["Modality"] for one in study["Series"]]
        assert sorted(series) == ["CR", "OT", "SR"]
        shell(predict)
        assert len(list((tmp_path / "results").iterdir())) == 2
        shell(dicomweb)
        tables = [(tmp_path / name).read_text().splitlines() for name in ("predictions.csv", "january.csv")]
        assert [len(table) for table in tables] == [2, 2]
        assert len(orthanc.get("/instances")) == 3
    finally:
        node.terminate()
        assert node.wait(timeout=60) == 0
        orthanc.stop()
    assert "Planted" not in (tmp_path / "log").read_text()
