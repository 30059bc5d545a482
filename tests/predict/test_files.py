"""Which files a command line names: order, names, and little memory."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from hilum.errors import HilumError, ImageError
from hilum.predict import files as listing
from hilum.predict.files import Listed, Listing, expand


@pytest.fixture(autouse=True)
def some_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/2.png", "a/1.PNG", "a/deep/3.jpeg", "a/deep/1.PNG", "a/notes.txt", "b/4.jpg", "b/film", "[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def paths(*inputs: str) -> list[str]:
    return [path.as_posix() for _, path in expand(inputs)]


def films(*inputs: str) -> list[str]:
    return [film for film, _ in expand(inputs)]


def test_inputs_are_files_folders_and_patterns(tmp_path: Path) -> None:
    assert paths("a") == ["a/1.PNG", "a/2.png", "a/deep/1.PNG", "a/deep/3.jpeg"]
    assert paths("b/film", "a/2.png") == ["b/film", "a/2.png"]
    assert paths("*/*.??g") == ["a/2.png", "b/4.jpg"]
    assert paths("**/*.jp*g") == ["a/deep/3.jpeg", "b/4.jpg"]
    assert paths("[1].png") == ["[1].png"]  # a file of that name is taken before a pattern
    assert paths(str(tmp_path / "b" / "*.jpg")) == [(tmp_path / "b" / "4.jpg").as_posix()]


def test_each_file_is_there_once() -> None:
    whole = ["a/1.PNG", "a/2.png", "a/deep/1.PNG", "a/deep/3.jpeg"]
    assert paths("a/2.png", "a", "a/2.png") == ["a/2.png", "a/1.PNG", "a/deep/1.PNG", "a/deep/3.jpeg"]
    assert paths("a", "a/deep", "a/2.png") == whole
    assert paths("a/deep", "a") == ["a/deep/1.PNG", "a/deep/3.jpeg", "a/1.PNG", "a/2.png"]
    assert paths("a/1.PNG", "*/1.PNG") == ["a/1.PNG"]


def test_names_are_unique_and_as_short_as_can_be_told_before_all_is_seen() -> None:
    assert films("a") == ["1.PNG", "2.png", "deep/1.PNG", "deep/3.jpeg"]
    assert films("a/2.png", "b/4.jpg") == ["2.png", "4.jpg"]
    assert films("a/1.PNG", "a/deep/1.PNG", "b/4.jpg") == ["a/1.PNG", "a/deep/1.PNG", "4.jpg"]
    assert films("a/deep", "b") == ["a/deep/1.PNG", "a/deep/3.jpeg", "b/4.jpg"]


@pytest.mark.parametrize("nothing", ["missing.png", "*.tif", "c"])
@pytest.mark.parametrize("before", [(), ("a",), ("a/2.png",)])
def test_what_names_nothing_is_refused(tmp_path: Path, nothing: str, before: Sequence[str]) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(ImageError, match="which names none"):
        list(expand([*before, nothing]))


def test_a_large_folder_is_sorted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (tmp_path / "b" / f"{number * 7919 % 1000}.png").touch()
    whole = paths("b")
    assert whole == sorted(whole)
    for most in (1, 7, 51, 52):
        monkeypatch.setattr(listing, "_NAMES_IN_MEMORY", most)
        assert paths("b") == whole


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").chmod(0)
    with pytest.raises(HilumError, match="folder must be readable"):
        list(expand(["a"]))


def test_a_listing_is_read_from_any_film(tmp_path: Path) -> None:
    given = [Listed(f"{number} \n ü.png", Path("folder") / f"{number}.png") for number in range(9)]
    written = Listing(tmp_path)
    written.write(given)
    assert len(written) == 9
    for first in range(10):
        assert list(written.read(first)) == given[first:]
    with pytest.raises(HilumError, match="file names must be UTF-8"):
        written.write([Listed("\udc80.png", Path("\udc80.png"))])


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "back").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "loop.png").symlink_to("loop.png")
    assert films("a") == ["1.PNG", "2.png", "loop.png", "deep/1.PNG", "deep/3.jpeg", "linked/4.jpg"]
