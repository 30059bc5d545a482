"""The grey that each stored value of a DICOM film is shown with: one table, made from the header, not the pixels."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt16

from hilum.data.faults import FaultError

if TYPE_CHECKING:
    from pydicom import Dataset

Values = Float64[np.ndarray, " values"]

_ASK = "Ask whoever wrote the file for a right header, or save the film as a 16-bit grey PNG"
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


def grey_table(
    header: "Dataset", *, bits: int, signed: bool
) -> UInt8[np.ndarray, " values"] | UInt16[np.ndarray, " values"]:
    """The grey of each stored value, as an unsigned number of `bits` bits: 0 is black, the type's maximum white.

    In the standard's order: modality table or rescale, then VOI table or window, then the inversion of MONOCHROME1, and
    black for padding. A VOI table goes before a window, the first of several before the others. Without either, what
    the stored bits can hold is shown whole. Eight bits stay eight if neither changes them.

    Raises:
        FaultError: if the header contradicts itself.

    Source: DICOM PS3.3, C.7.5.1.1.2, C.7.6.3.1.2, C.11.1 and C.11.2.
        https://dicom.nema.org/medical/dicom/current/output/html/part03.html
    """
    unsigned = np.arange(1 << bits)
    stored = unsigned - ((unsigned >> bits - 1) << bits) if signed else unsigned
    measured, low, high = _measured(header, stored)
    windowed = bool(header.get("VOILUTSequence")) or "WindowCenter" in header or "WindowWidth" in header
    shown = _shown(header, measured) if windowed else (measured - low) / (high - low)
    if _is_inverted(header):
        shown = 1 - shown
    shown[_padding(header, stored)] = 0
    if bits == 8 and not windowed and not header.get("ModalityLUTSequence"):
        return np.rint(shown * 255).astype(np.uint8)
    return np.rint(shown * 65535).astype(np.uint16)


def _measured(header: "Dataset", stored: Int64[np.ndarray, " values"]) -> tuple[Values, float, float]:
    """What the values measure, and the least and most that it can be."""
    if header.get("ModalityLUTSequence"):
        table, most = _table(header, header.ModalityLUTSequence[0], stored)
        return table, 0.0, most
    slope, intercept = _number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0)
    if slope == 0:
        raise FaultError("have a rescale slope other than 0, got 0", _ASK)
    measured = slope * stored + intercept
    return measured, float(measured.min()), float(measured.max())


def _shown(header: "Dataset", measured: Values) -> Values:
    """From what was measured to 0 (black) ... 1 (white), before any inversion."""
    if header.get("VOILUTSequence"):
        table, most = _table(header, header.VOILUTSequence[0], np.rint(measured).astype(np.int64))
        return table / most
    centre, width = _number(header, "WindowCenter"), _number(header, "WindowWidth")
    function = header.get("VOILUTFunction") or "LINEAR"
    if width < 1 and (function == "LINEAR" or width <= 0):
        raise FaultError(f"have a window at least 1 wide, or wider than 0 if not LINEAR, got {width}", _ASK)
    match function:
        case "LINEAR" if width == 1:
            shown: Values = (measured > centre - 0.5).astype(np.float64)
        case "LINEAR":
            shown = (measured - (centre - 0.5)) / (width - 1) + 0.5
        case "LINEAR_EXACT":
            shown = (measured - centre) / width + 0.5
        case "SIGMOID":
            shown = 0.5 + 0.5 * np.tanh(2 * (measured - centre) / width)  # the logistic function, without overflow
        case other:
            raise FaultError(f"have a VOI function LINEAR, LINEAR_EXACT or SIGMOID, got {other!r}", _ASK)
    clipped: Values = np.clip(shown, 0, 1)
    return clipped


def _table(header: "Dataset", item: "Dataset", values: Int64[np.ndarray, " values"]) -> tuple[Values, float]:
    """Values through a table of the header, and the most that an entry can be; the ends go on for ever."""
    count, first, bits = (int(number) & 0xFFFF for number in item.LUTDescriptor)
    count = count or 1 << 16
    if values.min() < 0 and first >= 1 << 15:
        first -= 1 << 16
    if not 8 <= bits <= 16:
        raise FaultError(f"have table entries of 8 to 16 bits, got {bits}", _ASK)
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, np.uint8 if len(data) in (count, count + 1) and bits == 8 else f"{order}u2")
    entries = np.atleast_1d(np.asarray(data, dtype=np.int64))[: count + 1]
    if len(entries) not in (count, count + 1):
        raise FaultError(f"have {count} entries in its table as it says, got {len(entries)}", _ASK)
    entries, most = entries[:count] & 0xFFFF, (1 << bits) - 1
    if entries.max() > most:
        raise FaultError(f"have table entries of {bits} bits as it says, got {entries.max()}", _ASK)
    return entries[np.clip(values - first, 0, count - 1)].astype(np.float64), float(most)


def _is_inverted(header: "Dataset") -> bool:
    """Whether low values are white; the presentation shape says the same in other words, and must agree."""
    kind = header.PhotometricInterpretation
    shape = header.get("PresentationLUTShape") or _SHAPES[kind]
    if shape != _SHAPES[kind]:
        raise FaultError(
            f"be {_SHAPES[kind]} if it is {kind}, got the presentation shape {str(shape)!r}",
            "Ask whoever wrote the file which of the two is right",
        )
    return bool(kind == "MONOCHROME1")


def _padding(header: "Dataset", stored: Int64[np.ndarray, " values"]) -> Bool[np.ndarray, " values"]:
    """Which stored values are no part of the film."""
    if header.get("PixelPaddingValue") is None:
        return np.zeros(len(stored), dtype=bool)
    first = _number(header, "PixelPaddingValue")
    ends = sorted(_in_range(end, stored) for end in (first, _number(header, "PixelPaddingRangeLimit", first)))
    padding: Bool[np.ndarray, " values"] = (stored >= ends[0]) & (stored <= ends[1])
    return padding


def _in_range(value: float, stored: Int64[np.ndarray, " values"]) -> float:
    """A padding value that was written as unsigned where pixels are signed, or the reverse, as it was meant."""
    if stored.min() < 0 and value > stored.max():
        return value - (1 << 16)
    return value + (1 << 16) if stored.min() >= 0 and value < 0 else value


def _number(header: "Dataset", keyword: str, default: float | None = None) -> float:
    """A number of the header; the first of several."""
    value: Any = header.get(keyword)
    if value is None or value == "":
        value = default
    elif not isinstance(value, int | float | str) and len(value) > 0:
        value = value[0]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise FaultError(f"say its {keyword} as a number, got {str(value)!r}", _ASK)
    return number
