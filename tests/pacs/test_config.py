import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hilum.errors import HilumError
from hilum.pacs.config import EXAMPLE, UNIT, load_config


def test_the_example_is_right_and_folders_are_beside_it(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(EXAMPLE.read_text())
    config = load_config(tmp_path / "node.toml")
    assert config.store.folder == tmp_path / "node"
    assert config.send.kind == "dimse"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('ae_title = "HILUM"', 'ae_title = "A-TITLE-THAT-IS-TOO-LONG"', "receive.ae_title"),
        ("port = 11112", "port = 0", "receive.port"),
        ("port = 11112", 'port = "11112"', "receive.port"),
        ('hosts = ["127.0.0.1"]', 'hosts = ["localhost"]', "receive.hosts"),
        ('hosts = ["127.0.0.1"]', "hosts = []", "receive.hosts"),
        ('kind = "dimse"', 'kind = "mail"', "send"),
        ("[watch] ", "[wacht] ", "wacht"),
        ("quiet_s = 20 ", "quiet = 20 ", "store.quiet"),
        ("[model]", "[model", "TOML file"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = EXAMPLE.read_text()
    assert old in text
    (tmp_path / "node.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(HilumError, match=message):
        load_config(tmp_path / "node.toml")


def test_the_commands(tmp_path: Path, hilum: Any) -> None:
    assert hilum("node", "example").out == EXAMPLE.read_text()
    assert "hilum node run" in hilum("node", "example", "--unit").out == UNIT.read_text()
    (tmp_path / "node.toml").write_text(EXAMPLE.read_text())
    said = hilum("node", "status", tmp_path / "node.toml")
    assert said.code == 2
    assert "Was the node started" in said.err


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here: apt-get install systemd")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "hilum-node.service"
    unit.write_text(UNIT.read_text().replace("/opt/hilum/.venv/bin/hilum", sys.executable))
    said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert [line for line in said.stderr.splitlines() if unit.name in line] == []  # it speaks of other units, too
