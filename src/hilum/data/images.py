"""From an image file to the tensor that a network sees: THE preprocessing, the only road there."""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from hilum.data.resize import centres, coverage
from hilum.errors import ImageError

GreyPixels = UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]
ModelInput = Float32[np.ndarray, "channels size size"]

SMALLEST_SIDE, LARGEST_SIDE = 16, 20_000
LARGEST_AREA = 100_000_000
LARGEST_FILE_BYTES = 1 << 30

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_PNG_GREY, _PNG_RGB, _PNG_PALETTE, _PNG_GREY_ALPHA, _PNG_RGBA = 0, 2, 3, 4, 6
_SAVE_AGAIN = "Save it as an 8- or 16-bit grey PNG"
_GET_AGAIN = "Download or copy the file again"


def read_grey(path: Path) -> GreyPixels:
    """Read a film as grey pixels with the file's own depth: 8 bits, or 16.

    What the file is, is told by its content, never by its name. Colour becomes grey by the ITU-R 601 weights.

    Raises:
        ImageError: if the file is no film that can be read without loss or guess, naming the file and the remedy.
    """
    try:
        content = _content(path)
        if content.startswith(_PNG):
            return _read_png(content)
        if content.startswith(_JPEG):
            return _read_jpeg(content)
        if content[128:132] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom"):
            raise _FaultError("be PNG or JPEG, got DICOM", "DICOM is not read yet: save the film as a 16-bit grey PNG")
        raise _FaultError("be a PNG or JPEG image, got something else", f"Remove it or replace it. {_SAVE_AGAIN}")
    except _FaultError as fault:
        raise ImageError(f"film must {fault.rule} in {str(path)!r}. {fault.remedy}.") from fault
    except (Exception, MemoryError) as error:  # decoders fail on hostile bytes with whatever exception comes handy
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ImageError(f"film must be an intact image, got {reason!r} in {str(path)!r}. {_GET_AGAIN}.") from error


@dataclass(frozen=True)
class Preprocessing:
    """How grey pixels become the network's input. It is stored in the bundle, so that every road gives the same input.

    The range is 0..1 by the pixel format's maximum (255 or 65535), bone bright, never by the film's own extremes.
    Films that are not square are squeezed to size x size, as ChestX-ray14's publications do.

    Attributes:
        size: height and width of the input, in pixels.
        interpolation: `area` is antialiased: the exact mean of what each new pixel covers along an axis that shrinks,
            linear along one that grows; `nearest` takes the pixel at each centre, as torchvision does on PIL images.
        channels: 1, or 3 equal ones for a network with an RGB stem.

    Raises:
        ValueError: if a field is none of these.
    """

    size: int = 224
    interpolation: Literal["nearest", "area"] = "area"
    channels: Literal[1, 3] = 1

    def __post_init__(self) -> None:
        _check_fields(asdict(self))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """The reverse of `to_dict`; every field must be there, and no other.

        Raises:
            ValueError: naming the field that is missing, unknown or out of range.
        """
        known = asdict(cls())
        if set(fields) != set(known):
            raise ValueError(
                f"preprocessing must have the fields {', '.join(known)}, got {', '.join(map(str, fields))}"
            )
        _check_fields(fields)
        return cls(**fields)

    def read(self, path: Path) -> ModelInput:
        """The network's input for one file.

        Raises:
            ImageError: if the file cannot be read as a film.
        """
        return self.apply(read_grey(path))

    def apply(self, pixels: GreyPixels) -> ModelInput:
        """The network's input for grey pixels of any height and width."""
        full_scale = np.float32(np.iinfo(pixels.dtype).max)
        resized = self._nearest(pixels) if self.interpolation == "nearest" else self._area(pixels)
        scaled = resized.astype(np.float32, copy=False) / full_scale
        return np.repeat(scaled[np.newaxis], self.channels, axis=0)

    def _nearest(self, pixels: GreyPixels) -> UInt8[np.ndarray, "size size"] | UInt16[np.ndarray, "size size"]:
        rows, columns = (centres(side, self.size) for side in pixels.shape)
        return np.asarray(pixels[np.ix_(rows, columns)])

    def _area(self, pixels: GreyPixels) -> Float32[np.ndarray, "size size"]:
        down, across = (coverage(side, self.size) for side in pixels.shape)
        return np.asarray(across @ (down @ pixels.astype(np.float32)).T).T


def _check_fields(fields: Mapping[str, Any]) -> None:
    size, interpolation, channels = fields["size"], fields["interpolation"], fields["channels"]
    if type(size) is not int or not 1 <= size <= LARGEST_SIDE:
        raise ValueError(f"size must be a whole number of pixels from 1 to {LARGEST_SIDE}, got {size!r}")
    if interpolation not in ("nearest", "area"):
        raise ValueError(f"interpolation must be 'nearest' or 'area', got {interpolation!r}")
    if type(channels) is not int or channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")


class _FaultError(Exception):
    """What a film must be and what it is instead; `read_grey` adds the file."""

    def __init__(self, rule: str, remedy: str):
        super().__init__(rule)
        self.rule, self.remedy = rule, remedy


