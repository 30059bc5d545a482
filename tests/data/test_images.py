import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hilum.data.images import read_grey
from hilum.errors import ImageError


def noise(height: int, width: int, dtype: Any = np.uint8) -> Any:
    return np.random.default_rng(height * width).integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for what Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# what is read


def test_grey_8_bit(tmp_path: Path) -> None:
    pixels = noise(40, 30)
    np.testing.assert_array_equal(read_grey(saved(tmp_path / "a.png", Image.fromarray(pixels))), pixels)


def test_grey_16_bit_keeps_all_bits(tmp_path: Path) -> None:
    pixels = noise(40, 30, np.uint16)
    read = read_grey(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("kind", range(5))
def test_plain_grey_is_what_pillow_s_own_reader_gives(tmp_path: Path, kind: int) -> None:
    pixels = noise(40, 30)
    rows = b"".join(bytes([kind]) + row.tobytes() for row in pixels)  # the filter decides what the bytes mean
    (tmp_path / "a.png").write_bytes(png(30, 40, 8, 0, rows))
    with Image.open(tmp_path / "a.png") as film:
        expected = np.asarray(film)
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("rows", [0, 1, 20, 39])
@pytest.mark.parametrize(
    ("bits", "colour", "samples"), [(8, 0, 1), (16, 0, 2), (8, 2, 3), (8, 3, 1), (8, 4, 2), (8, 6, 4)]
)
def test_a_film_that_ends_before_its_last_row_is_refused(
    tmp_path: Path, rows: int, bits: int, colour: int, samples: int
) -> None:
    palette = [(b"PLTE", bytes([200, 200, 200]))] if colour == 3 else []
    row = b"\0" + bytes([0 if colour == 3 else 255] * 30 * samples)
    (tmp_path / "a.png").write_bytes(png(30, 40, bits, colour, row * rows, *palette))
    with pytest.raises(ImageError, match="film must be"):
        read_grey(tmp_path / "a.png")


def test_an_interlaced_film_is_read_whole_or_refused(tmp_path: Path) -> None:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    pixels = noise(20, 17)
    rows = [b"\0" + row.tobytes() for x, y, across, down in passes for row in pixels[y::down, x::across]]
    for kept in (len(rows), len(rows) - 1, 3):
        content = bytearray(png(17, 20, 8, 0, b"".join(rows[:kept])))
        content[28] = 1  # the header's last byte
        (tmp_path / "a.png").write_bytes(with_right_checksums(bytes(content)))
        if kept == len(rows):
            np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), pixels)
        else:
            with pytest.raises(ImageError, match="intact"):
                read_grey(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_stored_as_colour_is_the_same_grey(tmp_path: Path, mode: str) -> None:
    pixels = noise(40, 30)
    np.testing.assert_array_equal(read_grey(saved(tmp_path / "a.png", Image.fromarray(pixels).convert(mode))), pixels)


def test_colour_becomes_grey_by_itu_r_601(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8, endpoint=True)
    expected = (colour.astype(np.int64) @ np.array([19595, 38470, 7471]) + 0x8000) >> 16
    np.testing.assert_array_equal(read_grey(saved(tmp_path / "a.png", Image.fromarray(colour))), expected)


def test_palette(tmp_path: Path) -> None:
    palette = Image.new("P", (30, 40))
    palette.putpalette([level for level in range(256) for _ in range(3)])
    palette.putdata(list(noise(40, 30).ravel()))
    np.testing.assert_array_equal(read_grey(saved(tmp_path / "a.png", palette)), noise(40, 30))


def test_opaque_palette_with_transparency_chunk_does_not_warn(tmp_path: Path) -> None:
    palette = Image.new("P", (30, 40), 3)
    palette.putpalette([level for level in range(256) for _ in range(3)])
    path = saved(tmp_path / "a.png", palette, transparency=bytes([0, 255, 255, 255]))
    np.testing.assert_array_equal(read_grey(path), np.full((40, 30), 3))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(noise(40, 30)).convert(mode)
    expected = np.asarray(Image.open(saved(tmp_path / "a.jpg", image, quality=95)).convert("L"))
    np.testing.assert_array_equal(read_grey(tmp_path / "a.jpg"), expected)


def test_content_tells_the_format_not_the_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(noise(40, 30)), format="JPEG")
    assert read_grey(path).shape == (40, 30)


