"""Header against stream: every combination is an independent reading of the pixels, or refused by name."""

import contextlib
import itertools
import os
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from dicom_files import encapsulated, header, jpeg_of_blocks, stream_of, written
from pydicom import dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from hilum.data.images import read
from hilum.errors import ImageError

NATIVE = {"explicit": ExplicitVRLittleEndian, "big endian": ExplicitVRBigEndian}
BY_NAME = {
    "rle": "1.2.840.10008.1.2.5",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg 2000 lossless": "1.2.840.10008.1.2.4.90",
    "jpeg lossless sv1": "1.2.840.10008.1.2.4.70",
    "jpeg": "1.2.840.10008.1.2.4.50",
    "jpeg extended": "1.2.840.10008.1.2.4.51",
}
SYNTAXES = (*NATIVE, *BY_NAME)
KEEPS_UNUSED_BITS = (*NATIVE, "rle")
"""Pixels that have no depth of their own: a cell of 8 or 16 bits, of which the header says how many count."""

HEIGHT, WIDTH = 40, 32


class Stream(NamedTuple):
    """Pixels as they were encoded: their values, how many bits the encoder was told, and whether they were signed.

    `depth` is what the stream says of itself. gdcm writes 16 for all that do not fit 8; cells are 8 or 16.
    """

    syntax: str
    bits: int
    depth: int
    signed: bool
    values: Any
    content: bytes


@cache
def streams(folder: Path) -> tuple[Stream, ...]:
    made = []
    for syntax, bits, signed in itertools.product(SYNTAXES, (8, 10, 12, 14, 16), (False, True)):
        if syntax in ("jpeg", "jpeg extended"):
            if signed or bits not in ((8,) if syntax == "jpeg" else (8, 12)):
                continue
            blocks = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT // 8, WIDTH // 8))
            blocks.flat[:2] = 0, (1 << bits) - 1
            values = np.kron(blocks, np.ones((8, 8), int))
            made.append(Stream(syntax, bits, bits, signed, values, jpeg_of_blocks(blocks, bits)))
            continue
        low = -(1 << bits - 1) if signed else 0
        for most in {bits, bits - 4} if bits > 8 else {bits}:  # as deep as the encoder was told, or not so deep
            values = np.random.default_rng(bits + most).integers(0, 1 << most, (HEIGHT, WIDTH)) + low
            values.flat[:2] = low, low + (1 << most) - 1
            pixels = values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
            if syntax in NATIVE:
                content = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == "big endian" else "<")).tobytes()
            else:
                content = stream_of(written(folder / "a.dcm", pixels, syntax, bits=bits))
            in_cells = syntax in (*KEEPS_UNUSED_BITS, "jpeg lossless sv1")
            depth = bits if not in_cells else 8 if bits <= 8 else 16
            made.append(Stream(syntax, bits, depth, signed, values, content))
    return tuple(made)


class Case(NamedTuple):
    """What a header says of a stream's pixels."""

    bits: int
    allocated: int
    signed: bool
    kind: str
    window: str
    slope: float
    spare: int


def combinations(number: int, folder: Path) -> Iterator[tuple[Stream, Case]]:
    chance, all_streams = random.Random(0), streams(folder)
    for _ in range(number):
        stream = chance.choice(all_streams)
        bits = chance.choice([stream.bits, stream.bits, 8, 10, 12, 14, 16, 7, 9])
        allocated = chance.choice([8 if bits <= 8 else 16, 8 if stream.bits <= 8 else 16, 16])
        signed = chance.choice([stream.signed, stream.signed, not stream.signed])
        kind = chance.choice(["MONOCHROME2", "MONOCHROME1"])
        window = chance.choice(["", "", "", "stream", "header", "empty", "zero", "half"])
        yield (
            stream,
            Case(bits, allocated, signed, kind, window, chance.choice([1, 1, 2.5]), chance.choice([0, 0, 8, 9])),
        )


def elements_of(case: Case, stream: Stream) -> dict[str, Any]:
    made: dict[str, Any] = {
        "BitsAllocated": case.allocated,
        "BitsStored": case.bits,
        "HighBit": case.bits - 1,
        "PixelRepresentation": int(case.signed),
        "PhotometricInterpretation": case.kind,
    }
    if case.slope != 1:
        made |= {"RescaleSlope": case.slope, "RescaleIntercept": -7}
    match case.window:
        case "stream" | "header":
            bits, signed = (stream.bits, stream.signed) if case.window == "stream" else (case.bits, case.signed)
            low = -(1 << bits - 1) if signed else 0
            middle = case.slope * (low + (1 << bits - 1)) - (7 if case.slope != 1 else 0)
            made |= {"WindowCenter": middle, "WindowWidth": case.slope * (1 << bits)}
        case "empty":
            made |= {"WindowCenter": "", "WindowWidth": ""}
        case "zero":
            made |= {"WindowCenter": 0, "WindowWidth": 0}
        case "half":
            made |= {"WindowCenter": 100}
    return made


