"""Phantom lateral views: a chest seen from the side, for the input quality check to learn what it must refuse.

Lengths are centimetres on the film. u grows from the sternum to the back and is 0 in the middle of the chest; v grows
downwards and is 0 at the lung apices. Anatomy, pose and exposure vary far more than in the frontal phantom, so that a
check that learns from these films knows those of other hospitals.
"""

import numpy as np
from jaxtyping import Float32

from hilum.phantom.anatomy import Plane, distance, edge, grain, rise, texture
from hilum.phantom.film import BONE_PER_CM, TISSUE_PER_CM, Exposure, develop

Grey = Float32[np.ndarray, "height width"]


def lateral_view(size: int, generator: np.random.Generator) -> Grey:
    """One lateral film of a new patient, grey in [0, 1]; half of them face left."""
    width, height = float(generator.uniform(22, 37)), float(generator.uniform(31, 43))
    ticks = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    across, down = np.meshgrid(width * ticks, height * ticks)
    turn = float(np.deg2rad(generator.normal(0, 5)))
    u = np.cos(turn) * across + np.sin(turn) * down + float(generator.normal(0, 2))
    v = np.cos(turn) * down - np.sin(turn) * across + float(generator.normal(11.5, 2.5))
    grey = _developed(_attenuation(u, v, generator), generator)
    return np.ascontiguousarray(grey if generator.random() < 0.5 else grey[:, ::-1])


def lateral_views(films: int, size: int, *, seed: int) -> list[Grey]:
    """Lateral films of as many patients; the same seed gives the same films."""
    return [lateral_view(size, np.random.default_rng([seed, film])) for film in range(films)]


def _attenuation(u: Plane, v: Plane, generator: np.random.Generator) -> Plane:
    """Line integral of attenuation from one side of the body to the other."""
    draw = generator.uniform
    floor = float(draw(19, 27))  # the tops of the diaphragm
    depth, kyphosis = float(draw(9, 13)), float(draw(0.5, 4))
    below = np.clip(v / floor, -0.3, 1.2)
    bend = kyphosis * ((below - 0.45) ** 2).astype(np.float32)
    back = depth - 2.2 * bend - 0.15 * depth * np.clip(0.5 - below, 0, 1)
    front = -depth + float(draw(3, 8)) * np.clip(0.8 - below, 0, 1.2) ** 1.5 - float(draw(-0.3, 0.5)) * below
    front, back = front.astype(np.float32), back.astype(np.float32)
    breadth = float(draw(27, 36))
    body = breadth * rise(np.maximum(u - front, 0), 7.0) * rise(np.maximum(back - u, 0), 7.0)
    body *= rise(np.maximum(v + float(draw(5, 10)) - 0.05 * u * u, 0), 8.0)  # the slope of the shoulders
    if generator.random() < 0.45:
        middle, half, high = float(draw(0.6, 0.9)) * floor, float(draw(1, 6)), float(draw(5, 10))
        bump = np.sqrt(np.clip(1 - ((v - middle) / high) ** 2, 0, 1)).astype(np.float32) * half
        body = np.maximum(body, 0.7 * breadth * rise(np.maximum(np.minimum(u - front + bump, 8 + front - u), 0), 8.0))
    for _ in range(2):  # the raised arms
        angle = float(np.deg2rad(draw(-10, 85)))
        start_u, start_v = float(draw(-5, 5)), float(draw(-6, 1))
        along = -np.cos(angle) * (u - start_u) - np.sin(angle) * (v - start_v)
        away = np.abs(np.sin(angle) * (u - start_u) - np.cos(angle) * (v - start_v))
        arm = rise(np.maximum(float(draw(3, 5)) - away, 0), 4.0) * edge(along + 2, 3.0)
        body += float(draw(4, 11)) * arm
    neck = rise(np.maximum(float(draw(5, 7)) - np.abs(u + float(draw(-3, 3))), 0), 5.0) * edge(2 - v, 3.0)
    body = np.maximum(body, 13 * neck)

    inner_front, inner_back = front + float(draw(1.0, 4.0)), back - float(draw(1.5, 5.0))
    top = 0.035 * u * u
    crest = float(draw(-5, 1))
    fall = np.where(u > crest, float(draw(3, 9)), float(draw(0.5, 4)))
    reach = np.where(u > crest, np.maximum(inner_back - crest, 1), np.maximum(crest - inner_front, 1))
    dome = floor + fall * np.minimum(np.abs(u - crest) / reach, 1.4) ** 2
    lungs = []
    for other in (0.0, float(draw(0.3, 2.5))):
        air = rise(np.maximum(u - inner_front, 0), float(draw(2, 6))) * rise(np.maximum(inner_back - u, 0), 4.5)
        air *= rise(np.maximum(v - top, 0), float(draw(4, 9)))
        lungs.append(air * rise(np.maximum(dome - other - v, 0), float(draw(1.2, 3))))
    aeration = 0.36 * breadth * float(draw(0.55, 1.05))
    air = aeration * (lungs[0] + lungs[1])
    heart_u, heart_v = float(draw(-6, -1)), floor - float(draw(2, 6))
    heart = distance((u - heart_u) / float(draw(4.5, 7.5)), (v - heart_v) / float(draw(5, 8)))
    hilum = distance((u - float(draw(-1, 3))) / 3.5, (v - float(draw(8, 13))) / 4.5)
    upper = rise(np.maximum(float(draw(2.5, 5)) - np.abs(u - float(draw(-1, 3))), 0), 3.0) * edge(9 - v, 8.0)
    middle = 11 * np.sqrt(np.clip(1 - heart**2, 0, 1)) + 5 * np.sqrt(np.clip(1 - hilum**2, 0, 1))
    air = np.maximum(air - np.maximum(middle, float(draw(3, 8)) * upper) * (air > 0.5), 0)
    trachea = rise(np.maximum(0.9 - np.abs(u - float(draw(-1, 2)) - 0.15 * v), 0), 0.9) * edge(9 - v, 1.0)
    if generator.random() < 0.4:  # fluid or consolidation
        level = float(draw(0.4, 1)) * floor
        air = air * (
            1 - float(draw(0.2, 0.8)) * edge(v + 0.3 * float(generator.normal()) * u - level, float(draw(1, 8)))
        )
    air = air * (1 + 0.06 * texture(generator, len(u), 12) + 0.05 * grain(generator, len(u)))

    spine_u = back - float(draw(3.2, 6.0))
    within = np.abs(v / 2.5 - np.rint(v / 2.5))
    vertebrae = rise(np.maximum(float(draw(1.5, 2.1)) - np.abs(u - spine_u), 0), 1.3) * (
        1 - 0.4 * edge(within - 0.4, 0.1)
    )
    bone = float(draw(0.6, 2.2)) * vertebrae + 0.4 * edge(0.6 - np.abs(u - front - 1.2), 0.4) * edge(floor - v, 3.0)
    gas = np.clip(texture(generator, len(u), 10) - 1.2, 0, 1) * edge(v - dome - 3, 2.0)
    tissue = np.maximum(body - 0.78 * np.minimum(air, body) - 2.0 * trachea - 6 * gas, 0)
    attenuated: Plane = (TISSUE_PER_CM * tissue + BONE_PER_CM * bone * np.minimum(body, 1)).astype(np.float32)
    return attenuated


def _developed(depth: Plane, generator: np.random.Generator) -> Grey:
    body = depth[depth > 0.15 * float(depth.max())]
    low, high = (float(np.quantile(body, level)) for level in (0.1, 0.95))
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
