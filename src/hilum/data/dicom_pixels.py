"""The stored values of a DICOM film, decoded only after the stream was seen to be what the header says."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Int16, UInt8, UInt16

from hilum.data.faults import GET_AGAIN, SAVE_AGAIN, FaultError, check_size
from hilum.data.jpeg import stated_size

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