def save(path: Path, stream: Stream, case: Case) -> Path:
    dataset = header(np.zeros((HEIGHT, WIDTH), np.uint16), **elements_of(case, stream))
    if stream.syntax not in NATIVE:
        return encapsulated(path, dataset, stream.content, BY_NAME[stream.syntax])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = NATIVE[stream.syntax]
    dataset.PixelData = stream.content + bytes(case.spare + (len(stream.content) + case.spare) % 2)
    dataset["PixelData"].VR = "OW" if case.allocated == 16 else "OB"
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def expected(stream: Stream, case: Case) -> Any:
    """Greys from 0 to 1 with NumPy alone: the values that were encoded, in the range of the depth that holds them."""
    values, bits, signed = stream.values, case.bits, case.signed
    patterns = values & ((1 << stream.depth) - 1)
    if stream.syntax in KEEPS_UNUSED_BITS or stream.depth >= bits:
        cut = patterns & ((1 << bits) - 1)
        extended = values if signed and stream.signed else patterns
        assert stream.syntax in KEEPS_UNUSED_BITS or np.isin(extended - cut, [0, -(1 << bits)]).all(), "cut off"
        patterns = cut
    else:
        bits = stream.depth
    values = patterns - ((patterns >> bits - 1) << bits) * signed
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    offset = -7 if case.slope != 1 else 0
    measured, lowest, highest = (case.slope * one + offset for one in (values, low, high))
    if case.window in ("stream", "header"):
        said = elements_of(case, stream)
        centre, width = said["WindowCenter"], said["WindowWidth"]
        shown = np.clip((measured - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    else:
        shown = (measured - lowest) / (highest - lowest)
    return 1 - shown if case.kind == "MONOCHROME1" else shown


def is_consistent(stream: Stream, case: Case) -> bool:
    """Whether header and stream say the same, so that there is nothing to refuse."""
    agrees = case.bits == stream.bits and case.signed == stream.signed and case.window != "half"
    return agrees and (stream.syntax not in KEEPS_UNUSED_BITS or case.allocated == (8 if stream.bits <= 8 else 16))


def test_a_combination_is_an_independent_reading_or_refused(tmp_path: Path) -> None:
    """Thousands with HILUM_FUZZ_EXAMPLES=20000."""
    outcomes: Counter[str] = Counter()
    for stream, case in combinations(int(os.environ.get("HILUM_FUZZ_EXAMPLES", "600")), tmp_path):
        path = save(tmp_path / "film.dcm", stream, case)
        about = f"{stream[:4]} under {case}"
        film = None
        with warnings.catch_warnings(), contextlib.suppress(ImageError):
            warnings.simplefilter("error")  # none of pydicom's reaches a user
            film = read(path)
        if film is None:
            assert not is_consistent(stream, case), about
            outcomes["refused"] += 1
            continue
        most = np.iinfo(film.pixels.dtype).max
        apart = np.abs(film.pixels / most - expected(stream, case)).max()
        assert apart <= 0.5001 / most, f"{about}: {apart}"
        outcomes["read"] += 1
        outcomes[f"{stream.syntax} read"] += 1
    assert min(outcomes[f"{syntax} read"] for syntax in SYNTAXES) > 0
    assert outcomes["refused"] > outcomes.total() // 20


@pytest.mark.parametrize("bits", [8, 12])
def test_a_jpeg_of_8_or_12_bits_has_its_own_values(tmp_path: Path, bits: int) -> None:
    blocks = np.random.default_rng(bits).integers(0, 1 << bits, (5, 4))
    values = np.kron(blocks, np.ones((8, 8), int))
    dataset = header(values.astype(np.uint16), bits=bits)
    path = encapsulated(tmp_path / "a.dcm", dataset, jpeg_of_blocks(blocks, bits), BY_NAME["jpeg extended"])
    pixels = read(path).pixels
    np.testing.assert_array_equal(pixels, np.rint(values / ((1 << bits) - 1) * np.iinfo(pixels.dtype).max))


def test_damaged_streams_of_12_bits_raise_named_errors_only(tmp_path: Path) -> None:
    content = jpeg_of_blocks(np.random.default_rng(0).integers(0, 4096, (3, 2)), 12)
    for number in range(150):
        chance = random.Random(number)
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path = encapsulated(
            tmp_path / "a.dcm",
            header(np.zeros((24, 16), np.uint16), bits=12),
            bytes(damaged),
            BY_NAME["jpeg extended"],
        )
        with contextlib.suppress(ImageError):
            assert read(path).pixels.shape == (24, 16)
