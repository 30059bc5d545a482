"""What is on a film and not in the chest: side markers, AP and PORTABLE stamps, leads, tubes."""

from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from hilum.data.phantom_chest import Chest, Points, edge


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