def _content(path: Path) -> bytes:
    """The bytes of a regular file of a sensible length."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "something else" if path.exists() else "nothing"
        raise _FaultError(
            f"be an image file, got {what}", "Check the path, or make the manifest anew with: hilum index"
        )
    size = path.stat().st_size
    if not 0 < size <= LARGEST_FILE_BYTES:
        raise _FaultError(f"be a file of 1 to {LARGEST_FILE_BYTES} bytes, got {size}", _GET_AGAIN)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _FaultError(
            f"be a file that can be read, got {error.strerror!r}", "Check its permissions and the disk"
        ) from error


def _check_size(width: int, height: int) -> None:
    """Refuse absurd sizes, before any memory is taken for them."""
    sides_fit = all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in (width, height))
    if not sides_fit or width * height > LARGEST_AREA:
        raise _FaultError(
            f"be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels a side and at most {LARGEST_AREA // 1_000_000} megapixels, "
            f"got {width} x {height}",
            "Remove it, or resize the film",
        )


class _Chunk(NamedTuple):
    kind: bytes
    data: bytes
    stored: bytes  # with length, kind and checksum


def _png_chunks(content: bytes) -> Iterator[_Chunk]:
    """The chunks of a PNG up to its end; the pixels' and all other critical chunks must match their checksums."""
    start = len(_PNG)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        end = start + 12 + length
        if end > len(content):
            break
        kind, data = content[start + 4 : start + 8], content[start + 8 : end - 4]
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(content[start + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise _FaultError(f"be an intact PNG, got a damaged {kind.decode('latin-1')!r} chunk", _GET_AGAIN)
        yield _Chunk(kind, data, content[start:end])
        if kind == b"IEND":
            return
        start = end
    raise _FaultError("be a complete PNG, got a truncated one", _GET_AGAIN)


def _read_png(content: bytes) -> GreyPixels:
    """The pixels of a PNG. Only what pixels are made of reaches the decoder: text, colour profiles and EXIF do not."""
    chunks = list(_png_chunks(content))
    if chunks[0].kind != b"IHDR" or len(chunks[0].data) != 13:
        raise _FaultError("be a PNG that starts with its header, got none", _GET_AGAIN)
    width, height, bits, colour = struct.unpack_from(">IIBB", chunks[0].data)
    _check_size(width, height)
    kinds = [chunk.kind for chunk in chunks]
    if b"acTL" in kinds:
        raise _FaultError("be a single image, got an animated PNG", f"{_SAVE_AGAIN}, one for each film")
    if bits == 16 and colour != _PNG_GREY:
        # Pillow would read these with 8 bits and not say so
        raise _FaultError("be grey if it has 16 bits, got a 16-bit colour or transparent PNG", _SAVE_AGAIN)
    if bits < 8 and colour != _PNG_PALETTE:
        raise _FaultError(f"have 8 or 16 bits, got a PNG with {bits}", _SAVE_AGAIN)
    needed = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
    film = PngImageFile(io.BytesIO(_PNG + b"".join(chunk.stored for chunk in chunks if chunk.kind in needed)))
    film.load()
    return _grey(film, (width, height))


def _read_jpeg(content: bytes) -> GreyPixels:
    """The pixels of a JPEG. EXIF, colour profiles and comments do not reach the decoder."""
    header, width, height, components = _jpeg_header(content)
    _check_size(width, height)
    if components not in (1, 3):
        raise _FaultError(f"be a grey or RGB JPEG, got {components} colour channels (CMYK)", _SAVE_AGAIN)
    if b"\xff\xd9" not in content[header.end :]:
        raise _FaultError("be a complete JPEG, got a truncated one", _GET_AGAIN)
    film = JpegImageFile(io.BytesIO(header.kept + content[header.end :]))
    film.load()
    return _grey(film, (width, height))


class _JpegHeader(NamedTuple):
    kept: bytes  # all segments before the scan but EXIF, profiles and comments
    end: int  # where the scan's segment starts


def _jpeg_header(content: bytes) -> tuple[_JpegHeader, int, int, int]:
    """The segments before the scan, and width, height and number of components from the frame header."""
    kept, frame, start = [content[:2]], None, 2
    while start + 4 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if marker == 0xFF:  # a fill byte
            start += 1
            continue
        if marker == 0xDA and frame is not None:
            return _JpegHeader(b"".join(kept), start), *frame
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and start + 10 <= len(content):
            height, width, components = struct.unpack_from(">HHB", content, start + 5)
            frame = width, height, components
        profile_or_text = 0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)
        if not profile_or_text:
            kept.append(content[start:end])
        start = end
    raise _FaultError("be a complete JPEG, got a truncated or damaged header", _GET_AGAIN)


def _grey(film: Image.Image, size: tuple[int, int]) -> GreyPixels:
    """Grey pixels from Pillow's modes; transparent ones are refused, as nobody knows what is behind."""
    if film.size != size:
        raise _FaultError(f"be as large as its header says, {size}, got {film.size}", _GET_AGAIN)
    if film.mode == "P" or ("transparency" in film.info and film.mode in ("L", "RGB")):
        film = film.convert("RGBA")
    if film.mode in ("LA", "RGBA") and np.asarray(film.getchannel("A")).min() < 255:
        raise _FaultError("be opaque, got transparent pixels", _SAVE_AGAIN)
    match film.mode:
        case "L" | "LA":
            return np.array(film.getchannel("L"))
        case "RGB" | "RGBA":
            return np.array(film.convert("RGB").convert("L"))
        case "I;16":
            pixels = np.array(film)
            if (pixels == film.info.get("transparency", -1)).any():
                raise _FaultError("be opaque, got transparent pixels", _SAVE_AGAIN)
            return pixels.astype(np.uint16, copy=False)
        case mode:
            raise _FaultError(f"be grey or RGB, got Pillow's mode {mode!r}", _SAVE_AGAIN)
