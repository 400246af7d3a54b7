"""Batteries as 3-D implicit functions: attenuation at any point, so that slices along x, y and z agree.

Lengths are in half frames: the field of view is the cube [-1, 1]³ with the axes x, y, z. Attenuation 0 is air and 1
about aluminium. A battery lies in any orientation in it, so that the direction of its layers does not give away the
axis of a slice. Battery coordinates are (u, v, w): layers are stacked along u, terminals are at the upper end of w, and
cylinders turn about w.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 throughout; numpy's stubs lose that at almost every step

AIR, POTTING, ACTIVE, SWING, CAN, COPPER = 0.0, 0.36, 0.62, 0.12, 0.95, 1.5


@dataclass(frozen=True)
class CellShape:
    """One cell around the origin of its own coordinates.

    Attributes:
        form: "pouch", "cylindrical" or "prismatic".
        half: Half extents along u, v, w; a cylinder's radius is half[0].
        pitch: Thickness of one electrode pair.
        wall: Thickness of the can (of the foil's seal for a pouch).
        wave: Amplitude of the layers' waviness.
        wave_phase: Phase of the waviness, radians.
    """

    form: str
    half: tuple[float, float, float]
    pitch: float
    wall: float
    wave: float
    wave_phase: float


@dataclass(frozen=True)
class BatteryShape:
    """A cell or a module with its pose in the scanner.

    Attributes:
        kind: "cell" or "module".
        cell: The cell, or what each cell of the module is.
        half: Half extents of the whole along u, v, w.
        grid: Cells along u and v; (1, 1) for a cell.
        potting_level: Height along w up to which resin fills the module.
        rotation: (3, 3) rows are u, v, w in scanner coordinates.
        centre: Position of the middle in the scanner.
    """

    kind: str
    cell: CellShape
    half: tuple[float, float, float]
    grid: tuple[int, int]
    potting_level: float
    rotation: NDArray[np.float64]
    centre: tuple[float, float, float]

    @property
    def extent(self) -> NDArray[np.float64]:
        """Return the half extents of the body along the scanner's x, y, z."""
        extent: NDArray[np.float64] = np.abs(self.rotation.T) @ np.asarray(self.half)
        return extent

    def local(self, point: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """Turn broadcastable scanner coordinates into battery coordinates."""
        x, y, z = (np.asarray(p, np.float32) - np.float32(c) for p, c in zip(point, self.centre, strict=True))
        u, v, w = (np.float32(r[0]) * x + np.float32(r[1]) * y + np.float32(r[2]) * z for r in self.rotation)
        return u, v, w

    def attenuation(self, point: tuple[Array, Array, Array]) -> Array:
        """Return the attenuation at scanner coordinates, shape of the broadcast coordinates."""
        u, v, w = self.local(point)
        return _cell(self.cell, u, v, w) if self.kind == "cell" else self._module(u, v, w)

    def inside(self, point: tuple[Array, Array, Array]) -> NDArray[np.bool_]:
        """Return where the battery's body is, without resin that ran over."""
        u, v, w = self.local(point)
        if self.kind == "cell" and self.cell.form == "cylindrical":
            return (np.hypot(u, v) <= self.half[0]) & (np.abs(w) <= self.half[2])
        return _box_depth(u, v, w, self.half) >= 0

    def _module(self, u: Array, v: Array, w: Array) -> Array:
        """Cells in a grid, potted with resin, joined by busbars, in a thin housing."""
        hu, hv, hw = self.half
        wall = self.cell.wall
        pitch_u, pitch_v = 2 * (hu - wall) / self.grid[0], 2 * (hv - wall) / self.grid[1]
        column, cell_u = _repeat(u + (hu - wall), pitch_u)
        row, cell_v = _repeat(v + (hv - wall), pitch_v)
        depth = _box_depth(u, v, w, self.half)
        shift = hw - wall - self.cell.half[2] - 0.12  # busbars need room above the cells
        value = _cell(self.cell, cell_u, cell_v, w + np.float32(max(shift, 0.0)))
        value = np.where((value <= AIR) & (w < self.potting_level), np.float32(POTTING), value)
        value = np.maximum(value, COPPER * self._busbar(column, row, cell_u, cell_v, w, (pitch_u, pitch_v)))
        value = np.where(depth < wall, np.float32(0.7 * CAN), value)
        return np.where(depth < 0, np.float32(AIR), value)

    def _busbar(
        self, column: Array, row: Array, cell_u: Array, cell_v: Array, w: Array, pitch: tuple[float, float]
    ) -> Array:
        """Return 1 in the plates over the cells, each of which joins two columns, and in the posts below them."""
        top = self.half[2] - self.cell.wall - 0.05
        plate = (np.abs(w - top) < 0.025) & (np.abs(cell_v) < 0.22 * pitch[1])
        gap = ((column + row) % 2 == 1) & (cell_u > 0.38 * pitch[0])
        post = (np.abs(cell_u) < 0.1 * pitch[0]) & (np.abs(cell_v) < 0.1 * pitch[1]) & (w > top - 0.1) & (w < top)
        metal: Array = (plate & ~gap) | post
        return metal.astype(np.float32)


def draw_battery(kind: str, form: str, rng: np.random.Generator) -> BatteryShape:
    """Return a battery with its own geometry; nothing in it depends on whether the battery will have defects."""
    if kind == "cell":
        half, grid = _draw_cell_half(form, rng), (1, 1)
        cell_half = half
    else:
        half, grid, cell_half = _draw_module(form, rng)
    pitch = rng.uniform(0.075, 0.11) if kind == "cell" else rng.uniform(0.055, 0.075)
    wall = rng.uniform(0.025, 0.04)
    cell = CellShape(form, cell_half, pitch, wall, rng.uniform(0.0, 0.25) * pitch, rng.uniform(0, 2 * np.pi))
    return BatteryShape(
        kind,
        cell,
        half,
        grid,
        rng.uniform(0.2, 0.75) * half[2],
        _draw_rotation(rng),
        tuple(rng.uniform(-0.05, 0.05, 3).tolist()),
    )


def _draw_cell_half(form: str, rng: np.random.Generator) -> tuple[float, float, float]:
    if form == "cylindrical":
        radius = rng.uniform(0.42, 0.66)
        return radius, radius, rng.uniform(0.68, 0.86)
    thick = rng.uniform(0.32, 0.48) if form == "pouch" else rng.uniform(0.38, 0.56)
    return thick, rng.uniform(0.54, 0.76), rng.uniform(0.66, 0.86)


def _draw_module(
    form: str, rng: np.random.Generator
) -> tuple[tuple[float, float, float], tuple[int, int], tuple[float, float, float]]:
    """Return the module's half extents, its grid and the half extents of a cell in it."""
    half = tuple(rng.uniform((0.66, 0.6, 0.6), (0.86, 0.82, 0.82)).tolist())
    if form == "cylindrical":
        grid = (int(rng.integers(2, 5)), int(rng.integers(2, 4)))
    else:
        grid = (int(rng.integers(3, 6)), int(rng.integers(1, 3)))
    room_u, room_v = (half[0] - 0.04) / grid[0] - 0.02, (half[1] - 0.04) / grid[1] - 0.02
    if form == "cylindrical":
        room_u = room_v = min(room_u, room_v)
    return half, grid, (room_u, room_v, rng.uniform(0.74, 0.82) * half[2])


def _draw_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return one of the stage's orientations with a tilt of a few degrees; rows are u, v, w in the scanner."""
    pose = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], size=(3, 1))
    a, b, c = rng.normal(0.0, np.deg2rad(1.2), 3)
    skew = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    left, _, right = np.linalg.svd(np.eye(3) + skew)  # the nearest rotation to a small skew
    rotation: NDArray[np.float64] = pose @ left @ right
    return rotation


