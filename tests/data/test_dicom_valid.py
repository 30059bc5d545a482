"""Valid films that programs write in their own way: read, and read right."""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import encapsulated, header, stream_of, written
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite

from hilum.data.images import Preprocessing, read, read_grey
from hilum.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 4096, (48, 40)).astype(np.uint16)
PIXELS.flat[:2] = 0, 4095
GREYS = np.rint(PIXELS * (65535 / 4095)).astype(np.uint16)
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture(autouse=True)
def no_warning_of_a_library_reaches_a_user() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def with_group_length(path: Path, length: int | None) -> Path:
    """A film whose file meta information says another length of itself, or none."""
    content = path.read_bytes()
    element = content[132:144]
    said = b"" if length is None else element[:8] + struct.pack("<I", length)
    path.write_bytes(content[:132] + said + content[144:])
    return path


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian", "deflated", "rle"])
@pytest.mark.parametrize("length", [0, 2, 60, 1 << 20, None])
def test_the_group_length_of_the_meta_information_may_be_wrong(tmp_path: Path, syntax: str, length: int | None) -> None:
    path = with_group_length(written(tmp_path / "a.dcm", PIXELS, syntax, bits=12), length)
    np.testing.assert_array_equal(read_grey(path), GREYS)


@pytest.mark.parametrize("spare", [b"\0" * 8, b"\xff" * 512, bytes(range(14)), b"\0" * 2])
def test_bytes_after_the_pixels_are_padding(tmp_path: Path, spare: bytes) -> None:
    dataset = dcmread(written(tmp_path / "a.dcm", PIXELS, bits=12))
    dataset.PixelData += spare
    dcmwrite(tmp_path / "a.dcm", dataset)
    np.testing.assert_array_equal(read_grey(tmp_path / "a.dcm"), GREYS)


@pytest.mark.parametrize("change", [{"Rows": 47}, {"Columns": 39}, {"Rows": 24}, {"Columns": 20}])
def test_a_row_or_column_that_the_header_forgot_is_no_padding(tmp_path: Path, change: dict[str, Any]) -> None:
    flat = np.zeros_like(PIXELS)  # even where all of it looks like padding
    with pytest.raises(ImageError, match="right number of rows, columns and frames"):
        read(written(tmp_path / "a.dcm", flat, bits=12, **change))


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": 0, "WindowWidth": 0},
        {"WindowCenter": ""},
        {"WindowWidth": ""},
        {"WindowCenter": [0, ""], "WindowWidth": [0, ""]},
        {"VOILUTSequence": [], "WindowCenter": ""},
        {"RescaleSlope": "", "RescaleIntercept": "", "PresentationLUTShape": ""},
    ],
)
def test_a_window_without_a_value_is_none(tmp_path: Path, window: dict[str, Any]) -> None:
    np.testing.assert_array_equal(read_grey(written(tmp_path / "a.dcm", PIXELS, bits=12, **window)), GREYS)


def test_the_first_window_that_is_set_counts(tmp_path: Path) -> None:
    several = written(tmp_path / "a.dcm", PIXELS, bits=12, WindowCenter=["", 2000], WindowWidth=["", 1000])
    one = written(tmp_path / "b.dcm", PIXELS, bits=12, WindowCenter=2000, WindowWidth=1000)
    np.testing.assert_array_equal(read_grey(several), read_grey(one))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("noise", [0, 0x3000, 0xF000])
def test_rle_keeps_the_bits_above_bits_stored(tmp_path: Path, signed: bool, noise: int) -> None:
    """PS3.5, 8.1.1: nobody may assume that they are zero or the sign."""
    cells = PIXELS | np.uint16(noise)
    stream = stream_of(written(tmp_path / "a.dcm", cells, "rle"))
    dataset = header(cells, bits=12, PixelRepresentation=int(signed))
    film = read_grey(encapsulated(tmp_path / "a.dcm", dataset, stream, "1.2.840.10008.1.2.5"))
    values = PIXELS.astype(int)
    expected = (values - ((values >> 11) << 12) + 2048 if signed else values) * (65535 / 4095)
    np.testing.assert_array_equal(film, np.rint(expected))


def palette(entries: Any, bits: int, *, first: int = 0, segmented: bool = False) -> dict[str, Any]:
    """A film's three tables; entries x 3."""
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR", "SOPClassUID": SECONDARY}
    for colour, column in zip(("Red", "Green", "Blue"), np.asarray(entries).T, strict=True):
        name = f"{colour}PaletteColorLookupTable"
        elements[f"{name}Descriptor"] = [len(column) & 0xFFFF, first, bits]
        data = column.astype("<u2" if bits == 16 else "u1").tobytes()
        if segmented:
            elements[f"Segmented{name}Data"] = struct.pack("<HH", 0, len(column)) + data
        else:
            elements[f"{name}Data"] = data + bytes(len(data) % 2)
    return elements


