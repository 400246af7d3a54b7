"""From the three curves of a spectra file to the 2x2 cell that the network predicts."""

import numpy as np
from numpy.typing import NDArray

FILE_CHANNELS: tuple[str, ...] = ("R", "G", "B")
"""Order of the second axis of a spectra file."""

FILE_BANDS = 301
"""Bands of a spectra file: 400 to 700 nm in steps of 1 nm."""

FIRST_NM, LAST_NM = 400.0, 700.0

CELL_CHANNELS: tuple[str, ...] = ("B", "G upper right", "G lower left", "R")
"""The four quadrants of a cell in the order of its first two axes."""


def wavelengths_nm(num_wavelengths: int) -> NDArray[np.float64]:
    """Return the wavelengths of a cell, (L,) nm, evenly spaced with both ends.

    Raises:
        ValueError: Fewer than 2 or more than 301 are asked for.

    Example:
        >>> wavelengths_nm(4).tolist()
        [400.0, 500.0, 600.0, 700.0]
    """
    if not 2 <= num_wavelengths <= FILE_BANDS:
        raise ValueError(f"num_wavelengths must be 2 to {FILE_BANDS}, got {num_wavelengths}")
    return np.linspace(FIRST_NM, LAST_NM, num_wavelengths)


def resample(curves: NDArray[np.floating], num_wavelengths: int) -> NDArray[np.float64]:
    """Interpolate curves linearly at fewer wavelengths.

    Args:
        curves: (..., 301) at 400 to 700 nm in steps of 1 nm.
        num_wavelengths: L, 2 to 301.

    Returns:
        (..., L) at `wavelengths_nm(L)`.

    Raises:
        ValueError: The curves do not have 301 bands.
    """
    if curves.shape[-1] != FILE_BANDS:
        raise ValueError(f"curves must have {FILE_BANDS} bands, got shape {curves.shape}")
    place = wavelengths_nm(num_wavelengths) - FIRST_NM  # the bands are 1 nm apart
    left = np.minimum(np.floor(place).astype(np.int64), FILE_BANDS - 2)
    share = place - left
    values = curves.astype(np.float64)
    return values[..., left] * (1.0 - share) + values[..., left + 1] * share


def cells_from_rgb(curves: NDArray[np.floating], num_wavelengths: int) -> NDArray[np.float32]:
    """Build the cell [[B, G], [G, R]] from the three curves of a spectra file.

    The file has one G, the mean of the two green quadrants. For a pattern that is symmetric about its main diagonal
    both have that power; for any other pattern both places get the mean.

    Args:
        curves: (N, 3, 301) R, G, B power as a share of the incident one, positive.
        num_wavelengths: L.

    Returns:
        (N, 2, 2, L) float32.

    Raises:
        ValueError: The curves are not of that shape.
    """
    if curves.ndim != 3 or curves.shape[1] != len(FILE_CHANNELS):
        raise ValueError(f"curves must be of shape (N, {len(FILE_CHANNELS)}, {FILE_BANDS}), got {curves.shape}")
    red, green, blue = np.moveaxis(resample(curves, num_wavelengths), 1, 0)
    cells = np.stack([blue, green, green, red], axis=1).astype(np.float32)  # (N, 4, L)
    return cells.reshape(len(curves), 2, 2, num_wavelengths)
