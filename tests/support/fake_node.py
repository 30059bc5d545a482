"""A node whose network says the same of every film, as parts for tests and as a process that can be killed."""

import gc
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from dicom_pacs import Pacs, free_port, until

from hilum.data.images import Preprocessing
from hilum.findings import CHESTXRAY14
from hilum.metrics.thresholds import Threshold
from hilum.model.engines import EngineName, Outputs, Precision
from hilum.model.metadata import ModelDescription
from hilum.model.thresholds import OperatingPoints
from hilum.pacs.config import NodeConfig, load_config
from hilum.pacs.results import ResultModel
from hilum.pacs.service import Node, run_node

FINDINGS = ("Effusion", "Mass")


class SameScores:
    """An engine without a network."""

    name: EngineName = "torch"
    precision: Precision = "fp32"
    batch = 1
    parallel = 1
    note = ""
    description = ModelDescription(FINDINGS, Preprocessing(32), dict.fromkeys(FINDINGS, (0.0, 1.0)), None, None)

    def run(self, grey: Any) -> Outputs:
        films = len(grey)
        scores = np.tile(np.array([0.25, 0.75], np.float32), (films, 1))
        return Outputs(scores, scores, np.full((films, 2, 4, 4), 0.5, np.float32))


MODEL = ResultModel("Hilum fake", "ef" * 32, SameScores.description, None)


def model_with_calls() -> ResultModel:
    """A model of all 14 findings whose thresholds are 0.5 [0.4, 0.6), but for Hernia, which has none."""
    thresholds = {name: None if name == "Hernia" else Threshold(0.5, 0.4, 0.6) for name in CHESTXRAY14}
    points = OperatingPoints("bound", {"youden": thresholds})
    description = ModelDescription(CHESTXRAY14, Preprocessing(64), dict.fromkeys(CHESTXRAY14, (0.0, 1.0)), points, None)
    return ResultModel("Hilum test", "ab" * 32, description, "youden")


def configured(folder: Path, *, port: int, pacs: int, watch: int | None = None, **changes: Any) -> NodeConfig:
    """A configuration on loopback, written to a file and read again; changes as section__key."""
    content: dict[str, dict[str, Any]] = {
        "model": {"run": "model"},
        "receive": {
            **{"ae_title": "HILUM", "address": "127.0.0.1", "port": port},
            **{"callers": ["SENDER"], "hosts": ["127.0.0.1"]},
        },
        "send": {"kind": "dimse", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs},
        "store": {"folder": "node", "quiet_s": 0.2, "keep_free_mb": 0},
    }
    if watch is not None:
        content["watch"] = {"port": watch}
    for name, value in changes.items():
        section, key = name.split("__")
        content[section][key] = value
    lines = [
        f"[{section}]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in keys.items())
        for section, keys in content.items()
    ]
    (folder / "node.toml").write_text("\n".join(lines))
    return load_config(folder / "node.toml")


def toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, int | float) else repr(value).replace("'", '"')


@contextmanager
def running(folder: Path) -> Iterator[tuple[Node, int]]:
    """A node in this process, with its port, and a PACS that takes what it sends."""
    pacs, port = Pacs(free_port()).start(), free_port()
    node = Node(configured(folder, port=port, pacs=pacs.port), engine=SameScores(), model=MODEL)
    node.start()
    try:
        yield node, port
    finally:
        node.stop()
        pacs.stop()
        gc.collect()  # pynetdicom forgets to close a socket where nobody listens


def start_process(
    folder: Path, port: int, *, within: Sequence[str] = (), clock: Path | None = None
) -> "subprocess.Popen[bytes]":
    """A node of its own process, that listens; the command stands after `within`, its clock is ahead as a file says."""
    program = Path(__file__).resolve()
    ahead = [] if clock is None else [str(program.with_name("set_clock.py")), str(clock)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*within, sys.executable, *ahead, str(program), str(folder / "node.toml")],
            stderr=log,
            stdout=log,
        )

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    until(listens)
    return process


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    run_node(load_config(Path(sys.argv[1])), engine=SameScores(), model=MODEL)
