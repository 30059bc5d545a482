"""Stored values to greys, against the standard's own words written as slow code, and scores against a PNG's."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import header, written
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.data.decoding import FaultError
from hilum.data.dicom import grey_table
from hilum.data.images import read_grey
from hilum.model.engines import open_engine
from hilum.predict.scoring import score_files


def table(bits: int = 12, signed: bool = False, **elements: Any) -> list[int]:
    kind = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    dataset = header(np.zeros((16, 16), kind), bits=bits, **elements)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return [int(grey) for grey in grey_table(dataset, bits=bits, signed=signed)]


def lookup(count: int, first: int, bits: int, entries: Any, *, vr: str = "US") -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [count, first, bits]
    item.add_new("LUTData", vr, entries)
    return [item]


def windowed(value: float, centre: float, width: float, function: str) -> float:
    """PS3.3, C.11.2.1.2 and C.11.2.1.3, word for word, with ymin 0 and ymax 1."""
    match function:
        case "LINEAR":
            if value <= centre - 0.5 - (width - 1) / 2:
                return 0
            if value > centre - 0.5 + (width - 1) / 2:
                return 1
            return (value - (centre - 0.5)) / (width - 1) + 0.5
        case "LINEAR_EXACT":
            if value <= centre - width / 2:
                return 0
            return 1 if value > centre + width / 2 else (value - centre) / width + 0.5
        case _:
            return 1 / (1 + math.exp(min(700, -4 * (value - centre) / width)))


@settings(max_examples=40)
@given(
    centre=st.floats(-500, 4500),
    width=st.floats(1, 5000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    slope=st.sampled_from([1.0, 0.5, 2.25, -1.0]),
    intercept=st.sampled_from([0.0, -1024.0, 7.5]),
    signed=st.booleans(),
)
def test_windows_are_the_standard_s(
    centre: float, width: float, function: str, slope: float, intercept: float, signed: bool
) -> None:
    centre, width = round(centre, 3), round(width, 3)
    elements = {"RescaleSlope": slope, "RescaleIntercept": intercept, "VOILUTFunction": function}
    greys = table(10, signed, WindowCenter=centre, WindowWidth=width, **elements)
    for unsigned in range(0, 1024, 31):
        value = unsigned - 1024 if signed and unsigned >= 512 else unsigned
        expected = 65535 * windowed(slope * value + intercept, centre, width, function)
        assert abs(greys[unsigned] - expected) <= 0.5001


def test_golden_window() -> None:
    greys = table(8, WindowCenter=128, WindowWidth=3)
    assert greys[126:130] == [0, 16384, 49151, 65535]  # (127 - 127.5) / 2 + 0.5 is a quarter of the way
    assert table(8, WindowCenter=[128, 40], WindowWidth=[3, 400])[126:130] == greys[126:130]  # the first of several
    assert table(8, WindowCenter=128, WindowWidth=1)[126:129] == [0, 0, 65535]


def test_without_a_window_what_the_bits_can_hold_is_shown_whole() -> None:
    assert table(8) == list(range(256))
    assert table(12)[:2] + table(12)[-1:] == [0, 16, 65535]
    assert table(12, RescaleSlope=3, RescaleIntercept=-1000) == table(12)
    assert table(12, RescaleSlope=-1, RescaleIntercept=0) == table(12)[::-1]
    signed = table(12, True)
    assert (signed[0x800], signed[0x7FF], signed[0]) == (0, 65535, round(2048 / 4095 * 65535))


@pytest.mark.parametrize("bits", [1, 8, 10, 12, 15, 16])
def test_monochrome1_is_turned_by_depth_after_the_window(bits: int) -> None:
    assert table(bits, PhotometricInterpretation="MONOCHROME1") == table(bits)[::-1]
    window: dict[str, Any] = {"WindowCenter": 3, "WindowWidth": 4}
    turned = table(bits, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **window)
    assert np.abs(np.add(turned, table(bits, PresentationLUTShape="IDENTITY", **window)) - 65535).max() <= 1


def test_tables() -> None:
    entries = [0, 100, 300, 1023]
    expected = [round(entry / 1023 * 65535) for entry in entries]
    greys = table(8, VOILUTSequence=lookup(4, 10, 10, entries), WindowCenter=1, WindowWidth=2)
    assert greys[:10] == [0] * 10
    assert greys[10:14] == expected
    assert set(greys[14:]) == {65535}
    as_words = np.array(entries, "<u2").tobytes()
    assert table(8, VOILUTSequence=lookup(4, 10, 10, as_words, vr="OW")) == greys
    negative = table(8, True, VOILUTSequence=lookup(4, 0xFFFF, 10, entries))  # -1, as a signed film means it
    assert [negative[k] for k in (0xFE, 0xFF, 0, 1, 2)] == [0, *expected]
    modality = table(8, ModalityLUTSequence=lookup(4, 0, 10, entries))
    assert modality[:4] == expected
    assert table(8, VOILUTSequence=lookup(3, 0, 8, bytes([0, 128, 255, 0]), vr="OW"))[:3] == [0, 128 * 257, 65535]


def test_padding_is_black_on_either_kind_of_film() -> None:
    assert table(8, PixelPaddingValue=255)[254:] == [254, 0]
    turned = table(8, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0, PixelPaddingRangeLimit=2)
    assert turned[:4] == [0, 0, 0, 252]
    assert table(12, True, PixelPaddingValue=0xF800)[0x800:0x802] == [0, 16]  # -2048, written as unsigned


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"WindowCenter": 5}, "WindowWidth too if it has the other half of a window"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window at least 1 wide"),
        ({"WindowCenter": 5, "WindowWidth": -3, "VOILUTFunction": "SIGMOID"}, "wider than 0"),
        ({"WindowCenter": 5, "WindowWidth": 10, "VOILUTFunction": "CUBIC"}, "LINEAR, LINEAR_EXACT or SIGMOID"),
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "rescale slope other than 0"),
        ({"PresentationLUTShape": "INVERSE"}, "IDENTITY if it is MONOCHROME2, got the presentation shape 'INVERSE'"),
        ({"VOILUTSequence": lookup(5, 0, 10, [1, 2, 3])}, "5 entries in its table as it says, got 3"),
        ({"VOILUTSequence": lookup(3, 0, 8, [1, 2, 300])}, "entries of 8 bits as it says, got 300"),
        ({"VOILUTSequence": lookup(3, 0, 32, [1, 2, 3])}, "8 to 16 bits, got 32"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(elements: Any, message: str) -> None:
    with pytest.raises(FaultError, match=message):
        table(**elements)


def test_a_dicom_film_and_its_png_have_the_same_scores(tiny_run: Path, tmp_path: Path) -> None:
    """The PNG is made by other arithmetic: of the pixels, not of a table."""
    ramp = np.add.outer(np.arange(200) * 9, np.arange(180) * 12)
    values = (ramp + np.random.default_rng(0).integers(0, 90, ramp.shape)).astype(np.uint16)
    elements = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 1900, "WindowWidth": 3000}
    written(tmp_path / "film.dcm", values, "jpeg 2000 lossless", bits=12, **elements)
    shown = np.clip((values - 1899.5) / 2999 + 0.5, 0, 1)
    Image.fromarray(np.rint((1 - shown) * 65535).astype(np.uint16)).save(tmp_path / "film.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "film.dcm"), read_grey(tmp_path / "film.png"))
    engine = open_engine(tiny_run, engine="torch")
    one, other = score_files(engine, [tmp_path / "film.dcm", tmp_path / "film.png"], force=True)
    assert one.scores is not None
    assert other.scores is not None
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-6)
