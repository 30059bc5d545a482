"""Phantom lateral views: a chest seen from the side, for the input quality check to learn what it must refuse.

Lengths are centimetres on the film. u grows from the sternum to the back and is 0 in the middle of the chest; v grows
downwards and is 0 at the lung apices. Anatomy, pose and exposure vary far more than in the frontal phantom, so that a
check that learns from these films knows those of other hospitals.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from hilum.phantom.anatomy import Plane, distance, edge, grain, rise, texture
from hilum.phantom.film import BONE_PER_CM, TISSUE_PER_CM, Exposure, develop

Grey = Float32[np.ndarray, "height width"]


@lru_cache(maxsize=2)
def lateral_views(films: int = 400, size: int = 64, *, seed: int) -> tuple[Grey, ...]:
    """Lateral films of as many patients; the same seed gives the same films.

    The numbers are those from which the input quality check learns.
    """
    return tuple(lateral_view(size, np.random.default_rng([seed, film])) for film in range(films))


def lateral_view(size: int, generator: np.random.Generator) -> Grey:
    """One lateral film of a new patient, grey in [0, 1]; half of them face left."""
    width, height = float(generator.uniform(18, 35)), float(generator.uniform(25, 41))
    ticks = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    across, down = np.meshgrid(width * ticks, height * ticks)
    lean = np.deg2rad(generator.normal(0, 5))
    cosine, sine = float(np.cos(lean)), float(np.sin(lean))
    u = cosine * across + sine * down + float(generator.normal(0, 2))
    v = cosine * down - sine * across + float(generator.normal(11.5, 2.5))
    grey = _developed(_attenuation(u, v, generator), generator)
    return np.ascontiguousarray(grey if generator.random() < 0.5 else grey[:, ::-1])


class _Trunk(NamedTuple):
    """The outline of the trunk at each pixel's height, and how wide it is from left to right."""

    floor: float  # v of the tops of the diaphragm
    front: Plane
    back: Plane
    breadth: float
    body: Plane  # thickness that each ray meets


def _attenuation(u: Plane, v: Plane, generator: np.random.Generator) -> Plane:
    """Line integral of attenuation from one side of the body to the other."""
    draw = generator.uniform
    trunk = _trunk(u, v, generator)
    air, dome = _lungs(u, v, trunk, generator)
    trachea = rise(_above(0.9 - np.abs(u - draw(-1, 2) - 0.15 * v)), 0.9) * edge(9 - v, 1.0)
    gas = np.clip(texture(generator, len(u), 10) - 1.2, 0, 1) * edge(v - dome - 3, 2.0)
    tissue = _above(trunk.body - 0.78 * np.minimum(air, trunk.body) - 2.0 * trachea - 6 * gas)
    spine = np.abs(u - trunk.back + draw(3.2, 6.0))
    within = np.abs(v / 2.5 - np.rint(v / 2.5))  # 0 in the middle of a vertebra, 0.5 at a disc
    bone = draw(0.6, 2.2) * rise(_above(draw(1.5, 2.1) - spine), 1.3) * (1 - 0.4 * edge(within - 0.4, 0.1))
    bone += 0.4 * edge(0.6 - np.abs(u - trunk.front - 1.2), 0.4) * edge(trunk.floor - v, 3.0)  # the sternum
    attenuated: Plane = (TISSUE_PER_CM * tissue + BONE_PER_CM * bone * np.minimum(trunk.body, 1)).astype(np.float32)
    return attenuated


