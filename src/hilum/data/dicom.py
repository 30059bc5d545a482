"""A DICOM film as grey pixels: the header is checked first, then the pixels are decoded and shown as it says.

The stored values of a DICOM film, decoded only after the stream was seen to be what the header says.

The grey that each stored value of a DICOM film is shown with: one table, made from the header, not the pixels.
"""

import io
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int64, UInt8, UInt16
from PIL import Image

from hilum.data.decoding import (
    GET_AGAIN,
    LARGEST_AREA,
    SAVE_AGAIN,
    FaultError,
    Film,
    check_size,
    grey_pixels,
    stated_size,
)
from hilum.errors import MissingExtraError

if TYPE_CHECKING:
    from pydicom import Dataset

FILM_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray, for presentation",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.3": "Multi-frame Grayscale Word Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture",
}
"""The SOP classes that may hold a chest film."""

_RAW_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
_META_START = 132  # after the preamble and the letters DICM
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LARGEST_INFLATED = 6 * LARGEST_AREA + (1 << 26)  # three 16-bit colours, and what else a header holds
_TAGS = (
    *("SOPClassUID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "PresentationLUTShape", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PixelSpacing", "ImagerPixelSpacing", "PresentationIntentType"),
)


def read_dicom(content: bytes) -> Film:
    """The pixels of a DICOM film: CR, DX for presentation or Secondary Capture, one frame, in any transfer syntax.

    Raises:
        FaultError: if it is another object, or its header and its pixels do not agree.
        MissingExtraError: if pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401 - the extra
    except ImportError:
        raise MissingExtraError(
            "pydicom must be installed to read DICOM films. Install it: pip install 'hilum[dicom]'"
        ) from None

    return film_of(_dataset(content))


def film_of(dataset: "Dataset") -> Film:
    """The same for a data set that is in memory, with its file meta information.

    Raises:
        FaultError: if it is another object, or its header and its pixels do not agree.
    """
    if getattr(dataset, "file_meta", {}).get("TransferSyntaxUID") is None:
        raise FaultError(
            "say its transfer syntax, got a data set without one in its file_meta", "Read it with pydicom.dcmread"
        )
    _check_class(dataset)
    stored = described(dataset)
    pixels = decode(dataset, stored)
    if stored.samples == 3:
        return Film(grey_pixels(Image.fromarray(pixels), (stored.width, stored.height)), _spacing(dataset))
    greys = grey_table(dataset, bits=stored.bits, signed=stored.signed)
    return Film(np.take(greys, pixels & np.uint16(len(greys) - 1)), _spacing(dataset))


def _dataset(content: bytes) -> "Dataset":
    """The header and the undecoded pixels. What a deflated file holds is bounded before any of it is believed."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset

    if content[128:_META_START] != b"DICM" or content[_META_START : _META_START + 4] != b"\2\0\0\0":
        raise FaultError(
            "be a DICOM file with preamble and file meta information, got neither PNG, JPEG nor such a file",
            "Write it anew with dcmtk's dcmconv",
        )
    end = _META_START + 12 + int.from_bytes(content[_META_START + 8 : _META_START + 12], "little")
    meta = read_dataset(io.BytesIO(content[_META_START:end]), is_implicit_VR=False, is_little_endian=True)
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_transfer_syntax or syntax.is_private:
        raise FaultError(f"be in a transfer syntax of the standard, got {str(syntax)!r}", "Write it anew with dcmconv")
    body = content[end:]
    if syntax == _DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        body = inflater.decompress(body, _LARGEST_INFLATED)
        if not inflater.eof:
            raise FaultError("be whole, and not absurdly large when inflated, got another deflated file", GET_AGAIN)
    dataset = read_dataset(
        io.BytesIO(body), syntax.is_implicit_VR, syntax.is_little_endian, specific_tags=[*map(_tag, _TAGS)]
    )
    dataset.file_meta = FileMetaDataset(meta)
    return dataset


def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"keyword must be one of DICOM's, got {keyword!r}")
    return tag


