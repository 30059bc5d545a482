"""The pixels of a PNG, and nothing else of it: text, colour profiles and EXIF never reach a decoder."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from hilum.data.faults import GET_AGAIN, SAVE_AGAIN, FaultError, GreyPixels, check_size, grey_pixels

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
