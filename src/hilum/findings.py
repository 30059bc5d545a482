"""Names, synonyms, codes and plain words of the findings that are known; any other finding is as welcome.

Which findings a film, a model or a report has is told by its manifest, its bundle or its file, never by this module.
"""

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from hilum.errors import FilmsError

CHESTXRAY14: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""ChestX-ray14's findings in their canonical order. Source: Wang et al., CVPR 2017. https://arxiv.org/abs/1705.02315"""

NO_FINDING = "No Finding"
"""The word that ChestX-ray14 writes for a film with none of the findings: the all-zero target, never a class."""


class Known(NamedTuple):
    """A finding of vocabulary.toml.

    Attributes:
        aliases: other names; case, spaces, underscores and hyphens do not matter.
        contested: what readers disagree about, or what a mapping loses.
        sources: for each source its words, each behind its sign: "=" the same, "<" narrower, ">" broader.
    """

    name: str
    aliases: tuple[str, ...]
    contested: str
    sources: dict[str, tuple[tuple[str, str], ...]]


class Vocabulary(NamedTuple):
    """The content of vocabulary.toml: the findings by name, and for each source what is said of it."""

    findings: dict[str, Known]
    sources: dict[str, dict[str, str]]


@cache
def vocabulary() -> Vocabulary:
    """The findings that Hilum knows by name, and what the words of data sets mean for them."""
    content = tomllib.loads((Path(__file__).parent / "data" / "vocabulary.toml").read_text(encoding="utf-8"))
    known = [
        Known(
            said["name"],
            tuple(said.get("aliases", ())),
            said["contested"],
            {
                source: tuple((sign, word) for sign, *words in lists for word in words)
                for source, lists in said["sources"].items()
            },
        )
        for said in content["finding"]
    ]
    return Vocabulary({finding.name: finding for finding in known}, content["source"])


SIMULATED = "phantom"
"""The source of films that were drawn and not taken, as manifests and bundles have it."""
SIMULATED_JSON = "phantom.json"
"""The file beside a label file that says so."""


def is_simulated(source: str) -> bool:
    """Whether films of this source were drawn: `phantom`, or `phantom-chexpert` for another set's layout."""
    return source == SIMULATED or source.startswith(f"{SIMULATED}-")


class Code(NamedTuple):
    """A concept as DICOM and FHIR name it.

    Attributes:
        value: the code.
        scheme: SCT (SNOMED CT), DCM (DICOM's own), RADLEX or 99HILUM (private).
        meaning: in words.
    """

    value: str
    scheme: str
    meaning: str


PRIVATE = "99HILUM"
CODES: dict[str, Code] = {
    # in DICOM PS3.16, https://dicom.nema.org/medical/dicom/current/output/html/part16.html
    "Effusion": Code("60046008", "SCT", "Pleural effusion"),
    "Infiltration": Code("112121", "DCM", "Infiltrate"),
    "Mass": Code("4147007", "SCT", "Mass"),
    "Nodule": Code("27925004", "SCT", "Nodule"),
    "Pneumothorax": Code("36118008", "SCT", "Pneumothorax"),
    "Edema": Code("19242006", "SCT", "Pulmonary edema"),
    # SNOMED CT, each as these two quote it; HPO is the Human Phenotype Ontology, release 2025-01-16, https://hpo.jax.org
    # HPO HP:0100750; MII Onkologie, ConceptMap nebenwirkung-meddra-sct (checked with SNOMED's release of 2025-07-01)
    "Atelectasis": Code("46621007", "SCT", "Atelectasis"),
    # HPO HP:0001640; github.com/som-shahlab/tte-pretraining, README (from OHDSI's vocabulary)
    "Cardiomegaly": Code("8186001", "SCT", "Cardiomegaly"),
    # HPO HP:0002090; HL7 FHIR SANER, test case 2a: "Pneumonia (disorder)"
    "Pneumonia": Code("233604007", "SCT", "Pneumonia"),
    # HL7 Lithuania, ig-lt-lung, value set incidental-finding: "Lung consolidation (disorder)"; OHDSI concept 4318404
    "Consolidation": Code("95436008", "SCT", "Lung consolidation"),
    # HPO HP:0002097; HL7 Lithuania, the same value set: "Pulmonary emphysema (disorder)"
    "Emphysema": Code("87433001", "SCT", "Pulmonary emphysema"),
    # HPO HP:0002206; HL7 Germany, GECCO, value set chronic-lung-diseases: "Fibrosis of lung (disorder)"
    "Fibrosis": Code("51615001", "SCT", "Fibrosis of lung"),
    # HL7 Lithuania, the same value set: "Diaphragmatic hernia (disorder)"; HL7 FHIR, familyhistory-example-f201-roel
    "Hernia": Code("39839004", "SCT", "Diaphragmatic hernia"),
    # private: HPO (HP:0031944), RadLex 4.3 and the value sets above have no code that says this
    "Pleural_Thickening": Code("pleural-thick", PRIVATE, "Pleural thickening"),
}
"""A code for each of ChestX-ray14's findings, by its source. See docs/decisions/017-results-in-the-study.md."""

