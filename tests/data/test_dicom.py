"""DICOM films: every syntax gives the stored values, a lying or damaged file is refused by name."""

import contextlib
import os
import random
import resource
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import LOSSLESS, LOSSY, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hilum.data.images import read, read_grey
from hilum.errors import ImageError, MissingExtraError

SLOPE = 65535 / 4095


def stored(bits: int = 12, *, height: int = 80, width: int = 70, signed: bool = False) -> Any:
    low = -(1 << bits - 1) if signed else 0
    kind = np.int8 if bits <= 8 and signed else np.uint8 if bits <= 8 else np.int16 if signed else np.uint16
    values = np.random.default_rng(bits).integers(low, low + (1 << bits), (height, width))
    values.flat[:2] = low, low + (1 << bits) - 1
    return values.astype(kind)


# what is read


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_lossless_syntax_gives_the_stored_values(tmp_path: Path, syntax: str, bits: int) -> None:
    pixels = stored(bits)
    film = read_grey(written(tmp_path / "a.dcm", pixels, syntax, bits=bits))
    full = 255 if bits == 8 else 65535
    assert film.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_array_equal(film, np.rint(pixels * (full / ((1 << bits) - 1))))


@pytest.mark.parametrize("syntax", LOSSY)
def test_lossy_syntaxes_give_almost_the_stored_values(tmp_path: Path, syntax: str) -> None:
    ramp = np.add.outer(np.arange(64) * 30, np.arange(64) * 30).astype(np.uint16)
    film = read_grey(written(tmp_path / "a.dcm", ramp, syntax, bits=12))
    assert np.abs(film - ramp * SLOPE).max() < 12 * SLOPE


@pytest.mark.parametrize("colour", [False, True])
def test_a_jpeg_in_dicom_has_the_pixels_of_the_bare_jpeg(tmp_path: Path, colour: bool) -> None:
    pixels = np.kron(stored(8, height=8, width=6), np.ones((8, 8))).astype(np.uint8)
    if colour:
        pixels = np.stack([pixels, pixels // 2, 255 - pixels], axis=2)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    kind = "YBR_FULL_422" if colour else "MONOCHROME2"
    path = written(tmp_path / "a.dcm", pixels, "jpeg", PhotometricInterpretation=kind)
    apart = np.abs(read_grey(path).astype(int) - read_grey(tmp_path / "a.jpg"))
    assert apart.max() <= (2 if colour else 0)  # the colours are turned into RGB by other code


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_signed_values_keep_their_order(tmp_path: Path, syntax: str) -> None:
    pixels = stored(12, signed=True)
    film = read_grey(written(tmp_path / "a.dcm", pixels, syntax, bits=12))
    np.testing.assert_array_equal(film, np.rint((pixels.astype(int) + 2048) * SLOPE))


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big endian", "deflated"])
def test_what_lies_in_unused_bits_does_not_matter(tmp_path: Path, syntax: str) -> None:
    pixels = stored(12)
    clean = read_grey(written(tmp_path / "clean.dcm", pixels, syntax, bits=12))
    dirty = read_grey(written(tmp_path / "dirty.dcm", pixels | np.uint16(0xA000), syntax, bits=12))
    np.testing.assert_array_equal(clean, dirty)


def test_colour_becomes_grey_as_in_a_png(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8, endpoint=True)
    Image.fromarray(colour).save(tmp_path / "a.png")
    film = read_grey(written(tmp_path / "a.dcm", colour, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
    np.testing.assert_array_equal(film, read_grey(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.15, 0.15]}, (0.15, 0.15)),
        ({"PixelSpacing": [0.14, 0.14], "ImagerPixelSpacing": [0.15, 0.15]}, (0.14, 0.14)),
        ({"PixelSpacing": [0, 0]}, None),
        ({}, None),
    ],
)
def test_the_size_of_a_pixel_is_kept(tmp_path: Path, elements: Any, spacing: Any) -> None:
    assert read(written(tmp_path / "a.dcm", stored(8), **elements)).spacing_mm == spacing


def test_the_content_tells_that_it_is_dicom_not_the_name(tmp_path: Path) -> None:
    assert read_grey(written(tmp_path / "IM0001", stored(8))).shape == (80, 70)


# what is refused


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "CR, DX or Secondary Capture film, got 'CT Image Storage'"),
        ({"SOPClassUID": "1.2.3"}, "CR, DX or Secondary Capture film, got '1.2.3'"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "for presentation, got raw pixels"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for presentation, got raw pixels"),
        ({"NumberOfFrames": 2}, "single image, got 2 frames"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "the palette that it says, got no whole red table"),
        ({"PhotometricInterpretation": "CMYK"}, "grey, RGB, YBR or of a palette, got 'CMYK'"),
        ({"SamplesPerPixel": 3}, "grey, RGB, YBR or of a palette, got 'MONOCHROME2' with 3"),
        ({"HighBit": 15, "BitsStored": 12}, "got 16 allocated, 12 stored up to bit 15"),
        ({"BitsStored": 17, "HighBit": 16}, "got 16 allocated, 17 stored"),
        ({"BitsAllocated": 32}, "got 32 allocated"),
        ({"Rows": None}, "say its Rows as a whole number, got None"),
        ({"Rows": 81}, "11340 bytes of pixels as its header says, got 11200"),
        ({"Rows": 40}, "5600 bytes of pixels as its header says, got 11200"),
        ({"Rows": 60_000, "Columns": 60_000}, "pixels a side"),
        ({"Rows": 4}, "pixels a side"),
    ],
)
def test_a_header_that_is_no_chest_film_s_is_refused(tmp_path: Path, elements: Any, message: str) -> None:
    with pytest.raises(ImageError, match=f"film must .*{message}.*a.dcm"):
        read(written(tmp_path / "a.dcm", stored(16), **elements))


