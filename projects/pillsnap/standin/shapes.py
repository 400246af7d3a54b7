"""Outlines of pills as signed distances, and the height of the pill over its outline.

Coordinates are pill units: x to the right, y down, the longest half extent of the outline is 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[Any]  # float32
CORNER_SHARPNESS = 14.0  # of the soft maximum that rounds the corners of polygons


def signed_distance(shape: str, x: Grid, y: Grid, aspect: float) -> Grid:
    """Return the distance to the outline in pill units, negative inside; exact for circles and capsules, close else.

    Args:
        shape: Name of the outline.
        x: Abscissae, any shape.
        y: Ordinates, same shape.
        aspect: Short over long side; read by the elongated outlines only.

    Raises:
        ValueError: No such outline.
    """
    if shape not in _OUTLINES:
        raise ValueError(f"shape is {shape!r}; allowed: {', '.join(_OUTLINES)}.")
    return _OUTLINES[shape](x, y, aspect).astype(np.float32, copy=False)


def height_over(distance: Grid, profile: str) -> Grid:
    """Return the height of a pill in pill units, 0 outside.

    Args:
        distance: Signed distance, (H, W).
        profile: capsule (half a cylinder), domed (a cap over a rounded rim), bevelled (a plateau with a chamfer)
            or flat (a plateau).

    Raises:
        ValueError: No such profile.
    """
    depth = np.maximum(-distance, 0.0)
    radius = float(depth.max()) or 1.0
    if profile == "capsule":
        return _arc(depth, radius) * np.float32(radius)
    if profile == "domed":
        return _arc(depth, 0.1) * np.float32(0.1) + np.float32(0.30 * radius) * (1 - (1 - depth / radius) ** 2)
    if profile == "bevelled":
        return _arc(depth, 0.05) * np.float32(0.05) + np.minimum(depth, 0.2 * radius) * np.float32(0.55)
    if profile == "flat":
        return _arc(depth, 0.07) * np.float32(0.07)
    raise ValueError(f"profile is {profile!r}; allowed: capsule, domed, bevelled, flat.")


def _arc(depth: Grid, width: float) -> Grid:
    """Return a quarter circle that rises from 0 at the outline to 1 at `width` inside."""
    rest = 1 - np.minimum(depth / np.float32(width), 1)
    arc: Grid = np.sqrt(np.maximum(1 - rest * rest, 0))
    return arc


def _round(x: Grid, y: Grid, aspect: float) -> Grid:
    return np.hypot(x, y) - 1


def _oval(x: Grid, y: Grid, aspect: float) -> Grid:
    """Return a distance to an ellipse that is exact to first order at the outline and smooth inside.

    It is the implicit function over its slope; inside, a term keeps the slope from vanishing towards the middle, where
    the distance becomes -aspect.
    """
    level: Grid = x * x + (y / aspect) ** 2 - 1
    slope = np.sqrt(x * x + (y / aspect**2) ** 2 + np.maximum(-level, 0) / (4 * aspect**2))
    level /= 2 * slope
    return level


def _stadium(x: Grid, y: Grid, aspect: float) -> Grid:
    return np.hypot(np.maximum(np.abs(x) - (1 - aspect), 0), y) - aspect


def _tear(x: Grid, y: Grid, aspect: float) -> Grid:
    """Return the hull of a large disc on the left and a small one on the right."""
    big, small, left, gap = 0.62, 0.2, -0.38, 1.18
    along, across = x - left, np.abs(y)
    lean = (big - small) / gap
    rise = np.sqrt(1 - lean * lean)
    where = along * rise - across * lean
    side = across * rise + along * lean - big
    ends = np.where(where < 0, np.hypot(along, across) - big, np.hypot(along - gap, across) - small)
    return np.where((where < 0) | (where > gap * rise), ends, side)


def _polygon(directions: list[float], offsets: list[float]) -> Callable[[Grid, Grid, float], Grid]:
    """Return the distance to a convex polygon with rounded corners; directions are angles of its edges' normals."""

    def distance(x: Grid, y: Grid, aspect: float) -> Grid:
        total = np.zeros_like(x)
        for angle, offset in zip(directions, offsets, strict=True):
            edge = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y - np.float32(offset)
            total += np.exp(CORNER_SHARPNESS * edge)
        return np.log(total) / np.float32(CORNER_SHARPNESS)

    return distance


def _regular(corners: int, apothem: float) -> Callable[[Grid, Grid, float], Grid]:
    angles = [np.pi / 2 + 2 * np.pi * corner / corners for corner in range(corners)]
    return _polygon(angles, [apothem] * corners)


def _rectangle(x: Grid, y: Grid, aspect: float) -> Grid:
    right = [0, np.pi / 2, np.pi, -np.pi / 2]
    return _polygon(right, [1, aspect, 1, aspect])(x, y, aspect)


_RHOMB = float(np.arctan2(1.0, 0.72))
_OUTLINES: dict[str, Callable[[Grid, Grid, float], Grid]] = {
    "round": _round,
    "oval": _oval,
    "capsule": _stadium,
    "caplet": _stadium,
    "rectangle": _rectangle,
    "triangle": _regular(3, 0.55),
    "square": _regular(4, 0.8),
    "pentagon": _regular(5, 0.84),
    "hexagon": _regular(6, 0.9),
    "diamond": _polygon([_RHOMB, np.pi - _RHOMB, np.pi + _RHOMB, -_RHOMB], [0.63] * 4),
    "tear": _tear,
}
