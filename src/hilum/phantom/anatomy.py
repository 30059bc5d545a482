"""The phantom's normal chest: anatomy in centimetres, and the air, tissue and bone that each pixel's ray meets.

Lengths are centimetres on the film. x grows towards the patient's left, which is the right side of the film, and is 0
at the spine; y grows downwards and is 0 about 4 cm above the lung apices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from PIL import Image

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


Plane = Float32[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]
Points = Float64[np.ndarray, " points"]
Window = tuple[slice, slice]
EVERYWHERE: Window = (slice(None), slice(None))


@dataclass(frozen=True)
class Pose:
    """How the chest lies on the film: width of the film in cm, rotation in degrees, centre in cm."""

    width: float
    rotation: float
    x: float
    y: float


@lru_cache(maxsize=4)
def _unit_grid(size: int) -> tuple[Plane, Plane]:
    ticks = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    across, down = np.meshgrid(ticks, ticks)
    return np.ascontiguousarray(across), np.ascontiguousarray(down)


def _resize(plane: Plane, size: int, method: Image.Resampling) -> Float32[np.ndarray, "{size} {size}"]:
    """Pillow's resize in 32-bit float: one core and no BLAS, whose threads fight over so little work."""
    return np.asarray(Image.fromarray(plane).resize((size, size), method))


def texture(generator: np.random.Generator, size: int, cells: int) -> Plane:
    """A smooth random plane of mean 0 and variance about 1 whose grains are size / cells pixels."""
    loose = generator.standard_normal((cells, cells), dtype=np.float32)
    return _resize(loose * np.float32(1.22), size, Image.Resampling.BICUBIC)  # 1.22: what interpolation takes


def grain(generator: np.random.Generator, size: int) -> Plane:
    """White noise softened over three pixels, of mean 0 and variance 1."""
    return _soften(generator.standard_normal((size, size), dtype=np.float32), 1) * np.float32(8 / 3)


def coarse(plane: Plane, cells: int) -> Plane:
    """The plane without detail finer than about size / cells pixels."""
    return _resize(_resize(plane, cells, Image.Resampling.BOX), plane.shape[0], Image.Resampling.BICUBIC)


def rise(depth: Plane, width: float) -> Plane:
    """0 outside, then a quarter circle up to 1 at `width`: how thickness grows behind a rounded border."""
    z = depth * (1 / width)
    z = np.clip(z, 0, 1, out=z)
    root = 2 - z
    root *= z
    return np.sqrt(root, out=root)


def edge(depth: Plane, width: float) -> Plane:
    """0 outside, 1 inside, a smooth step `width` wide centred on the border."""
    z = depth * (1 / width)
    z += 0.5
    z = np.clip(z, 0, 1, out=z)
    smooth = z * -2
    smooth += 3
    smooth *= z
    smooth *= z
    return smooth


@dataclass
class Chest:
    """Pixels in anatomical coordinates, and what the ray through each meets (cm); findings paint on it in place."""

    anatomy: Anatomy
    pose: Pose
    size: int
    x: Plane
    y: Plane
    is_left: Mask
    across: Plane  # distance from the midline
    medial: Plane  # lung borders at this height
    lateral: Plane
    floor: Plane  # y of the diaphragm at this x
    height: Plane  # 0 at the apex, 1 at the diaphragm
    heart: Plane  # thickness of heart and mediastinum
    air: Plane  # thickness of lung
    filled: Plane  # proportion of the lung's air that fluid, cells or scar have taken, 0..1
    vessels: Plane  # thickness of vessels in the lung
    soft: Plane  # other tissue added or (negative) missing
    bone: Plane
    hidden: Plane = field(init=False)  # proportion of vessels lost, e.g. beyond a pleural line

    def __post_init__(self) -> None:
        self.hidden = np.zeros_like(self.x)

    @property
    def inside(self) -> Mask:
        """Pixels that are lung and not heart."""
        return self.air > 1.0

    def at(self, left: bool, across: float, height: float) -> tuple[float, float]:
        """The x and y of a place in one lung: `across` 0 medial .. 1 lateral, `height` 0 apex .. 1 base."""
        anatomy = self.anatomy
        y = anatomy.apex + height * (anatomy.dome(left) + 0.3 * anatomy.dome_drop - anatomy.apex)
        medial, lateral = lung_borders(anatomy, left)
        station = int((y - CURVE_START) / (CURVE_END - CURVE_START) * (CURVE_STEPS - 1))
        inner = max(float(medial[station]), 2.5)
        x = inner + across * (float(lateral[station]) - inner)
        return (x if left else -x), y

    def window(self, left: float, right: float, top: float, bottom: float) -> Window:
        """The rows and columns that hold a rectangle of the chest, so that small things are drawn on few pixels."""
        corners_x, corners_y = np.array([left, right, left, right]), np.array([top, top, bottom, bottom])
        column, row = to_film(self.pose, corners_x, corners_y)
        start = [max(int(np.floor(edges.min() * self.size)), 0) for edges in (row, column)]
        stop = [max(int(np.ceil(edges.max() * self.size)), 0) for edges in (row, column)]
        return slice(start[0], stop[0]), slice(start[1], stop[1])

    def fill(self, share: Plane, window: Window = EVERYWHERE) -> None:
        """Take a proportion (0..1) of the air that is still there."""
        self.filled[window] += (1 - self.filled[window]) * share

    def splat(self, x: Points, y: Points, mass: Points, *, width: Int64[np.ndarray, " points"] | int = 1) -> Plane:
        """Thickness (cm) of matter at points, each of `mass` cm3, spread over about `width` millimetres.

        Points of all widths share three cheap blurs: the wide ones go through all of them, the narrow through the last.
        """
        scale, size = self.size / self.pose.width, self.size
        column, row = to_film(self.pose, x, y)
        column, row = column * size - 0.5, row * size - 0.5
        keep = (column > 0) & (row > 0) & (column < size - 1) & (row < size - 1)
        column, row, mass = column[keep], row[keep], mass[keep] * scale**2
        layer = np.broadcast_to(width, x.shape)[keep]
        left, top = column.astype(np.int64), row.astype(np.int64)
        right_share, low_share = column - left, row - top
        corner = (layer * size + top) * size + left
        upper, lower = mass * (1 - low_share), mass * low_share
        weight = [upper * (1 - right_share), upper * right_share, lower * (1 - right_share), lower * right_share]
        index = np.concatenate([corner, corner + 1, corner + size, corner + size + 1])
        widest = int(np.max(width))
        layers = np.bincount(index, np.concatenate(weight), minlength=(widest + 1) * size * size).astype(np.float32)
        sheets = layers.reshape(widest + 1, size, size)
        plane: Plane = sheets[widest]
        for narrower in range(widest - 1, -1, -1):
            plane = _soften(plane, round(0.11 * (narrower + 1) * scale)) + sheets[narrower]
        return plane


