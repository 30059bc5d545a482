"""The phantom's normal chest: body, breasts, ribs, clavicles, scapulae, spine, airways, vessels, stomach."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hilum.data.phantom_anatomy import CURVE_END, CURVE_START
from hilum.data.phantom_chest import Chest, Plane, Points, distance, edge, rise, texture


class Tree(NamedTuple):
    """Vessels as points every 0.1 cm: place from the hilum (x outwards), radius; in cm of an average lung."""

    x: Points
    y: Points
    radius: Points
    left: np.ndarray


def draw_thorax(chest: Chest) -> Plane:
    """Paint the normal chest; returns the thickness of the body (cm), the air of the lungs not yet taken out."""
    _vessels(chest)
    _ribs(chest)
    _clavicles(chest)
    _shoulders(chest)
    _spine(chest)
    _airway(chest)
    _stomach(chest)
    body = _body(chest)
    if chest.anatomy.breast > 0:
        _breasts(chest)
    return body


def _body(chest: Chest) -> Plane:
    """Torso, shoulders, neck and arms as one thickness with rounded sides."""
    anatomy, thickness = chest.anatomy, chest.anatomy.thickness
    below = chest.y - anatomy.apex
    flank = anatomy.lung_width + anatomy.wall
    shoulder = below + 5.0 - 0.016 * np.maximum(chest.across - 4.5, 0) ** 2  # the slope of the trapezius
    grown = np.clip((below + 3) / 12, 0, 1)
    half = flank + 4.5 * (1 - grown) ** 2 - 0.8 * grown
    torso = thickness * (0.82 + 0.18 * grown) * rise(half - chest.across, 6.0) * rise(shoulder, 6.0)
    from_arm = np.abs(chest.across - (flank + 1.8 + (0.04 + 0.12 * anatomy.arms) * np.maximum(below, 0)))
    arms = 10.5 * rise(3.9 - from_arm, 3.9) * rise(shoulder, 4.0)
    chest.bone += 1.1 * edge(1.05 - from_arm, 0.5) * edge(below - 3, 1.5)  # humerus
    body: Plane = np.maximum(torso, arms)
    neck = chest.window(-7.0, 7.0, CURVE_START, anatomy.apex + 3)
    column = 12.5 * rise(5.8 - chest.across[neck], 5.0)
    body[neck] = np.maximum(body[neck], column)
    return body


def _breasts(chest: Chest) -> None:
    anatomy = chest.anatomy
    dx = (chest.across - 0.56 * anatomy.lung_width) / (0.52 * anatomy.lung_width)
    dy = chest.y - anatomy.breast_height
    dy = dy / np.where(dy > 0, 4.6, 9.0)
    chest.soft += anatomy.breast * np.sqrt(np.clip(1 - dx * dx - dy * dy, 0, 1))


def _ribs(chest: Chest) -> None:
    """Ten pairs as two families of curves: posterior ribs fall gently from the spine, anterior ones steeply back."""
    anatomy = chest.anatomy
    share = np.clip(chest.across / (chest.lateral + 0.5), 0, 1.1)
    around = np.sqrt(np.clip(1 - share * share, 0.02, 1))
    spacing, slope = anatomy.rib_spacing, anatomy.rib_slope
    first = anatomy.apex - 1.2
    chest_half = anatomy.lung_width
    jitter = np.random.default_rng(anatomy.vessel_seed).uniform(-0.05, 0.05, 64).astype(np.float32)
    wall = edge(chest.lateral + 0.45 - chest.across, 0.3) * edge(chest.y - anatomy.apex + 1.5, 1.0)

    posterior = slope * (1.25 - 1.25 * around - 0.22 * share)
    steep = slope * 1.25 * share / around / chest_half
    number = (chest.y - first - posterior) / spacing
    nearest = np.rint(number)
    index = np.clip(nearest, 0, 31).astype(np.int32) + 32 * chest.is_left
    away = np.abs(number - nearest + jitter[index]) * spacing / np.sqrt(1 + steep * steep)
    visible = wall * edge(nearest + 0.5, 0.1) * edge(10.5 - nearest, 0.1) * edge(chest.across - 1.6, 1.0)
    chest.bone += _tube(away, 0.52) * visible * 0.46

    anterior = slope * (1.03 + 0.95 * (around - 0.14))
    steep = slope * 0.95 * share / around / chest_half
    number = (chest.y - first - anterior) / spacing
    nearest = np.rint(number)
    away = np.abs(number - nearest) * spacing / np.sqrt(1 + steep * steep)
    ends = edge(share - 0.46, 0.12) * edge(6.5 - nearest, 0.1) * edge(nearest + 0.5, 0.1)
    chest.bone += _tube(away, 0.62) * wall * ends * 0.30


def _tube(away: Plane, half: float) -> Plane:
    """A hollow tube seen from the side: its cortex is brighter than its middle."""
    inner = np.minimum(away / half, 1)
    return edge(half - away, 0.22) * (0.62 + 0.5 * inner * inner)


def _clavicles(chest: Chest) -> None:
    anatomy = chest.anatomy
    window = chest.window(-17.0, 17.0, anatomy.clavicle - 5.5, anatomy.clavicle + 2)
    across, y = chest.across[window], chest.y[window]
    along = np.clip((across - 1.6) / 14, 0, 1)
    centre = anatomy.clavicle - 3.6 * along + 0.7 * np.sin(2 * np.pi * along)
    half = 0.6 + 0.35 * (1 - along) ** 4
    from_centre = np.abs(y - centre)
    inner = np.minimum(from_centre / half, 1)
    span = edge(across - 1.6, 0.5) * edge(15.8 - across, 0.8)
    chest.bone[window] += 0.85 * edge(half - from_centre, 0.25) * (0.55 + 0.5 * inner * inner) * span


def _shoulders(chest: Chest) -> None:
    """Humeral heads and the blades of the scapulae."""
    anatomy = chest.anatomy
    flank = anatomy.lung_width + anatomy.wall
    for left, right in ((-flank - 6, -flank + 5), (flank - 5, flank + 6)):
        window = chest.window(left, right, anatomy.apex - 3, anatomy.apex + 15)
        across, below = chest.across[window], chest.y[window] - anatomy.apex
        chest.bone[window] += 1.0 * rise(2.4 - distance(across - flank - 1.6, below - 1.6), 1.6)
        down = np.clip((below - 0.5) / 13, 0, 1)
        half = 2.6 * (1 - 0.8 * down)
        away = np.abs(across - (flank - 1.0 - 1.0 * down))
        blade = edge(half - away, 0.4) * edge(below - 0.5, 1.0) * edge(13 - below, 2.0)
        chest.bone[window] += blade * (0.2 + 0.3 * np.clip(away / half, 0, 1) ** 6)


def _spine(chest: Chest) -> None:
    """Vertebrae 2.4 cm high with darker discs, pedicles, and a row of spinous processes."""
    window = chest.window(-3.2, 3.2, CURVE_START, CURVE_END)
    x, y = chest.x[window], chest.y[window]
    from_spine = x - chest.anatomy.bend * np.sin(y / 9)
    level = y / 2.4
    within = np.abs(level - np.rint(level))  # 0 mid-body, 0.5 at a disc
    bone = rise(1.75 - np.abs(from_spine), 1.3) * (0.6 - 0.25 * edge(within - 0.42, 0.1))
    pedicle = distance((np.abs(from_spine) - 1.1) / 0.36, (within - 0.05) * 4.8)
    process = distance(from_spine / 0.3, (within - 0.2) * 4.0)
    chest.bone[window] += bone + 0.3 * edge(1 - pedicle, 0.6) + 0.35 * edge(1 - process, 0.6)


def _airway(chest: Chest) -> None:
    """Trachea and the two main bronchi: dark bands in the mediastinum."""
    anatomy = chest.anatomy
    carina = anatomy.apex + 8.4
    lean = anatomy.heart_shift * 0.6 - 0.3
    window = chest.window(lean - 5, lean + 5, CURVE_START, carina + 6)
    x, below = chest.x[window] - lean, chest.y[window] - carina
    trachea = rise(0.95 - np.abs(x), 0.95) * edge(0.3 - below, 1.0)
    slope = np.where(x > 0, 0.75, 1.15).astype(np.float32)  # the left main bronchus runs flatter
    axis = np.abs(below - slope * np.abs(x)) / np.sqrt(1 + slope * slope)
    bronchi = rise(0.65 - axis, 0.65) * edge(below, 0.6) * edge(3.6 - np.abs(x), 2.0)
    chest.soft[window] -= np.maximum(2.8 * trachea, 1.5 * bronchi)


def _stomach(chest: Chest) -> None:
    """The gastric air bubble under the left dome with its fluid level, and bowel gas."""
    anatomy = chest.anatomy
    if anatomy.bubble > 0:
        wide, high = 3.4 * anatomy.bubble, 1.6 * anatomy.bubble
        middle_x, middle_y = 0.42 * anatomy.lung_width, anatomy.dome_left + 0.9 + high
        window = chest.window(middle_x - wide, middle_x + wide, middle_y - high, middle_y + high)
        dx, dy = (chest.x[window] - middle_x) / wide, (chest.y[window] - middle_y) / high
        chest.soft[window] -= 6.0 * rise(1 - distance(dx, dy), 0.6) * edge(0.35 - dy, 0.2)
    below = chest.window(-20.0, 20.0, anatomy.dome_right + 4, CURVE_END)
    gas = texture(np.random.default_rng([anatomy.vessel_seed, 1]), chest.size, 14)[below]
    chest.soft[below] -= 2.5 * np.clip(gas - 1.3, 0, 1) * edge(chest.y[below] - chest.floor[below] - 4.0, 3.0)


def _vessels(chest: Chest) -> None:
    """Pulmonary arteries and veins: thick at the hilum, forking and tapering outwards, larger at the bases."""
    anatomy = chest.anatomy
    tree = vessel_tree(anatomy.vessel_seed)
    height = (anatomy.dome_right + 2 - anatomy.apex) / 22
    side = np.where(tree.left, 1.0, -1.0)
    hilum_y = anatomy.apex + 10.4 * height - np.where(tree.left, 0.9, 0.0)
    x = side * (3.2 + tree.x * anatomy.lung_width / 13) + 0.6 * anatomy.heart_shift
    y = hilum_y + tree.y * height
    mass = 2.0 * np.pi * tree.radius**2 * 0.1
    width = np.searchsorted([0.11, 0.2, 0.34], tree.radius)
    hila_x = np.array([-4.2, 3.9, -4.4, 4.3]) + 0.6 * anatomy.heart_shift
    hila_y = anatomy.apex + height * np.array([9.6, 9.0, 11.6, 10.6])
    chest.vessels += chest.splat(x, y, mass, width=width)
    window = chest.window(-8.0, 8.0, anatomy.apex + 5, anatomy.apex + 16)
    for hilum_x, hilum_y_ in zip(hila_x, hila_y, strict=True):
        squared = (chest.x[window] - float(hilum_x)) ** 2 + (chest.y[window] - float(hilum_y_)) ** 2
        chest.vessels[window] += 1.6 * np.exp(-squared / 1.6)


@lru_cache(maxsize=64)
def vessel_tree(seed: int) -> Tree:
    """Grow both lungs' vessels: four generations, each branch a slightly bent line with side branches."""
    generator = np.random.default_rng([seed, 2])
    trunks = 9
    angle = np.tile(np.linspace(-1.25, 1.45, trunks), 2) + generator.normal(0, 0.1, 2 * trunks)  # 0 is outwards
    left = np.repeat([False, True], trunks)
    x, y = np.zeros(2 * trunks), 1.6 * np.sin(angle)
    radius = 0.42 + 0.10 * np.sin(angle)
    length = 8.0 + 2.5 * np.abs(np.sin(angle)) + generator.uniform(-1, 1, 2 * trunks)
    pieces: list[Tree] = []
    for children in (5, 4, 3, 0):
        steps = max(int(length.max() / 0.1), 2)
        travel = np.linspace(0, 1, steps)
        bend = generator.normal(0, 0.35, len(angle))
        heading = angle[:, None] + bend[:, None] * travel
        step = (length / steps)[:, None]
        along_x = x[:, None] + np.cumsum(np.cos(heading) * step, axis=1)
        along_y = y[:, None] + np.cumsum(np.sin(heading) * step, axis=1)
        thickness = radius[:, None] * (1 - 0.72 * travel)
        weight = np.sqrt(step / 0.1)  # mass is radius squared times length
        pieces.append(Tree(along_x.ravel(), along_y.ravel(), (thickness * weight).ravel(), np.repeat(left, steps)))
        if not children:
            break
        fork = np.sort(generator.uniform(0.12, 0.95, (len(angle), children)), axis=1)
        at = (fork * (steps - 1)).astype(np.int64)
        rows = np.arange(len(angle))[:, None]
        turn = generator.choice([-1.0, 1.0], fork.shape) * generator.uniform(0.35, 0.9, fork.shape)
        x, y = along_x[rows, at].ravel(), along_y[rows, at].ravel()
        angle = (heading[rows, at] + turn).ravel()
        radius = (thickness[rows, at] * generator.uniform(0.55, 0.8, fork.shape)).ravel()
        length = (np.repeat(length, children) * (1 - 0.5 * fork.ravel())) * generator.uniform(0.35, 0.6, fork.size)
        left = np.repeat(left, children)
        thick_enough = (radius > 0.035) & (length > 0.6)
        x, y, angle, radius, length, left = (a[thick_enough] for a in (x, y, angle, radius, length, left))
    return Tree(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))