@pytest.mark.parametrize("syntax", ["jpeg-ls", "jpeg 2000 lossless", "jpeg lossless", "rle"])
@pytest.mark.parametrize("change", [{"Rows": 79}, {"Columns": 71}, {"Rows": 71, "Columns": 80}])
def test_a_stream_of_another_size_is_refused(tmp_path: Path, syntax: str, change: dict[str, int]) -> None:
    content = bytearray(written(tmp_path / "a.dcm", stored(16), syntax).read_bytes())
    for tag, value in (("Rows", b"\x10\0US\2\0"), ("Columns", b"\x11\0US\2\0")):
        if tag in change:
            struct.pack_into("<H", content, content.index(b"\x28\0" + value) + 8, change[tag])
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ImageError, match=r"as long as the film|of the header's width"):
        read(tmp_path / "a.dcm")


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY, "jpeg"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_film_is_refused(tmp_path: Path, syntax: str, kept: float) -> None:
    content = written(tmp_path / "a.dcm", stored(8, height=200, width=150), syntax).read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageError):
        read(tmp_path / "a.dcm")


def test_compressed_values_beyond_the_stored_bits_are_refused_not_cut(tmp_path: Path) -> None:
    content = bytearray(written(tmp_path / "a.dcm", stored(16), "jpeg-ls").read_bytes())
    for element, value in ((b"\x01\x01", 12), (b"\x02\x01", 11)):
        struct.pack_into("<H", content, content.index(b"\x28\0" + element + b"US\2\0") + 8, value)
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ImageError, match="values of 0 to 4095 as its Bits Stored says"):
        read(tmp_path / "a.dcm")


def test_bombs_are_refused_before_they_burst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.data.dicom._LARGEST_INFLATED", 1 << 20)
    path = written(tmp_path / "a.dcm", stored(8), "deflated")
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(content[:start] + bomb.compress(bytes(1 << 22)) + bomb.flush())
    with pytest.raises(ImageError, match="not absurdly large when inflated"):
        read(path)
    runs = written(tmp_path / "runs.dcm", stored(8), "rle").read_bytes()
    place = runs.index(struct.pack("<II", 1, 64))
    long = (b"\x81\0" * 32_000).ljust(64_000, b"\0")
    encapsulated = runs[: place - 4] + struct.pack("<I", 64 + len(long)) + runs[place : place + 64] + long
    path.write_bytes(encapsulated + b"\xfe\xff\xdd\xe0\0\0\0\0")
    with pytest.raises(ImageError, match="run-length segments as long as the film"):
        read(path)


