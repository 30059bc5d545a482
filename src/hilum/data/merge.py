"""Manifests of several sources as one: names that cannot collide, and patients that no two sources share unseen."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from hilum.data.films import COLUMNS, Films, official_splits
from hilum.data.sources import SOURCES
from hilum.data.splits import shared_patients
from hilum.data.vocabulary import CHEXPERT13
from hilum.errors import FilmsError
from hilum.findings import CHESTXRAY14, known_as, vocabulary

Chosen = Literal["union", "common", "nih", "chexpert"]


def group_of(films: Films) -> str:
    """The leak group of a manifest's source: sources of one group show the same patients under other names."""
    source = str(films.table["source"].iloc[0])
    known = SOURCES.get(source)
    return str(films.notes.get("group") or (known.group if known and known.group else source))


def merge(manifests: Sequence[Films], *, chosen: str = "union", accept_overlap: bool = False) -> Films:
    """One manifest of several: films are named `source/film`, patients `group:patient`.

    The splits stay as they are, if all have one and no patient is in two; else none is left, and they must be split
    again. A finding that a source does not know is unknown on its films.

    Args:
        chosen: which findings are kept: the union of all, those that all have, ChestX-ray14's or CheXpert's.
        accept_overlap: merge sources that show the same patients under names that cannot be matched.

    Raises:
        FilmsError: if a source comes twice, two share patients that cannot be told, or no finding is left.
    """
    parts = [part for films in manifests for part in _parts(films)]
    sources = [str(part.table["source"].iloc[0]) for part in parts]
    if len(manifests) < 2:
        raise FilmsError(f"manifests must be at least two to be merged, got {len(manifests)}. Name the others too.")
    twice = next((name for name in sources if sources.count(name) > 1), None)
    if twice is not None:
        raise FilmsError(
            f"sources must differ, got {twice!r} twice. Give one of them another `source` in its map, or merge one."
        )
    if not accept_overlap:
        _refuse_overlap(parts, sources)
    findings = _findings(parts, chosen)
    tables = [_table(part, source, findings) for part, source in zip(parts, sources, strict=True)]
    table = pd.concat(tables, ignore_index=True)
    roots = {source: part.root for part, source in zip(parts, sources, strict=True)}
    notes = _notes(parts, sources)
    films = Films(table, parts[0].root, findings, notes, roots)
    protocols = {part.notes.get("protocol") for part in parts}
    whole = None not in protocols and all(part.table["split"].notna().any() for part in parts)
    if whole and "image" not in protocols and not any(shared_patients(films).values()):
        notes["protocol"] = protocols.pop() if len(protocols) == 1 else "patient"
        notes["merged"] = {source: part.fingerprint() for part, source in zip(parts, sources, strict=True)}
        return films
    return Films(table.assign(split=pd.Series([None] * len(table), dtype="str")), films.root, findings, notes, roots)


def _parts(films: Films) -> list[Films]:
    """A manifest's sources, each as a manifest; one that was merged before cannot be taken apart."""
    sources = films.table["source"].unique()
    if len(sources) > 1:
        raise FilmsError(
            f"manifests must have one source each, got {', '.join(map(str, sources))} in one. Merge all manifests at "
            "once: hilum merge A.parquet B.parquet C.parquet --out all.parquet"
        )
    return [films]


def overlap(parts: Sequence[Films]) -> list[tuple[str, str]]:
    """Pairs of sources that show the same patients under names that cannot be matched."""
    found = []
    for one, other in combinations(parts, 2):
        group = group_of(one)
        if group == group_of(other) and not (_has_group_s_names(one, group) and _has_group_s_names(other, group)):
            found.append((str(one.table["source"].iloc[0]), str(other.table["source"].iloc[0])))
    return found


def _has_group_s_names(films: Films, group: str) -> bool:
    return group in (films.table["source"].iloc[0], films.notes.get("patients_of"))


