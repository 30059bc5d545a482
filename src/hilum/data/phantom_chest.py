"""The phantom's canvas: where each pixel lies in the chest, and how much air, tissue and bone its ray meets."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from PIL import Image

from hilum.data.phantom_anatomy import (
    CURVE_END,
    CURVE_START,
    CURVE_STEPS,
    Anatomy,
    Curve,
    diaphragm,
    lung_borders,
    silhouette,
)

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
    filled: Plane  # share of the lung's air that fluid, cells or scar have taken, 0..1
    vessels: Plane  # thickness of vessels in the lung
    soft: Plane  # other tissue added or (negative) missing
    bone: Plane
    hidden: Plane = field(init=False)  # share of vessels lost, e.g. beyond a pleural line

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
        """Take a share (0..1) of the air that is still there."""
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