def test_without_pydicom_a_sentence_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.dcm", stored(8))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hilum\[dicom\]'"):
        read(path)


# whatever comes


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_films_raise_named_errors_only(tmp_path: Path, data: st.DataObject) -> None:
    syntax = data.draw(st.sampled_from([*LOSSLESS, "jpeg", "jpeg 2000"]))
    path = tmp_path / f"{syntax}.dcm"
    if not path.exists():
        elements = {"WindowCenter": 100, "WindowWidth": 200, "PixelPaddingValue": 3}
        written(path, stored(8), syntax, **elements)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom says of what it can read in spite of all that it is odd
        try:
            film = read(damaged).pixels
        except ImageError:
            return
    assert film.ndim == 2
    assert film.dtype in (np.uint8, np.uint16)


@pytest.mark.real
def test_damaged_real_films_raise_named_errors_only_and_take_bounded_memory(real_data: Path, tmp_path: Path) -> None:
    """A long run: HILUM_FUZZ_EXAMPLES=60000 and -p no:logging, as pytest keeps what pydicom says of each film.

    See docs/experiments.md.
    """
    contents = [path.read_bytes() for path in sorted((real_data / "dicom").rglob("*.dcm"))]
    read_films, before = 0, peak_mb()
    for number in range(int(os.environ.get("HILUM_FUZZ_EXAMPLES", "30"))):
        chance = random.Random(number)
        content = bytearray(chance.choice(contents))
        end = chance.choice([2000, 4000, len(content)])  # most of what can lie stands at the beginning
        for _ in range(chance.randint(1, 20)):
            content[chance.randrange(128, end)] = chance.randrange(256)
        if chance.random() < 0.5:
            del content[chance.randrange(200, len(content)) :]
        (tmp_path / f"{number}.dcm").write_bytes(content)
        with warnings.catch_warnings(), contextlib.suppress(ImageError):
            warnings.simplefilter("ignore")
            assert read(tmp_path / f"{number}.dcm").pixels.ndim == 2
            read_films += 1
        (tmp_path / f"{number}.dcm").unlink()
        assert peak_mb() - before < 1500  # a film of 100 megapixels, its greys, and the decoder's copy
    print(f"{read_films} were films all the same; {peak_mb() - before:.0f} MiB more than before the first")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# real films


@pytest.mark.real
def test_one_film_in_two_compressions_is_one_film(real_data: Path) -> None:
    one, other = (read_grey(real_data / "dicom" / f"RG1_{kind}.dcm").astype(int) for kind in ("J2KI", "JLSN"))
    assert one.shape == other.shape == (1955, 1841)
    apart = np.abs(one - other) / 65535
    assert apart.max() < 0.015  # both are lossy
    assert apart.mean() < 0.002
    lung, middle = one[800:1000, 450:600].mean(), one[1300:1500, 850:950].mean()
    assert middle > lung + 0.1 * 65535  # the spine is brighter than a lung: MONOCHROME1 was turned


@pytest.mark.real
@pytest.mark.parametrize("kind", ["J2KR", "JLSL", "JPLL"])
def test_lossless_compressions_agree_bit_for_bit(real_data: Path, kind: str) -> None:
    folder = real_data / "dicom" / "not_chest"
    np.testing.assert_array_equal(read_grey(folder / f"RG3_leg_{kind}.dcm"), read_grey(folder / "RG3_leg_JLSL.dcm"))


@pytest.mark.real
def test_the_tag_monochrome1_turns_the_film(real_data: Path) -> None:
    plain, turned = (read(real_data / "dicom" / f"rsna_jpegbaseline_{kind}.dcm") for kind in ("mono2", "FAKE_mono1"))
    np.testing.assert_array_equal(plain.pixels, 255 - turned.pixels)
    assert plain.spacing_mm == (0.168, 0.168)


@pytest.mark.real
def test_an_old_implicit_film_has_its_own_pixels(real_data: Path) -> None:
    path = real_data / "dicom" / "nih_google_dx_implicitLE_mono2.dcm"
    expected = np.frombuffer(path.read_bytes()[-1024 * 1024 :], np.uint8).reshape(1024, 1024)
    np.testing.assert_array_equal(read_grey(path), expected)