def _check_class(dataset: "Dataset") -> None:
    kind = dataset.get("SOPClassUID")
    if kind == _RAW_CLASS or (kind in FILM_CLASSES and dataset.get("PresentationIntentType") == "FOR PROCESSING"):
        raise FaultError("be for presentation, got raw pixels for processing", "Send the processed film instead")
    if kind not in FILM_CLASSES:
        name = getattr(kind, "name", kind)
        raise FaultError(
            f"be a CR, DX or Secondary Capture film, got {str(name)!r}", "Remove it: other objects are not read"
        )
    frames = dataset.get("NumberOfFrames") or 1
    if frames != 1:
        raise FaultError(f"be a single image, got {frames} frames", "Save the frame that is a chest film as one file")


def _spacing(dataset: "Dataset") -> tuple[float, float] | None:
    """Height and width of a pixel: in the patient if calibrated, else at the detector; zeros are no sizes."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = dataset.get(keyword)
        if spacing is not None and len(spacing) == 2 and all(np.isfinite(s) and s > 0 for s in map(float, spacing)):
            return float(spacing[0]), float(spacing[1])
    return None


if TYPE_CHECKING:
    from pydicom import Dataset

Stored = UInt8[np.ndarray, "..."] | UInt16[np.ndarray, "..."]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
DECODERS = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline: the pixels that the bare JPEG file would have
    "1.2.840.10008.1.2.4.51": "pillow",  # JPEG extended, of 8 bits
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # High-throughput JPEG 2000
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
"""One decoder for each compression, so that a film has the same pixels on every machine."""
_RLE = "1.2.840.10008.1.2.5"
_NOISE = 1 << 16  # bytes by which a stream may be longer than twice the pixels


class Description(NamedTuple):
    """What a header says of its pixels. `bits` are those in use; `samples` is 1, or 3 for colour."""

    height: int
    width: int
    samples: int
    bits: int
    allocated: int
    signed: bool


def described(dataset: "Dataset") -> Description:
    """Read and check what a header says of its pixels.

    Raises:
        FaultError: if a part is missing, or is none that a chest film can have.
    """
    height, width = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    check_size(width, height)
    kind = dataset.get("PhotometricInterpretation")
    samples = _whole(dataset, "SamplesPerPixel")
    if (kind, samples) not in [*((name, 1) for name in _GREY), *((name, 3) for name in _COLOUR)]:
        raise FaultError(f"be grey or RGB, got {str(kind)!r} with {samples} values for a pixel", SAVE_AGAIN)
    allocated, bits = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    highest, signed = _whole(dataset, "HighBit"), _whole(dataset, "PixelRepresentation")
    if allocated not in (8, 16) or not 1 <= bits <= allocated or highest != bits - 1 or signed not in (0, 1):
        raise FaultError(
            "have 8 or 16 bits allocated, no more of them stored, the lowest ones, signed or not, "
            f"got {allocated} allocated, {bits} stored up to bit {highest}, representation {signed}",
            SAVE_AGAIN,
        )
    if samples == 3 and (bits != 8 or signed):
        raise FaultError(f"have 8 unsigned bits if it is in colour, got {bits}", SAVE_AGAIN)
    return Description(height, width, samples, bits, allocated, bool(signed))


def decode(dataset: "Dataset", stored: Description) -> Stored:
    """The pixels as unsigned numbers, of which only the stored bits count; height x width, or x 3 as RGB.

    Raises:
        FaultError: if the pixels are not as many, as large or as deep as the header says.
    """
    from pydicom.pixels.decoders.base import get_decoder

    if "PixelData" not in dataset:
        raise FaultError("have pixels, got a header alone", GET_AGAIN)
    syntax = dataset.file_meta.TransferSyntaxUID
    options: dict[str, Any] = {"raw": stored.samples == 1, "correct_unused_bits": False}
    if syntax.is_encapsulated:
        if syntax not in DECODERS:
            raise FaultError(f"be in a compression that can be decoded, got {syntax.name!r}", "Decompress it: gdcmconv")
        _check_stream(dataset.PixelData, str(syntax), stored)
        options["decoding_plugin"] = DECODERS[syntax]
    else:
        _check_native(dataset, stored)
    pixels, _ = get_decoder(syntax).as_array(dataset, index=0, **options)
    expected = (stored.height, stored.width, 3)[: 2 if stored.samples == 1 else 3]
    if pixels.shape != expected or pixels.dtype.itemsize > stored.allocated // 8:
        raise FaultError(f"have pixels as its header says, {expected}, got {pixels.shape}", GET_AGAIN)
    if stored.samples == 3:
        return np.ascontiguousarray(pixels)
    if syntax.is_encapsulated:
        _check_range(pixels, stored)
    unsigned: Stored = pixels.view(pixels.dtype.str.replace("i", "u"))  # in the file's byte order
    return unsigned


def _check_native(dataset: "Dataset", stored: Description) -> None:
    """Refuse pixels that are too few, or so many that they are of something else."""
    values = stored.height * stored.width * stored.samples
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        values = values // 3 * 2
    expected, got = values * stored.allocated // 8, len(dataset.PixelData)
    if got not in (expected, expected + expected % 2):
        raise FaultError(f"have {expected} bytes of pixels as its header says, got {got}", GET_AGAIN)


def _check_stream(encapsulated: bytes, syntax: str, stored: Description) -> None:
    """Refuse a stream of another size than the header's before a decoder takes memory for it."""
    from pydicom.encaps import get_frame

    stream = get_frame(encapsulated, 0, number_of_frames=1)
    pixels = stored.height * stored.width
    if len(stream) > 2 * pixels * stored.samples * stored.allocated // 8 + _NOISE:
        raise FaultError(f"be compressed, got {len(stream)} bytes for {pixels} pixels", GET_AGAIN)
    if syntax == _RLE:
        _check_runs(stream, stored)
        return
    stated, expected = stated_size(stream), (stored.width, stored.height, stored.samples)
    if tuple(stated) != expected:
        raise FaultError(
            f"have a stream of the header's width, height and colours, {expected}, got {stated}", GET_AGAIN
        )