def test_broken_exif_and_text_bombs_do_not_matter(tmp_path: Path) -> None:
    image, pixels = Image.fromarray(noise(40, 30)), noise(40, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_grey(saved(tmp_path / "a.jpg", image, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09garbage"))
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        text = (b"zTXt", b"key\0\0" + zlib.compress(bytes(64_000_000)))
        (tmp_path / "a.png").write_bytes(png(30, 40, 8, 0, rows, text))
        np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), pixels)


# what is refused


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "film must be a file of 1 to .* bytes, got 0"),
        ("text.png", b"Image Index,Finding Labels\n", "film must be a PNG, JPEG or DICOM image"),
        ("gif.png", b"GIF89a" + bytes(50), "film must be a PNG, JPEG or DICOM image"),
        ("film.dcm", b"old DICOM without preamble", "DICOM file with preamble"),
        ("film.png", bytes(128) + b"DICM", "DICOM file with preamble"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "complete PNG, got a truncated one"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "complete JPEG, got a truncated"),
        ("one.png", png(1, 1, 8, 0, b"\0\0"), "got 1 x 1"),
        ("flat.png", png(2000, 8, 8, 0, b""), "got 2000 x 8"),
        ("bomb.png", png(2**31 - 1, 2**31 - 1, 8, 0, b""), "20000 pixels a side"),
        ("large.png", png(12_000, 12_000, 8, 0, b""), "at most 100 megapixels, got 12000 x 12000"),
        ("lie.png", png(9_000, 9_000, 8, 0, bytes(100)), "film must be an intact image"),
        ("bits1.png", png(32, 32, 1, 0, bytes(32 * 5)), "8 or 16 bits, got a PNG with 1"),
        ("rgb16.png", png(32, 32, 16, 2, bytes(32 * 193)), "grey if it has 16 bits"),
        ("rgba16.png", png(32, 32, 16, 6, bytes(32 * 257)), "grey if it has 16 bits"),
        ("la16.png", png(32, 32, 16, 4, bytes(32 * 129)), "grey if it has 16 bits"),
        ("kind.png", png(32, 32, 8, 5, bytes(32 * 33)), "film must be an intact image"),
        ("animated.png", png(32, 32, 8, 0, bytes(32 * 33), (b"acTL", struct.pack(">II", 2, 0))), "animated PNG"),
        ("key.png", png(32, 32, 8, 0, bytes(32 * 33), (b"tRNS", b"\0\0")), "opaque, got transparent pixels"),
        ("key16.png", png(32, 32, 16, 0, bytes(32 * 65), (b"tRNS", b"\0\0")), "opaque, got transparent pixels"),
        ("keyrgb.png", png(32, 32, 8, 2, bytes(32 * 97), (b"tRNS", bytes(6))), "opaque, got transparent pixels"),
    ],
)
def test_refused_with_file_and_remedy(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_grey(tmp_path / name)
    assert name in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).endswith(".")


def test_colour_keys_that_no_pixel_has_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(32, 32, 16, 0, bytes(32 * 65), (b"tRNS", b"\0\1")))
    assert read_grey(tmp_path / "a.png").dtype == np.uint16


