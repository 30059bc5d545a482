"""A first map.toml for a folder of one's own, guessed from the table's header and values and the images' names."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hilum.data.sources.csv import (
    ABSENT,
    EACH_FILM,
    MAP,
    PRESENT,
    UNCERTAIN,
    UNDECIDED,
    XLSX,
    cell_text,
    cell_word,
    decimal,
    finder,
    joined_header,
    list_images,
    list_words,
    read_any,
    read_book,
    xlsx_cells,
)
from hilum.data.sources.headers import read_headers
from hilum.data.sources.reading import SEXES, SPLITS, VIEWS, years
from hilum.data.tables import IMAGE_ENDINGS, Cells, files_below, read_text
from hilum.errors import FilmsError, HilumError
from hilum.files import write_whole
from hilum.findings import folded, known_as

_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".parquet")
# What columns and cells are called in English, German, French, Spanish, Portuguese, and a few in other scripts.
_PATIENT = re.compile(
    r"pa[ct]ien|subject|person|\bpid\b|\bmrn\b|\bpt ?(id|no|number)\b|пациент|患者|病人|환자|ασθεν|مريض"
)
_PERHAPS_PATIENT = re.compile(
    r"\bpat\b|\bpat[. ]*(id|nr|no|num)|\bcase\b|case ?(id|nr|no|num)|\bfall\b|fall ?(id|nr|num)|\bchart|medical record"
    r"|hospital ?(id|no|num)|\bnhs\b|\bipp\b|dossier|prontu|expedient|\bnip\b"
)
_STUDY = re.compile(r"stud|accession|\bacc\b|exam|untersuch|visit|follow.?up|исслед|检查号|検査番号")
_DATE = re.compile(r"datum|\bdat[ea]\b|fecha|\btime\b|zeit|дата|日期|日付|年月日")
_VIEW = re.compile(r"view|proje|\bproj\b|position|aufnahme|strahlengang|incid|проекц|体位|撮影方向")
_AGE = re.compile(r"\bage\b|\byears\b|\balter\b|\bedad\b|\bidade\b|возраст|年龄|年齢|나이")
_SEX = re.compile(r"\bsexe?o?\b|gender|geschlecht|g[eé]nero|\bпол\b|性别|性別|성별")
_SPLIT = re.compile(r"split|fold|\bset\b|subset|partition")
_LISTS = re.compile(
    r"finding|label|diagn[oó]s|pathol|patolog|class|disease|befund|hallazgo|achado|диагноз|诊断|所見|診断|진단"
)
_NORMAL: tuple[str, ...] = (
    *("no finding", "no findings", "normal", "none", "healthy", "nad", "nil", "wnl", "clear", "unremarkable"),
    *("kein befund", "ohne befund", "o.b.", "o. b.", "unauffällig", "regelrecht", "sin hallazgos", "sans anomalie"),
    *("норма", "без патологии", "正常", "異常なし", "未见异常", "정상"),
)
_PRESENT: tuple[str, ...] = (
    *(*PRESENT, "ja", "j", "oui", "si", "sí", "sim", "vorhanden", "positiv", "+", "++", "+++"),
    *("mild", "small", "moderate", "large", "severe"),
    *("да", "есть", "有", "あり", "是", "阳性", "陽性", "○", "◯", "예"),
    *("gering", "leicht", "mittel", "mässig", "stark", "schwer"),  # case folding makes ss of ß
)
_ABSENT: tuple[str, ...] = (
    *ABSENT,
    "nein",
    "non",
    "não",
    "nao",
    "negativ",
    "-",
    "kein",
    "keine",
    "keiner",
    "нет",
    "無",
    "なし",
    "否",
    "无",
    "阴性",
    "陰性",
    "×",
    "아니오",
)
_MARK = {"x"}
"""A column whose only word is this marks what is present."""
_MOST_WORDS = 8
"""A column with more different words is no column of labels."""
_KNOWN_CELLS = 0.8
"""The proportion of filled cells that must say yes or no in a column of labels; other words are taken for uncertain."""
_WOMAN = (
    "weiblich",
    "w",
    "femme",
    "feminin",
    "féminin",
    "femenino",
    "feminino",
    "mujer",
    "ж",
    "женский",
    "女",
    "女性",
    "여",
)
_MAN = ("männlich", "maennlich", "homme", "masculin", "masculino", "hombre", "h", "м", "мужской", "男", "男性", "남")
_VIEW_WORDS = {"pa": "PA", "posteroanterior": "PA", "ap": "AP", "anteroposterior": "AP"}
_SIDE = ("lat", "seit", "prof")
_GUESS = "  # guess"
_LOOKED_AT = 20_000
_HEADER = 0.6
"""The proportion of the widest row's cells that the row with the columns' names has at least."""
_HEADERS = 300
"""How many films' DICOM headers a draft reads."""
_TAGS = ("dicom:AccessionNumber", "dicom:SOPInstanceUID", "dicom:StudyInstanceUID", "dicom:PatientID")
_OF_STUDY = ("folder", "dicom:AccessionNumber", "dicom:StudyInstanceUID")
_KEYWORDS = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "view": "ViewPosition",
    "age": "PatientAge",
    "sex": "PatientSex",
}


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
    tables = sorted(files_below(folder))
    found, faults = _best_table(folder, images, tables)
    if found is None:
        other = [name for name in tables if name.lower().endswith((".xls", ".ods", ".numbers"))]
        why = f" ({faults[0]})" if faults else ""
        remedy = f"Save {other[0]} as XLSX or CSV" if other else "Put the table beside the images"
        raise FilmsError(
            f"folder must hold a table (CSV, XLSX or Parquet) with a column of its images' names, such as "
            f"{images[0]!r}, got none in {folder}{why}. {remedy}."
        )
    write_whole(place, _map(folder, place, found, images).encode())
    return place


