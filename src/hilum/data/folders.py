"""The files below a source's folder, found by base name: the same for one flat folder and for Kaggle's twelve."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hilum.errors import FilmsError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class SourceFolder:
    """What lies below a folder.

    Attributes:
        images: for each film's key the path of its image, relative to the folder; of several with one base name the
            shallowest, then the alphabetically first.
        same_name: the paths of the others.
        texts: CSV and text files, shallowest first.
    """

    folder: Path
    images: dict[str, str]
    same_name: list[str]
    texts: list[Path]

    @classmethod
    def below(cls, folder: Path) -> "SourceFolder":
        """Look through a folder once.

        Raises:
            FilmsError: if it is no folder, cannot be read or holds no image.
        """
        if not _is_folder(folder):
            raise FilmsError(f"source must be a folder, got {str(folder)!r}, which is none. Check the path.")
        folder = folder.resolve()
        images: dict[str, str] = {}
        same_name, texts = [], []
        for path in sorted(_files(folder), key=lambda path: (path.count("/"), path)):
            ending = os.path.splitext(path)[1].lower()  # noqa: PTH122 - pathlib takes seconds for 112,120 names
            if ending in IMAGE_ENDINGS:
                key = film_key(path.rpartition("/")[2])
                if images.setdefault(key, path) != path:
                    same_name.append(path)
            elif ending in (".csv", ".txt"):
                texts.append(folder / path)
        if not images:
            raise FilmsError(
                f"folder must hold PNG or JPEG images, got none in {folder}. Check the path, or unpack them."
            )
        return cls(folder, images, same_name, texts)

    def file(self, name: str, *elsewhere: Path) -> Path | None:
        """A file by its name: below the folder, in its parent, or in one of the other folders."""
        near = [parent / name for parent in (self.folder.parent, *elsewhere)]
        return next((path for path in (*self.texts, *near) if path.name == name and path.is_file()), None)


def _files(folder: Path) -> Iterator[str]:
    """All files below a folder, relative to it; links are followed, each real folder is entered once."""

    def refuse(error: OSError) -> None:
        raise FilmsError(
            f"folder must be readable, got {error.strerror!r} in {error.filename}. Give yourself permission to read it."
        ) from error

    entered = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(place)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else relative + "/"
        for name in names:
            try:
                (prefix + name).encode()
            except UnicodeEncodeError as error:
                raise FilmsError(f"file names must be UTF-8, got {prefix + name!r} in {folder}. Rename it.") from error
            yield prefix + name


def film_key(film: str) -> str:
    """A film's base name without its ending, in lower case: what a row and its image have in common."""
    stem, dot, ending = film.lower().rpartition(".")
    return stem if f".{ending}" in IMAGE_ENDINGS and dot and stem else film.lower()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
