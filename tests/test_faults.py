"""Small inputs that were once read wrongly, refused wrongly or explained badly; see HILUM_REAL_DATA/faults."""

import json
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum.batch import Asked, predict_to_file
from hilum.data.images import read
from hilum.data.tables import read_cells
from hilum.errors import ImageError
from hilum.model.engines import open_engine
from hilum.pacs.results import fit_in, read_header, result_model, result_objects, scores_of
from hilum.predict.files import LeftOut, expand
from hilum.predict.scoring import score_files

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def faults(real_data: Path) -> Path:
    folder = real_data / "faults"
    if not folder.is_dir():
        pytest.skip(f"no inputs that were read wrongly in {folder}")
    return folder


@pytest.fixture(autouse=True)
def no_warning_of_a_library_reaches_a_user() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def native(path: Path, *, start: int = 0) -> Any:
    """The pixels of an uncompressed film with NumPy alone: the last bytes of its file."""
    size = 2 * 256 * 256
    content = path.read_bytes()
    return (
        np.frombuffer(content[len(content) - size - start : len(content) - start], "<u2").astype(int).reshape(256, 256)
    )


def greys(values: Any, most: int = 4095) -> Any:
    return np.rint(values / most * 65535)


def apart(film: Any, other: Any) -> float:
    return float(np.abs(film.astype(float) - other).max())


@pytest.mark.parametrize("name", ["0_right_j2k12.dcm", "j2k12_header16.dcm"])
def test_the_stream_s_own_depth(faults: Path, tiny_run: Path, name: str) -> None:
    right = faults / "stream_precision" / "0_right_png16.png"
    assert apart(read(faults / "stream_precision" / name).pixels, read(right).pixels) <= 1
    one, other = score_files(open_engine(tiny_run, engine="torch"), [faults / "stream_precision" / name, right])
    assert one.scores is not None
    assert other.scores is not None
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_signs_that_differ_are_refused(faults: Path) -> None:
    with pytest.raises(ImageError, match="a stream that says signed and a header that says unsigned"):
        read(faults / "j2k_sign_mismatch" / "j2k_signed_header_unsigned.dcm")


def test_depth_that_only_the_values_tell(faults: Path, tiny_run: Path) -> None:
    dark = faults / "png16_holds_12_bits" / "png16_holds12.png"
    header16 = faults / "voilut_overstates_bits" / "native12_header16_nowindow.dcm"
    right = read(faults / "png16_holds_12_bits" / "0_right_png16.png").pixels
    for path in (dark, header16):
        assert apart(read(path, bits=12).pixels, right) <= 1
        [scored] = score_files(open_engine(tiny_run, engine="torch"), [path])
        assert "the highest 4 are never used" in scored.fit
        assert "say --bits 12" in scored.fit


def test_rle_keeps_unused_bits(faults: Path) -> None:
    folder = faults / "rle_unused_bits"
    one, other = read(folder / "dcmtk_s12_rle.dcm").pixels, read(folder / "native_same_pixels.dcm").pixels
    np.testing.assert_array_equal(one, other)
    patterns = native(folder / "native_same_pixels.dcm") & 0xFFF
    assert apart(one, greys(patterns - ((patterns >> 11) << 12) + 2048)) == 0


def test_spare_bytes_empty_windows_and_wrong_group_lengths(faults: Path) -> None:
    for name, spare in (("excess_padding", 8), ("empty_window", 0)):
        path = faults / name / f"{name}.dcm"
        assert apart(read(path).pixels, greys(native(path, start=spare))) == 0
    path = faults / "meta_length" / "meta_len_short.dcm"
    assert apart(read(path).pixels, greys(native(path))) == 0


def test_a_palette(faults: Path) -> None:
    film = read(faults / "node_reason_hidden" / "palette.dcm").pixels
    assert film.shape == (256, 256)
    assert len(np.unique(film)) > 100


def test_jpeg_that_differs_from_its_header(faults: Path) -> None:
    film = read(faults / "jpeg_depth_messages" / "jpeg_grey_hdr12.dcm").pixels
    assert film.dtype == np.uint8
    assert film.max() > 200
    with pytest.raises(
        ImageError, match="8 or 12 bits if it is a lossy JPEG, got a stream of 16 bits and a header of 12"
    ):
        read(faults / "jpeg_depth_messages" / "jpeg12.dcm")


def test_a_lateral_film_by_its_header(faults: Path, untrained_run: Path) -> None:
    """LL is no frontal film, whatever is on it: no scores, and the field that says so."""
    path = faults / "lateral_by_header" / "lateral_LL.dcm"
    engine = open_engine(untrained_run, engine="torch")
    [scored] = score_files(engine, [path])
    assert (scored.scores, scored.error) == (None, "")
    assert scored.fit == "lateral: the header's View Position is LL"
    [forced] = score_files(engine, [path], force=True)
    assert forced.scores is not None
    assert forced.forced
    (report,) = result_objects(path, scored, result_model(untrained_run, None), now=datetime(2026, 1, 2))
    assert scores_of(report) == {}
    assert fit_in(report) == scored.fit


def test_a_name_without_character_set(faults: Path) -> None:
    assert str(read_header(faults / "name_without_charset" / "utf8_undeclared.dcm").PatientName) == "Müster^Jörg"


def test_what_has_no_report_keeps_its_scores(faults: Path, untrained_run: Path, tmp_path: Path) -> None:
    asked = Asked(untrained_run, (str(faults / "dicom_out_loses_scores"),), engine="torch", dicom=tmp_path / "o")
    predict_to_file(asked, tmp_path / "p.json")
    for row in json.loads((tmp_path / "p.json").read_text()):
        assert row["Mass"] is not None
        assert "no study to put a report into" in row["error"] or "leading zero" in row["error"]


def test_folders(faults: Path) -> None:
    left_out = LeftOut()
    films = [film for film, _ in expand([str(faults / "folder_without_endings" / "cd")], left_out)]
    assert films == ["one.dcm", "DICOM/IM000001"]
    assert [film for film, _ in expand([str(faults / "folder_without_endings" / "cd" / "DICOM")])] == ["IM000001"]
    films = [film for film, _ in expand([str(faults / "appledouble" / "films")], left_out)]
    assert films == ["00000001_000.png"]
    assert left_out.to_dict() == {"others": 0, "directories": 0, "system": 1}


def test_a_table_with_excel_s_line(faults: Path) -> None:
    cells = read_cells(faults / "csv_sep_line" / "theirs.csv")
    assert len(cells.names) == 15
    assert cells.rows[0] == 3