class Found(NamedTuple):
    """A table, how it is read, and the column in which it names films."""

    cells: Cells
    table: str
    encoding: str | None
    sheet: str | None
    header: int | None
    header_rows: int
    film: str
    match: str
    images: int  # that it names
    rows: list[int]  # that name them
    several: bool  # a row names all films of a study


def _best_table(folder: Path, images: Sequence[str], tables: Sequence[str]) -> tuple[Found | None, list[str]]:
    """The table that names the most images; and why others could not be read."""
    best: Found | None = None
    faults: list[str] = []
    read = [
        (name, encoding, sheet, header, *_under_groups(cells))
        for name in tables
        if _is_table(name)
        for encoding, sheet, header, cells in _readings(folder, name, faults)
    ]
    for matches in (("path", "name", "stem"), ("folder", "digits"), _TAGS):
        if matches == _TAGS and not any(not image.lower().endswith(IMAGE_ENDINGS) for image in images):
            continue
        for match in matches:
            find = finder(match, images, folder) if read and match not in _TAGS else None
            if match in _TAGS and read:
                find = _tag_finder(match, images, folder)
            for name, encoding, sheet, header, header_rows, cells in read:
                for column, values in zip(cells.names, cells.columns, strict=True):
                    of_row = [find(text) if (text := cell_text(value)) else [] for value in values] if find else []
                    named = {image for found in of_row for image in found}
                    several = match in _OF_STUDY and any(len(found) > 1 for found in of_row)
                    once = {found[0] for found in of_row if len(found) == 1}
                    count = len(named) if several else len(once)
                    if count and (best is None or count > best.images):
                        rows = [row for row, found in enumerate(of_row) if found]
                        text = cell_text(column)
                        best = Found(
                            cells, name, encoding, sheet, header, header_rows, text, match, count, rows, several
                        )
        if best is not None and best.images * 2 > min(len(images), len(best.cells.rows)):
            break
    return best, faults


def _is_table(name: str) -> bool:
    return name.lower().endswith(_TABLES) and not name.rpartition("/")[2].startswith(("~$", "."))


def _tag_finder(keyword: str, images: Sequence[str], folder: Path) -> Callable[[str], list[str]] | None:
    """None where a film has no such tag or cannot be read: then its films are not found by it."""
    try:
        return finder(keyword, images[:_HEADERS], folder)
    except HilumError:
        return None


def _readings(folder: Path, name: str, faults: list[str]) -> Iterator[tuple[str | None, str | None, int | None, Cells]]:
    """Each sheet of a table, from the row that looks like its header."""
    path = folder / name
    if path.suffix.lower() in XLSX:
        try:
            book = read_book(path)
        except HilumError as error:
            faults.append(str(error))
            return
        for place, (title, rows) in enumerate(book.items()):
            header = _header_row(rows)
            if header is not None and any(map(any, rows[header:])):
                start = header if any(map(any, rows[: header - 1])) else None
                yield None, title if place else None, start, xlsx_cells(path, book, title, header)
        return
    for encoding in (None, "utf-16", "cp1252"):
        try:
            start = None
            try:
                cells = read_any(path, encoding=encoding)
            except FilmsError:
                start = _header_line(read_text(path, encoding=encoding))
                if start is None:
                    raise
                cells = read_any(path, encoding=encoding, header=start)
            yield encoding, None, start, cells
            return
        except FilmsError as error:
            faults.append(str(error))


