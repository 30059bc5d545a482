"""Findings of the pleura: effusion, pneumothorax, thickening."""

import numpy as np

from hilum.data.phantom_anatomy import Sign
from hilum.data.phantom_chest import Chest, Plane, edge, texture


def lefts(sign: Sign) -> list[bool]:
    """The lungs that a finding lies in: False is the right one."""
    return {"right": [False], "left": [True], "both": [False, True]}[sign.side]


def effusion(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """Fluid that blunts the costophrenic angle and climbs the lateral wall as a meniscus."""
    masks = []
    for left in lefts(sign):
        severity = sign.severity * (1.0 if len(lefts(sign)) == 1 else float(generator.uniform(0.6, 1.0)))
        deep = 2.0 + 8.0 * severity**1.3
        outer = np.clip((chest.across - chest.medial) / np.maximum(chest.lateral - chest.medial, 1), 0, 1)
        surface = chest.anatomy.dome(left) + chest.anatomy.dome_drop - deep * (0.45 + 0.55 * outer**4)
        fluid = edge(chest.y - surface, 1.1) * (chest.is_left == left)
        fluid *= edge(chest.across - 1.5, 1.0)
        chest.fill((0.88 + 0.1 * severity) * fluid)
        # the outermost recess, where there is too little air for a share of it to show
        band = edge(chest.lateral + 0.4 - chest.across, 0.5) * edge(outer - 0.75, 0.3)
        chest.soft += 1.5 * fluid * band * edge(chest.floor + 1.5 - chest.y, 1.0)
        masks.append(fluid * (chest.air > 0.4))
    return masks


def pneumothorax(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """Air around the lung: a fine pleural line, no markings and darker beyond it, widest at the apex."""
    left = sign.side == "left"
    anatomy = chest.anatomy
    gap_apex, gap_side = 1.8 + 3.6 * sign.severity, 0.9 + 3.4 * sign.severity
    here = chest.is_left == left
    below = np.clip((chest.y - anatomy.apex) / 22, 0, 1)
    wave = 0.25 * np.sin(chest.y / float(generator.uniform(2, 3.5)) + float(generator.uniform(0, 6)))
    gap = (gap_side + wave) * (1 - 0.45 * below)
    from_top = chest.y - anatomy.apex - gap_apex
    dome = 0.10 * np.abs(chest.across - 0.42 * anatomy.lung_width) ** 1.8  # the collapsed apex is round
    from_side = chest.lateral - gap - chest.across
    # a minimum with a rounded corner; positive inside the visceral pleura
    depth = 0.5 * (from_side + from_top - dome - np.sqrt((from_side - from_top + dome) ** 2 + 4.0))
    beyond = edge(-depth, 0.15) * here
    lung = (chest.air > 0.3) & here
    beyond *= lung
    chest.hidden = np.maximum(chest.hidden, beyond)
    chest.soft -= (1.4 + 1.2 * sign.severity) * beyond * np.minimum(chest.air / 3, 1)
    line = np.clip(1 - np.abs(depth - 0.1) / 0.16, 0, 1) * lung
    chest.bone += 0.38 * line
    chest.fill((0.10 + 0.22 * sign.severity) * (1 - beyond) * lung)
    return [beyond]


def thickening(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """A dense rind along the lateral wall, or a cap on the apex; now and then calcified."""
    masks = []
    for left in lefts(sign):
        here = chest.is_left == left
        anatomy = chest.anatomy
        thick = 0.7 + 0.9 * sign.severity
        rough = 0.14 * texture(generator, chest.size, 24)
        cap = float(generator.random()) < 0.3
        if cap:
            reach = anatomy.apex + 1.2 * thick + 0.8
            along = edge(reach + rough - chest.y + 0.06 * (chest.across - 0.42 * anatomy.lung_width) ** 2, 0.5)
            rind = along * edge(chest.y - anatomy.apex + 0.3, 0.3)
        else:
            top = anatomy.apex + float(generator.uniform(5, 9))
            bottom = anatomy.dome(left) + 0.9 * anatomy.dome_drop
            taper = edge(chest.y - top, 3.5) * edge(bottom - chest.y, 1.5)
            rind = edge(chest.across - chest.lateral + thick * taper + rough, 0.5) * taper
        rind = rind * here * (chest.across < chest.lateral) * (chest.y < chest.floor)
        chest.fill(0.85 * rind)
        chest.soft += (0.6 + 1.4 * sign.severity) * rind
        if generator.random() < 0.3:
            chest.bone += 0.35 * rind * np.clip(texture(generator, chest.size, 60) - 0.8, 0, 1)
        masks.append(rind)
    return masks
