"""Tiny paired .npy files in the specified format; their curves follow from the pattern and respect its symmetry."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BANDS = 301


@dataclass
class FabricatedPair:
    """One pair as it was written, and what was written."""

    struct_path: Path
    spectra_path: Path
    structures: NDArray[np.uint8]
    """(N, S, S) of 0 and 1."""
    spectra: NDArray[np.float32]
    """(N, 3, 301) R, G, B, positive; padding rows are zero."""


def random_patterns(num: int, side: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """Draw smooth periodic patterns that are symmetric about the main diagonal, (N, S, S) of 0 and 1."""
    generator = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(side) * side
    damping = np.exp(-(frequency[:, None] ** 2 + frequency**2) / 8.0)
    field = np.fft.ifft2(np.fft.fft2(generator.normal(size=(num, side, side))) * damping).real
    return (field + field.swapaxes(1, 2) > 0).astype(np.uint8)


def quadrant_curves(patterns: NDArray[np.uint8], strength: float = 1.0) -> NDArray[np.float64]:
    """Return cells, (N, 2, 2, 301), by a rule that all 32 variants respect: what a quadrant is filled with draws light.

    The brightness of a quadrant depends on its own fill and its two neighbours', weighted by wavelength.
    """
    num, side, _ = patterns.shape
    half = side // 2
    fill = patterns.reshape(num, 2, half, 2, half).mean(axis=(2, 4))[..., None]  # (N, 2, 2, 1)
    beside = (np.flip(fill, 1) + np.flip(fill, 2)) / 2
    wave = np.sin(np.linspace(0, 3, BANDS))
    return 0.25 + strength * 0.2 * (fill - 0.5) * wave - strength * 0.2 * (beside - 0.5) * (1 - wave)


def write_pair(
    folder: Path, number: int = 0, *, num: int = 24, side: int = 32, seed: int = 0, num_padding: int = 2
) -> FabricatedPair:
    """Write struct_<number>.npy {0, 255} and spectra_<number>.npy, negative, with padding rows at its end."""
    folder.mkdir(parents=True, exist_ok=True)
    patterns = random_patterns(num, side, seed + 1000 * number)
    cell = quadrant_curves(patterns)
    green = (cell[:, 0, 1] + cell[:, 1, 0]) / 2
    spectra = np.stack([cell[:, 1, 1], green, cell[:, 0, 0]], axis=1).astype(np.float32)
    if num_padding:
        spectra[-num_padding:] = 0
    pair = FabricatedPair(folder / f"struct_{number}.npy", folder / f"spectra_{number}.npy", patterns, spectra)
    np.save(pair.struct_path, patterns[:, None] * np.uint8(255))
    np.save(pair.spectra_path, -spectra)
    return pair
