import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import HilumError
from hilum.files import unfinished, write_whole


@settings(max_examples=20, deadline=None)
@given(before=st.none() | st.binary(max_size=50), after=st.binary(max_size=50))
def test_a_file_is_replaced_as_a_whole(tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes) -> None:
    path = tmp_path_factory.mktemp("files") / "report.json"
    if before is not None:
        path.write_bytes(before)
    write_whole(path, after)
    assert path.read_bytes() == after
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "runs" / "first" / "bundle.json", b"{}")
    assert (tmp_path / "runs" / "first" / "bundle.json").read_bytes() == b"{}"


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "films.parquet"
    path.write_bytes(b"old")
    with unfinished(path) as beside:
        beside.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        assert (beside.parent, beside.suffix) == (tmp_path, ".parquet")  # the same disk; writers look at the suffix
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_fault_leaves_the_old_file_and_no_other(tmp_path: Path, fault: type[BaseException]) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"old")

    def write_half() -> None:
        with unfinished(path) as beside:
            beside.write_bytes(b"half")
            raise fault

    with pytest.raises(fault):
        write_half()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"report.json": b"old"}


def test_others_may_read_the_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "report.html", b"")
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o644


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with unfinished(path) as first, unfinished(path) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # the one that ended last


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.mkdir()
    with pytest.raises(HilumError, match=r"output must be a file, but .*report\.json is a folder"):
        write_whole(path, b"{}")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").write_bytes(b"")
    with pytest.raises(HilumError, match=r"output must be a place that can be written to, got .*runs/x/report\.json"):
        write_whole(tmp_path / "runs" / "x" / "report.json", b"{}")
    with pytest.raises(HilumError, match="output must be a place"):
        write_whole(tmp_path / "runs" / "report.json", b"{}")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(HilumError, match="output must be a place"):
        write_whole(tmp_path / ("x" * 300), b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(HilumError, match="output must be a place that can be written to"):
            write_whole(tmp_path / "report.json", b"{}")
    finally:
        tmp_path.chmod(0o700)


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "films.parquet"
    os.mkfifo(path)
    with pytest.raises(HilumError, match=r"output must be a file, but .*films\.parquet is something else"):
        write_whole(path, b"")
    assert path.is_fifo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["films.parquet"]
