"""Data sets as their publishers lay them out, one reader each. A new one is a file and its lines here."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hilum.data.films import Films
    from hilum.data.sources.reading import Options


class Source(NamedTuple):
    """Whose layout a folder may have.

    Attributes:
        about: what the command line says of it, in a few words.
        read: its reader, imported when it is called.
        marks: how `auto` tells the layout: the pattern of a file's path below the folder, in lower case, and a column
            that the file's header must have, or None.
        group: sources of one group share patients; its own name if empty.
    """

    about: str
    read: Callable[[Path, "Options"], "Films"]
    marks: tuple[tuple[str, str | None], ...] = ()
    group: str = ""


def _nih(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.nih import index_nih

    return index_nih(folder, labels=options.labels, vocabulary=options.vocabulary)


def _csv(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.csv import index_csv

    return index_csv(folder, options)


def _chexpert(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.chexpert import index_chexpert

    return index_chexpert(folder, options)


def _mimic(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.mimic import index_mimic

    return index_mimic(folder, options)


def _brax(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.brax import index_brax

    return index_brax(folder, options)


def _padchest(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.padchest import index_padchest

    return index_padchest(folder, options)


def _openi(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.openi import index_openi

    return index_openi(folder, options)


def _vindr(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.vindr import index_vindr

    return index_vindr(folder, options)


def _rsna(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.rsna import index_rsna

    return index_rsna(folder, options)


def _siim(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.siim import index_siim

    return index_siim(folder, options)


def _tb(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.tb import index_tb

    return index_tb(folder, options)


def _jsrt(folder: Path, options: "Options") -> "Films":
    from hilum.data.sources.jsrt import index_jsrt

    return index_jsrt(folder, options)


SOURCES = {
    "nih": Source("ChestX-ray14", _nih, marks=(("*.csv", "Finding Labels"),), group="nih"),
    "csv": Source("a table of your own", _csv, marks=(("map.toml", None),)),
    "chexpert": Source(
        "CheXpert",
        _chexpert,
        marks=(
            ("train.csv", "Frontal/Lateral"),
            ("valid.csv", "Frontal/Lateral"),
            ("test_labels.csv", "Enlarged Cardiomediastinum"),
            ("groundtruth.csv", "Enlarged Cardiomediastinum"),
        ),
        group="chexpert",
    ),
    "mimic": Source("MIMIC-CXR-JPG", _mimic, marks=(("mimic-cxr-*-metadata.csv", None),), group="mimic"),
    "brax": Source("BRAX", _brax, marks=(("master_spreadsheet*.csv", "PngPath"),), group="brax"),
    "padchest": Source("PadChest", _padchest, marks=(("padchest*.csv", "ImageID"),), group="padchest"),
    "openi": Source(
        "Open-i",
        _openi,
        marks=(("indiana_reports.csv", "MeSH"), ("ecgen-radiology/*.xml", None)),
        group="openi",
    ),
    "vindr": Source(
        "VinDr-CXR",
        _vindr,
        marks=(("image_labels_*.csv", "image_id"), ("train.csv", "class_name")),
        group="vindr",
    ),
    "rsna": Source("RSNA Pneumonia Challenge", _rsna, marks=(("stage_2_train_labels.csv", "Target"),), group="nih"),
    "siim": Source("SIIM-ACR Pneumothorax", _siim, marks=(("*train-rle*.csv", "EncodedPixels"),), group="nih"),
    "tb": Source(
        "Montgomery and Shenzhen",
        _tb,
        marks=(("mcucxr_[0-9]*_[01].png", None), ("chncxr_[0-9]*_[01].png", None)),
        group="tb",
    ),
    "jsrt": Source("JSRT", _jsrt, marks=(("clndat_en.txt", None), ("cnndat_en.txt", None)), group="jsrt"),
}
"""Each source under its name on the command line."""
AUTO = "auto"
"""In place of a source's name: tell it by the folder's files."""


def read_source(name: str, folder: Path, options: "Options") -> tuple[str, "Films"]:
    """The films of a folder, and whose layout it has.

    Args:
        name: a source, or `auto`.

    Raises:
        FilmsError: if there is no such source, or `auto` finds none or several.
    """
    from hilum.errors import FilmsError

    if name == AUTO:
        found = detect(folder)
        if len(found) != 1:
            got = " and ".join(f"{source} ({file})" for source, file in found.items()) or "none"
            raise FilmsError(
                f"folder must have the layout of one source, got {got} in {folder}. Name it: {', '.join(SOURCES)}."
            )
        name = next(iter(found))
    if name not in SOURCES:
        raise FilmsError(f"source must be one of {', '.join([AUTO, *SOURCES])}, got {name!r}")
    return name, SOURCES[name].read(folder, options)


def detect(folder: Path) -> dict[str, str]:
    """The sources whose layout a folder may have, each with the file that tells."""
    from fnmatch import fnmatchcase

    from hilum.data.tables import files_below, read_header

    found: dict[str, str] = {}
    headers: dict[str, set[str]] = {}
    for path in files_below(folder):
        lower = f"/{path.lower()}".removesuffix(".gz")
        for name, source in SOURCES.items():
            for pattern, column in source.marks if name not in found else ():
                if not fnmatchcase(lower, f"*/{pattern}"):
                    continue
                if column is not None and path not in headers:
                    headers[path] = {cell.strip() for cell in read_header(folder / path)}
                if column is None or column in headers[path]:
                    found[name] = path
    return found
