"""Exports in tests: a network's graph is traced once, which takes most of an export's time, and copied after that."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch


@contextmanager
def traced_once() -> Iterator[None]:
    """Within this, a second export of the same bundle takes the first one's ONNX graph, whatever its engine is."""
    from hilum.model import export

    trace, graphs = export.write_onnx, dict[str, bytes]()

    def write(bundle: Any, path: Path) -> None:
        key = _hash(bundle)
        if key not in graphs:
            trace(bundle, path)
            graphs[key] = path.read_bytes()
        path.write_bytes(graphs[key])

    with patch.object(export, "write_onnx", write):
        yield


def _hash(bundle: Any) -> str:
    """Of all that a graph is made of."""
    found = hashlib.sha256(json.dumps(bundle.description.to_dict(), sort_keys=True).encode())
    for name, value in bundle.model.state_dict().items():
        found.update(name.encode())
        found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()
