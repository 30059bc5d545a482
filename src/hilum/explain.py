"""Where the network looked: class activation maps in closed form, on one scale for all films."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from hilum.data.dataset import FilmDataset
from hilum.files import unfinished
from hilum.nn.classifier import Classifier

Strength = Float32[np.ndarray, "height width"]

_FULL_OPACITY = 0.6
_SHORTEST_SHOWN = 512
_FILMS_FOR_SCALE = 256
_BATCH = 16


def heatmap_logits(
    model: Classifier, dataset: FilmDataset, findings: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """The scale of a model's heatmaps, per finding: the logits that are drawn as nothing and as full.

    Nothing is the median film's mean over its map (its logit, where the system averages), full the 99th percentile of
    the films' strongest places, both over up to 256 films spread over the data set. Every film is drawn on this scale,
    so that an empty map stays empty.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _FILMS_FOR_SCALE)).round().astype(int))
    means, peaks = [], []
    with torch.inference_mode():
        for first in range(0, len(rows), _BATCH):
            images = torch.stack([dataset[int(row)][0] for row in rows[first : first + _BATCH]])
            _, maps = model.eval().class_maps(images)
            means.append(maps.mean((2, 3)).numpy())
            peaks.append(maps.amax((2, 3)).numpy())
    clear = np.median(np.concatenate(means), axis=0)
    full = np.maximum(np.percentile(np.concatenate(peaks), 99, axis=0), clear + 1e-3)
    return {name: (float(clear[k]), float(full[k])) for k, name in enumerate(findings)}


def strength(class_map: Float32[np.ndarray, "rows columns"], scale: tuple[float, float]) -> Strength:
    """A class map in 0 (nothing) to 1 (full) by the model's scale for this finding; what lies outside is cut off."""
    clear, full = scale
    cut: Strength = np.clip((class_map - np.float32(clear)) / np.float32(full - clear), 0, 1).astype(np.float32)
    return cut


def enlarged(grey: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "tall wide"]:
    """A film made large enough to be looked at: 512 px on its shorter side, if it has less."""
    height, width = grey.shape
    factor = max(1.0, _SHORTEST_SHOWN / min(height, width))
    larger = Image.fromarray(grey).resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    shown: Float32[np.ndarray, "tall wide"] = np.clip(np.asarray(larger), 0, 1)
    return shown


def overlay(
    grey: Float[np.ndarray, "height width"], heat: Float32[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A film with its heat over it: yellow to red, and the more opaque the stronger.

    Args:
        grey: the film in [0, 1].
        heat: strength in [0, 1]; enlarged to the film by bilinear interpolation.
    """
    height, width = grey.shape
    enlarged = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))[..., None]
    cold, hot = np.array([1.0, 0.85, 0.2]), np.array([0.9, 0.1, 0.1])
    colour = cold + (hot - cold) * enlarged
    opacity = _FULL_OPACITY * enlarged
    blended = grey[..., None] * (1 - opacity) + colour * opacity
    picture: UInt8[np.ndarray, "height width 3"] = np.round(np.clip(blended, 0, 1) * 255).astype(np.uint8)
    return picture


def save_overlay(path: Path, picture: UInt8[np.ndarray, "height width 3"], caption: str) -> None:
    """Write an overlay as PNG; the caption, with the score and the disclaimer, goes into a strip below the film."""
    from PIL import ImageDraw

    film = Image.fromarray(picture)
    lines = caption.split("\n")
    page = Image.new("RGB", (max(film.width, 320), film.height + 14 * len(lines) + 8), "black")
    page.paste(film, (0, 0))
    ImageDraw.Draw(page).multiline_text((6, film.height + 4), caption, fill="white", spacing=2)
    with unfinished(path) as beside:
        page.save(beside, format="PNG")
