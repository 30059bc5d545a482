"""The phantom's anatomy: one chest as a few lengths, and the borders that follow from them.

Lengths are centimetres on the film. x grows towards the patient's left, which is the right side of the film, and is 0
at the spine; y grows downwards and is 0 about 4 cm above the lung apices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

Curve = Float32[np.ndarray, " steps"]
Side = Literal["right", "left", "both"]

CURVE_START, CURVE_END, CURVE_STEPS = -12.0, 52.0, 1600
STATIONS: Curve = np.linspace(CURVE_START, CURVE_END, CURVE_STEPS, dtype=np.float32)
"""The y (or x + 20) at which borders are tabulated, 0.04 cm apart: finer than a pixel of a 512 px film."""


@dataclass(frozen=True)
class Sign:
    """One finding of one film: what a radiologist would point at.

    Args:
        finding: one of ChestX-ray14's names.
        side: where it lies; findings without a side say "both".
        severity: 0 barely visible, 1 obvious; drives both size and contrast.
        seed: decides place and texture, and stays the same on a patient's next film.
    """

    finding: str
    side: Side
    severity: float
    seed: int


@dataclass(frozen=True)
class Anatomy:
    """One chest, in cm, as it projects on the film."""

    lung_width: float  # half the inner width of the thorax at its widest
    apex: float  # y of the lung apices
    dome_right: float  # y of the hemidiaphragms' tops
    dome_left: float
    dome_drop: float  # from the top of the dome down to the costophrenic angle
    heart_ratio: float  # cardiothoracic ratio
    heart_shift: float  # of heart and mediastinum, towards the patient's left
    knob: float  # how far the aortic arch stands out
    thickness: float  # of the body, back to front
    wall: float  # chest wall beside the lungs: muscle and fat
    breast: float  # thickness of the breasts; 0 for none
    breast_height: float
    rib_slope: float
    rib_spacing: float
    clavicle: float  # y of the medial ends
    bend: float  # of the spine, sideways
    arms: float  # how far the arms stand off
    bubble: float  # size of the gastric air bubble
    aeration: float  # air in the lungs, 1 normal
    vessel_seed: int

    @property
    def angle_right(self) -> float:
        """The y of the right costophrenic angle."""
        return self.dome_right + self.dome_drop

    @property
    def angle_left(self) -> float:
        """The y of the left costophrenic angle."""
        return self.dome_left + self.dome_drop

    def dome(self, left: bool) -> float:
        """The y of one hemidiaphragm's top."""
        return self.dome_left if left else self.dome_right


def with_signs(anatomy: Anatomy, signs: Sequence[Sign]) -> Anatomy:
    """The same chest after the findings that change its shape: heart, diaphragm, mediastinum, aeration."""
    found = {sign.finding: sign for sign in signs}
    if sign := found.get("Emphysema"):
        push = 1.0 + 1.6 * sign.severity
        anatomy = replace(
            anatomy,
            lung_width=anatomy.lung_width * (1.02 + 0.03 * sign.severity),
            dome_right=anatomy.dome_right + push,
            dome_left=anatomy.dome_left + push,
            dome_drop=anatomy.dome_drop * (0.6 - 0.35 * sign.severity),
            heart_ratio=anatomy.heart_ratio * (0.92 - 0.1 * sign.severity),
            rib_slope=anatomy.rib_slope * 0.65,
            rib_spacing=anatomy.rib_spacing * 1.08,
            aeration=1.1 + 0.15 * sign.severity,
        )
    if sign := found.get("Fibrosis"):
        pull = 0.8 + 1.6 * sign.severity
        anatomy = replace(anatomy, dome_right=anatomy.dome_right - pull, dome_left=anatomy.dome_left - pull)
    if sign := found.get("Atelectasis"):
        pull, shift = 1.0 + 2.2 * sign.severity, 0.3 + 0.7 * sign.severity
        if sign.side == "left":
            anatomy = replace(anatomy, dome_left=anatomy.dome_left - pull, heart_shift=anatomy.heart_shift + shift)
        else:
            anatomy = replace(anatomy, dome_right=anatomy.dome_right - pull, heart_shift=anatomy.heart_shift - shift)
    if (sign := found.get("Pneumothorax")) and sign.severity > 0.6:
        shift = 2.5 * (sign.severity - 0.6) * (-1 if sign.side == "left" else 1)
        anatomy = replace(anatomy, heart_shift=anatomy.heart_shift + shift)
    if sign := found.get("Cardiomegaly"):
        anatomy = replace(anatomy, heart_ratio=0.54 + 0.14 * sign.severity)
    return anatomy


