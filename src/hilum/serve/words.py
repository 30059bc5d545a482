"""The findings in plain words, and in the order in which they are looked at first."""

from typing import NamedTuple


class Plain(NamedTuple):
    """A finding for a reader who is no radiologist.

    Attributes:
        words: what it is, in a sentence.
        urgency: 1 (may need action at once) to 4 (as a rule it can wait). Hilum's own order for a list, and no triage.
    """

    words: str
    urgency: int


_PLAIN: dict[str, Plain] = {
    "Pneumothorax": Plain("Air between lung and chest wall; the lung may have collapsed.", 1),
    "Edema": Plain("Fluid in the lung tissue, often from a failing heart.", 1),
    "Effusion": Plain("Fluid between lung and chest wall.", 2),
    "Pneumonia": Plain("An infection of the lung; it cannot be told from a film alone.", 2),
    "Consolidation": Plain("Lung filled with fluid, pus or cells instead of air.", 2),
    "Mass": Plain("A round spot of more than 3 cm.", 2),
    "Infiltration": Plain("A hazy patch; an old, wide word for many causes.", 3),
    "Atelectasis": Plain("A part of the lung without air, fallen in.", 3),
    "Nodule": Plain("A round spot of up to 3 cm.", 3),
    "Cardiomegaly": Plain("A heart that looks larger than it should.", 3),
    "Emphysema": Plain("Lungs blown up because their air sacs are destroyed.", 4),
    "Fibrosis": Plain("Scars in the lung tissue.", 4),
    "Pleural_Thickening": Plain("Scars or thickening of the lung's lining.", 4),
    "Hernia": Plain("A part of the stomach or bowel that lies in the chest.", 4),
}


def plain(finding: str) -> Plain:
    """A finding in plain words; those of another vocabulary have none, and come last."""
    return _PLAIN.get(finding, Plain("", 4))