def _check_runs(stream: bytes, stored: Description) -> None:
    """Refuse a run-length stream that unpacks to more than the film; two bytes can stand for 128.

    Source: DICOM PS3.5, annex G. https://dicom.nema.org/medical/dicom/current/output/html/part05.html
    """
    planes = stored.samples * stored.allocated // 8
    starts = [int(start) for start in np.frombuffer(stream[:64], "<u4")]
    if len(starts) < 16 or starts[0] != planes:
        raise FaultError(f"have {planes} run-length segments, got another header", GET_AGAIN)
    for start, end in zip(starts[1 : planes + 1], [*starts[2 : planes + 1], len(stream)], strict=True):
        place, unpacked, most = start, 0, stored.height * stored.width + 1
        while place < end and unpacked <= most:
            length = stream[place]
            unpacked += length + 1 if length < 128 else 257 - length if length > 128 else 0
            place += length + 2 if length < 128 else 2 if length > 128 else 1
        if not most - 1 <= unpacked <= most:
            raise FaultError("have run-length segments as long as the film, got others", GET_AGAIN)


def _check_range(pixels: Stored | Int16[np.ndarray, "..."], stored: Description) -> None:
    """Refuse decoded values that the stored bits cannot hold: cutting the rest off would turn white into black."""
    low, high = (-(1 << stored.bits - 1), (1 << stored.bits - 1) - 1) if stored.signed else (0, (1 << stored.bits) - 1)
    least, most = int(pixels.min()), int(pixels.max())
    if least < low or most > high:
        raise FaultError(
            f"have values of {low} to {high} as its Bits Stored says, got {least} to {most}",
            "Ask whoever wrote the file for a right header",
        )


def _whole(dataset: "Dataset", keyword: str) -> int:
    value = dataset.get(keyword)
    if not isinstance(value, int):
        raise FaultError(f"say its {keyword} as a whole number, got {value!r}", GET_AGAIN)
    return int(value)


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