def lung_borders(anatomy: Anatomy, left: bool) -> tuple[Curve, Curve]:
    """Medial and lateral border of one lung, as distances from the midline at each of STATIONS.

    Above the apex the lateral border lies inside the medial one, so that nothing is lung.
    """
    base = anatomy.angle_left if left else anatomy.angle_right
    height = (STATIONS - anatomy.apex) / np.float32(base - anatomy.apex)
    depth = np.clip(height, 0, 1)
    centre = 0.42 * anatomy.lung_width
    spread = (1 - (1 - depth) ** 2.2) ** 0.58 * (0.9 + 0.1 * depth)
    lateral = centre + (anatomy.lung_width - centre) * spread
    medial = np.maximum(1.3, centre - 9.0 * np.sqrt(depth))
    lateral = np.where(height <= 0, medial - 1, lateral)
    return medial.astype(np.float32), lateral.astype(np.float32)


def diaphragm(anatomy: Anatomy) -> Curve:
    """The y of the diaphragm at x = STATIONS - 20."""
    x = STATIONS - 20
    top = 0.42 * anatomy.lung_width
    away = (np.abs(x) - top) / anatomy.lung_width
    fall = np.where(away > 0, 2.75 * np.abs(away) ** 1.9, 2.0 * away**2) * anatomy.dome_drop
    step = 1 / (1 + np.exp(-x / 0.8))  # the domes meet behind the heart without a step
    between = anatomy.dome_right + (anatomy.dome_left - anatomy.dome_right) * step
    height = np.where(np.abs(x) < 4, between, np.where(x > 0, anatomy.dome_left, anatomy.dome_right))
    border: Curve = (height + fall).astype(np.float32)
    return border


def silhouette(anatomy: Anatomy) -> tuple[Curve, Curve]:
    """Right and left border of mediastinum and heart, as x at each of STATIONS."""
    floor = max(anatomy.dome_right, anatomy.dome_left)
    width = 2 * anatomy.lung_width * anatomy.heart_ratio
    right_reach, left_reach = 0.33 * width, 0.67 * width
    heart_top = anatomy.apex + 0.40 * (floor - anatomy.apex)
    arch = anatomy.apex + 0.30 * (floor - anatomy.apex)
    middle = heart_top + 0.62 * (floor + 1.2 - heart_top)
    low = heart_top + 0.78 * (floor + 1.2 - heart_top)

    def hump(centre: float, above: float, below: float) -> Curve:
        offset = STATIONS - centre
        offset = np.where(offset < 0, offset / above, offset / below)
        height: Curve = np.sqrt(np.clip(1 - offset**2, 0, 1)).astype(np.float32)
        return height

    right = np.maximum(2.5, right_reach * hump(middle, middle - heart_top + 1.0, 7.0) ** 0.8)
    left = np.maximum(2.2, 2.2 + anatomy.knob * hump(arch, 1.9, 1.9))
    left = np.maximum(left, 3.4 * hump(heart_top + 0.4, 2.4, 5.5))  # pulmonary trunk
    rounded = hump(low, low - heart_top + 0.5, 3.8)
    straight = np.clip((STATIONS - heart_top + 1.5) / (low - heart_top + 1.5), 0, 1)
    ventricle = left_reach * np.where(low > STATIONS, 0.45 * rounded + 0.55 * straight**1.1, rounded**0.8)
    left = np.maximum(left, ventricle)
    shift = anatomy.heart_shift
    return (shift - right).astype(np.float32), (shift + left).astype(np.float32)
