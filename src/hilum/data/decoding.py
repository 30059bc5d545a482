"""Decode PNG and JPEG, and read headers of JPEG, JPEG-LS and JPEG 2000 streams; refuse damaged ones."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from hilum.data.film_kind import Objection

GreyPixels = (
    UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"] | Float32[np.ndarray, "height width"]
)
"""Black is 0; white is 255, 65535, or 1 for floats, which come from arrays alone."""

SMALLEST_SIDE, LARGEST_SIDE = 16, 20_000
LARGEST_AREA = 100_000_000

FEWEST_BITS, MOST_BITS = 8, 16
"""Between which a film's depth may lie that a user states."""

SAVE_AGAIN = "Save it as an 8- or 16-bit grey PNG"
GET_AGAIN = "Download or copy the file again"


JSRT_SIDE = 2048
"""Pixels a side of the JSRT database's films."""
JSRT_BYTES = 2 * JSRT_SIDE**2
"""How long each of them is: 16 bits a pixel, without a header."""
_JSRT_BLACK = 4095


class Film(NamedTuple):
    """A film as its file holds it.

    Attributes:
        pixels: grey, bone bright, with the file's own depth: 8 bits, or 16; of an array of floats, these.
        spacing_mm: height and width of a pixel, at the detector or the patient; None if the file does not say.
        doubt: why the greys may not be what the film's maker meant, and what settles it; empty if nothing says so.
        instance: the SOP Instance UID of a DICOM film.
        objections: what its header says against a frontal chest film of an adult, the weightiest first.
    """

    pixels: GreyPixels
    spacing_mm: tuple[float, float] | None = None
    doubt: str = ""
    instance: str = ""
    objections: tuple[Objection, ...] = ()


class FaultError(Exception):
    """What a film must be and what it is instead; `hilum.data.images.read` adds the file."""

    def __init__(self, rule: str, remedy: str):
        super().__init__(rule)
        self.rule, self.remedy = rule, remedy


def unused_bits(bits: int, used: int, *, reason: str = "under-exposed", windowed: bool = False) -> str:
    """The doubt about a film whose values leave the highest bits unused; see Film.

    They come from a detector of fewer bits, or from a film that was exposed wrongly. Nobody can tell which from one
    film, so it is shown as the file says.

    Args:
        bits: how many the file gives each value.
        used: how many the highest one needs.
        reason: how it looks.
        windowed: whether a window says how values are shown; then the depth changes nothing.
    """
    which = "the highest bit is" if bits - used == 1 else f"the highest {bits - used} are"
    if windowed:
        return f"{reason}: of its {bits} bits {which} never used, and its window is made for all of them"
    depth = next(depth for depth in (8, 10, 12, 14, used) if depth >= used)
    remedy = f"If films of this source hold {depth} bits, say --bits {depth}"
    return f"{reason}: of its {bits} bits {which} never used. {remedy}"


def check_size(width: int, height: int) -> None:
    """Refuse absurd sizes, before any memory is taken for them."""
    sides_fit = all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in (width, height))
    if not sides_fit or width * height > LARGEST_AREA:
        raise FaultError(
            f"be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels a side and at most {LARGEST_AREA // 1_000_000} megapixels, "
            f"got {width} x {height}",
            "Remove it, or resize the film",
        )


def grey_pixels(film: Image.Image, size: tuple[int, int]) -> GreyPixels:
    """Grey pixels from Pillow's modes; transparent ones are refused, as nobody knows what is behind."""
    if film.size != size:
        raise FaultError(f"be as large as its header says, {size}, got {film.size}", GET_AGAIN)
    if film.mode == "P" or ("transparency" in film.info and film.mode in ("L", "RGB")):
        film = film.convert("RGBA")
    if film.mode in ("LA", "RGBA") and np.asarray(film.getchannel("A")).min() < 255:
        raise FaultError("be opaque, got transparent pixels", SAVE_AGAIN)
    match film.mode:
        case "L" | "LA":
            return np.array(film.getchannel("L"))
        case "RGB" | "RGBA":
            return np.array(film.convert("RGB").convert("L"))
        case "I;16":
            pixels = np.array(film)
            if (pixels == film.info.get("transparency", -1)).any():
                raise FaultError("be opaque, got transparent pixels", SAVE_AGAIN)
            return pixels.astype(np.uint16, copy=False)
        case mode:
            raise FaultError(f"be grey or RGB, got Pillow's mode {mode!r}", SAVE_AGAIN)


