"""A DICOM film as grey pixels: header and stream are checked against each other, then decoded and shown as they say."""

import io
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt16
from PIL import Image

from hilum.data.decoding import (
    GET_AGAIN,
    LARGEST_AREA,
    SAVE_AGAIN,
    FaultError,
    Film,
    StreamHeader,
    check_size,
    grey_pixels,
    stream_header,
    unused_bits,
)
from hilum.data.film_kind import FIELDS, objections
from hilum.errors import MissingExtraError
from hilum.messages import quiet_dicom

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
_LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")
"""Value representations whose length has four bytes, after two that are reserved."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LARGEST_INFLATED = 6 * LARGEST_AREA + (1 << 26)  # three 16-bit colours, and what else a header holds
_COLOURS = ("Red", "Green", "Blue")
_TAGS = (
    *("SOPClassUID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "PresentationLUTShape", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PixelSpacing", "ImagerPixelSpacing", "SOPInstanceUID", "SpecificCharacterSet", *FIELDS),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in _COLOURS for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
)


def read_dicom(content: bytes, *, bits: int | None = None) -> Film:
    """The pixels of a DICOM film: CR, DX for presentation or Secondary Capture, one frame, in any transfer syntax.

    Args:
        bits: how many bits the film's values have, where its header has room for more and no window says it.

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

    with quiet_dicom():
        return film_of(_dataset(content), bits=bits)


def film_of(dataset: "Dataset", *, bits: int | None = None) -> Film:
    """The same for a data set that is in memory, with its file meta information.

    Raises:
        FaultError: if it is another object, or its header and its pixels do not agree.
    """
    if getattr(dataset, "file_meta", {}).get("TransferSyntaxUID") is None:
        raise FaultError(
            "say its transfer syntax, got a data set without one in its file_meta", "Read it with pydicom.dcmread"
        )
    with quiet_dicom():
        try:
            _check_class(dataset)
            stored = described(dataset)
            said: dict[str, Any] = {
                "spacing_mm": _spacing(dataset),
                "instance": str(dataset.get("SOPInstanceUID") or ""),
                "objections": objections(dataset),
            }
        except _HEADER_ERRORS as error:
            raise _unreadable(error) from error
        pixels, held = decode(dataset, stored)
        if held.samples == 3:
            return Film(grey_pixels(Image.fromarray(pixels), (held.width, held.height)))._replace(**said)
        try:
            return _shown_film(dataset, pixels, stored, held, bits)._replace(**said)
        except _HEADER_ERRORS as error:
            raise _unreadable(error) from error


_HEADER_ERRORS = (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError, NotImplementedError)
"""What pydicom and NumPy raise for elements that hold something else than they must."""


def _unreadable(error: Exception) -> FaultError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return FaultError(f"have a header whose values can be read, got {reason!r}", _ASK)


def _shown_film(
    dataset: "Dataset", pixels: "Stored", stored: "PixelDescription", held: "PixelDescription", bits: int | None
) -> Film:
    """A grey film as its header shows it, and whether its values leave bits unused that the header claims."""
    if dataset.PhotometricInterpretation == _PALETTE:
        table = palette_greys(dataset, 1 << held.bits)
        return Film(np.take(table, pixels & np.uint16(len(table) - 1)))
    windowed = _is_windowed(dataset)
    unsigned = pixels & np.uint16((1 << held.bits) - 1)
    stated = None if windowed or dataset.get("ModalityLUTSequence") else bits
    if stated is not None and stated < held.bits:
        (low, high), (least, most) = _ends(dataset, unsigned, held), _limits(stated, held.signed)
        if low < least or high > most:
            raise FaultError(
                f"have values of {least} to {most} as --bits {stated} says, got {low} to {high}",
                "Leave --bits away for films that hold more",
            )
    narrower = held.bits < stored.bits
    greys = grey_table(dataset, bits=held.bits, signed=held.signed, used=stated, narrower=narrower)
    film = Film(np.take(greys, unsigned))
    if stated is not None or held.bits <= 8:
        return film
    low, high = _ends(dataset, unsigned, held)
    used = _bits_of(low, high, signed=held.signed)
    if used >= held.bits:
        return film
    shown = greys[np.arange(low, high + 1) & ((1 << held.bits) - 1)].astype(np.int64)
    half = (np.iinfo(greys.dtype).max + 1) // 2
    if np.ptp(shown) >= half:
        return film  # the window is made for these values
    reason = "under-exposed" if shown.max() < half else "over-exposed" if shown.min() >= half else "low contrast"
    return film._replace(doubt=unused_bits(held.bits, used, reason=reason, windowed=windowed))