def test_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="got a folder"):
        read_grey(tmp_path)
    with pytest.raises(ImageError, match=r"got nothing in '.*no\.png'"):
        read_grey(tmp_path / "no.png")
    with pytest.raises(ImageError):
        read_grey(Path("a\0b.png"))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_one_transparent_pixel_is_refused(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(noise(40, 30)).convert(mode)
    alpha = Image.new("L", image.size, 255)
    alpha.putpixel((3, 4), 254)
    image.putalpha(alpha)
    with pytest.raises(ImageError, match="opaque, got transparent pixels"):
        read_grey(saved(tmp_path / "a.png", image))


def test_cmyk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="CMYK"):
        read_grey(saved(tmp_path / "a.jpg", Image.new("CMYK", (32, 32))))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    content = saved(tmp_path / name, Image.fromarray(noise(24, 24))).read_bytes()
    for length in (*range(1, len(content) - 2, 11), *range(len(content) - 16, len(content) - 1)):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(ImageError):
            read_grey(tmp_path / name)


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path / "a.png", Image.fromarray(noise(24, 24))).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match="damaged 'IDAT' chunk"):
        read_grey(tmp_path / "a.png")


def test_pillow_s_global_limit_stays_and_its_warning_stays_inside(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(png(9_900, 10_000, 8, 0, bytes(9_901 * 10_000)))  # above Pillow's, below ours
    assert read_grey(tmp_path / "a.png").shape == (10_000, 9_900)
    assert before == Image.MAX_IMAGE_PIXELS


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["L", "RGBA", "P", "I;16", "jpeg", "raw"]))
def test_nothing_but_image_error_comes_out(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    path = tmp_path / "film"
    if kind == "raw":
        start = data.draw(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]))
        content = bytearray(start + data.draw(st.binary(max_size=300)))
    else:
        stream = io.BytesIO()
        image = Image.fromarray(noise(20, 20, np.uint16)) if kind == "I;16" else Image.fromarray(noise(20, 20))
        image = image if kind in ("I;16", "jpeg") else image.convert(kind)
        image.save(stream, "JPEG" if kind == "jpeg" else "PNG")
        content = bytearray(stream.getvalue())
        for _ in range(data.draw(st.integers(0, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        if kind != "jpeg" and data.draw(st.booleans()):
            content = with_right_checksums(bytes(content))
    path.write_bytes(content)
    with contextlib.suppress(ImageError):
        pixels = read_grey(path)
        assert pixels.ndim == 2


def with_right_checksums(content: bytes) -> bytearray:
    """So that the damage reaches the decoder."""
    fixed, start = bytearray(content), 8
    while start + 12 <= len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        if end > len(content):
            break
        fixed[end - 4 : end] = zlib.crc32(fixed[start + 4 : end - 4]).to_bytes(4, "big")
        start = end
    return fixed


def test_text_for_a_path_is_the_caller_s_slip_and_no_damaged_film() -> None:
    with pytest.raises(TypeError):  # of jaxtyping's hook, where it is on
        read_grey("film.png")  # type: ignore[arg-type]


def test_raw_films_of_jsrt_are_turned_and_have_a_full_scale(tmp_path: Path) -> None:
    values = np.zeros((2048, 2048), dtype=">u2")
    values[5, 7], values[0, 1] = 4095, 0x0100
    (tmp_path / "JPCLN001.IMG").write_bytes(values.tobytes())
    pixels = read_grey(tmp_path / "JPCLN001.IMG")
    assert pixels.dtype == np.uint16
    assert pixels.shape == (2048, 2048)
    assert pixels[5, 7] == 0
    assert pixels[0, 0] == 65535
    assert pixels[0, 1] == round((4095 - 256) * 65535 / 4095)
    (tmp_path / "JPCLN001.IMG").write_bytes(values.tobytes()[:-2])
    with pytest.raises(ImageError, match="8388608 bytes as each of JSRT's raw films"):
        read_grey(tmp_path / "JPCLN001.IMG")
    values[0, 0] = 4096
    (tmp_path / "JPCLN001.IMG").write_bytes(values.tobytes())
    with pytest.raises(ImageError, match="values of 0 to 4095"):
        read_grey(tmp_path / "JPCLN001.IMG")
