"""A first map.toml for a folder of one's own, guessed from the table's header and values and the images' names."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from hilum.data.sources.csv import (
    ABSENT,
    EACH_FILM,
    MAP,
    PRESENT,
    UNCERTAIN,
    UNDECIDED,
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
# What columns and cells are called in English, German, French, Spanish and Portuguese.
_PATIENT = re.compile(r"pa[ct]ien|subject|person|\bpid\b|\bmrn\b|\bpt ?(id|no|number)\b")
_STUDY = re.compile(r"stud|accession|\bacc\b|exam|untersuch|visit|follow.?up")
_DATE = re.compile(r"datum|\bdat[ea]\b|fecha|\btime\b|zeit")
_VIEW = re.compile(r"view|proje|\bproj\b|position|aufnahme|strahlengang|incid")
_AGE = re.compile(r"\bage\b|\byears\b|\balter\b|\bedad\b|\bidade\b")
_SEX = re.compile(r"\bsexe?o?\b|gender|geschlecht|g[eé]nero")
_SPLIT = re.compile(r"split|fold|\bset\b|subset|partition")
_LISTS = re.compile(r"finding|label|diagn[oó]s|pathol|patolog|class|disease|befund|hallazgo|achado")
_NORMAL = ("no finding", "no findings", "normal", "none", "healthy", "kein befund", "ohne befund", "sin hallazgos")
_PRESENT = (*PRESENT, "ja", "j", "oui", "si", "sí", "sim", "vorhanden", "positiv")
_ABSENT = (*ABSENT, "nein", "non", "não", "nao", "negativ")
_MARK = {"x"}
"""A column whose only word is this marks what is present."""
_MOST_WORDS = 8
"""A column with more different words is no column of labels."""
_KNOWN_CELLS = 0.8
"""The proportion of filled cells that must say yes or no in a column of labels; other words are taken for uncertain."""
_WOMAN = ("weiblich", "w", "femme", "feminin", "féminin", "femenino", "feminino", "mujer")
_MAN = ("männlich", "maennlich", "homme", "masculin", "masculino", "hombre")
_VIEW_WORDS = {"pa": "PA", "posteroanterior": "PA", "ap": "AP", "anteroposterior": "AP"}
_SIDE = ("lat", "seit", "prof")
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
    text = _map(folder, place, name, encoding, cells, column, match, f"{found:,} of {len(images):,} images")
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


def _map(folder: Path, place: Path, table: str, encoding: str, cells: Cells, film: str, match: str, found: str) -> str:
    columns = {cell_text(name): [cell_text(value) for value in values[:_LOOKED_AT]] for name, values in _named(cells)}
    left = [name for name in columns if name != film and name]
    lines = [
        "# What the table's columns mean. Each guess is marked: look at it, mend it, and delete the mark.",
        f"# Then: hilum index csv {folder} --map {place}",
        f"source = {_quoted(folder.resolve().name or 'own')}{_GUESS}",
        f"table = {_quoted(table)}{_GUESS}",
    ]
    if encoding:
        lines.append(f"encoding = {_quoted(encoding)}{_GUESS}: the table is not UTF-8")
    lines.append(f"film = {{ column = {_quoted(film)}, match = {_quoted(match)} }}{_GUESS}: names {found}")

    def take(pattern: re.Pattern[str], fits: Callable[[str], object]) -> str | None:
        for name in left:
            if pattern.search(folded(name)) and all(map(fits, set(columns[name]))):
                left.remove(name)
                return name
        return None

    age = take(_AGE, lambda text: years(text) is not None)
    sex = take(_SEX, lambda text: text.casefold() in {*SEXES, *_WOMAN, *_MAN})
    view = take(_VIEW, lambda text: len(text) < 24)
    split = take(_SPLIT, lambda text: text.casefold() in {*SPLITS, ""})
    patient = next((name for name in left if _PATIENT.search(folded(name)) and any(columns[name])), None)
    left = [name for name in left if name != patient]
    dates = [name for name in left if _DATE.search(folded(name))]
    left = [name for name in left if name not in dates]  # films of one day are no study
    study = take(_STUDY, bool)
    if patient is None:
        lines.append(
            f"patient = {_quoted(UNDECIDED)}  # decide: the column that names patients; or {_quoted(EACH_FILM)} if "
            "there is none: then each film counts as a patient, and every report says so"
        )
    else:
        empty = columns[patient].count("")
        but = f": but {empty:,} rows name none; fill them, or remove them" if empty else ""
        lines.append(f"patient = {_quoted(patient)}{_GUESS}{but}")
    for key, name in (("study", study), ("view", view), ("age", age), ("sex", sex), ("split", split)):
        if name is not None:
            lines.append(f"{key} = {_quoted(name)}{_GUESS}")
    wide = {name: words for name in left if (words := _label_words(columns[name]))}
    lines += _values(wide, [] if view is None else columns[view], [] if sex is None else columns[sex])
    lines += ["", "[labels]"]
    lists = [name for name in left if name not in wide and _LISTS.search(folded(name))]
    if wide:
        lines += [f"{_quoted(name.strip())} = {_quoted(name)}{_GUESS}" for name in wide]
    elif lists:
        lines += _lists(lists[0], columns[lists[0]])
    else:
        lines.append('# decide: a line for each finding, such as Pneumothorax = "column"')
    unused = dates + [name for name in left if name not in wide and (wide or name not in lists[:1])]
    if unused:
        lines += ["", f"# Not used: {', '.join(map(repr, unused))}"]
    return "\n".join(lines) + "\n"


def _named(cells: Cells) -> list[tuple[str, Sequence[object]]]:
    return list(zip(cells.names, cells.columns, strict=True))


def _label_words(texts: Sequence[str]) -> set[str]:
    """The words of a column of labels; none if it is no such column."""
    counts = Counter(word for text in texts if (word := cell_word(text)))
    words = set(counts)
    if words == _MARK:
        return words
    known = sum(count for word, count in counts.items() if word in {*_PRESENT, *_ABSENT})
    odd = words - {*_PRESENT, *_ABSENT, *UNCERTAIN}
    if len(words) > _MOST_WORDS or any(map(_is_number, odd)) or not known:
        return set()
    certain = known + sum(counts[word] for word in UNCERTAIN)
    return words if certain >= _KNOWN_CELLS * counts.total() else set()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _values(wide: dict[str, set[str]], views: Sequence[str], sexes: Sequence[str]) -> list[str]:
    words = set().union(*wide.values())
    present = [word for word in (*_PRESENT, *_MARK) if word in words]
    absent = [word for word in _ABSENT if word in words]
    uncertain = sorted(words - {*present, *absent})
    lines = ["", "[values]"]
    if words:
        lines += [f"present = {_listed(present)}{_GUESS}", f"absent = {_listed(absent)}{_GUESS}"]
    if uncertain:
        lines.append(f"uncertain = {_listed(uncertain)}{_GUESS}: unknown to training and evaluation")
    never = [name for name, said in wide.items() if not said & {*_ABSENT}]
    why = f", which it must be if an empty cell means no: nothing else does in {', '.join(never)}" if never else ""
    lines.append(f'empty = "unknown"{_GUESS}: or "absent"{why}')
    for key, texts, known, meaning, can in (
        ("view", views, VIEWS, _view, "PA, AP, LATERAL or unknown"),
        ("sex", sexes, SEXES, _sex, "M, F or unknown"),
    ):
        strange = sorted({text for text in texts if text.casefold() not in known})
        if strange:
            said_as = ", ".join(f"{_quoted(text)} = {_quoted(meaning(text))}" for text in strange)
            lines.append(f"{key} = {{ {said_as} }}{_GUESS}: {can}")
    return lines


def _view(text: str) -> str:
    words = [re.sub(r"[^a-z]", "", word) for word in text.casefold().split()]
    if any(word.startswith(_SIDE) for word in words):
        return "LATERAL"
    found = {_VIEW_WORDS[word] for word in words if word in _VIEW_WORDS}
    return found.pop() if len(found) == 1 else "unknown"


def _sex(text: str) -> str:
    return "M" if text.casefold() in _MAN else "F"


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
    lines += [f"{_quoted(word)} = {_listed([word])}{_GUESS}: in {words[word]:,} rows" for word in findings]
    return lines


def _listed(words: Sequence[str]) -> str:
    """A TOML list of strings."""
    return json.dumps(words, ensure_ascii=False)


def _quoted(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)