def _refuse_overlap(parts: Sequence[Films], sources: Sequence[str]) -> None:
    for one, other in overlap(parts):
        raise FilmsError(
            f"sources must not share patients unseen, got {one} and {other}, which show the same patients under other "
            "names: one may be in training and in test. Leave one of them out, or accept it with: --accept-overlap"
        )


def _findings(parts: Sequence[Films], chosen: str) -> tuple[str, ...]:
    named = [dict.fromkeys(_name(finding) for finding in part.findings) for part in parts]
    every = list(dict.fromkeys(name for names in named for name in names))
    order = {name: place for place, name in enumerate(vocabulary().findings)}
    every.sort(key=lambda name: order.get(name, len(order)))
    match chosen:
        case "union":
            kept = tuple(every)
        case "common":
            kept = tuple(name for name in every if all(name in names for names in named))
        case "nih":
            kept = CHESTXRAY14
        case "chexpert":
            kept = CHEXPERT13
        case _:
            raise FilmsError(f"vocabulary must be one of {', '.join(get_args(Chosen))}, got {chosen!r}. Choose one.")
    if not set(kept) & set(every):
        raise FilmsError(f"findings must be left after merging by the vocabulary {chosen}, got none. Choose union.")
    return kept


def _name(finding: str) -> str:
    return known_as(finding) or finding


def _table(part: Films, source: str, findings: Sequence[str]) -> pd.DataFrame:
    table, group = part.table, group_of(part)
    own = {_name(finding): finding for finding in part.findings}
    unknown = np.full(len(table), np.nan, dtype=np.float32)
    return pd.DataFrame(
        {
            **{name: table[name] for name in COLUMNS},
            "film": source + "/" + table["film"],
            "patient": group + ":" + table["patient"],
            "study": source + "/" + table["study"],
            **{name: table[own[name]] if name in own else unknown for name in findings},
        }
    )


def _notes(parts: Sequence[Films], sources: Sequence[str]) -> dict[str, Any]:
    problems: dict[str, list[str]] = {}
    boxes: list[dict[str, Any]] = []
    official: dict[str, str] = {}
    extremes: dict[str, list[str]] = {}
    masks: dict[str, Any] = {}
    for part, source in zip(parts, sources, strict=True):
        for kind, names in part.notes.get("problems", {}).items():
            problems.setdefault(kind, []).extend(f"{source}/{name}" for name in names)
        boxes += [
            {**box, "film": f"{source}/{box['film']}", "finding": _name(box["finding"])}
            for box in part.notes.get("boxes", [])
        ]
        official |= {f"{source}/{film}": split for film, split in official_splits(part.notes).items()}
        extremes |= {
            name: [_name(finding) for finding in findings]
            for name, findings in (part.notes.get("only_extremes") or {}).items()
        }
        if isinstance(part.notes.get("masks"), Mapping):
            masks |= {f"{source}/{film}": mask for film, mask in part.notes["masks"].items()}
    return {
        "source": "; ".join(str(part.notes.get("source", source)) for part, source in zip(parts, sources, strict=True)),
        "labels": "; ".join(str(part.notes.get("labels", "")) for part in parts),
        "rows": sum(int(part.notes.get("rows", len(part))) for part in parts),
        "problems": problems,
        "protocol": None,
        "split_seed": None,
        "boxes": boxes,
        "boxes_file": None,
        "boxes_listed": sum(int(part.notes.get("boxes_listed", 0)) for part in parts),
        "groups": {source: group_of(part) for part, source in zip(parts, sources, strict=True)},
        **({"official": official} if official else {}),
        **({"only_extremes": extremes} if extremes else {}),
        **({"masks": masks} if masks else {}),
        **({"patients_are_films": True} if any(part.notes.get("patients_are_films") for part in parts) else {}),
    }


def groups_of(films: Films) -> set[str]:
    """The leak groups of all a manifest's sources, merged or not."""
    return set(films.notes.get("groups", {}).values()) or {group_of(films)}