def _ends(dataset: "Dataset", unsigned: "Stored", held: "PixelDescription") -> tuple[int, int]:
    """The lowest and the highest stored value of a film without its padding."""
    if not held.signed and dataset.get("PixelPaddingValue") is None:
        return int(unsigned.min()), int(unsigned.max())
    seen = np.zeros(1 << held.bits, dtype=bool)
    seen[unsigned.ravel()] = True
    stored = _values(held.bits, held.signed)
    kept = stored[seen & ~_padding(dataset, stored)]
    return (int(kept.min()), int(kept.max())) if len(kept) else (0, 0)


def _values(bits: int, signed: bool) -> Int64[np.ndarray, " values"]:
    """What each pattern of so many bits means."""
    unsigned = np.arange(1 << bits)
    return unsigned - ((unsigned >> bits - 1) << bits) if signed else unsigned


def _limits(bits: int, signed: bool) -> tuple[int, int]:
    """The lowest and the highest number of so many bits."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _bits_of(low: int, high: int, *, signed: bool) -> int:
    """How many bits numbers from `low` to `high` need."""
    return max(high.bit_length(), (~low).bit_length() if low < 0 else 0) + 1 if signed else high.bit_length()


def _dataset(content: bytes) -> "Dataset":
    """The header and the undecoded pixels. What a deflated file holds is bounded before any of it is believed."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset

    if content[128:_META_START] != b"DICM" or content[_META_START : _META_START + 2] != b"\2\0":
        raise FaultError(
            "be a DICOM file with preamble and file meta information, got neither PNG, JPEG nor such a file",
            "Write it anew with dcmtk's dcmconv",
        )
    end = meta_end(content)
    meta = read_dataset(io.BytesIO(content[_META_START:end]), is_implicit_VR=False, is_little_endian=True)
    syntax = meta.get("TransferSyntaxUID")
    if not syntax:
        raise FaultError("say its transfer syntax in the file meta information, got none", "Write it anew with dcmconv")
    if not syntax.is_transfer_syntax or syntax.is_private:
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


def meta_end(content: bytes) -> int:
    """Where the file meta information ends: with its last element of group 2, whatever its group length says.

    Writers that change an element often leave the old group length, or 0, or none; pydicom, dcmtk and gdcm read on.

    Source: DICOM PS3.10, 7.1. https://dicom.nema.org/medical/dicom/current/output/html/part10.html
    """
    start = _META_START
    while content[start : start + 2] == b"\2\0" and start + 8 <= len(content):
        if content[start + 4 : start + 6] in _LONG_VRS:
            start += 12 + int.from_bytes(content[start + 8 : start + 12], "little")
        else:
            start += 8 + int.from_bytes(content[start + 6 : start + 8], "little")
    return min(start, len(content))


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
    if not kind:
        raise FaultError("say what it is (SOP Class UID), got none", "Send it through the PACS again, or write it anew")
    if kind not in FILM_CLASSES:
        name = getattr(kind, "name", kind)
        raise FaultError(
            f"be a CR, DX or Secondary Capture film, got {str(name)!r}", "Leave it out: other objects are not read"
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


Stored = UInt8[np.ndarray, "..."] | UInt16[np.ndarray, "..."]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"
_YBR_2000 = ("YBR_ICT", "YBR_RCT")  # what JPEG 2000 mixes itself
_PARTIAL = ("YBR_PARTIAL_422", "YBR_PARTIAL_420")
COLOUR_MODELS = ("RGB", "YBR_FULL", "YBR_FULL_422", *_YBR_2000, *_PARTIAL)
DECODERS = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline: the pixels that the bare JPEG file would have
    "1.2.840.10008.1.2.4.51": "pillow",  # JPEG extended, of 8 bits; gdcm for 12
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
PROCESSES = {
    **dict.fromkeys(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"), "JPEG"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"), "JPEG lossless"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "JPEG-LS"),
    **dict.fromkeys((uid for uid, decoder in DECODERS.items() if decoder == "pylibjpeg"), "JPEG 2000"),
    "1.2.840.10008.1.2.5": "RLE",
}
"""What each compression is called."""
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_DCT_FRAMES = (0xC0, 0xC1, 0xC2)
_FRAMES: dict[str, tuple[int | None, ...]] = {
    "JPEG": _DCT_FRAMES,
    "JPEG lossless": (0xC3,),
    "JPEG-LS": (0xF7,),
    "JPEG 2000": (None,),
}
"""The frames that a process may have; None for JPEG 2000, which has none."""
_SPARE = 16  # bytes after the pixels that are padding whatever they are: a row or a column has more
_ASK_ENCODER = "Ask whoever wrote the file to compress it anew, or decompress it with a program that shows it right"
_NOISE = 1 << 16  # bytes by which a stream may be longer than twice the pixels