def _repeat(coordinate: Array, pitch: float) -> tuple[Array, Array]:
    """Return the number of the period and the coordinate from its middle."""
    number = np.floor(coordinate / np.float32(pitch))
    return number, coordinate - (number + np.float32(0.5)) * np.float32(pitch)


def _box_depth(u: Array, v: Array, w: Array, half: tuple[float, float, float]) -> Array:
    """Return the distance to the nearest face of a box, negative outside."""
    hu, hv, hw = (np.float32(h) for h in half)
    return np.minimum(np.minimum(hu - np.abs(u), hv - np.abs(v)), hw - np.abs(w))


def _cell(shape: CellShape, u: Array, v: Array, w: Array) -> Array:
    """Return the attenuation of one cell in its own coordinates."""
    if shape.form == "cylindrical":
        return _cylindrical(shape, u, v, w)
    return _pouch(shape, u, v, w) if shape.form == "pouch" else _prismatic(shape, u, v, w)


def _layers(phase: Array) -> Array:
    """Anode and cathode in turn; `phase` counts electrode pairs."""
    value: Array = ACTIVE + SWING * np.cos(np.float32(2 * np.pi) * phase)
    return value


def _cylindrical(shape: CellShape, u: Array, v: Array, w: Array) -> Array:
    """A spiral jelly roll around an empty mandrel, in a can with a thicker cap."""
    radius = np.hypot(u, v)
    outer, top = np.float32(shape.half[0]), np.float32(shape.half[2])
    turn = np.arctan2(v, u) * np.float32(0.5 / np.pi)
    roll = _layers(radius / np.float32(shape.pitch) - turn + shape.wave * np.cos(3 * w + shape.wave_phase))
    end = top - np.abs(w)
    value = np.where((radius > 0.1 * outer) & (end > 2.2 * shape.wall), roll, np.float32(AIR + 0.05))
    can = (outer - radius < shape.wall) | (end < shape.wall) | ((w > 0) & (end < 1.6 * shape.wall))
    value = np.where(can, np.float32(CAN), value)
    return np.where((radius > outer) | (end < 0), np.float32(AIR), value)


