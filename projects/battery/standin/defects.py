"""Voids, their harmless look-alikes and overflowed resin as shapes in the scanner's space.

A void is a flat sheet across x: about one pixel thick, tens of pixels wide and tall. A y or z slice cuts it into a thin
tall line. An x slice passes beside it and sees nothing, which is why x slices of a porous battery are labelled normal.
Creases are the same sheets across y: x slices show them exactly as y slices show voids, but they are no defect and
occur in every battery at the same rate. Scratches are oblique sheets that any axis may show.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from projects.battery.standin.phantom import POTTING, Array

GRIP = 0.04  # how deep a bead reaches into the housing's wall, so that a tilted module and its bead touch


@dataclass(frozen=True)
class Sheet:
    """A thin flat gap in the material.

    Attributes:
        axis: 0, 1 or 2: the sheet lies across x, y or z.
        centre: Its middle in scanner coordinates.
        radius: Half extents along the two other axes, in the order x, y, z.
        slope: How far it moves along `axis` for a step along each of the two others.
        width: Full width at half maximum.
        contrast: Share of the attenuation that it takes away in the middle.
    """

    axis: int
    centre: tuple[float, float, float]
    radius: tuple[float, float]
    slope: tuple[float, float]
    width: float
    contrast: float

    def transmission(self, point: tuple[Array, Array, Array]) -> Array:
        """Return the factor (0 to 1) by which the sheet weakens the attenuation at broadcastable coordinates."""
        first, second = (i for i in range(3) if i != self.axis)
        away = [np.asarray(p, np.float32) - np.float32(c) for p, c in zip(point, self.centre, strict=True)]
        across = away[self.axis] - self.slope[0] * away[first] - self.slope[1] * away[second]
        rim = (away[first] / self.radius[0]) ** 2 + (away[second] / self.radius[1]) ** 2
        profile = np.exp(-4 * np.log(2, dtype=np.float32) * (across / np.float32(self.width)) ** 2)
        factor: Array = 1 - np.float32(self.contrast) * profile * np.clip(4 * (1 - rim), 0, 1)
        return factor

    def depth(self, axis: int, position: float) -> float:
        """Return how far from its middle a slice cuts the sheet: 0 the middle, 1 the rim."""
        if axis == self.axis:
            return abs(position - self.centre[axis]) / self.width
        radius = self.radius[[i for i in range(3) if i != self.axis].index(axis)]
        return abs(position - self.centre[axis]) / radius

    def box(self, axis: int, position: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and highest corner (x, y, z) of a void's line on y and z, or of its face on x."""
        centre, half = np.array(self.centre), np.array([self.width / 2, *self.radius])
        if axis != 0:
            offset, other = position - centre[axis], 3 - axis
            half[other] *= np.sqrt(1 - (offset / half[axis]) ** 2)
            centre[0] += self.slope[axis - 1] * offset
            half[0] += abs(self.slope[other - 1]) * half[other]
        return centre - half, centre + half


@dataclass(frozen=True)
class Bead:
    """Resin that ran down the outside of one x face of a module.

    Attributes:
        centre: Middle of the bead on the face, scanner coordinates.
        radius: Half extents along x, y, z.
        side: 1 or -1: the face at the greater or the smaller x.
    """

    centre: tuple[float, float, float]
    radius: tuple[float, float, float]
    side: float

    def attenuation(self, point: tuple[Array, Array, Array]) -> Array:
        """Return the attenuation of the bead alone."""
        away = [np.asarray(p, np.float32) - np.float32(c) for p, c in zip(point, self.centre, strict=True)]
        rim = sum((a / r) ** 2 for a, r in zip(away, self.radius, strict=True))
        here = (rim < 1) & (self.side * away[0] > -GRIP)
        return np.where(here, np.float32(1.5 * POTTING), np.float32(0))

    def box(self, axis: int, position: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and highest corner (x, y, z) of what the slice at `position` on axis 1 or 2 shows."""
        centre, half = np.array(self.centre), np.array(self.radius)
        half = half * np.sqrt(max(0.0, 1 - ((position - centre[axis]) / half[axis]) ** 2))
        low, high = centre - half, centre + half
        inner = centre[0] - self.side * GRIP
        low[0], high[0] = (max(low[0], inner), high[0]) if self.side > 0 else (low[0], min(high[0], inner))
        return low, high