class PixelDescription(NamedTuple):
    """What a header says of its pixels. `bits` are those in use; `samples` is 1, or 3 for colour."""

    height: int
    width: int
    samples: int
    bits: int
    allocated: int
    signed: bool


def described(dataset: "Dataset") -> PixelDescription:
    """Read and check what a header says of its pixels.

    Raises:
        FaultError: if a part is missing, or is none that a chest film can have.
    """
    height, width = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    check_size(width, height)
    kind = dataset.get("PhotometricInterpretation")
    samples = _whole(dataset, "SamplesPerPixel")
    if (kind, samples) not in [*((name, 1) for name in (*_GREY, _PALETTE)), *((name, 3) for name in COLOUR_MODELS)]:
        raise FaultError(
            f"be grey, RGB, YBR or of a palette, got {str(kind)!r} with {samples} values for a pixel", SAVE_AGAIN
        )
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
    if kind == _PALETTE and signed:
        raise FaultError("have unsigned values if it has a palette, got signed ones", SAVE_AGAIN)
    return PixelDescription(height, width, samples, bits, allocated, bool(signed))


def decode(dataset: "Dataset", stored: PixelDescription) -> tuple[Stored, PixelDescription]:
    """The pixels as unsigned numbers, of which only the held bits count; height x width, or x 3 as RGB.

    What is held is what the stream says where it and the header differ and only one reading is possible: a stream of 12
    bits under Bits Stored 16 holds 12. Where two are possible, the film is refused; see `_held`.

    Raises:
        FaultError: if the pixels are not as many, as large or as deep as the header says.
    """
    if "PixelData" not in dataset:
        raise FaultError("have pixels, got a header alone", GET_AGAIN)
    syntax = dataset.file_meta.TransferSyntaxUID
    if dataset.PhotometricInterpretation in (*_YBR_2000, *_PARTIAL) and DECODERS.get(syntax) in (None, "pydicom"):
        raise FaultError(
            f"be RGB, YBR_FULL or YBR_FULL_422 if it is in colour, got {dataset.PhotometricInterpretation}", SAVE_AGAIN
        )
    if not syntax.is_encapsulated:
        _check_native(dataset, stored)
        return _decoded(dataset, stored, {}), stored
    if syntax not in DECODERS:
        raise FaultError(
            f"be in a compression that can be decoded, got {syntax.name!r}", "Decompress it: gdcmconv --raw"
        )
    stream = _stream(dataset.PixelData, stored)
    if syntax == _RLE:  # keeps the bits above Bits Stored as native pixels do: PS3.5, 8.1.1
        _check_runs(stream, stored)
        return _decoded(dataset, stored, {"decoding_plugin": DECODERS[syntax]}), stored
    stated = stream_header(stream)
    held = _held(stored, stated, str(syntax))
    if held.samples == 3:
        _check_colours(dataset.PhotometricInterpretation, stated)
    if stated.bits == 12 and stated.frame in _DCT_FRAMES:
        pixels = _extended(stream, held)
    else:
        container = 8 if stated.bits <= 8 else 16
        options = {"decoding_plugin": DECODERS[syntax], "bits_allocated": container, "bits_stored": stated.bits}
        if held.samples == 3:
            options["planar_configuration"] = 0  # as decoders give colours, whatever the header says of its own
        pixels = _decoded(dataset, held, options)
    if held.samples == 1 and stated.bits > held.bits:
        _check_range(pixels, held)
    return pixels, held


