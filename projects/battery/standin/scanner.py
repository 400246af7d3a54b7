"""What a scanner adds to the true attenuation: blur, beam hardening, rings, noise and the 8-bit window.

Rings are gain errors of single detector pixels. They are shells around the axis of rotation: a slice across it shows
arcs, a slice along it straight dark or bright lines a few dozen pixels long, look-alikes of a void. A battery stands on
the turntable on any of its sides, so artefacts do not tell the axes apart.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.battery.standin.config import StandinConfig
from projects.battery.standin.phantom import Array

_RADII, _HEIGHTS = 92, 64  # detector pixels from the axis outwards (1 px of a 128 px image each) and along it
_GOOD_SHARE = 0.72  # detector columns without a fault; their errors are small
_WINDOW = (-0.12, 1.35)  # attenuation shown as 0 and 255


@dataclass(frozen=True)
class Scan:
    """Settings of one battery's scan.

    Attributes:
        rings: (_RADII, _HEIGHTS) error of each detector pixel, in attenuation.
        spin: 0, 1 or 2: the battery's x, y or z is the axis of rotation.
        spin_centre: Where that axis passes through the plane of the two others.
        gain: Brightness of this scan relative to the nominal one.
        offset: Attenuation that this scan shows for air.
        hardening: Strength of cupping.
        noise: Standard deviation of the noise in attenuation.
    """

    rings: Array
    spin: int
    spin_centre: tuple[float, float]
    gain: float
    offset: float
    hardening: float
    noise: float


def draw_scan(config: StandinConfig, rng: np.random.Generator) -> Scan:
    """Return the scanner's state for one battery."""
    faulty = rng.random((_RADII, 1)) > _GOOD_SHARE
    errors: Array = rng.normal(0.0, 1.0, (_RADII, _HEIGHTS)) * np.where(faulty, 1.0, 0.15)
    errors = _unit(cv2.GaussianBlur(errors, (0, 0), sigmaX=5.0, sigmaY=0.01, borderType=cv2.BORDER_REFLECT), axis=1)
    rings = config.ring_strength * np.where(faulty, 1.0, 0.15) * errors
    centre = rng.normal(0.0, 0.03, 2)
    return Scan(
        rings.astype(np.float32),
        int(rng.integers(3)),
        (float(centre[0]), float(centre[1])),
        float(rng.uniform(0.9, 1.1)),
        float(rng.uniform(0.0, 0.06)),
        config.beam_hardening * float(rng.uniform(0.7, 1.3)),
        config.noise_sigma * float(rng.uniform(0.8, 1.2)),
    )


def scan_slice(
    attenuation: Array, point: tuple[Array, Array, Array], axis: int, scan: Scan, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the 8-bit image of a slice.

    Args:
        attenuation: (S, S) true attenuation, one value a pixel.
        point: Broadcastable scanner coordinates of the pixels.
        axis: 0, 1 or 2: the axis of the slice.
        scan: The battery's scan.
        rng: Source of this slice's noise.
    """
    size = len(attenuation)
    image = cv2.GaussianBlur(attenuation, (0, 0), 0.45)
    image = image * (1 - scan.hardening * _surroundings(attenuation, 0.12 * size))
    image -= _streaks(attenuation, axis, scan.spin)
    image += _rings(point, scan)
    image += _noise(attenuation, scan.noise, rng)
    image = scan.gain * image + scan.offset
    low, high = _WINDOW
    grey: Array = np.clip(np.rint((image - low) * (255 / (high - low))), 0, 255)
    return grey.astype(np.uint8)


def _surroundings(attenuation: Array, sigma: float) -> Array:
    """Return how much matter lies around, 0 to about 1: rays that crossed much of it are hard and see less."""
    small = cv2.resize(attenuation, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / 4, borderType=cv2.BORDER_CONSTANT)
    wide = cv2.resize(blurred, attenuation.shape[::-1], interpolation=cv2.INTER_LINEAR)
    excess: Array = np.clip(wide / 0.65, 0, 1.5) - 0.5
    return excess


def _streaks(attenuation: Array, axis: int, spin: int) -> Array:
    """Return the dark bands between two pieces of metal that one ray crosses; rays run across the axis of rotation."""
    metal: Array = np.maximum(attenuation - 1.1, 0) * np.float32(10 / len(attenuation))
    if axis == spin:
        bands = 0.5 * (_between(metal) + _between(metal.T).T)
    else:
        across = (1, 0, 0)[axis]  # the axis that runs from left to right in this slice
        bands = _between(metal.T).T if across == spin else _between(metal)
    return 0.3 * cv2.GaussianBlur(np.ascontiguousarray(bands), (0, 0), 1.0)


def _between(metal: Array) -> Array:
    """Return, along rows, the lesser of the metal to the left and to the right, saturating at 1."""
    left = np.cumsum(metal, axis=1)
    lesser: Array = np.minimum(np.minimum(left, left[:, -1:] - left), 1)
    return lesser


def _rings(point: tuple[Array, Array, Array], scan: Scan) -> Array:
    """Look up the errors by distance from the axis of rotation (interpolated) and by height."""
    first, second = (point[i] for i in range(3) if i != scan.spin)
    radius = np.hypot(first - np.float32(scan.spin_centre[0]), second - np.float32(scan.spin_centre[1]))
    height = (point[scan.spin] + 1) * np.float32(_HEIGHTS / 2) - np.float32(0.5)
    radius, height = np.broadcast_arrays(np.minimum(radius * np.float32(64), _RADII - 1.001), height)
    return cv2.remap(
        scan.rings,
        np.ascontiguousarray(height, dtype=np.float32),
        np.ascontiguousarray(radius, dtype=np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _noise(attenuation: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Return noise with the grain of a reconstruction, stronger where rays lost more photons."""
    white = rng.standard_normal((2, *attenuation.shape), dtype=np.float32)
    fine = _unit(cv2.GaussianBlur(white[0], (0, 0), 0.6))
    coarse = _unit(cv2.GaussianBlur(white[1], (0, 0), 2.0))
    local = 0.7 + 0.6 * np.clip(_surroundings(attenuation, 0.06 * len(attenuation)) + 0.5, 0, 1.5)
    noise: Array = np.float32(sigma) * local * (0.9 * fine + 0.45 * coarse)
    return noise


def _unit(values: Array, axis: int | None = None) -> Array:
    """Scale to standard deviation 1."""
    spread = values.std(axis=axis, keepdims=axis is not None)
    scaled: Array = values / np.maximum(spread, 1e-12)
    return scaled