def _pouch(shape: CellShape, u: Array, v: Array, w: Array) -> Array:
    """Flat sheets with a light waviness, a foil seal around and two tabs."""
    hu, hv, hw = shape.half
    wave = np.float32(shape.wave) * np.sin(4 * v + 3 * w + shape.wave_phase)
    stack = (
        hu - shape.wave - 0.5 * shape.wall - np.abs(u + wave),
        hv - 2.5 * shape.wall - np.abs(v),
        hw - 3.0 * shape.wall - np.abs(w),
    )
    depth = np.minimum(np.minimum(stack[0], stack[1]), stack[2])
    seal = (np.abs(u) < 0.5 * shape.wall) & (np.abs(v) < hv) & (np.abs(w) < hw)
    tab = seal & (np.abs(np.abs(v) - 0.45 * hv) < 0.14 * hv) & (w > 0)
    value = np.where(depth > 0, _layers((u + wave) / np.float32(shape.pitch)), np.float32(AIR))
    value = np.where((depth > -0.5 * shape.wall) & (depth <= 0), np.float32(POTTING), value)
    value = np.where(seal & (depth <= 0), np.float32(POTTING), value)
    return np.where(tab & (depth <= 0), np.float32(COPPER), value)


def _prismatic(shape: CellShape, u: Array, v: Array, w: Array) -> Array:
    """A flattened roll in an aluminium can with two terminals on the lid."""
    hu, hv, hw = shape.half
    lid = 0.10 * hw
    depth = _box_depth(u, v, w + np.float32(lid / 2), (hu, hv, hw - lid / 2))
    straight = np.maximum(np.abs(v) - np.float32(max(hv - hu, 0.0)), 0)
    roll = np.hypot(u, straight)
    room = min(hu, hv) - 1.5 * shape.wall
    wound = (roll < room) & (np.abs(w + np.float32(lid / 2)) < hw - lid / 2 - 2.5 * shape.wall)
    value = np.where(wound, _layers(roll / np.float32(shape.pitch) + shape.wave), np.float32(AIR + 0.05))
    value = np.where(depth < shape.wall, np.float32(CAN), value)
    post = (np.abs(u) < 0.35 * hu) & (np.abs(np.abs(v) - 0.55 * hv) < 0.12 * hv) & (w > 0) & (w < hw)
    return np.where(depth < 0, np.where(post, np.float32(COPPER), np.float32(AIR)), value)