def _under_groups(cells: Cells) -> tuple[int, Cells]:
    """How many rows the columns' names take, and the cells below them: two where a group's name stands over several.

    Then the first row holds words alone, some below a cell that is empty or repeats its neighbour, and none of its own,
    or the same again, below the other names.
    """
    names = [cell_text(name) for name in cells.names]
    first = [cell_text(column[0]) for column in cells.columns]
    of_group = [not name or names.count(name) > 1 for name in names]
    below = [text for text, grouped in zip(first, of_group, strict=True) if grouped and text]
    plain = [text in ("", name) for name, text, grouped in zip(names, first, of_group, strict=True) if not grouped]
    words = [text for text in first if text]
    if not below or not any(plain) or any(map(_is_number, words)) or len(cells.rows) < 2:
        return 1, cells
    names_below = {*names, *(cell_text(value) for column in cells.columns for value in column[1:])}
    return (1, cells) if any(text in names_below for text in below) else (2, joined_header(cells))


def _header_row(rows: Sequence[Sequence[object]]) -> int | None:
    """The first row with nearly as many cells as a row of the table has; titles above it have one or two."""
    filled = [sum(1 for cell in row if cell_text(cell)) for row in rows[:_LOOKED_AT]]
    widest = max(filled, default=0)
    return next((number for number, count in enumerate(filled, start=1) if count >= _HEADER * widest > 0), None)


def _header_line(text: str) -> int | None:
    """The same of a CSV file: the first line with as many separators as most lines have."""
    lines = text.splitlines()[:_LOOKED_AT]
    counts = {mark: Counter(line.count(mark) for line in lines) for mark in ",;\t"}
    mark, count = max(
        ((mark, of.most_common(1)[0][0]) for mark, of in counts.items() if of),
        key=lambda pair: pair[1],
        default=("", 0),
    )
    return next((number for number, line in enumerate(lines, start=1) if count and line.count(mark) == count), None)