@pytest.mark.parametrize("segmented", [False, True])
@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-ls"])
def test_a_palette_becomes_the_grey_of_its_colours(tmp_path: Path, syntax: str, segmented: bool) -> None:
    pixels = (PIXELS >> 4).astype(np.uint8)
    colours = np.random.default_rng(1).integers(0, 256, (256, 3))
    bits = 16 if segmented else 8
    path = written(tmp_path / "a.dcm", pixels, syntax, **palette(colours, bits, segmented=segmented))
    Image.fromarray(colours.astype(np.uint8)[pixels]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_grey(path), read_grey(tmp_path / "a.png"))


def test_a_grey_palette_of_16_bits_keeps_them(tmp_path: Path) -> None:
    entries = np.repeat(np.linspace(0, 65535, 200).round().astype(int)[:, None], 3, axis=1)
    pixels = (PIXELS >> 4).astype(np.uint8)
    film = read_grey(written(tmp_path / "a.dcm", pixels, **palette(entries, 16, first=20)))
    np.testing.assert_array_equal(film, entries[np.clip(pixels.astype(int) - 20, 0, 199), 0])


@pytest.mark.parametrize("kind", ["jpeg 2000 lossless", "jpeg-ls", "rle", "jpeg lossless sv1"])
def test_colour_in_a_stream_is_ordered_as_its_decoder_gives_it(tmp_path: Path, kind: str) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (64, 48, 3)).astype(np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    path = written(tmp_path / "a.dcm", colour, kind)
    syntax = dcmread(path).file_meta.TransferSyntaxUID
    for planar in (0, 1):
        dataset = header(colour, PlanarConfiguration=planar)
        again = encapsulated(tmp_path / "b.dcm", dataset, stream_of(path), syntax)
        np.testing.assert_array_equal(read_grey(again), read_grey(tmp_path / "a.png"))


@pytest.mark.parametrize("said", [16, 14])
def test_a_table_has_as_many_bits_as_its_entries_need(tmp_path: Path, said: int) -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, said]
    item.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
    film = read(written(tmp_path / "a.dcm", PIXELS, VOILUTSequence=[item]))
    np.testing.assert_array_equal(film.pixels, GREYS)
    assert film.doubt == ""


# what only the values can tell


@pytest.mark.parametrize("syntax", ["explicit", "big endian", "rle", "jpeg 2000 lossless", "jpeg-ls", "jpeg lossless"])
@pytest.mark.parametrize("elements", [{}, {"WindowCenter": 0, "WindowWidth": 0}, {"RescaleSlope": 2}])
def test_unused_high_bits_cast_doubt_on_a_film_and_bits_settle_it(
    tmp_path: Path, syntax: str, elements: dict[str, Any]
) -> None:
    path = written(tmp_path / "a.dcm", PIXELS, syntax, **elements)
    assert read(path).doubt.startswith("under-exposed: of its 16 bits the highest 4 are never used")
    assert "say --bits 12" in read(path).doubt
    np.testing.assert_array_equal(read_grey(path), PIXELS)  # shown as the file says, never stretched
    settled = read(path, bits=12)
    np.testing.assert_array_equal(settled.pixels, GREYS)
    assert settled.doubt == ""
    assert read(path, bits=16).doubt == ""


def test_a_16_bit_png_of_12_bits_is_doubted_too(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert "highest 4 are never used" in read(tmp_path / "a.png").doubt
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png", bits=12), GREYS)
    np.testing.assert_array_equal(Preprocessing(40, bits=12).read(tmp_path / "a.png"), Preprocessing(40).apply(GREYS))
    with pytest.raises(ImageError, match="values of 0 to 1023 as --bits 10 says, got 4095"):
        read(tmp_path / "a.png", bits=10)
    with pytest.raises(ValueError, match="bits must be a whole number from 8 to 16"):
        read(tmp_path / "a.png", bits=7)


def test_a_film_that_fills_its_bits_or_its_window_is_not_doubted(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.dcm", PIXELS, bits=12)).doubt == ""
    assert read(written(tmp_path / "b.dcm", PIXELS, WindowCenter=2048, WindowWidth=4096)).doubt == ""
    narrow = read(written(tmp_path / "c.dcm", PIXELS, WindowCenter=32768, WindowWidth=65536))
    assert narrow.doubt.startswith("under-exposed")
    assert "its window is made for all of them" in narrow.doubt
    turned = read(written(tmp_path / "d.dcm", PIXELS, PhotometricInterpretation="MONOCHROME1"))
    assert turned.doubt.startswith("over-exposed")
    signed = read(written(tmp_path / "e.dcm", (PIXELS.astype(int) - 2048).astype(np.int16)))
    assert signed.doubt.startswith("low contrast")
    np.testing.assert_array_equal(read_grey(tmp_path / "e.dcm", bits=12), GREYS)


def test_padding_does_not_hide_unused_bits(tmp_path: Path) -> None:
    padded = PIXELS.copy()
    padded[:5] = 65535
    path = written(tmp_path / "a.dcm", padded, PixelPaddingValue=65535)
    assert "highest 4 are never used" in read(path).doubt
    expected = GREYS.copy()
    expected[:5] = 0
    np.testing.assert_array_equal(read_grey(path, bits=12), expected)
