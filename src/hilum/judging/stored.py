"""A report that was written before, with the scores and the truth that it was made from."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from hilum.data.judged import Judged, read_judged
from hilum.errors import HilumError, PredictionsError

_REMEDY = "Name the folder that was --out of: hilum evaluate"


class StoredReport(NamedTuple):
    """A report's folder, what its report.json holds, and the films that it judged."""

    folder: Path
    content: dict[str, Any]
    judged: Judged


def read_report(folder: Path) -> StoredReport:
    """Read a folder that `hilum evaluate` wrote.

    Raises:
        HilumError: if it holds no report, or one whose files do not belong together.
    """
    content = read_content(folder)
    judged = read_judged(folder, list(content["findings"]))
    if len(judged.truth) != content["films"]:
        raise PredictionsError(
            f"judged.parquet must hold the {content['films']} films of report.json, got {len(judged.truth)} in "
            f"{folder}. {_REMEDY}"
        )
    return StoredReport(folder, content, judged)


def read_content(folder: Path) -> dict[str, Any]:
    """What a folder's report.json holds.

    Raises:
        HilumError: if there is none, or it is no report.
    """
    path = folder / "report.json"
    if not path.is_file():
        raise HilumError(f"report must be a folder with report.json, got {folder}, which is none. {_REMEDY}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HilumError(f"report.json must be a file that can be read, got {path}: {error.strerror}.") from None
    except ValueError:  # of JSON or of UTF-8
        raise HilumError(f"report.json must be JSON, got something else in {path}. {_REMEDY}") from None
    keys = ("system", "protocol", "split", "films", "films_fingerprint", "findings")
    lacking = [key for key in keys if not isinstance(content, dict) or key not in content]
    if lacking or not isinstance(content["findings"], dict):
        raise HilumError(f"report.json must have {(lacking or ['findings'])[0]!r}, got none in {path}. {_REMEDY}")
    return dict(content)
