"""Random binary patterns: smoothed periodic Gaussian noise, made symmetric about the main diagonal, cut at zero."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from projects.spectra.standin.config import PATTERN_STREAM, StandinConfig
from projects.spectra.standin.diffraction import real_orders, trigonometric_basis

# Noise below this share of the strongest order is left out: too weak to move an outline by a thousandth of a pixel.
WEAKEST_ORDER = 1e-6


def random_patterns(seed: int, first: int, count: int, config: StandinConfig) -> NDArray[np.uint8]:
    """Return the patterns `first` to `first + count - 1`; each depends on `seed` and its own number only.

    White noise has independent normal coefficients in every orthonormal basis. They are drawn in the real Fourier basis
    itself, where smoothing is a factor and all but the low orders vanish, so no transform of the noise is needed.

    Args:
        seed: Seed of the set, at least 0.
        first: Number of the first pattern, at least 0.
        count: How many.
        config: `side_px` and `sigma_px` are read.

    Returns:
        Patterns [sample, y, x], (count, side_px, side_px), 0 or 1, equal to their transposes.

    Raises:
        ValueError: `seed`, `first` or `count` is negative.
    """
    if min(seed, first, count) < 0:
        raise ValueError(f"seed {seed}, first {first} and count {count} must be 0 or more")
    synthesis = _synthesis(config.side_px, config.sigma_px)
    side, num_orders = synthesis.shape
    noise = np.empty((count, num_orders, num_orders))
    for place in range(count):
        np.random.default_rng((PATTERN_STREAM, seed, first + place)).standard_normal(out=noise[place])
    patterns = np.empty((count, side, side), np.uint8)
    for place, coefficients in enumerate(noise):
        # One product a pattern and in double precision: rounding that varied with the batch could turn a pixel over.
        surface = synthesis @ (coefficients @ synthesis.T)
        np.greater(surface + surface.T, 0, out=patterns[place], casting="unsafe")
    return patterns


@lru_cache(maxsize=8)
def _synthesis(side: int, sigma_px: float) -> NDArray[np.float64]:
    """Return the smoothed basis, (side, orders): the surface is synthesis @ noise @ synthesis.T."""
    decay = 2 * (math.pi * sigma_px / side) ** 2
    highest = min(int(math.sqrt(-math.log(WEAKEST_ORDER) / decay)), side // 2)
    orders = real_orders(highest, side)
    return trigonometric_basis(highest, side) * np.exp(-decay * orders.astype(np.float64) ** 2)
