"""Draw the fourteen findings as a radiologist would describe them, each with its box."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hilum.phantom.anatomy import Chest, Mask, Plane, Sign, distance, edge, silhouette, texture


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


LOBES: dict[str, tuple[float, float, float, float]] = {
    # across and height of the centre, half width and half height in cm
    "upper": (0.50, 0.30, 5.2, 4.2),
    "middle": (0.35, 0.74, 5.0, 4.6),
    "lower": (0.55, 0.84, 5.6, 4.6),
}


def atelectasis(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """Plates above a raised hemidiaphragm: bands of collapsed lung with a little haze around them."""
    left = sign.side == "left"
    mask = np.zeros_like(chest.x)
    lung = (chest.air > 0.3) & (chest.is_left == left)
    for plate in range(int(generator.integers(2, 4))):
        x, y = chest.at(left, float(generator.uniform(0.35, 0.65)), 0.9 - 0.13 * plate)
        slope, bow = float(generator.uniform(-0.35, 0.35)), float(generator.uniform(-0.02, 0.02))
        half_length = float(generator.uniform(2.2, 3.4)) + 1.5 * sign.severity
        half_thick = 0.18 + 0.22 * sign.severity
        dx = chest.x - x
        dy = chest.y - y - slope * dx - bow * dx * dx
        away = np.abs(dy)
        ends = edge(half_length - np.abs(dx), 1.2)
        band = edge(half_thick - away, 0.25) * ends * lung
        chest.fill((0.4 + 0.32 * sign.severity) * band)
        chest.fill(0.25 * np.exp(-((away / 1.2) ** 2)) * ends * lung)
        mask = np.maximum(mask, band)
    crowded = np.exp(-(((chest.y - chest.floor) / 2.2) ** 2)) * lung
    chest.fill((0.15 + 0.35 * sign.severity) * crowded)
    mask = np.maximum(mask, crowded * (crowded > 0.7))
    return [mask]


def infiltration(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """Ill-defined patches, mottled and half transparent: markings still show through."""
    masks = []
    for left in lefts(sign):
        mask = np.zeros_like(chest.x)
        clumps = np.clip(0.85 + 0.24 * texture(generator, chest.size, 40), 0, 1.3)
        for _ in range(2):
            x, y = chest.at(left, float(generator.uniform(0.25, 0.75)), float(generator.uniform(0.35, 0.9)))
            size = float(generator.uniform(2.2, 3.4)) + 1.0 * sign.severity
            dx, dy = (chest.x - x) / size, (chest.y - y) / size
            mask = np.maximum(mask, np.exp(-(dx * dx + dy * dy)))
        patch = np.clip(mask * clumps, 0, 1) * (chest.is_left == left)
        chest.fill((0.22 + 0.36 * sign.severity) * patch)
        masks.append(mask * chest.inside * (chest.is_left == left))
    return masks


def _sphere(chest: Chest, x: float, y: float, radius: float, ragged: Plane, density: float) -> Plane:
    """A ball of tissue in the lung; `ragged` shifts its border (share of the radius)."""
    window = chest.window(x - 1.7 * radius, x + 1.7 * radius, y - 1.7 * radius, y + 1.7 * radius)
    away = distance(chest.x[window] - x, chest.y[window] - y) / radius + ragged[window]
    thickness = np.sqrt(np.clip(1 - away * away, 0, 1))
    chest.soft[window] += density * thickness * (chest.air[window] > 0.3)
    mask = np.zeros_like(chest.x)
    mask[window] = away < 1
    return mask


def mass(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """A round or lobulated opacity more than 3 cm across."""
    left = sign.side == "left"
    radius = 1.7 + 1.9 * sign.severity
    x, y = chest.at(left, float(generator.uniform(0.35, 0.7)), float(generator.uniform(0.2, 0.75)))
    ragged = 0.09 * texture(generator, chest.size, 26)
    return [_sphere(chest, x, y, radius, ragged, 2.8 + 3.4 * sign.severity)]


def nodule(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """One to four small round opacities, each less than 3 cm across."""
    ragged = 0.05 * texture(generator, chest.size, 60)
    masks = []
    for number in range(int(generator.integers(1, 4))):
        left = bool(generator.random() < 0.5) if number else sign.side == "left"
        radius = (0.65 + 0.6 * sign.severity) * float(generator.uniform(0.85, 1.12))
        x, y = chest.at(left, float(generator.uniform(0.2, 0.85)), float(generator.uniform(0.15, 0.85)))
        masks.append(_sphere(chest, x, y, radius, ragged, 2.2 + 3.0 * sign.severity))
    return masks


def _bronchi(chest: Chest, left: bool, generator: np.random.Generator) -> Plane:
    """Air-filled bronchi that show up dark in an airless lung: a fan of tapering lines from the hilum."""
    anatomy = chest.anatomy
    side = 1.0 if left else -1.0
    travel = np.linspace(0, 1, 160)
    angle = np.linspace(-1.0, 1.35, 9) + generator.normal(0, 0.08, 9)
    heading = angle[:, None] + generator.normal(0, 0.35, 9)[:, None] * travel
    step = 11.0 / 160
    x = side * (3.0 + np.cumsum(np.cos(heading) * step, axis=1))
    y = anatomy.apex + 10.0 + np.cumsum(np.sin(heading) * step, axis=1)
    area = np.pi * (0.32 * (1 - 0.6 * travel)) ** 2 * step
    return chest.splat(x.ravel(), y.ravel(), np.tile(area, 9), width=2)


def _airspace(chest: Chest, sign: Sign, generator: np.random.Generator, share: float, border: float) -> list[Plane]:
    """A lobe filled up to a fissure, its other borders `border` cm soft, with air bronchograms."""
    masks = []
    for left in lefts(sign):
        lobe = str(generator.choice(["upper", "lower"] if left else ["upper", "middle", "lower"]))
        across, height, wide, high = LOBES[lobe]
        scale = 0.75 + 0.4 * sign.severity
        x, y = chest.at(left, across, height)
        dx, dy = (chest.x - x) / (wide * scale), (chest.y - y) / (high * scale)
        ragged = 0.08 * texture(generator, chest.size, 20)
        lobe_mask = edge(1 - np.sqrt(dx * dx + dy * dy) + ragged, border / wide) * (chest.is_left == left)
        if lobe == "upper":  # the fissure is a sharp lower border
            tilt = float(generator.uniform(-0.12, 0.2)) * (1 if left else -1)
            fissure = y + 0.45 * high * scale + tilt * (chest.x - x) - 0.012 * (chest.x - x) ** 2
            lobe_mask = lobe_mask * edge(fissure - chest.y, 0.35)
        elif lobe == "middle":
            lobe_mask = lobe_mask * edge(chest.y - y + 0.4 * high * scale, 0.5)
        chest.fill(share * lobe_mask)
        chest.soft -= 3.0 * (0.5 + share) * _bronchi(chest, left, generator) * lobe_mask
        masks.append(lobe_mask * chest.inside)
    return masks


def pneumonia(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """One lobe's airspaces filling: uneven, ill-defined but for the fissure, some air bronchograms."""
    mottle = 1 + 0.14 * texture(generator, chest.size, 30)
    before = chest.filled.copy()
    masks = _airspace(chest, sign, generator, 0.40 + 0.35 * sign.severity, 3.0)
    chest.filled = before + (chest.filled - before) * np.clip(mottle, 0.3, 1.25)
    np.clip(chest.filled, 0, 1, out=chest.filled)
    return masks


