"""A first map.toml for a folder of one's own, guessed from the table's header and values and the images' names."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hilum.data.sources.csv import (
    ABSENT,
    EACH_FILM,
    MAP,
    PRESENT,
    UNDECIDED,
    Values,
    cell_text,
    cell_word,
    film_keys,
    list_images,
    read_any,
)
from hilum.data.sources.reading import SEXES, SPLITS, VIEWS, years
from hilum.data.tables import Cells, files_below
from hilum.errors import FilmsError, HilumError
from hilum.files import write_whole
from hilum.findings import folded

_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".parquet")
_PATIENT = re.compile(r"patient|subject|person|\bpid\b|\bmrn\b|\bpt ?(id|no|number)\b")
_STUDY = re.compile(r"study|accession|\bacc\b|exam|visit|follow.?up")
_VIEW = re.compile(r"view|projection|\bproj\b|position")
_AGE = re.compile(r"\bage\b|\byears\b")
_SEX = re.compile(r"\bsex\b|gender")
_SPLIT = re.compile(r"split|fold|\bset\b|subset|partition")
_LISTS = re.compile(r"finding|label|diagnos|patholog|class|disease")
_NORMAL = ("no finding", "no findings", "normal", "none", "healthy")
_UNCERTAIN = ("-1", "?", "uncertain", "unsure", "possible", "equivocal", "u")
_GUESS = "  # guess"
_LOOKED_AT = 20_000


def write_draft(folder: Path, out: Path | None = None) -> Path:
    """Write a map for the folder's table, each guess marked; return its path.

    What cannot be guessed stands as "?" with a comment that says what to decide; the map is refused until it is.

    Raises:
        FilmsError: if the folder holds no image, or no table that lists any.
        HilumError: if there is a map already.
    """
    if not folder.is_dir():
        raise FilmsError(f"source must be a folder, got {str(folder)!r}, which is none. Check the path.")
    place = out or folder / MAP
    if place.exists():
        raise HilumError(f"map must be new, got {place}, which is there. Use it without --draft, or delete it")
    images = list_images(folder)
    best: tuple[int, str, str, str, Cells] | None = None
    faults = []
    for name in sorted(files_below(folder)):
        if not name.lower().endswith(_TABLES):
            continue
        for encoding in (None, "utf-16", "cp1252"):
            try:
                cells = read_any(folder / name, encoding=encoding)
            except FilmsError as error:
                faults.append(str(error))
                continue
            found, column, match = _film_column(cells, images)
            if found and (best is None or found > best[0]):
                best = found, column, match, name + ("\0" + encoding if encoding else ""), cells
            break
    if best is None:
        why = f" ({faults[0]})" if faults else ""
        raise FilmsError(
            f"folder must hold a table (CSV, XLSX or Parquet) with a column of its images' names, such as "
            f"{images[0]!r}, got none in {folder}{why}. Put the table beside the images."
        )
    found, column, match, named, cells = best
    name, _, encoding = named.partition("\0")
    text = _map(folder, name, encoding, cells, column, match, f"{found:,} of {len(images):,} images")
    write_whole(place, text.encode())
    return place


def _film_column(cells: Cells, images: Sequence[str]) -> tuple[int, str, str]:
    """How many images the best column names, which it is, and how it names them."""
    best = (0, "", "")
    for match in ("path", "name", "stem"):
        keys = Counter(film_keys(match, image) for image in images)
        once = {key for key, count in keys.items() if count == 1}
        for name, values in zip(cells.names, cells.columns, strict=True):
            found = len({film_keys(match, text) for value in values if (text := cell_text(value))} & once)
            if found > best[0]:
                best = found, cell_text(name), match
    return best


def _map(folder: Path, table: str, encoding: str, cells: Cells, film: str, match: str, found: str) -> str:
    columns = {cell_text(name): [cell_text(value) for value in values[:_LOOKED_AT]] for name, values in _named(cells)}
    left = [name for name in columns if name != film and name]
    lines = [
        "# What the table's columns mean. Each guess is marked: look at it, mend it, and delete the mark.",
        f"# Then: hilum index csv {folder} --map {MAP}",
        f"source = {_quoted(folder.resolve().name or 'own')}{_GUESS}",
        f"table = {_quoted(table)}{_GUESS}",
    ]
    if encoding:
        lines.append(f"encoding = {_quoted(encoding)}{_GUESS}: the table is not UTF-8")
    lines.append(f"film = {{ column = {_quoted(film)}, match = {_quoted(match)} }}{_GUESS}: names {found}")

    def take(pattern: re.Pattern[str], fits: object = None) -> str | None:
        for name in left:
            if pattern.search(folded(name)) and (not callable(fits) or all(map(fits, set(columns[name])))):
                left.remove(name)
                return name
        return None

    age = take(_AGE, lambda text: years(text) is not None)
    sex = take(_SEX, lambda text: text.casefold() in SEXES)
    view = take(_VIEW, lambda text: len(text) < 24)
    split = take(_SPLIT, lambda text: text.casefold() in {*SPLITS, ""})
    patient = take(_PATIENT, bool)
    study = take(_STUDY, bool)
    if patient is None:
        lines.append(
            f"patient = {_quoted(UNDECIDED)}  # decide: the column that names patients; or {_quoted(EACH_FILM)} if "
            "there is none: then each film counts as a patient, and every report says so"
        )
    else:
        lines.append(f"patient = {_quoted(patient)}{_GUESS}")
    for key, name in (("study", study), ("view", view), ("age", age), ("sex", sex), ("split", split)):
        if name is not None:
            lines.append(f"{key} = {_quoted(name)}{_GUESS}")
    wide = {name: words for name in left if (words := _label_words(columns[name]))}
    lines += _values(set().union(*wide.values()), [] if view is None else columns[view])
    lines += ["", "[labels]"]
    lists = [name for name in left if name not in wide and _LISTS.search(folded(name))]
    if wide:
        lines += [f"{_quoted(name.strip())} = {_quoted(name)}{_GUESS}" for name in wide]
    elif lists:
        lines += _lists(lists[0], columns[lists[0]])
    else:
        lines.append('# decide: a line for each finding, such as Pneumothorax = "column"')
    unused = [name for name in left if name not in wide and (wide or name not in lists[:1])]
    if unused:
        lines += ["", f"# Not used: {', '.join(map(repr, unused))}"]
    return "\n".join(lines) + "\n"


def _named(cells: Cells) -> list[tuple[str, Sequence[object]]]:
    return list(zip(cells.names, cells.columns, strict=True))


def _label_words(texts: Sequence[str]) -> set[str]:
    """The words of a column of labels; none if it is no such column."""
    words = {cell_word(text) for text in set(texts)} - {""}
    known = {*PRESENT, *ABSENT, *_UNCERTAIN}
    return words if words and words <= known and words & {*PRESENT, *ABSENT} else set()


def _values(words: set[str], views: Sequence[str]) -> list[str]:
    uncertain = sorted(words & set(_UNCERTAIN) - {*PRESENT, *ABSENT})
    lines = ["", "[values]"]
    if words:
        for name, known in (("present", Values().present), ("absent", Values().absent)):
            lines.append(f"{name} = {json.dumps([word for word in known if word in words])}{_GUESS}")
    if uncertain:
        lines.append(f"uncertain = {json.dumps(uncertain)}{_GUESS}: unknown to training and evaluation")
    lines.append(f'empty = "unknown"{_GUESS}: or "absent"')
    strange = sorted({text for text in views if text.casefold() not in VIEWS})
    if strange:
        said = ", ".join(f'{_quoted(text)} = "{_view(text)}"' for text in strange)
        lines.append(f"view = {{ {said} }}{_GUESS}: PA, AP, LATERAL or unknown")
    return lines


def _view(text: str) -> str:
    letters = re.sub(r"[^a-z]", "", text.casefold())
    for view, words in (("PA", ("pa", "posteroanterior")), ("AP", ("ap", "anteroposterior")), ("LATERAL", ("lat",))):
        if letters in words or (view == "LATERAL" and letters.startswith("lat")):
            return view
    return "unknown"


def _lists(name: str, texts: Sequence[str]) -> list[str]:
    separator = max("|;,/", key=lambda one: sum(one in text for text in texts))
    words = Counter(word.strip() for text in texts for word in text.split(separator) if word.strip())
    normal = next((word for word in words if folded(word) in _NORMAL), None)
    lines = [f"column = {_quoted(name)}{_GUESS}", f"separator = {_quoted(separator)}{_GUESS}"]
    if normal is not None:
        lines.append(f"normal = {_quoted(normal)}{_GUESS}: the word for a film with no finding")
    lines.append(f'others = "absent"{_GUESS}: findings that a list does not name; or "unknown"')
    findings = [word for word in sorted(words) if word != normal]
    lines += ["", "[labels.findings]", "# each finding with the words that mean it; delete those that you do not want"]
    lines += [
        f"{_quoted(word)} = {json.dumps([word], ensure_ascii=False)}{_GUESS}: in {words[word]:,} rows"
        for word in findings
    ]
    return lines


def _quoted(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)
