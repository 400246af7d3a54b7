"""Smooth random fields, the stuff of surfaces and wear."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def cloud(rng: np.random.Generator, size_px: int, cells: int | tuple[int, int], *, octaves: int = 1) -> NDArray[Any]:
    """Return a smooth random field of about unit variance, (size_px, size_px).

    Args:
        rng: Source of the values.
        size_px: Height and width.
        cells: Bumps across the field, or (down, across) for stretched ones; at most `size_px` are used.
        octaves: Layers; each has twice the cells and half the strength of the one before.
    """
    down, across = (cells, cells) if isinstance(cells, int) else cells
    field = np.zeros((size_px, size_px), np.float32)
    for octave in range(octaves):
        shape = (min(down << octave, size_px), min(across << octave, size_px))
        coarse = rng.standard_normal(shape, dtype=np.float32)
        field += cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    field *= np.float32(1.3)
    return field