def _map(folder: Path, place: Path, found: Found, images: Sequence[str]) -> str:
    cells, film = found.cells, found.film
    looked_at = found.rows[:_LOOKED_AT]
    columns = {cell_text(name): [cell_text(values[row]) for row in looked_at] for name, values in _named(cells)}
    left = [name for name in columns if name != film and name and any(columns[name])]
    lines = [
        "# What the table's columns mean. Each guess is marked: look at it, mend it, and delete the mark.",
        f"# Then: hilum index csv {folder} --map {place}",
        f"source = {_quoted(folder.resolve().name or 'own')}{_GUESS}",
        f"table = {_quoted(found.table)}{_GUESS}",
    ]
    if found.encoding:
        lines.append(f"encoding = {_quoted(found.encoding)}{_GUESS}: the table is not UTF-8")
    if found.sheet is not None:
        lines.append(f"sheet = {_quoted(found.sheet)}{_GUESS}")
    if found.header is not None:
        lines.append(f"header = {found.header}{_GUESS}: the row with the columns' names")
    if found.header_rows > 1:
        lines.append(f"header_rows = {found.header_rows}{_GUESS}: names of groups stand above those of columns")
    several = ", several = true" if found.several else ""
    how = f"names {found.images:,} of {len(images):,} images" + (", a row all films of a study" if several else "")
    lines.append(f"film = {{ column = {_quoted(film)}, match = {_quoted(found.match)}{several} }}{_GUESS}: {how}")

    def take(pattern: re.Pattern[str], fits: Callable[[str], object]) -> str | None:
        for name in left:
            if pattern.search(folded(name)) and all(map(fits, set(columns[name]))):
                left.remove(name)
                return name
        return None

    age = take(_AGE, lambda text: years(decimal(text)) is not None)
    sex = take(_SEX, lambda text: text.casefold() in {*SEXES, *_WOMAN, *_MAN})
    view = take(_VIEW, lambda text: len(text) < 24)
    split = take(_SPLIT, lambda text: text.casefold() in {*SPLITS, ""})
    ids = [name for pattern in (_PATIENT, _PERHAPS_PATIENT) for name in left if pattern.search(folded(name))]
    patient = next(iter(ids), None)
    left = [name for name in left if name != patient]
    dates = [name for name in left if _DATE.search(folded(name))]
    left = [name for name in left if name not in dates]  # films of one day are no study
    study = take(_STUDY, bool)
    tags = _tags(folder, images)
    if patient is None and "PatientID" in tags:
        lines.append(f'patient = "dicom:PatientID"{_GUESS}: the table names none, the films do')
    elif patient is None:
        lines.append(
            f"patient = {_quoted(UNDECIDED)}  # decide: the column that names patients; or {_quoted(EACH_FILM)} if "
            "there is none: then each film counts as a patient, and every report says so"
        )
    else:
        empty = columns[patient].count("")
        but = f": but {empty:,} rows name none; fill them, or remove them" if empty else ""
        if len(set(columns[patient])) == len(set(columns[film])) == len(columns[film]) > 2:
            but = ": but no two films share one; is it the patient, or the film?"
        lines.append(f"patient = {_quoted(patient)}{_GUESS}{but}")
    for key, name in (("study", study), ("view", view), ("age", age), ("sex", sex), ("split", split)):
        if name is not None:
            lines.append(f"{key} = {_quoted(name)}{_GUESS}")
        elif _KEYWORDS.get(key) in tags:
            lines.append(f'{key} = "dicom:{_KEYWORDS[key]}"{_GUESS}: of the films')
    long = len(set(columns[film])) < len(set(zip(*columns.values(), strict=True)))  # rows that only repeat do not count
    wide = {name: words for name in left if (words := _label_words(columns[name]))}
    normal = [name for name in wide if folded(name) in _NORMAL]  # where it is 1, the others are 0
    wide = {name: words for name, words in wide.items() if name not in normal}
    lists = [name for name in left if name not in [*wide, *normal] and _LISTS.search(folded(name))]
    lines += _values(
        wide,
        [] if view is None else columns[view],
        [] if sex is None else columns[sex],
        empty=any("" in columns[name] for name, said in wide.items() if said & {*_ABSENT}),
        silent=bool(lists) and not wide and _says_nothing(columns[lists[0]]),
    )
    lines += ["", "[labels]"]
    if long and lists and len(wide) <= 1:
        lines += _lists(lists[0], columns[lists[0]], value=next(iter(wide), None), several=not wide)
    elif wide:
        lines += [f"{_quoted(name.strip())} = {_quoted(name)}{_GUESS}" for name in wide]
    elif lists:
        lines += _lists(lists[0], columns[lists[0]])
    else:
        lines.append('# decide: a line for each finding, such as Pneumothorax = "column"')
    used = {*wide, *(lists[:1] if not wide or (long and len(wide) == 1) else [])}
    unused = dates + [name for name in left if name not in used]
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


def _says_nothing(texts: Sequence[str]) -> bool:
    """Whether a column of lists has empty ones, and no word for films without a finding."""
    words = {folded(word) for text in texts for word in list_words(text, _separator(texts))}
    return any(not list_words(text, None) for text in texts) and not words & set(_NORMAL)