def _decoded(dataset: "Dataset", held: PixelDescription, options: dict[str, Any]) -> Stored:
    """The pixels by the decoder that the options name."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    options = {"raw": held.samples == 1, "correct_unused_bits": False, **options}
    try:
        pixels, _ = get_decoder(syntax).as_array(dataset, index=0, **options)
    except Exception as error:  # decoders fail on hostile bytes with whatever exception comes handy
        reason = (str(error) or type(error).__name__).splitlines()[-1].strip().rstrip(".")
        raise FaultError(
            f"have pixels that can be decoded as {syntax.name}, got {reason!r}",
            "If other programs show it, decompress it with gdcmconv --raw; if none does, copy it again",
        ) from error
    expected = (held.height, held.width, 3)[: 2 if held.samples == 1 else 3]
    if pixels.shape != expected or pixels.dtype.itemsize > held.allocated // 8:
        raise FaultError(f"have pixels as its header says, {expected}, got {pixels.shape}", GET_AGAIN)
    if held.samples == 3:
        return np.ascontiguousarray(pixels)
    unsigned: Stored = pixels.view(pixels.dtype.str.replace("i", "u"))  # in the file's byte order
    return unsigned


def _held(stored: PixelDescription, stream: StreamHeader, syntax: str) -> PixelDescription:
    """What the pixels of a stream are, from its own words and the header's.

    The stream's precision counts where the header only claims more: PS3.5 A.4 wants both alike, and no stream holds
    more than its precision. A header that claims less is believed as long as the values agree. A stream that says
    signed under a header that says unsigned is refused: programs differ in what they show. The reverse is what encoders
    write that know no sign: bits are bits, if both have as many of them.

    Raises:
        FaultError: if the stream is of another size or process, or can be read in two ways.
    """
    expected = stored.width, stored.height, stored.samples
    if (stream.width, stream.height, stream.components) != expected:
        raise FaultError(
            f"have a stream of the header's width, height and colours, {expected}, got "
            f"{(stream.width, stream.height, stream.components)}",
            GET_AGAIN,
        )
    if stream.frame not in _FRAMES[PROCESSES[syntax]]:
        found = "JPEG 2000" if stream.frame is None else f"frame 0x{stream.frame:02X}"
        raise FaultError(
            f"have the stream that its transfer syntax {syntax} says, got {found}", "Write it anew with gdcmconv --raw"
        )
    depths = f"a stream of {stream.bits} bits and a header of {stored.bits}"
    if stream.frame in _DCT_FRAMES and stream.bits not in (8, 12):
        raise FaultError(f"have 8 or 12 bits if it is a lossy JPEG, got {depths}", _ASK_ENCODER)
    if stream.bits > stored.allocated or (stored.samples == 3 and stream.bits != 8):
        raise FaultError(f"have a stream that fits its header, got {depths}", _ASK_ENCODER)
    if stream.signed and not stored.signed:
        raise FaultError("have one sign, got a stream that says signed and a header that says unsigned", _ASK_ENCODER)
    unknown_sign = stored.signed and not stream.signed
    if unknown_sign and (stream.bits < stored.bits or (stream.signed is not None and stream.bits != stored.bits)):
        raise FaultError(f"have one depth if it is signed, got {depths}; its values may be signed or not", _ASK_ENCODER)
    if stream.bits >= stored.bits:
        return stored
    return stored._replace(bits=stream.bits, allocated=8 if stream.bits <= 8 else 16)


def _check_colours(kind: str, stream: StreamHeader) -> None:
    """Refuse colours that header and stream mix in different ways: they would be turned into RGB twice or never."""
    of_jpeg_2000 = stream.frame is None
    if kind in (*_YBR_2000, *_PARTIAL):
        agrees = of_jpeg_2000 and (stream.mixed or kind in _YBR_2000)
    else:
        agrees = kind == "RGB" or not stream.mixed
    if not agrees:
        how = "mixes colours itself" if stream.mixed else "does not mix colours so"
        raise FaultError(f"have one colour model, got {kind} and a stream that {how}", _ASK_ENCODER)


def _extended(stream: bytes, held: PixelDescription) -> Stored:
    """The pixels of a JPEG of 12 bits, by gdcm itself: pydicom asks none of its decoders for them."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    film = gdcm.Image()
    film.SetNumberOfDimensions(2)
    film.SetDimensions((held.width, held.height, 1))
    film.SetDataElement(element)
    film.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    film.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(_JPEG_EXTENDED)))
    film.SetPixelFormat(gdcm.PixelFormat(1, 12, 12, 11, 0))  # with 16 allocated it tries another decoder first
    try:
        content = film.GetBuffer().encode("utf-8", "surrogateescape")  # it gives bytes as text
    except Exception as error:
        raise FaultError("be an intact JPEG of 12 bits, got a damaged one", GET_AGAIN) from error
    if len(content) != 2 * held.height * held.width:
        raise FaultError("be an intact JPEG of 12 bits, got a damaged one", GET_AGAIN)
    return np.frombuffer(content, "<u2").reshape(held.height, held.width)


