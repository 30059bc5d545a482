"""The label vocabularies and their mapping: the only such table in Hilum."""

import re
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

SIMULATED = "phantom"
"""The source of films that were drawn and not taken, as manifests and bundles have it."""
SIMULATED_JSON = "phantom.json"
"""The file beside a label file that says so."""


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


def code_of(finding: str) -> Code:
    """The code of a finding; a private one, with its own name, for a finding of another vocabulary."""
    return CODES.get(finding) or Code(finding, PRIVATE, finding[:64])


_OTHER_NAMES: dict[str, str] = {
    "infiltrate": "Infiltration",  # BBox_List_2017.csv
    "pleuralthickening": "Pleural_Thickening",
    "pleural effusion": "Effusion",
    "pleuraleffusion": "Effusion",
}

COMPOSITES: dict[str, tuple[str, ...]] = {
    "Nodule or mass": ("Nodule", "Mass"),
    "Airspace opacity": ("Atelectasis", "Consolidation", "Edema", "Infiltration", "Pneumonia"),
}
"""What other vocabularies label as one, and the findings that it stands for: present if any of them is.

Source: the names are those of Majkowska et al., Radiology 294, 2020. What airspace opacity holds is Hilum's reading,
after the tree of Irvin et al., "CheXpert", AAAI 2019, figure 1, and ChestX-ray14's Infiltration.
"""


def canonical(name: str) -> str:
    """The ChestX-ray14 name of a finding, whatever its case, spacing, hyphen or file of origin.

    Raises:
        FilmsError: if the name is none of the 14 findings nor another name of one.
    """
    words = re.sub(r"(?<=\S)[ _-]+(?=\S)", " ", name.strip()).lower()
    for finding in CHESTXRAY14:
        if finding.replace("_", " ").lower() == words:
            return finding
    if words in _OTHER_NAMES:
        return _OTHER_NAMES[words]
    raise FilmsError(f"finding must be one of {', '.join(CHESTXRAY14)}, got {name!r}")
