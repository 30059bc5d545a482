"""What a source's words mean for the findings of the vocabulary, and the page that shows it to radiologists."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from hilum.errors import FilmsError
from hilum.findings import CHESTXRAY14, Known, vocabulary

DEVICES = "Support Devices"
"""What a film without any finding may show."""
CHEXPERT13 = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Effusion",
    "Pleural Other",
    "Fracture",
    DEVICES,
)
"""CheXpert's labels in the order of its tables, without "No Finding". Source: Irvin et al., "CheXpert", AAAI 2019."""

Blank = Literal["absent", "unknown"]
Chosen = Literal["own", "nih", "chexpert", "union"]
"""Which findings a manifest gets: those that a source has the same word for, ChestX-ray14's, CheXpert's, or all."""

Said = Mapping[str, float]
"""A source's words: 1 present, 0 absent, -1 uncertain, NaN unknown; a word left out was not mentioned."""


def words_source(source: str) -> str:
    """Whose words a source uses: MIMIC-CXR and BRAX have CheXpert's."""
    return {"mimic": "chexpert", "brax": "chexpert"}.get(source, source)


def findings_of(source: str, chosen: str) -> tuple[str, ...]:
    """The findings of a source's manifest, in the model's order.

    Raises:
        FilmsError: if there is no such vocabulary.
    """
    match chosen:
        case "own":
            words = words_source(source)
            of = {"nih": CHESTXRAY14, "chexpert": CHEXPERT13}
            signs = {name: {sign for sign, _ in known.sources.get(words, ())} for name, known in _known().items()}
            return of.get(words) or tuple(name for name, found in signs.items() if "=" in found)
        case "nih":
            return CHESTXRAY14
        case "chexpert":
            return CHEXPERT13
        case "union":
            return tuple(_known())
    raise FilmsError(f"vocabulary must be one of {', '.join(get_args(Chosen))}, got {chosen!r}. Choose one of them.")


def only_extremes(source: str, findings: Sequence[str]) -> tuple[str, ...]:
    """The findings for which the source has narrower words alone: known are some that have it, and normal films."""
    signs = {name: {sign for sign, _ in _known()[name].sources.get(words_source(source), ())} for name in findings}
    return tuple(name for name, found in signs.items() if found == {"<"})


def normal_word(source: str) -> str | None:
    """The source's word for a film without any finding."""
    return vocabulary().sources[words_source(source)].get("normal")


def shown_by(source: str, word: str) -> tuple[str, ...]:
    """The findings that are present where a source's word is: those that it is the same as, or narrower than."""
    words = words_source(source)
    return tuple(
        name
        for name, known in _known().items()
        if any(sign in "=<" and other == word for sign, other in known.sources.get(words, ()))
    )


def combined(said: Sequence[tuple[str, float]]) -> float:
    """What several words, each behind its sign, say about a finding.

    Present if a word that is the same or narrower is; else uncertain if a word that is the same is; else absent if a
    broader word is, or all known words that are the same are; else unknown.

    Args:
        said: signs with 1, 0, -1 or NaN.

    Returns:
        1, 0, -1 or NaN.
    """
    if any(value == 1 for sign, value in said if sign in "=<"):
        return 1.0
    same = [value for sign, value in said if sign == "=" and not math.isnan(value)]
    if -1 in same:
        return -1.0
    if same or any(value == 0 for sign, value in said if sign == ">"):
        return 0.0
    return math.nan


def labeller(
    source: str, findings: Sequence[str], *, blank: Blank = "absent", words: Collection[str] | None = None
) -> Callable[[Said | None], tuple[float, ...]]:
    """A function from what a film's row says to its labels.

    Args:
        blank: what a word that a row leaves out means.
        words: those that the table can say; the others are unknown, whatever `blank` says. All if None.
    """
    unsaid = 0.0 if blank == "absent" else math.nan
    normal = normal_word(source)
    mappings = [_known()[name].sources.get(words_source(source), ()) for name in findings]
    default = [
        [(sign, word, unsaid if words is None or word in words else math.nan) for sign, word in mapping]
        for mapping in mappings
    ]
    devices = [name == DEVICES for name in findings]
    unknown = (math.nan,) * len(findings)

    def labels(said: Said | None) -> tuple[float, ...]:
        if said is None:
            return unknown
        found = [combined([(sign, said.get(word, value)) for sign, word, value in one]) for one in default]
        if normal is not None and said.get(normal) == 1:
            return tuple(
                0.0 if math.isnan(value) and not device else value for value, device in zip(found, devices, strict=True)
            )
        return tuple(found)

    return labels


def _known() -> dict[str, Known]:
    return vocabulary().findings


_PAGE = """# Vocabulary

<!-- Written by: python -m hilum.data.vocabulary docs/vocabulary.md -->

What Hilum takes the words of public data sets for. It is a reading of their publications, not a standard: where
radiologists disagree, the finding says so. A model that was trained on one set and is evaluated on another is judged
through these lines.

- **=** the same: present is present, absent is absent, uncertain stays uncertain.
- **<** the source's word is narrower: where it is present the finding is present; where it is absent, nothing is known.
- **>** the source's word is broader: where it is absent the finding is absent; where it is present, nothing is known.

Several words: present if any **=** or **<** is present; else uncertain if any **=** is; else absent if a **>** or all
known **=** are absent; else unknown. A source's word for a normal film makes every finding absent but Support Devices.
A finding that a source knows by **<** alone is marked *extremes only*: known are some films that have it and the
normal ones, so nothing is evaluated by it.

| source | whose words | normal film | publication |
|---|---|---|---|
"""


def page() -> str:
    """The vocabulary as a page of the documentation, in Markdown."""
    sources = vocabulary().sources
    lines = [
        f"| `{name}` | {said['about']} | {said.get('normal', '-')} | {said['cite']} |" for name, said in sources.items()
    ]
    parts = [_PAGE + "\n".join(lines), "Contested is what is *in italics*."]
    for name, known in _known().items():
        other = f"Also: {', '.join(known.aliases)}.\n\n" if known.aliases else ""
        contested = f"*Contested: {known.contested}*\n\n" if known.contested else ""
        rows = [f"| `{source}` | {_in_words(source, name)} |" for source in sources if source in known.sources]
        table = "\n".join(["| source | its words |", "|---|---|", *rows])
        parts.append(f"## {name.replace('_', ' ')}\n\n{other}{contested}{table}")
    return "\n\n".join(parts) + "\n"


def _in_words(source: str, finding: str) -> str:
    said = _known()[finding].sources[source]
    by_sign = {sign: [word for other, word in said if other == sign] for sign in "=<>"}
    text = "; ".join(f"**{sign}** {', '.join(words)}" for sign, words in by_sign.items() if words)
    return text + (" (*extremes only*)" if only_extremes(source, [finding]) else "")


if __name__ == "__main__":
    import sys

    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