def _trunk(u: Plane, v: Plane, generator: np.random.Generator) -> _Trunk:
    """Chest and belly between a rounded back and a sloping sternum, with breasts, raised arms and neck."""
    draw = generator.uniform
    floor, depth = draw(19, 27), draw(9, 13)
    below = np.clip(v / floor, -0.3, 1.2)
    back = depth - 2.2 * draw(0.5, 4) * (below - 0.45) ** 2 - 0.15 * depth * np.clip(0.5 - below, 0, 1)
    front = -depth + draw(3, 8) * np.clip(0.8 - below, 0, 1.2) ** 1.5 - draw(-0.3, 0.5) * below
    front, back, breadth = front.astype(np.float32), back.astype(np.float32), draw(27, 36)
    body = breadth * rise(_above(u - front), 7.0) * rise(_above(back - u), 7.0)
    body *= rise(_above(v + draw(5, 10) - 0.05 * u * u), 8.0)  # the slope of the shoulders
    if generator.random() < 0.45:
        half = draw(1, 6) * np.sqrt(np.clip(1 - ((v - draw(0.6, 0.9) * floor) / draw(5, 10)) ** 2, 0, 1))
        breasts = rise(_above(np.minimum(u - front + half, 8 + front - u)), 8.0)
        body = np.maximum(body, 0.7 * breadth * breasts)
    for _ in range(2):
        angle, from_u, from_v = np.deg2rad(draw(-10, 85)), u - draw(-5, 5), v - draw(-6, 1)
        along = -np.cos(angle) * from_u - np.sin(angle) * from_v
        away = np.abs(np.sin(angle) * from_u - np.cos(angle) * from_v)
        body += draw(4, 11) * rise(_above(draw(3, 5) - away), 4.0) * edge(along.astype(np.float32) + 2, 3.0)
    neck = rise(_above(draw(5, 7) - np.abs(u + draw(-3, 3))), 5.0) * edge(2 - v, 3.0)
    return _Trunk(floor, front, back, breadth, np.maximum(body, 13 * neck).astype(np.float32))


def _lungs(u: Plane, v: Plane, trunk: _Trunk, generator: np.random.Generator) -> tuple[Plane, Plane]:
    """Air of both lungs beside heart, hila and upper mediastinum, and the v of the diaphragm."""
    draw = generator.uniform
    front, back = trunk.front + draw(1.0, 4.0), trunk.back - draw(1.5, 5.0)
    crest = draw(-5, 1)
    reach = _above(np.where(u > crest, back - crest, crest - front) - 1) + 1
    fall = np.where(u > crest, draw(3, 9), draw(0.5, 4))  # deepest behind
    dome = (trunk.floor + fall * np.minimum(np.abs(u - crest) / reach, 1.4) ** 2).astype(np.float32)
    both = np.zeros_like(u)
    for higher in (0.0, draw(0.3, 2.5)):
        one = rise(_above(u - front), draw(2, 6)) * rise(_above(back - u), 4.5)
        one *= rise(_above(v - 0.035 * u * u), draw(4, 9))
        both += one * rise(_above(dome - higher - v), draw(1.2, 3))
    air = 0.36 * trunk.breadth * draw(0.55, 1.05) * both
    heart = distance((u - draw(-6, -1)) / draw(4.5, 7.5), (v - trunk.floor + draw(2, 6)) / draw(5, 8))
    hilum = distance((u - draw(-1, 3)) / 3.5, (v - draw(8, 13)) / 4.5)
    upper = draw(3, 8) * rise(_above(draw(2.5, 5) - np.abs(u - draw(-1, 3))), 3.0) * edge(9 - v, 8.0)
    middle = 11 * np.sqrt(np.clip(1 - heart**2, 0, 1)) + 5 * np.sqrt(np.clip(1 - hilum**2, 0, 1))
    air = _above(air - np.maximum(middle, upper))
    if generator.random() < 0.4:  # fluid or consolidation
        level = v + 0.3 * generator.normal() * u - draw(0.4, 1) * trunk.floor
        air = air * (1 - draw(0.2, 0.8) * edge(level.astype(np.float32), draw(1, 8)))
    return air * (1 + 0.06 * texture(generator, len(u), 12) + 0.05 * grain(generator, len(u))), dome


def _above(plane: Float32[np.ndarray, "height width"] | np.ndarray) -> Plane:
    """The plane where it is above 0."""
    positive: Plane = np.maximum(plane, 0).astype(np.float32)
    return positive


def _developed(depth: Plane, generator: np.random.Generator) -> Grey:
    """The film as a reader would show it: the range of greys is laid over the body with much latitude."""
    low, high = np.quantile(depth[depth > 0.15 * depth.max()], (0.1, 0.95)).tolist()
    exposure = Exposure(
        view="LATERAL",
        darkest=low - float(generator.uniform(0.1, 0.9)) * (high - low),
        span=max(high - low, 1.0) * float(generator.uniform(1.0, 2.2)),
        detail=float(generator.uniform(0, 0.6)),
        noise=float(generator.uniform(0.005, 0.03)),
        haze=float(generator.uniform(0, 0.5)),
        frame=0.0,
    )
    return develop(depth, exposure, generator)
