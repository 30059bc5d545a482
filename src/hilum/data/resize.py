"""Which old pixels go into a new one, and with what share, along one axis: the arithmetic of the preprocessing."""

from functools import lru_cache

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_array


@lru_cache(maxsize=64)
def coverage(before: int, after: int) -> csr_array:
    """One axis of the area resize: each row holds the shares of the old pixels in one new one, which sum to 1.

    When it shrinks, the share of an old pixel is the part of the new one that it covers: the exact mean of an area, so
    that any other program can have the same numbers. (Pillow's BOX takes each pixel whole or not at all.) When it
    grows, the two old pixels whose centres are nearest share by distance.
    """
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