def consolidation(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """Airless lung: dense, even, hides vessels and heart border, with clear air bronchograms."""
    return _airspace(chest, sign, generator, 0.74 + 0.22 * sign.severity, 2.2)


def edema(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """Batwings: haze spreading from both hila and sparing the rim; Kerley lines; full upper-lobe vessels."""
    anatomy = chest.anatomy
    centre_y = anatomy.apex + 0.52 * (anatomy.dome_right - anatomy.apex)
    dx, dy = (chest.across - 4.2) / 5.0, (chest.y - centre_y) / 5.8
    wings = np.exp(-((dx * dx + dy * dy) ** 1.3))
    clumps = np.clip(0.92 + 0.16 * texture(generator, chest.size, 30), 0, 1.25)
    lung = chest.air > 0.3
    chest.vessels *= 1 + (0.6 + 0.8 * sign.severity) * np.clip(1.1 - 1.3 * chest.height, 0, 1)
    chest.fill((0.32 + 0.42 * sign.severity) * np.clip(wings * clumps, 0, 1))
    chest.fill((0.08 + 0.14 * sign.severity) * lung.astype(np.float32))
    starts = [chest.at(left, 1.0, 0.70 + 0.03 * row) for left in (False, True) for row in range(10)]
    reach = np.linspace(0.1, 1, 60) * generator.uniform(1.4, 2.2, (20, 1))
    x = np.array([[x - np.sign(x) * 0.1] for x, _ in starts])
    x = x - np.sign(x) * reach
    y = np.array([[y] for _, y in starts]) + 0 * reach
    chest.soft += 1.3 * chest.splat(x.ravel(), y.ravel(), np.full(1200, 0.0042)) * lung  # Kerley's B lines
    return [wings * lung * (chest.is_left == left) for left in (False, True)]


def fibrosis(chest: Chest, sign: Sign, generator: np.random.Generator) -> list[Plane]:
    """A net of scars at the bases and the rim of small lungs, coarser where it is older."""
    outer = np.clip((chest.across - chest.medial) / np.maximum(chest.lateral - chest.medial, 1), 0, 1)
    where = np.clip(1.5 * chest.height - 0.55 + 0.7 * outer**3, 0, 1) * (chest.air > 0.3)
    net = np.clip(1 - np.abs(texture(generator, chest.size, 66)) / 0.36, 0, 1)
    fine = np.clip(1 - np.abs(texture(generator, chest.size, 98)) / 0.36, 0, 1)
    lines = np.maximum(net, 0.7 * fine) * where
    chest.soft += (0.9 + 1.5 * sign.severity) * lines
    chest.fill((0.12 + 0.25 * sign.severity) * where)
    return [where * (chest.is_left == left) for left in (False, True)]


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
    "Atelectasis": atelectasis,
    "Cardiomegaly": cardiomegaly,
    "Effusion": effusion,
    "Infiltration": infiltration,
    "Mass": mass,
    "Nodule": nodule,
    "Pneumonia": pneumonia,
    "Pneumothorax": pneumothorax,
    "Consolidation": consolidation,
    "Edema": edema,
    "Emphysema": emphysema,
    "Fibrosis": fibrosis,
    "Pleural_Thickening": thickening,
    "Hernia": hernia,
}
"""How each finding is painted: the chest (changed in place), the sign, a generator -> one mask (0..1) per focus."""
