"""From a phantom's plan to the film: attenuation, exposure, detail enhancement, noise, markers, findings' boxes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from hilum.data.phantom_anatomy import Anatomy, Sign, with_signs
from hilum.data.phantom_chest import Chest, Plane, Pose, coarse, empty_chest, grain
from hilum.data.phantom_devices import draw_devices, write_markers
from hilum.data.phantom_findings import Box, draw_sign
from hilum.data.phantom_thorax import draw_thorax

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
    frame: float  # share of the film hidden by the collimator


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
