"""Audit a set of films: name what is missing, unreadable, duplicated or unlisted."""

import contextlib
import hashlib
import math
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hilum.data.films import PATIENTS_ARE_FILMS, UNCERTAIN, Films, official_splits
from hilum.data.images import read_grey
from hilum.data.splits import shared_patients, split_summary
from hilum.errors import ImageError
from hilum.messages import track

_LOOKED_AT = 1 << 16


@dataclass(frozen=True)
class Audit:
    """The findings of an audit; what was not looked at is None, never empty.

    Attributes:
        missing: films that the label file lists and that have no image, and films whose image is gone since.
        unreadable: for each film whose image cannot be read, why. None if files were not read.
        duplicates: groups of films whose decoded pixels are the same. None if files were not read.
        same_name: images that have the base name of another and were not taken.
        unlisted: images that the label file does not list.
        repeated: films that the label file lists in several equal rows, for each row but the first.
        age: films whose age cannot be believed and counts as unknown.
        unsplit: films that the official split leaves without a split.
        protocol: how the films were split, or None.
        shared_patients: patients with films in both splits, by pair.
        summary: one row for each split: films, patients, views, positives and prevalence.
        official: films in each of the publisher's lists (train, val, test, train_val).
        boxes: boxes on these films.
        patients_are_films: the label file names no patients, so each film counts as one.
        by_source: for each source and finding the known, positive and uncertain labels; empty of a single source.
    """

    films: int
    patients: int
    missing: tuple[str, ...]
    unreadable: dict[str, str] | None
    duplicates: tuple[tuple[str, ...], ...] | None
    same_name: tuple[str, ...]
    unlisted: tuple[str, ...]
    repeated: tuple[str, ...]
    age: tuple[str, ...]
    unsplit: tuple[str, ...]
    protocol: str | None
    shared_patients: dict[tuple[str, str], int]
    summary: tuple[dict[str, Any], ...]
    official: dict[str, int]
    boxes: int
    patients_are_films: bool
    by_source: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON: a count beside every list of names, null for what is not known."""
        named = ("missing", "unreadable", "duplicates", "same_name", "unlisted", "repeated", "age", "unsplit")
        return {
            "films": self.films,
            "patients": self.patients,
            **{name: _counted(getattr(self, name)) for name in named},
            "protocol": self.protocol,
            "shared_patients": {f"{one}/{other}": count for (one, other), count in self.shared_patients.items()},
            "summary": [{name: _known(value) for name, value in row.items()} for row in self.summary],
            "official": self.official,
            "boxes": self.boxes,
            "patients_are_films": self.patients_are_films,
            "by_source": self.by_source,
        }

    def to_text(self, *, names: int = 5) -> str:
        """The audit for people: every count, and the first few names; all of them are in `to_dict`."""
        split = f"split by {self.protocol}" if self.protocol else "not split yet"
        patients = "unknown" if self.patients_are_films else f"{self.patients:,}"
        lines = [f"{self.films:,} films of {patients} patients, {split}; {self.boxes:,} boxes"]
        if self.patients_are_films:
            lines.append(f"  {PATIENTS_ARE_FILMS}")
        for title, found in (
            ("in the label file, but not on the disk", self.missing),
            ("unreadable", self.unreadable and [f"{film} ({reason})" for film, reason in self.unreadable.items()]),
            ("duplicate by content", self.duplicates and [" = ".join(group) for group in self.duplicates]),
            ("second file of the same name", self.same_name),
            ("without a row in the label file", self.unlisted),
            ("listed again in an equal row", self.repeated),
            ("with an age beyond belief", self.age),
            ("in no list of the official split", self.unsplit),
        ):
            if found is None:
                lines.append(f"  {title}: not looked at")
                continue
            rest = f" and {len(found) - names:,} more" if len(found) > names else ""
            lines.append(f"  {title}: {len(found):,}" + (f" - {', '.join(found[:names])}{rest}" if found else ""))
        for (one, other), count in self.shared_patients.items():
            if count:
                lines.append(f"  {count:,} patients are in both {one} and {other}: what is measured is inflated")
        for row in self.summary:
            views = ", ".join(f"{row[key]:.0%} {key[5:]}" for key in row if key.startswith("view ") and row[key])
            lines.append(f"{row['split']}: {row['films']:,} films, {row['patients']:,} patients, {views}")
            proportions = [(key[: -len(" prevalence")], row[key]) for key in row if key.endswith(" prevalence")]
            lines.append("  " + ", ".join(f"{name} {proportion:.1%}" for name, proportion in proportions))
        for source, findings in self.by_source.items():
            counts = [
                f"{name} {count['positive']:,} of {count['known']:,}"
                + (f" and {count['uncertain']:,} uncertain" if count["uncertain"] else "")
                for name, count in findings.items()
            ]
            lines.append(f"{source}: present of known: {', '.join(counts)}")
        return "\n".join(lines)


def _counted(names: Any) -> dict[str, Any] | None:
    if names is None:
        return None
    return {"count": len(names), "names": names if isinstance(names, dict) else [_listed(name) for name in names]}


def _listed(name: Any) -> Any:
    return list(name) if isinstance(name, tuple) else name


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def audit(films: Films, *, read_files: bool = True) -> Audit:
    """Look at every film, and at the notes of the reader that listed them.

    Args:
        read_files: decode every image; without it only its presence is checked, in seconds.
    """
    names = films.table["film"].tolist()
    looks = _look_at_all([films.path(index) for index in range(len(films))], read_files)
    problems = films.notes.get("problems", {})
    by_content: dict[str, list[str]] = defaultdict(list)
    for name, look in zip(names, looks, strict=True):
        if look.content:
            by_content[look.content].append(name)
    gone = [name for name, look in zip(names, looks, strict=True) if look.is_gone]
    reasons = {name: look.reason for name, look in zip(names, looks, strict=True) if look.reason}
    return Audit(
        films=len(films),
        patients=films.table["patient"].nunique(),
        missing=(*problems.get("missing", ()), *gone),
        unreadable=reasons if read_files else None,
        duplicates=tuple(tuple(group) for group in by_content.values() if len(group) > 1) if read_files else None,
        same_name=tuple(problems.get("same_name", ())),
        unlisted=tuple(problems.get("unlisted", ())),
        repeated=tuple(problems.get("repeated", ())),
        age=tuple(problems.get("age", ())),
        unsplit=tuple(problems.get("unsplit", ())),
        protocol=films.notes.get("protocol"),
        shared_patients=shared_patients(films),
        summary=tuple(
            {str(name): value for name, value in row.items()} for row in split_summary(films).to_dict("records")
        ),
        official=dict(Counter(official_splits(films.notes).values())),
        boxes=len(films.notes.get("boxes", ())),
        patients_are_films=bool(films.notes.get("patients_are_films")),
        by_source=_by_source(films),
    )


def _by_source(films: Films) -> dict[str, dict[str, dict[str, int]]]:
    table = films.certain
    if table["source"].nunique() < 2:
        return {}
    return {
        str(source): {
            name: {
                "known": int(part[name].notna().sum()),
                "positive": int((part[name] == 1).sum()),
                "uncertain": int((films.table.loc[part.index, name] == UNCERTAIN).sum()),
            }
            for name in films.findings
        }
        for source, part in table.groupby("source")
    }


def same_files(films: Films) -> list[tuple[str, ...]]:
    """Groups of films whose files are copies of each other, told by their length and their first 64 KiB.

    Finds a film that was copied under another name; one that was saved anew is found only by `audit`, which takes as
    long as reading all films does. Files that are not there are in no group.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for index in range(len(films)):
        try:
            by_length[films.path(index).stat().st_size].append(index)
        except OSError:
            continue
    names, found = films.table["film"].tolist(), []
    for indices in by_length.values():
        by_content: dict[bytes, list[str]] = defaultdict(list)
        for index in indices if len(indices) > 1 else ():
            with contextlib.suppress(OSError), films.path(index).open("rb") as file:
                by_content[hashlib.sha256(file.read(_LOOKED_AT)).digest()].append(names[index])
        found += [tuple(group) for group in by_content.values() if len(group) > 1]
    return found


class _Look(NamedTuple):
    is_gone: bool = False
    reason: str | None = None
    content: str | None = None


def _look_at_all(paths: list[Path], read_files: bool) -> list[_Look]:
    if not read_files:
        return [_Look(is_gone=not _is_there(path)) for path in paths]
    threads = ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 32))  # Pillow and hashlib release the GIL
    try:
        return list(track(threads.map(_look, paths), "reading films", total=len(paths)))
    finally:
        threads.shutdown(cancel_futures=True)  # so that Ctrl-C does not read the rest of the archive first


def _look(path: Path) -> _Look:
    if not _is_there(path):
        return _Look(is_gone=True)
    try:
        pixels = read_grey(path)
    except ImageError as error:
        return _Look(reason=str(error))
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(pixels.tobytes())
    return _Look(content=digest.hexdigest())


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # it is there, but out of reach: reading it says why
