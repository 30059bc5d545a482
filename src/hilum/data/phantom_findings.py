"""The fourteen findings, each drawn as a radiologist would describe it, and the box that holds it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hilum.data import phantom_opacities as opacities
from hilum.data import phantom_pleura as pleura
from hilum.data.phantom_anatomy import Sign, silhouette
from hilum.data.phantom_chest import Chest, Mask, Plane, edge

Drawing = Callable[[Chest, Sign, np.random.Generator], list[Plane]]


class Box(NamedTuple):
    """Where a finding lies: the upper left corner and the extent, as fractions of the film's width and height."""

    finding: str
    x: float
    y: float
    width: float
    height: float


def draw_sign(chest: Chest, sign: Sign) -> list[Box]:
    """Paint one finding on a chest whose shape it has already changed; returns one box per focus."""
    generator = np.random.default_rng([sign.seed, 3])
    draw = DRAWINGS[sign.finding]
    masks = (mask > 0.35 for mask in draw(chest, sign, generator))
    return [_box(sign.finding, mask) for mask in masks if mask.any()]


def _box(finding: str, mask: Mask) -> Box:
    size = mask.shape[0]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    return Box(finding, left / size, top / size, width / size, height / size)


def cardiomegaly(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """A wide heart: nothing to paint, for the silhouette already has the ratio; the box is the heart's."""
    anatomy = chest.anatomy
    right, left = silhouette(anatomy)
    floor = max(anatomy.dome_right, anatomy.dome_left)
    top = anatomy.apex + 0.42 * (floor - anatomy.apex)
    inside = (chest.x > right.min()) & (chest.x < left.max()) & (chest.y > top) & (chest.y < floor + 1)
    return [inside.astype(np.float32)]


def emphysema(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """Overinflated dark lungs with flat domes and few peripheral vessels; sometimes a bulla."""
    outer = np.clip((chest.across - chest.medial) / np.maximum(chest.lateral - chest.medial, 1), 0, 1)
    chest.hidden = np.maximum(chest.hidden, (0.35 + 0.5 * sign.severity) * outer)
    return [(chest.inside & (chest.is_left == left)).astype(np.float32) for left in (False, True)]


def hernia(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """The stomach behind the heart: a round density over the diaphragm with air above a fluid level."""
    anatomy = chest.anatomy
    radius = 2.4 + 2.2 * sign.severity
    x = float(generator.uniform(0.2, 2.6))
    y = max(anatomy.dome_left, anatomy.dome_right) - 0.45 * radius - float(generator.uniform(0.4, 1.2))
    window = chest.window(x - 1.4 * radius, x + 1.4 * radius, y - 1.3 * radius, y + 1.3 * radius)
    dx, dy = (chest.x[window] - x) / 1.15, chest.y[window] - y
    away = np.sqrt(dx * dx + dy * dy) / radius
    sac = np.sqrt(np.clip(1 - away * away, 0, 1))
    level = float(generator.uniform(-0.25, 0.1)) * radius
    gas = edge(level - dy, 0.25) * np.clip((0.94 - away) / 0.15, 0, 1)
    chest.soft[window] += (1.4 + 2.0 * sign.severity) * sac * (1 - gas) - (2.5 + 2.0 * sign.severity) * gas * sac
    chest.bone[window] += 0.2 * np.clip(1 - np.abs(away - 0.97) / 0.06, 0, 1) * (away < 1.05)
    mask = np.zeros_like(chest.x)
    mask[window] = away < 1
    return [mask]


DRAWINGS: dict[str, Drawing] = {
    "Atelectasis": opacities.atelectasis,
    "Cardiomegaly": cardiomegaly,
    "Effusion": pleura.effusion,
    "Infiltration": opacities.infiltration,
    "Mass": opacities.mass,
    "Nodule": opacities.nodule,
    "Pneumonia": opacities.pneumonia,
    "Pneumothorax": pleura.pneumothorax,
    "Consolidation": opacities.consolidation,
    "Edema": opacities.edema,
    "Emphysema": emphysema,
    "Fibrosis": opacities.fibrosis,
    "Pleural_Thickening": pleura.thickening,
    "Hernia": hernia,
}
"""How each finding is painted: the chest (changed in place), the sign, a generator -> one mask (0..1) per focus."""
