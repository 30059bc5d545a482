"""What the headers of DICOM films say, for sources whose tables do not: views, ages, sexes, sizes. No pixel is read."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hilum.data.tables import IMAGE_ENDINGS
from hilum.errors import FilmsError, MissingExtraError

Headers = dict[str, dict[str, str]]
"""By path below the folder, the text of each keyword; empty where the header has none."""


def dicom_header(path: Path, keywords: Sequence[str]) -> Any:
    """These elements of one DICOM file.

    Raises:
        FilmsError: if it is no DICOM file.
        MissingExtraError: if pydicom is not installed.
    """
    try:
        from pydicom import dcmread
    except ModuleNotFoundError:
        raise MissingExtraError(
            "pydicom must be installed to read DICOM films. Install it: pip install 'hilum[dicom]'"
        ) from None
    try:
        return dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
    except Exception as error:  # pydicom fails on hostile bytes with whatever exception comes handy
        raise FilmsError(f"film must be a DICOM file, got {type(error).__name__} in {path}. Get it again.") from error


def read_headers(folder: Path, paths: Iterable[str], keywords: Sequence[str]) -> tuple[Headers, list[str]]:
    """Read these keywords of each DICOM film; other images are passed over.

    Returns:
        The headers, and the films that are damaged or do not say how their pixels are stored.
    """
    headers: Headers = {}
    damaged = []
    for path in paths:
        if path.lower().endswith(IMAGE_ENDINGS):
            continue
        try:
            header = dicom_header(folder / path, [*keywords, "Rows"])
            headers[path] = {keyword: _text(header, keyword) for keyword in keywords}
            whole = bool(header.file_meta.get("TransferSyntaxUID")) and bool(_text(header, "Rows"))
        except FilmsError:
            whole = False
        if not whole:
            damaged.append(path)
    return headers, damaged


def _text(header: Any, keyword: str) -> str:
    try:
        value = header.get(keyword)
    except Exception:  # a value of a wrong form fails when it is first looked at
        return ""
    return "" if value is None else str(value).strip()