RADLEX: dict[str, Code] = {
    # BioPortal's RadLex, as github.com/florian-reiger-ochsner/radreport-templates checked it on 2026-07-21, and
    # RadLex 4.3 itself, as github.com/joseph-arulraj/NeSy-rag-rrg looked it up (v2/scripts/build_radlex_map.py)
    "Atelectasis": Code("RID28493", "RADLEX", "atelectasis"),
    "Consolidation": Code("RID43255", "RADLEX", "consolidation"),
    "Effusion": Code("RID34539", "RADLEX", "pleural effusion"),
    "Nodule": Code("RID50149", "RADLEX", "pulmonary nodule"),
    "Pneumothorax": Code("RID5352", "RADLEX", "pneumothorax"),
    # one of the two above, and github.com/TheLion-ai/UMIE_datasets (config/labels.py)
    "Edema": Code("RID4866", "RADLEX", "pulmonary edema"),
    "Emphysema": Code("RID4799", "RADLEX", "emphysema"),
    "Mass": Code("RID3874", "RADLEX", "mass"),
    "Pneumonia": Code("RID5350", "RADLEX", "pneumonia"),
}
"""The RadLex code of a finding that has one, beside that in CODES."""


_LONGEST_CODE = 16
"""Of a code's value: DICOM's SH. https://dicom.nema.org/medical/dicom/current/output/html/part05.html#sect_6.2"""
_PLAIN_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*( [A-Za-z0-9_.-]+)*")


@lru_cache(maxsize=64)
def codes_of(findings: tuple[str, ...]) -> dict[str, tuple[Code, ...]]:
    """The code of each finding of a model, no two with the same, and after it that of RadLex where there is one.

    A known finding has its code under its synonyms too. Any other has one of the private scheme, with its own name as
    the meaning: never that of a similar finding.
    """
    known: dict[str, str] = {}
    for name in sorted(findings, key=lambda name: name not in CODES):  # a synonym comes after the name itself
        finding = known_as(name)
        if finding in CODES and finding not in known.values():
            known[name] = finding
    codes = {name: (CODES[one], *([RADLEX[one]] if one in RADLEX else [])) for name, one in known.items()}
    taken = {code.value for code, *_ in codes.values()}
    for name in findings:
        if name not in codes:
            codes[name] = (Code(_private_value(name, taken), PRIVATE, name),)
            taken.add(codes[name][0].value)
    return {name: codes[name] for name in findings}


def _private_value(name: str, taken: set[str]) -> str:
    """The name itself where it can be a code, else what is left of it and a hash."""
    if len(name) <= _LONGEST_CODE and _PLAIN_CODE.fullmatch(name) and name not in taken:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()
    start = re.sub(r"[^A-Za-z0-9]+", "", unicodedata.normalize("NFKD", name))[:7] or "finding"
    return f"{start}-{digest[: _LONGEST_CODE - len(start) - 1][:8]}"


COMPOSITES: dict[str, tuple[str, ...]] = {
    "Nodule or mass": ("Nodule", "Mass"),
    "Airspace opacity": ("Atelectasis", "Consolidation", "Edema", "Infiltration", "Pneumonia"),
}
"""What other vocabularies label as one, and the findings that it stands for: present if any of them is.

Source: the names are those of Majkowska et al., Radiology 294, 2020. What airspace opacity holds is Hilum's reading,
after the tree of Irvin et al., "CheXpert", AAAI 2019, figure 1, and ChestX-ray14's Infiltration.
"""


_LAST_DRAWN = 0x24F
"""The end of Unicode's Latin letters, which the fonts of Pillow and matplotlib have; other scripts they may not."""


def drawn(finding: str) -> str:
    """A finding as pictures write it: in words, or by its code where their fonts lack its script."""
    if all(ord(letter) <= _LAST_DRAWN for letter in finding):
        return finding.replace("_", " ")
    return codes_of((finding,))[finding][0].value


