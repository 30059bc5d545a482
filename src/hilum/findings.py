"""The label vocabularies and their mapping: the only such table in Hilum."""

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

_OTHER_NAMES: dict[str, str] = {
    "infiltrate": "Infiltration",  # BBox_List_2017.csv
    "pleural thickening": "Pleural_Thickening",
    "pleural effusion": "Effusion",
}


def canonical(name: str) -> str:
    """The ChestX-ray14 name of a finding, whatever its case, spacing or file of origin.

    Raises:
        FilmsError: if the name is none of the 14 findings nor another name of one.
    """
    words = name.strip().replace("_", " ").lower()
    for finding in CHESTXRAY14:
        if finding.replace("_", " ").lower() == words:
            return finding
    if words in _OTHER_NAMES:
        return _OTHER_NAMES[words]
    raise FilmsError(f"finding must be one of {', '.join(CHESTXRAY14)}, got {name!r}")