def _separator(texts: Sequence[str]) -> str | list[str]:
    """The mark between the words of a list; several if people wrote now one and now another.

    A bar or semicolon is the usual one if a tenth of the cells have it, as commas stand inside findings too. Another
    mark counts if most of what it separates stands alone in other cells, or has a name of the vocabulary: "Effusion,
    Mass", and not "mass, left".
    """
    counts = {mark: sum(mark in text for text in texts) for mark in "|;,/"}
    filled = sum(map(bool, texts))
    marks = sorted(counts, key=lambda mark: (mark not in "|;" or counts[mark] * 10 < filled, -counts[mark]))
    used, known = marks[:1], {folded(word) for text in texts for word in list_words(text, marks[0])}
    for mark in marks[1:]:
        joined = [word for text in texts for word in list_words(text, used) if mark in word]
        words = [folded(word) for text in joined for word in list_words(text, mark)]
        if words and sum(word in known or known_as(word) is not None for word in words) > len(words) / 2:
            used.append(mark)
    return used[0] if len(used) == 1 else used


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _values(
    wide: dict[str, set[str]], views: Sequence[str], sexes: Sequence[str], *, empty: bool, silent: bool
) -> list[str]:
    """Lines for the words in cells.

    Args:
        empty: some columns that say no have empty cells too.
        silent: films without a finding are those whose list is empty.
    """
    words = set().union(*wide.values())
    present = [word for word in (*_PRESENT, *_MARK) if word in words]
    absent = [word for word in _ABSENT if word in words]
    uncertain = sorted(words - {*present, *absent})
    lines = ["", "[values]"]
    if words:
        lines += [f"present = {_listed(present)}{_GUESS}", f"absent = {_listed(absent)}{_GUESS}"]
    if uncertain:
        lines.append(f"uncertain = {_listed(uncertain)}{_GUESS}: no evaluation counts it")
    never = [name for name, said in wide.items() if not said & {*_ABSENT}]
    if silent:
        lines.append(f'empty = "absent"{_GUESS}: no word says that a film is normal; "unknown" if nobody looked there')
    elif never and not empty:
        lines.append(
            f'empty = "absent"{_GUESS}: nothing else means no in {", ".join(never)}; "unknown" if nobody looked there'
        )
    else:
        why = f", which it must be if an empty cell means no: nothing else does in {', '.join(never)}" if never else ""
        lines.append(f'empty = "unknown"{_GUESS}: or "absent"{why}')
    for key, texts, known, meaning, can in (
        ("view", views, VIEWS, _view, "PA, AP, LATERAL or unknown"),
        ("sex", sexes, SEXES, _sex, "M, F or unknown"),
    ):
        strange = sorted({text for text in texts if text.casefold() not in known})
        strange += sorted(_means_woman(texts)) if key == "sex" else []
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


def _means_woman(sexes: Sequence[str]) -> set[str]:
    """Where men are H and nobody is F, M is not male: hombre and mujer."""
    said = {text.casefold() for text in sexes}
    return {text for text in sexes if text.casefold() == "m"} if "h" in said and not said & {"f", "female"} else set()


def _lists(name: str, texts: Sequence[str], *, value: str | None = None, several: bool = False) -> list[str]:
    separator = _separator(texts)
    words = Counter(word for text in texts for word in list_words(text, separator))
    normal = [word for word in words if folded(word) in _NORMAL]
    mark = _quoted(separator) if isinstance(separator, str) else f"{_listed(separator)}"
    lines = [f"column = {_quoted(name)}{_GUESS}", f"separator = {mark}{_GUESS}"]
    if value is not None:
        lines.append(f"value = {_quoted(value)}{_GUESS}: whether the finding of the row is present")
    elif several:
        lines.append(f"several_rows = true{_GUESS}: films have several rows, with a part of their findings in each")
    if len({folded(word) for word in normal}) == 1:
        lines.append(f"normal = {_quoted(normal[0])}{_GUESS}: the word for a film with no finding")
    elif normal:
        lines.append(f"normal = {_listed(normal)}{_GUESS}: the words for a film with no finding")
    lines.append(f'others = "absent"{_GUESS}: findings that a list does not name; or "unknown"')
    same: dict[str, list[str]] = {}
    for word in sorted(words):
        if word not in normal:
            same.setdefault(known_as(word) or folded(word), []).append(word)
    lines += ["", "[labels.findings]", "# each finding with the words that mean it; delete those that you do not want"]
    for meaning, alike in same.items():
        finding = alike[0] if len(alike) == 1 else known_as(meaning) or alike[0]
        count = sum(words[word] for word in alike)
        lines.append(f"{_quoted(finding)} = {_listed(alike)}{_GUESS}: in {count:,} rows")
    return lines


def _tags(folder: Path, images: Sequence[str]) -> set[str]:
    """Which DICOM keywords the films fill in, of those that a table may lack."""
    dicom = [image for image in images if not image.lower().endswith(IMAGE_ENDINGS)]
    if len(dicom) < len(images):
        return set()
    try:
        headers, _ = read_headers(folder, dicom[:_HEADERS], list(_KEYWORDS.values()))
    except HilumError:
        return set()
    filled = Counter(keyword for header in headers.values() for keyword, text in header.items() if text)
    return {keyword for keyword, count in filled.items() if count == len(headers)}


def _listed(words: Sequence[str]) -> str:
    """A TOML list of strings."""
    return json.dumps(words, ensure_ascii=False)


def _quoted(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)