def read_jsrt(content: bytes) -> UInt16[np.ndarray, "height width"]:
    """A raw film of the JSRT database: big-endian, 12 bits, which grow with the film's blackness, so they are inverted.

    Source: Shiraishi et al., "Development of a digital image database for chest radiographs with and without a lung
    nodule", American Journal of Roentgenology 174, 2000. https://doi.org/10.2214/ajr.174.1.1740071
    """
    if len(content) != JSRT_BYTES:
        raise FaultError(f"be {JSRT_BYTES} bytes as each of JSRT's raw films is, got {len(content)}", GET_AGAIN)
    values = np.frombuffer(content, dtype=">u2").reshape(JSRT_SIDE, JSRT_SIDE)
    if values.max() > _JSRT_BLACK:
        raise FaultError(f"have values of 0 to {_JSRT_BLACK} as JSRT's raw films have, got {values.max()}", GET_AGAIN)
    return np.rint((_JSRT_BLACK - values.astype(np.float64)) * (65535 / _JSRT_BLACK)).astype(np.uint16)


def array_pixels(array: np.ndarray) -> GreyPixels:
    """Grey pixels from an array: 8 or 16 bits or floats in [0, 1] if grey, 8 bits if RGB or RGBA."""
    kind = f"{array.dtype} of shape {array.shape}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise FaultError(
            f"be an array of height x width, or height x width x 3 for RGB, got {kind}",
            "Give one film, without a batch dimension and with its channels last; several films as a list",
        )
    check_size(array.shape[1], array.shape[0])
    if array.ndim == 3:
        if array.dtype != np.uint8:
            raise FaultError(
                f"be uint8 if it is in colour, got {kind}", "Give one grey channel, or uint8 from 0 to 255"
            )
        return grey_pixels(Image.fromarray(array), (array.shape[1], array.shape[0]))
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # false for NaN
            got = "NaN" if np.isnan(array).any() else f"{array.min():.4g} to {array.max():.4g}"
            raise FaultError(
                f"have floats from 0 (black) to 1 (white), got {got}",
                "Divide by the full scale of the pixels' format, such as 255, or give them as uint8 or uint16",
            )
        return array.astype(np.float32)
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise FaultError(
            f"be an array of uint8, uint16, or floats in [0, 1], got {kind}",
            "White is 255 in uint8 and 65535 in uint16: scale and convert it",
        )
    return array.astype(array.dtype.newbyteorder("="))


PNG = b"\x89PNG\r\n\x1a\n"
_PLAIN_GREY = b"\x08\0\0\0\0"  # of the header: 8 bits, grey, deflate, the five filters, not interlaced
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes over a film: the first pixel's column and row, and the steps across and down. Source: PNG, section 8."""


class _Chunk(NamedTuple):
    kind: bytes
    data: memoryview
    stored: memoryview  # with length, kind and checksum


def _png_chunks(content: bytes) -> Iterator[_Chunk]:
    """The chunks of a PNG up to its end; the pixels' and all other critical chunks must match their checksums."""
    start, view = len(PNG), memoryview(content)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        end = start + 12 + length
        if end > len(content):
            break
        kind, data = content[start + 4 : start + 8], view[start + 8 : end - 4]
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise FaultError(f"be an intact PNG, got a damaged {kind.decode('latin-1')!r} chunk", GET_AGAIN)
        yield _Chunk(kind, data, view[start:end])
        if kind == b"IEND":
            return
        start = end
    raise FaultError("be a complete PNG, got a truncated one", GET_AGAIN)


