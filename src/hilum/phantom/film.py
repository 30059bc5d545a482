"""Turn a phantom's plan into a film: attenuation, exposure, noise, markers and devices, and the boxes of findings."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from hilum.phantom.anatomy import (
    Anatomy,
    Chest,
    Plane,
    Points,
    Pose,
    Sign,
    coarse,
    draw_thorax,
    edge,
    empty_chest,
    grain,
    with_signs,
)
from hilum.phantom.findings import Box, draw_sign


def draw_devices(chest: Chest, generator: np.random.Generator) -> None:
    """ECG leads with their electrodes, and sometimes a tracheal tube and a central line."""
    anatomy = chest.anatomy
    for _ in range(int(generator.integers(1, 4))):
        x, y = float(generator.uniform(-11, 11)), anatomy.apex + float(generator.uniform(5, 18))
        away = np.hypot(chest.x - x, chest.y - y)
        chest.bone += 0.7 * edge(0.65 - away, 0.25) - 0.4 * edge(0.32 - away, 0.2)
        end_x, end_y = float(generator.choice([-20.0, 20.0])), float(generator.uniform(6, 34))
        sag = float(generator.uniform(-6, 6))
        t = np.linspace(0, 1, 400)
        chest.bone += _wire(chest, x + (end_x - x) * t, y + (end_y - y) * t + sag * np.sin(np.pi * t), 0.0045)
    if generator.random() < 0.35:
        down = np.linspace(anatomy.apex - 8, anatomy.apex + 5.5, 400)
        lean = anatomy.heart_shift * 0.6 - 0.3
        chest.bone += _wire(chest, lean + 0.25 * np.sin(down / 3), down, 0.010)
    if generator.random() < 0.5:
        t = np.linspace(0, 1, 400)
        chest.bone += _wire(chest, -9 + 6.4 * np.sqrt(t), anatomy.clavicle - 2.2 + 9.5 * t**2.5, 0.007)


def _wire(chest: Chest, x: Points, y: Points, mass: float) -> np.ndarray:
    return chest.splat(x, y, np.full(x.shape, mass))


@lru_cache(maxsize=16)
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)


def write_markers(
    film: UInt8[np.ndarray, "height width"], view: str, generator: np.random.Generator
) -> UInt8[np.ndarray, "height width"]:
    """Stamp the side marker, and AP / PORTABLE on a bedside film."""
    size = film.shape[0]
    picture = Image.fromarray(film)
    draw = ImageDraw.Draw(picture)
    letter_is_left = generator.random() < 0.8
    x = generator.uniform(0.87, 0.93) if letter_is_left else generator.uniform(0.04, 0.09)
    draw.text((x * size, generator.uniform(0.03, 0.14) * size), "L" if letter_is_left else "R", 235, _font(size // 16))
    if view == "AP" and generator.random() < 0.8:
        x = generator.uniform(0.03, 0.06) if letter_is_left else generator.uniform(0.74, 0.8)
        y = generator.uniform(0.02, 0.3) * size
        draw.text((x * size, y), "AP", 225, _font(max(size // 32, 8)))
        draw.text((x * size, y + size / 28), "PORTABLE", 225, _font(max(size // 36, 8)))
    return np.asarray(picture)


TISSUE_PER_CM = 0.19
BONE_PER_CM = 0.52


@dataclass(frozen=True)
class Exposure:
    """How the film was taken and developed."""

    view: str  # PA or AP
    darkest: float  # attenuation that is black
    span: float  # attenuation from black to white
    detail: float  # strength of the detail enhancement
    noise: float  # standard deviation of the quantum noise, in attenuation
    haze: float  # scatter and blur of a portable film, 0..1
    frame: float  # proportion of the film hidden by the collimator


@dataclass(frozen=True)
class FilmPlan:
    """Everything that decides one film; `render` adds nothing random of its own."""

    anatomy: Anatomy
    pose: Pose
    exposure: Exposure
    signs: tuple[Sign, ...]
    devices: bool
    seed: int


def render(plan: FilmPlan, size: int) -> tuple[UInt8[np.ndarray, "height width"], list[Box]]:
    """Draw one film of size x size pixels and the boxes of its findings.

    Everything that is not a finding depends on the plan's seed alone, so that the same plan without a finding gives the
    same film without it.
    """
    generator = np.random.default_rng([plan.seed, 0])
    chest = empty_chest(with_signs(plan.anatomy, plan.signs), plan.pose, size)
    body = draw_thorax(chest)
    fine = grain(generator, size)  # the smallest vessels and airways
    chest.vessels += 0.16 * fine * np.minimum(chest.air, 3.0) / 3.0
    boxes = [box for sign in plan.signs for box in draw_sign(chest, sign)]
    if plan.devices:
        draw_devices(chest, np.random.default_rng([plan.seed, 1]))
    grey = develop(attenuation(chest, body), plan.exposure, generator)
    film = (grey * 255 + 0.5).astype(np.uint8)
    return write_markers(film, plan.exposure.view, np.random.default_rng([plan.seed, 2])), boxes


def attenuation(chest: Chest, body: Plane) -> Plane:
    """Line integral of attenuation through the chest."""
    air = 0.78 * chest.air * (1 - chest.filled)
    # vessels drown in a filled lung: the silhouette sign
    vessels = chest.vessels * (chest.air > 0.3) * (1 - chest.hidden) * (1 - chest.filled)
    tissue: Plane = np.maximum(body - air + vessels + chest.soft * (body > 0.5), 0)
    bone: Plane = chest.bone * np.minimum(body, 1)
    return TISSUE_PER_CM * tissue + BONE_PER_CM * bone


def develop(depth: Plane, exposure: Exposure, generator: np.random.Generator) -> Plane:
    """Attenuation to grey 0..1, dense things bright, as a computed-radiography reader would show it."""
    size = depth.shape[0]
    noise = generator.standard_normal(depth.shape, dtype=np.float32)
    depth = depth + exposure.noise * (0.3 + 0.25 * depth) * noise
    if exposure.haze > 0:
        depth = depth + 0.3 * exposure.haze * (coarse(depth, 12) - depth)
    level = (depth - exposure.darkest) / exposure.span
    level = level + exposure.detail * (level - coarse(level, 10))
    steep = 1 / (1 + np.exp(np.clip(4.2 * (0.5 - level), -30, 30)))
    grey: Plane = np.clip((steep - 0.06) / 0.88, 0, 1)
    if exposure.frame > 0:
        hidden = round(exposure.frame * size)
        grey[-hidden:] = 0
    return grey