def _check_native(dataset: "Dataset", stored: PixelDescription) -> None:
    """Refuse pixels that are too few, or so many that they are of something else.

    Bytes after the last pixel are padding (PS3.5, 8.1.1), unless they may be a row or a column that the header forgot.
    """
    values = stored.height * stored.width * stored.samples
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        values = values // 3 * 2
    size = stored.allocated // 8
    expected, got = values * size, len(dataset.PixelData)
    spare = got - expected
    padding = dataset.PixelData[expected : 2 * expected]
    forgotten = any(spare // (side * size) and spare % (side * size) < 2 for side in (stored.height, stored.width))
    if not 0 <= spare < expected or (spare > _SPARE and (forgotten or padding.strip(padding[:1]))):
        raise FaultError(
            f"have {expected} bytes of pixels as its header says, got {got}",
            GET_AGAIN if spare < 0 else "Ask whoever wrote the file for the right number of rows, columns and frames",
        )


def _stream(encapsulated: bytes, stored: PixelDescription) -> bytes:
    """The stream of the one frame, which is no longer than a film's can be."""
    from pydicom.encaps import get_frame

    try:
        stream = bytes(get_frame(encapsulated, 0, number_of_frames=1))
    except Exception as error:
        raise FaultError("have its compressed pixels in one piece, got a damaged one", GET_AGAIN) from error
    pixels = stored.height * stored.width
    if len(stream) > 2 * pixels * stored.samples * stored.allocated // 8 + _NOISE:
        raise FaultError(f"be compressed, got {len(stream)} bytes for {pixels} pixels", GET_AGAIN)
    return stream


def _check_runs(stream: bytes, stored: PixelDescription) -> None:
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


def _check_range(pixels: Stored, held: PixelDescription) -> None:
    """Refuse decoded values that the stored bits cannot hold: cutting the rest off would turn white into black.

    Signed ones may be there with their sign in all higher bits, or with none of these set.
    """
    low, high = _limits(held.bits, held.signed)
    if held.signed and int(pixels.max()) < 1 << held.bits:
        return
    values = pixels.view(pixels.dtype.str.replace("u", "i")) if held.signed else pixels
    least, most = int(values.min()), int(values.max())
    if least < low or most > high:
        raise FaultError(f"have values of {low} to {high} as its Bits Stored says, got {least} to {most}", _ASK_ENCODER)


def _whole(dataset: "Dataset", keyword: str) -> int:
    value = dataset.get(keyword)
    if not isinstance(value, int):
        raise FaultError(f"say its {keyword} as a whole number, got {value!r}", GET_AGAIN)
    return int(value)


Values = Float64[np.ndarray, " values"]

_ASK = "Ask whoever wrote the file for a right header, or save the film as a 16-bit grey PNG"
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


def grey_table(
    header: "Dataset", *, bits: int, signed: bool, used: int | None = None, narrower: bool = False
) -> UInt8[np.ndarray, " values"] | UInt16[np.ndarray, " values"]:
    """The grey of each stored value, as an unsigned number of `bits` bits: 0 is black, the type's maximum white.

    In the standard's order: modality table or rescale, then VOI table or window, then the inversion of MONOCHROME1, and
    black for padding. A VOI table goes before a window, the first of several before the others. Without either, what
    the stored bits can hold is shown whole. Eight bits stay eight if neither changes them.

    Args:
        used: how many of the bits the values have, if the user says so; counts where there is no table and no window.
        narrower: whether the stream has fewer bits than the header says. A window that is made for the header's is then
            refused, as it would show the film nearly black.

    Raises:
        FaultError: if the header contradicts itself.

    Source: DICOM PS3.3, C.7.5.1.1.2, C.7.6.3.1.2, C.11.1 and C.11.2.
        https://dicom.nema.org/medical/dicom/current/output/html/part03.html
    """
    stored = _values(bits, signed)
    measured, low, high = _measured(header, stored, _limits(min(used or bits, bits), signed))
    windowed = _is_windowed(header)
    shown = _shown(header, measured) if windowed else np.clip((measured - low) / (high - low), 0, 1)
    if narrower and windowed and np.ptp(shown) < 0.5:
        raise FaultError(
            f"have a window for the values of its stream, got a stream of {bits} bits and a window far beyond it",
            _ASK_ENCODER,
        )
    if _is_inverted(header):
        shown = 1 - shown
    shown[_padding(header, stored)] = 0
    if bits == 8 and not windowed and not header.get("ModalityLUTSequence"):
        eight: UInt8[np.ndarray, " values"] = np.rint(shown * 255).astype(np.uint8)
        return eight
    sixteen: UInt16[np.ndarray, " values"] = np.rint(shown * 65535).astype(np.uint16)
    return sixteen


def _measured(
    header: "Dataset", stored: Int64[np.ndarray, " values"], limits: tuple[int, int]
) -> tuple[Values, float, float]:
    """What was measured at each stored value, and the least and the most that it can be."""
    if header.get("ModalityLUTSequence"):
        table, most = _table(header, header.ModalityLUTSequence[0], stored)
        return table, 0.0, most
    slope, intercept = _number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0)
    if slope == 0:
        raise FaultError("have a rescale slope other than 0, got 0", _ASK)
    measured = slope * stored + intercept
    ends = sorted(slope * limit + intercept for limit in limits)
    return measured, ends[0], ends[1]