def read_png(content: bytes) -> GreyPixels:
    """The pixels of a PNG. Only what pixels are made of reaches the decoder: text, colour profiles and EXIF do not."""
    chunks = list(_png_chunks(content))
    if chunks[0].kind != b"IHDR" or len(chunks[0].data) != 13:
        raise FaultError("be a PNG that starts with its header, got none", GET_AGAIN)
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0].data)
    check_size(width, height)
    kinds = [chunk.kind for chunk in chunks]
    if b"acTL" in kinds:
        raise FaultError("be a single image, got an animated PNG", f"{SAVE_AGAIN}, one for each film")
    if bits == 16 and colour != _GREY:
        # Pillow would read these with 8 bits and not say so
        raise FaultError("be grey if it has 16 bits, got a 16-bit colour or transparent PNG", SAVE_AGAIN)
    if bits < 8 and colour != _PALETTE:
        raise FaultError(f"have 8 or 16 bits, got a PNG with {bits}", SAVE_AGAIN)
    header = bytes(chunks[0].data)
    stream = b"".join(chunk.data for chunk in chunks if chunk.kind == b"IDAT")
    if header[8:] == _PLAIN_GREY and b"tRNS" not in kinds:  # most films: without Pillow's file reader
        film = Image.new("L", (width, height), 255)
        film.frombytes(stream, "zip", "L")
        pixels = np.frombuffer(film.tobytes(), np.uint8).reshape(height, width)
        if (pixels[-1] == 255).all():  # white, or never written
            _check_complete(stream, header)
        return pixels
    needed = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
    film = PngImageFile(io.BytesIO(PNG + b"".join(chunk.stored for chunk in chunks if chunk.kind in needed)))
    film.load()
    pixels = grey_pixels(film, (width, height))
    if interlaced or colour == _PALETTE or not pixels[-1].any():  # black, or never written
        _check_complete(stream, header)
    return pixels


