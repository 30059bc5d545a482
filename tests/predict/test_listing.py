"""Folders are read by content: what a disc or a PACS exports is found, and what is left out is counted and named."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import written
from PIL import Image

from hilum.errors import ImageError
from hilum.predict.files import LeftOut, expand

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 36)).astype(np.uint8)


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """What lies on a disc of a hospital that a Mac has copied."""
    disc = tmp_path / "disc"
    (disc / "DICOM").mkdir(parents=True)
    (disc / "__MACOSX" / "DICOM").mkdir(parents=True)
    written(disc / "DICOM" / "IM000001", PIXELS)
    written(disc / "DICOM" / "1.2.3.4.IMA", PIXELS)
    Image.fromarray(PIXELS).save(disc / "DICOM" / "picture", format="PNG")
    Image.fromarray(PIXELS).save(disc / "DICOM" / "scan.jfif", format="JPEG")
    directory = b"\2\0\2\0UI\x1a\0" + b"1.2.840.10008.1.3.10".ljust(26, b"\0")
    (disc / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + directory)
    (disc / "README.TXT").write_text("Insert the disc.")
    (disc / "AUTORUN.INF").write_text("[autorun]")
    (disc / "empty").touch()
    for name in (".DS_Store", "Thumbs.db", "DICOM/._IM000001", "DICOM/._film.png", "__MACOSX/DICOM/._IM000001.dcm"):
        (disc / name).write_bytes(b"\0\5\x16\7")
    return disc


def test_films_are_told_by_their_content_and_the_rest_is_counted_and_named(disc: Path) -> None:
    left_out = LeftOut()
    films = [film for film, _ in expand([str(disc)], left_out)]
    assert films == ["DICOM/1.2.3.4.IMA", "DICOM/IM000001", "DICOM/picture", "DICOM/scan.jfif"]
    assert left_out.to_dict() == {"others": 3, "directories": 1, "system": 5}
    said = str(left_out)
    assert said.startswith("Left out 3 files that are neither PNG, JPEG nor DICOM: ")
    assert all(name in said for name in ("AUTORUN.INF", "README.TXT", "empty"))
    assert "._" not in said


def test_only_the_first_few_are_named(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number:04d}.txt").touch()
    written(tmp_path / "film", PIXELS)
    left_out = LeftOut()
    assert len(list(expand([str(tmp_path)], left_out))) == 1
    assert str(left_out).endswith("0001.txt, " + str(tmp_path / "0002.txt") + " and 1,997 more.")


def test_a_folder_without_films_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError, match=r"which names none. Left out 1 file .*notes.txt. Check the spelling"):
        list(expand([str(tmp_path)]))


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    written(tmp_path / "film", PIXELS)
    assert [film for film, _ in expand([str(tmp_path)])] == ["film"]
