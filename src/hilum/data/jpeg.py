"""The pixels of a JPEG, and the sizes that the headers of JPEG, JPEG-LS and JPEG 2000 streams state."""

import io
import struct
from typing import NamedTuple

from PIL.JpegImagePlugin import JpegImageFile

from hilum.data.faults import GET_AGAIN, SAVE_AGAIN, FaultError, GreyPixels, check_size, grey_pixels

JPEG = b"\xff\xd8\xff"

_JPEG_2000 = b"\xff\x4f\xff\x51"
_JPEG_LS_FRAME = 0xF7


class JpegHeader(NamedTuple):
    """What stands before the scan of a JPEG or JPEG-LS stream."""

    kept: bytes  # all segments but EXIF, profiles and comments
    end: int  # where the scan's segment starts
    width: int
    height: int
    components: int


def read_jpeg(content: bytes) -> GreyPixels:
    """The pixels of a JPEG. EXIF, colour profiles and comments do not reach the decoder."""
    header = jpeg_header(content)
    check_size(header.width, header.height)
    if header.components not in (1, 3):
        raise FaultError(f"be a grey or RGB JPEG, got {header.components} colour channels (CMYK)", SAVE_AGAIN)
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
            height, width, components = struct.unpack_from(">HHB", content, start + 5)
            frame = width, height, components
        profile_or_text = 0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)
        if not profile_or_text:
            kept.append(content[start:end])
        start = end
    raise FaultError("be a complete JPEG, got a truncated or damaged header", GET_AGAIN)


def stated_size(content: bytes) -> tuple[int, int, int]:
    """Width, height and number of components that a JPEG, JPEG-LS or JPEG 2000 stream states."""
    if not content.startswith(_JPEG_2000):
        return jpeg_header(content)[2:]
    if len(content) < 42:
        raise FaultError("be a complete JPEG 2000 stream, got a truncated header", GET_AGAIN)
    right, bottom, left, top = struct.unpack_from(">4I", content, 8)
    (components,) = struct.unpack_from(">H", content, 40)
    return right - left, bottom - top, components