def _check_complete(stream: bytes, header: bytes) -> None:
    """Refuse a stream that ends before the film does: the decoder leaves the rest blank and does not say so."""
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    expected = 0
    for left, top, across, down in _ADAM7 if interlaced else _WHOLE:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        if columns:
            expected += rows * (1 + (columns * bits * _SAMPLES[colour] + 7) // 8)
    if len(zlib.decompressobj().decompress(stream, expected)) < expected:
        raise FaultError("be an intact image, got a PNG that ends before its last row", GET_AGAIN)


JPEG = b"\xff\xd8\xff"

_JPEG_2000 = b"\xff\x4f\xff\x51"
_JP2_FILE = b"\0\0\0\x0cjP  \r\n\x87\n"
_CODING, _TILE, _DATA = b"\xff\x52", b"\xff\x90", b"\xff\x93"  # of JPEG 2000's segments
_JPEG_LS_FRAME = 0xF7


class JpegHeader(NamedTuple):
    """What stands before the scan of a JPEG or JPEG-LS stream."""

    kept: bytes  # all segments but EXIF, profiles and comments
    end: int  # where the scan's segment starts
    frame: int  # the marker's second byte: 0xC0 baseline, 0xC3 lossless, 0xF7 JPEG-LS
    bits: int
    width: int
    height: int
    components: int


class StreamHeader(NamedTuple):
    """What a JPEG, JPEG-LS or JPEG 2000 stream says of its own pixels.

    Attributes:
        bits: the precision of every component.
        signed: as only JPEG 2000 can say; None for the others.
        frame: the marker of a JPEG or JPEG-LS frame; None for JPEG 2000.
        mixed: whether JPEG 2000's own transformation of colours was used; its decoder gives RGB then.
    """

    width: int
    height: int
    components: int
    bits: int
    signed: bool | None
    frame: int | None
    mixed: bool = False


def read_jpeg(content: bytes) -> GreyPixels:
    """The pixels of a JPEG. EXIF, colour profiles and comments do not reach the decoder."""
    header = jpeg_header(content)
    check_size(header.width, header.height)
    if header.components not in (1, 3):
        raise FaultError(f"be a grey or RGB JPEG, got {header.components} colour channels (CMYK)", SAVE_AGAIN)
    if header.bits != 8:
        raise FaultError(
            f"be a JPEG of 8 bits, got {header.bits}", "Save it as a 16-bit grey PNG, or leave it in its DICOM file"
        )
    if b"\xff\xd9" not in content[header.end :]:
        raise FaultError("be a complete JPEG, got a truncated one", GET_AGAIN)
    film = JpegImageFile(io.BytesIO(header.kept + content[header.end :]))
    film.load()
    return grey_pixels(film, (header.width, header.height))


def jpeg_header(content: bytes) -> JpegHeader:
    """The header of a JPEG or JPEG-LS stream."""
    kept, frame, start = [content[:2]], None, 2
    while start + 4 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if marker == 0xFF:  # a fill byte
            start += 1
            continue
        if marker == 0xDA and frame is not None:
            return JpegHeader(b"".join(kept), start, *frame)
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        is_frame = (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == _JPEG_LS_FRAME
        if is_frame and start + 10 <= len(content):
            bits, height, width, components = struct.unpack_from(">BHHB", content, start + 4)
            frame = marker, bits, width, height, components
        profile_or_text = 0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)
        if not profile_or_text:
            kept.append(content[start:end])
        start = end
    raise FaultError("be a complete JPEG, got a truncated or damaged header", GET_AGAIN)


def stream_header(content: bytes) -> StreamHeader:
    """What a JPEG, JPEG-LS or JPEG 2000 stream says of its own pixels.

    Raises:
        FaultError: if it is none of these, or its components differ from each other.

    Source: ITU-T T.81 B.2.2 (SOF), T.87 C.2.2 (SOF55), T.800 A.5.1 (SIZ), A.6.1 (COD).
    """
    if content.startswith(_JP2_FILE):
        return stream_header(_codestream(content))
    if content.startswith(_JPEG_2000):
        return _jpeg_2000_header(content)
    if not content.startswith(b"\xff\xd8"):
        raise FaultError("hold a JPEG, JPEG-LS or JPEG 2000 stream as it says, got something else", GET_AGAIN)
    header = jpeg_header(content)
    return StreamHeader(header.width, header.height, header.components, header.bits, None, header.frame)


def _jpeg_2000_header(content: bytes) -> StreamHeader:
    if len(content) < 42:
        raise FaultError("be a complete JPEG 2000 stream, got a truncated header", GET_AGAIN)
    right, bottom, left, top = struct.unpack_from(">4I", content, 8)
    (components,) = struct.unpack_from(">H", content, 40)
    depths = content[42 : 42 + 3 * min(components, 4) : 3]
    if not depths:
        raise FaultError("be a complete JPEG 2000 stream, got a truncated header", GET_AGAIN)
    if len(set(depths)) > 1:
        raise FaultError("have colours of one depth, got a JPEG 2000 stream with several", SAVE_AGAIN)
    start, mixed = 42 + 3 * components, False
    while content[start : start + 1] == b"\xff" and content[start : start + 2] not in (_TILE, _DATA):
        if content[start : start + 2] == _CODING:
            mixed = content[start + 8 : start + 9] == b"\1"
        start += 2 + max(2, int.from_bytes(content[start + 2 : start + 4], "big"))
    signed, bits = bool(depths[0] & 0x80), (depths[0] & 0x7F) + 1
    return StreamHeader(right - left, bottom - top, components, bits, signed, None, mixed)


def _codestream(content: bytes) -> bytes:
    """The stream inside a JP2 file, which DICOM does not allow and decoders read; a palette would change it."""
    start = content.find(b"jp2c")
    if start < 0 or b"pclr" in content[:start]:
        raise FaultError("hold a bare JPEG 2000 stream, got a JP2 file without one or with a palette", SAVE_AGAIN)
    stream = content[start + 4 :]
    if not stream.startswith(_JPEG_2000):
        raise FaultError("hold a bare JPEG 2000 stream, got another JP2 file", SAVE_AGAIN)
    return stream