def _is_windowed(header: "Dataset") -> bool:
    """Whether a header has a VOI table or a window; one that is empty, or 0 wide at 0, was never set."""
    return bool(header.get("VOILUTSequence")) or _window(header) is not None


def _window(header: "Dataset") -> tuple[float, float] | None:
    """Centre and width of the first window that is set."""
    centres, widths = _listed(header, "WindowCenter"), _listed(header, "WindowWidth")
    for place in range(max(len(centres), len(widths))):
        pair = [numbers[place] if place < len(numbers) else None for numbers in (centres, widths)]
        if pair in ([None, None], [0, 0]):
            continue
        for keyword, number in zip(("WindowCenter", "WindowWidth"), pair, strict=True):
            if number is None:
                raise FaultError(f"say its {keyword} too if it has the other half of a window, got none", _ASK)
        return float(pair[0] or 0), float(pair[1] or 0)
    return None


def _listed(header: "Dataset", keyword: str) -> list[float | None]:
    """The numbers of an element that may have several; None for one that is empty."""
    value: Any = header.get(keyword)
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [None if one is None or not str(one).strip() else _finite(one, keyword) for one in values]


def _shown(header: "Dataset", measured: Values) -> Values:
    """From what was measured to 0 (black) ... 1 (white), before any inversion."""
    if header.get("VOILUTSequence"):
        table, most = _table(header, header.VOILUTSequence[0], np.rint(measured).astype(np.int64))
        return table / most
    centre, width = _window(header) or (0.0, 0.0)
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
    """Values through a table of the header, and the most that an entry can be; the ends go on for ever.

    A table that says 16 bits and whose entries need 12 has 12: the entries are all there to be looked at, and the table
    is the same for all films that it comes with.
    """
    count, first, bits = _descriptor(item.LUTDescriptor)
    if values.min() < 0 and first >= 1 << 15:
        first -= 1 << 16
    if not 8 <= bits <= 16:
        raise FaultError(f"have table entries of 8 to 16 bits, got {bits}", _ASK)
    entries = _entries(header, item.LUTData, count, bits)
    if entries.max() >= 1 << bits:
        raise FaultError(f"have table entries of {bits} bits as it says, got {entries.max()}", _ASK)
    return entries[np.clip(values - first, 0, count - 1)].astype(np.float64), _most(entries)