class Plain(NamedTuple):
    """A finding in a radiologist's words.

    Attributes:
        words: what is seen, in a sentence.
        urgency: 1 (may need action at once) to 4 (as a rule it can wait). Hilum's own order for a list, and no triage.
    """

    words: str
    urgency: int


PLAIN: dict[str, Plain] = {
    "Pneumothorax": Plain("Air in the pleural space.", 1),
    "Edema": Plain("Interstitial or alveolar pulmonary edema.", 1),
    "Effusion": Plain("Fluid in the pleural space.", 2),
    "Pneumonia": Plain("Opacity read as infection, which a film alone cannot prove.", 2),
    "Consolidation": Plain("Airspace opacity that hides the vessels.", 2),
    "Mass": Plain("Rounded opacity > 3 cm.", 2),
    "Infiltration": Plain("Ill-defined opacity; ChestX-ray14's wide word for many causes.", 3),
    "Atelectasis": Plain("Loss of volume of a lung, lobe or segment.", 3),
    "Nodule": Plain("Rounded opacity up to 3 cm.", 3),
    "Cardiomegaly": Plain("Enlarged cardiac silhouette (overestimated on AP).", 3),
    "Emphysema": Plain("Hyperinflation with destroyed air spaces.", 4),
    "Fibrosis": Plain("Reticular opacity and loss of volume from scars.", 4),
    "Pleural_Thickening": Plain("Thickened pleura.", 4),
    "Hernia": Plain("Abdominal contents in the chest, most often a hiatal hernia.", 4),
}


def plain(finding: str) -> Plain:
    """A finding in plain words; one that is not known has none, and comes last."""
    return PLAIN.get(known_as(finding) or "", Plain("", 4))


def folded(name: str) -> str:
    """A name without what does not tell findings apart: case, spaces, underscores, hyphens, how accents are stored."""
    return re.sub(r"(?<=\S)[\s_-]+(?=\S)", " ", unicodedata.normalize("NFC", name).strip()).casefold()


def known_as(name: str) -> str | None:
    """The finding of the vocabulary that has this name or synonym; None if there is none."""
    return _known_names().get(folded(name))


@cache
def _known_names() -> dict[str, str]:
    known = vocabulary().findings.values()
    return {folded(name): finding.name for finding in known for name in (finding.name, *finding.aliases)}


def resolve(name: str, findings: Sequence[str]) -> str | None:
    """Which of the findings a name means: the same name, else the same but for case and spacing, else a synonym.

    Args:
        findings: those of a manifest or a bundle.

    Returns:
        None if it is none of them.

    Raises:
        FilmsError: if it is a synonym of two of them.
    """
    if name in findings:
        return name
    by_name = _by_name(tuple(findings))
    if folded(name) in by_name:
        return by_name[folded(name)]
    known = known_as(name)
    same = [finding for finding in findings if known is not None and known_as(finding) == known]
    if len(same) > 1:
        raise FilmsError(f"finding must mean one of {' and '.join(same[:2])}, got {name!r}. Write one of these names.")
    return same[0] if same else None


@lru_cache(maxsize=64)
def _by_name(findings: tuple[str, ...]) -> dict[str, str]:
    return {folded(finding): finding for finding in findings}


def canonical(name: str, findings: Sequence[str] = CHESTXRAY14) -> str:
    """Like `resolve`, for a name that must be one of the findings.

    Raises:
        FilmsError: if it is none of them, or two.
    """
    finding = resolve(name, findings)
    if finding is None:
        raise FilmsError(f"finding must be one of {', '.join(findings)}, got {name!r}")
    return finding


LONGEST_NAME = 64
_NOT_IN_NAMES = set('/\\"')
_COLUMNS = {"fit", "forced", "error"}
"""What predictions call other columns, beside the manifest's."""


def name_fault(findings: Sequence[object]) -> str | None:
    """What names of findings must be and these are not; None if nothing is wrong.

    Names stand in files' names, in tables' headers and in DICOM, whatever their script.
    """
    for name in findings:
        if (
            not isinstance(name, str)
            or not name.strip()
            or name != name.strip()
            or not name.isprintable()
            or set(name) & _NOT_IN_NAMES
            or len(name) > LONGEST_NAME
            or name.lower() in _COLUMNS
            or name.startswith("call_")
        ):
            return (
                f"names that can stand in a file's name and head a table's column (1 to {LONGEST_NAME} characters, no "
                f'slash or quote, not "fit", "forced", "error" or "call_..."), got {name!r}'
            )
    if not findings or len({folded(str(name)) for name in findings}) < len(findings):
        return f"distinct names, at least one, got {list(findings)!r}"
    return None
