import re
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
    assert [one.kind for one in config.send] == ["dimse"]


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


def test_all_faults_are_said_at_once_with_their_lines(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace('ae_title = "HILUM"', 'ae_title = ""').replace("port = 4242", "prot = 4242")
    text = text.replace("heatmaps = 3", "heatmaps = 30")
    (tmp_path / "node.toml").write_text(text)
    with pytest.raises(HilumError) as error:
        load_config(tmp_path / "node.toml")

    def line(words: str) -> int:
        return next(number for number, one in enumerate(text.splitlines(), 1) if one.startswith(words))

    for where, at in (
        ("model.heatmaps", "heatmaps = 30"),
        ("receive.ae_title", 'ae_title = ""'),
        ("send.0.port: Field required", "[send]"),
        ("send.0.prot", "prot"),
    ):
        assert re.search(rf"{where}[^;]*, line {line(at)}\b", str(error.value)), (where, str(error.value))


def test_a_secret_in_an_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    start, end = text.index('kind = "dimse"'), text.index("[store]")
    stow = 'kind = "stow"\nurl = "http://hilum:hunter2@127.0.0.1/dicom-web"\n'
    (tmp_path / "node.toml").write_text(text[:start] + stow + text[end:])
    with pytest.raises(HilumError, match=r"send\.0\.url: holds a user or a password") as error:
        load_config(tmp_path / "node.toml")
    assert "hunter2" not in str(error.value)


def test_several_targets_and_routes_have_names_that_differ(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    start, end = text.index("\n[send]") + 1, text.index("[store]")
    send = '[[send]]\nname = "{}"\nkind = "dimse"\nae_title = "A"\nhost = "a"\nport = 1\n'
    (tmp_path / "node.toml").write_text(text[:start] + send.format("a") + send.format("b") + text[end:])
    assert [one.name for one in load_config(tmp_path / "node.toml").send] == ["a", "b"]
    (tmp_path / "node.toml").write_text(text[:start] + send.format("a") * 2 + text[end:])
    with pytest.raises(HilumError, match="send must have names that differ"):
        load_config(tmp_path / "node.toml")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here: apt-get install systemd")
def test_the_unit_is_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "hilum-node.service"
    unit.write_text(UNIT.read_text().replace("/opt/hilum/.venv/bin/hilum", sys.executable))
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout[-200:]
