"""Which old pixels go into a new one, and with what share, along one axis: the arithmetic of the preprocessing."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int, UInt8, UInt16

if TYPE_CHECKING:
    from scipy.sparse import csr_array

WHOLE_BLOCKS = (1, 2, 4, 8, 16)
"""By how much a film may shrink so that float32 holds the sum of a block's pixels, and its mean, without rounding."""


def block_mean(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"], times: int
) -> Float32[np.ndarray, "rows columns"]:
    """The mean of each block of times x times pixels: bit for bit what `coverage` gives, in a fifth of its time.

    Args:
        times: one of WHOLE_BLOCKS, and a divisor of height and width.
    """
    rows = pixels[::times].astype(np.float32)
    for first in range(1, times):
        rows += pixels[first::times]
    blocks = rows[:, ::times].copy()
    for first in range(1, times):
        blocks += rows[:, first::times]
    blocks /= np.float32(times**2)
    return blocks


@lru_cache(maxsize=64)
def coverage(before: int, after: int) -> "csr_array":
    """One axis of the area resize: each row holds the shares of the old pixels in one new one, which sum to 1.

    When it shrinks, the share of an old pixel is the part of the new one that it covers: the exact mean of an area, so
    that any other program can have the same numbers. (Pillow's BOX takes each pixel whole or not at all.) When it
    grows, the two old pixels whose centres are nearest share by distance.
    """
    from scipy.sparse import csr_array  # here, because it takes a tenth of a second to import

    if after <= before:
        edges = np.arange(after + 1) * (before / after)
        pixel = np.arange(before)
        covered = np.minimum(pixel + 1, edges[1:, None]) - np.maximum(pixel, edges[:-1, None])
        shares = np.clip(covered, 0, None)
    else:
        position = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
        shares = np.clip(1 - np.abs(position[:, None] - np.arange(before)), 0, None)
    return csr_array((shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))


def centres(before: int, after: int) -> Int[np.ndarray, " after"]:
    """The pixel in which each new pixel's centre lies, as Pillow's NEAREST finds it for 8-bit images.

    Pillow itself gives 16-bit images other neighbours where a centre falls on an edge; here both depths get the same.
    """
    steps = np.full(after, before / after)
    steps[0] /= 2
    return np.cumsum(steps).astype(np.intp)  # added one by one as Pillow does: its rounding decides at the edges