def _soften(plane: Plane, step: int) -> Plane:
    """Blur with weights 1/4, 1/2, 1/4 at `step` pixels' distance, along both axes; a variance of step squared / 2."""
    if step < 1:
        return plane
    across = plane * 0.5
    quarter = plane * 0.25
    across[:, step:] += quarter[:, :-step]
    across[:, :-step] += quarter[:, step:]
    down = across * 0.5
    across *= 0.25
    down[step:] += across[:-step]
    down[:-step] += across[step:]
    return down


def distance(dx: Plane, dy: Plane) -> Plane:
    """Euclidean length; np.hypot is five times slower."""
    length: Plane = np.sqrt(dx * dx + dy * dy)
    return length


def to_film(pose: Pose, x: Points, y: Points) -> tuple[Points, Points]:
    """Where anatomical points lie on the film, as fractions of its width and height."""
    turn = np.deg2rad(pose.rotation)
    dx, dy = (x - pose.x) / pose.width, (y - pose.y) / pose.width
    return np.cos(turn) * dx + np.sin(turn) * dy + 0.5, -np.sin(turn) * dx + np.cos(turn) * dy + 0.5


def empty_chest(anatomy: Anatomy, pose: Pose, size: int) -> Chest:
    """Lungs, heart and diaphragm of a chest on a grid of size x size pixels; no bone or vessels yet."""
    across_unit, down_unit = _unit_grid(size)
    turn = np.deg2rad(pose.rotation)
    cosine, sine = float(np.cos(turn)) * pose.width, float(np.sin(turn)) * pose.width
    x = cosine * across_unit - sine * down_unit + pose.x
    y = sine * across_unit + cosine * down_unit + pose.y
    per_cm = (CURVE_STEPS - 1) / (CURVE_END - CURVE_START)
    row = np.clip((y - CURVE_START) * per_cm, 0, CURVE_STEPS - 1).astype(np.int32)
    column = np.clip((x + 20 - CURVE_START) * per_cm, 0, CURVE_STEPS - 1).astype(np.int32)
    is_left = x > 0
    lung_row = row + CURVE_STEPS * is_left
    borders = [lung_borders(anatomy, left) for left in (False, True)]
    medial = np.concatenate([borders[0][0], borders[1][0]])[lung_row]
    lateral = np.concatenate([borders[0][1], borders[1][1]])[lung_row]
    floor = diaphragm(anatomy)[column]
    across = np.abs(x)
    height = (y - anatomy.apex) / (floor - anatomy.apex)
    heart = _heart(anatomy, x, y, row)
    depth = 0.58 * anatomy.thickness * anatomy.aeration
    air = depth * rise(lateral - across, 4.5) * rise(across - medial, 1.6) * rise(floor - y, 1.3)
    air *= 0.5 + 0.5 * rise(y - anatomy.apex, 8.0)  # apices are thin
    air = np.maximum(air - heart, 0)
    nothing = np.zeros_like(x)
    return Chest(
        anatomy=anatomy, pose=pose, size=size, x=x, y=y, is_left=is_left, across=across, medial=medial,
        lateral=lateral, floor=floor, height=height, heart=heart, air=air, filled=nothing.copy(),
        vessels=nothing.copy(), soft=nothing.copy(), bone=nothing.copy(),
    )  # fmt: skip


def _heart(anatomy: Anatomy, x: Plane, y: Plane, row: np.ndarray) -> Plane:
    right, left = silhouette(anatomy)
    middle: Curve = (right + left) / 2
    half: Curve = (left - right) / 2
    from_middle = (x - middle[row]) / half[row]
    thickness: Plane = 0.42 * anatomy.thickness * np.sqrt(np.clip(1 - from_middle * from_middle, 0, 1))
    return thickness


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
