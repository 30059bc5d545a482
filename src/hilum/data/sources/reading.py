"""What readers of data sets share: their options, and the words for views, sexes, splits and ages."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

VIEWS = {
    **dict.fromkeys(("", "unknown", "unk"), "unknown"),
    **{"pa": "PA", "ap": "AP", "ap_horizontal": "AP"},
    **dict.fromkeys(("lateral", "lat", "ll", "rl", "l"), "LATERAL"),
}
"""The manifest's view by a source's word for it, in lower case."""
SEXES = {
    **dict.fromkeys(("", "u", "o", "unknown"), "unknown"),
    **dict.fromkeys(("m", "male"), "M"),
    **dict.fromkeys(("f", "female"), "F"),
}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_AGE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)([YMWD]?)")


@dataclass(frozen=True)
class Options:
    """What the command line says beside the folder.

    Attributes:
        labels: the label file, where the folder has none or several.
        mapping: of `csv`: the file that says what the table's columns mean.
    """

    labels: Path | None = None
    mapping: Path | None = None


def years(text: str) -> float | None:
    """An age such as 58, 058Y or 6M; NaN if the text is empty, None if it is no age."""
    if not text:
        return math.nan
    match = _AGE.fullmatch(text.upper())
    return float(match[1]) * _YEARS[match[2]] if match else None