def _descriptor(numbers: Any) -> tuple[int, int, int]:
    """How many entries a table has, the value of the first, and the bits of each."""
    count, first, bits = (int(number) & 0xFFFF for number in numbers)
    return count or 1 << 16, first, bits


def _entries(header: "Dataset", data: Any, count: int, bits: int) -> Int64[np.ndarray, " entries"]:
    """The entries of a table, whether they were written as numbers, as words or as bytes."""
    if isinstance(data, bytes):
        order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
        packed = len(data) in (count, count + 1) and bits == 8
        if packed and order == ">":  # two entries in a word, the first in its lower half
            data = np.frombuffer(data, "<u2").byteswap().tobytes() if len(data) % 2 == 0 else data
        data = np.frombuffer(data, np.uint8 if packed else f"{order}u2")
    entries = np.atleast_1d(np.asarray(data, dtype=np.int64))[: count + 1]
    if len(entries) not in (count, count + 1):
        raise FaultError(f"have {count} entries in its table as it says, got {len(entries)}", _ASK)
    return entries[:count] & 0xFFFF


def _most(*tables: Int64[np.ndarray, " entries"]) -> float:
    """White, for entries of as many bits as they need, 8 at least."""
    return float((1 << max(8, int(max(table.max() for table in tables)).bit_length())) - 1)


def palette_greys(header: "Dataset", values: int) -> UInt8[np.ndarray, " values"] | UInt16[np.ndarray, " values"]:
    """The grey of each stored value of a film with a palette: its colours, by the ITU-R 601 weights.

    Raises:
        FaultError: if a table is missing, or of another length than it says.

    Source: DICOM PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6.
    """
    places = np.arange(values)
    if header.get("SegmentedRedPaletteColorLookupTableData") and not header.get("RedPaletteColorLookupTableData"):
        from pydicom.pixels.processing import apply_color_lut

        red, green, blue = apply_color_lut(places.astype(np.uint16), header).astype(np.int64).T
    else:
        tables = [_palette(header, colour) for colour in _COLOURS]
        first = _descriptor(header.RedPaletteColorLookupTableDescriptor)[1]
        red, green, blue = (table[np.clip(places - first, 0, len(table) - 1)] for table in tables)
    most = _most(red, green, blue)
    if most == 255:
        colours = np.stack([red, green, blue], axis=1).astype(np.uint8)[None]
        eight: UInt8[np.ndarray, " values"] = grey_pixels(Image.fromarray(colours), (values, 1))[0]
        return eight
    weighted = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    sixteen: UInt16[np.ndarray, " values"] = np.rint(weighted * (65535 / most)).astype(np.uint16)
    return sixteen


def _palette(header: "Dataset", colour: str) -> Int64[np.ndarray, " entries"]:
    """The entries of one colour's table."""
    name = f"{colour}PaletteColorLookupTable"
    numbers, data = header.get(f"{name}Descriptor"), header.get(f"{name}Data")
    if numbers is None or len(numbers) != 3 or data is None:
        raise FaultError(f"have the palette that it says, got no whole {colour.lower()} table", SAVE_AGAIN)
    count, _, bits = _descriptor(numbers)
    return _entries(header, data, count, bits)


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
    return _finite(value, keyword)


def _finite(value: Any, keyword: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise FaultError(f"say its {keyword} as a number, got {str(value)!r}", _ASK)
    return number
