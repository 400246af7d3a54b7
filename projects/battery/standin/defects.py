"""Voids, harmless look-alikes and overflowed resin, placed so that every planned label is true.

A void is a flat sheet across x: about one pixel thick, tens of pixels wide and tall. A y or z slice cuts it into a thin
tall line. An x slice passes beside it and sees nothing, which is why x slices of a porous battery are labelled normal.
Creases are the same sheets across y: x slices show them exactly as y slices show voids, but they are no defect and
occur in every battery at the same rate. Scratches are oblique sheets that any axis may show.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from projects.battery.standin.config import AXES, POROSITY, RESIN_OVERFLOW, STACK_SLICES, StandinConfig
from projects.battery.standin.phantom import POTTING, Array, BatteryShape
from projects.battery.standin.plan import BatteryPlan

REACH = 0.85  # slices and voids lie within this share of the battery's half extent
_MARGIN = 0.1  # a void may reach this share of the half extent beyond the region of porous slices
_CLEAR = 0.6  # a slice within this share of a void's radius shows it clearly
_CUT = 0.5  # the slice that a void is made for cuts it within this share of its radius
_OVERFLOW_REGION = 0.2  # share of the stack at one end where resin may run over
_VOID_SLOPE, _SCRATCH_SLOPE = 0.02, 1.0  # a sheet's greatest tilt
_SCRATCHES = 0.6  # mean number in a battery
_TRIES = 24  # places tried for a sheet; the one with most solid matter around wins
_SOLID = POTTING / 2
_SQUARE = np.stack(np.meshgrid([-0.6, 0.0, 0.6], [-0.6, 0.0, 0.6]), axis=-1).reshape(-1, 2)


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
        return 1 - np.float32(self.contrast) * profile * np.clip(4 * (1 - rim), 0, 1)

    def depth(self, axis: int, position: float) -> float:
        """Return how far from its middle a slice cuts the sheet: 0 the middle, 1 the rim."""
        if axis == self.axis:
            return abs(position - self.centre[axis]) / self.width
        radius = self.radius[[i for i in range(3) if i != self.axis].index(axis)]
        return abs(position - self.centre[axis]) / radius


@dataclass(frozen=True)
class Bead:
    """Resin that ran down the outside of one x face of a module.

    Attributes:
        centre: Middle of the bead on the face, scanner coordinates.
        radius: Half extents along x, y, z.
    """

    centre: tuple[float, float, float]
    radius: tuple[float, float, float]

    def attenuation(self, point: tuple[Array, Array, Array]) -> Array:
        """Return the attenuation of the bead alone."""
        away = [(np.asarray(p, np.float32) - c) / r for p, c, r in zip(point, self.centre, self.radius, strict=True)]
        return np.where(away[0] ** 2 + away[1] ** 2 + away[2] ** 2 < 1, np.float32(1.15 * POTTING), np.float32(0))


@dataclass
class Findings:
    """What is in one battery, and where its slices are.

    Attributes:
        voids: The porosity.
        confusers: Creases and scratches.
        bead: Overflowed resin, if any.
        slices: (axis, slice number, label or None) for every image of the battery.
    """

    voids: list[Sheet] = field(default_factory=list)
    confusers: list[Sheet] = field(default_factory=list)
    bead: Bead | None = None
    slices: list[tuple[str, int, str | None]] = field(default_factory=list)


def slice_position(shape: BatteryShape, axis: int, index: int) -> float:
    """Return where slice `index` of the stack lies on the scanner's axis."""
    return shape.centre[axis] + REACH * float(shape.extent[axis]) * (2 * (index + 0.5) / STACK_SLICES - 1)


def draw_findings(plan: BatteryPlan, shape: BatteryShape, config: StandinConfig, rng: np.random.Generator) -> Findings:
    """Choose the slices of a battery and place its defects so that each slice shows what its label says."""
    findings = Findings(confusers=_draw_confusers(shape, config, rng))
    porous: dict[int, NDArray[np.int64]] = {}
    regions: dict[int, tuple[float, float]] = {}
    ends: dict[int, float] = {}
    overflow = sum(plan.overflow.values()) > 0
    for axis in (1, 2):
        stack = _split_stack(plan, AXES[axis], overflow, sum(plan.porous.values()) > 0, rng)
        porous[axis] = stack.porous
        low, high = (slice_position(shape, axis, edge) for edge in stack.region)
        margin = _MARGIN * float(shape.extent[axis])
        regions[axis] = (low - margin, high + margin)
        ends[axis] = slice_position(shape, axis, stack.end)
        findings.slices += [(AXES[axis], int(i), POROSITY) for i in stack.porous]
        findings.slices += [(AXES[axis], int(i), None) for i in stack.normal]
        findings.slices += [(AXES[axis], int(i), RESIN_OVERFLOW) for i in stack.overflow]
    if overflow:
        findings.bead = _draw_bead(shape, ends, rng)
    if sum(plan.porous.values()):
        findings.voids = _draw_voids(shape, porous, regions, config, rng)
    findings.slices += _x_slices(plan, shape, findings.voids, rng)
    findings.slices.sort(key=lambda item: (item[0], item[1]))
    return findings


@dataclass(frozen=True)
class _Stack:
    """Slice numbers of one axis by label; `region` is where voids may lie and `end` the middle of the bead."""

    porous: NDArray[np.int64]
    normal: NDArray[np.int64]
    overflow: NDArray[np.int64]
    region: tuple[int, int]
    end: int


def _split_stack(plan: BatteryPlan, axis: str, overflow: bool, voids: bool, rng: np.random.Generator) -> _Stack:
    """Draw the slice numbers of the y or z axis; over many batteries they are uniform for every label but overflow."""
    number = np.arange(STACK_SLICES)
    upper = rng.random() < 0.5
    bead = int(_OVERFLOW_REGION * STACK_SLICES) if overflow else 0
    at_end = (number >= STACK_SLICES - bead) if upper else (number < bead)
    keep_off = int(_MARGIN / REACH / 2 * STACK_SLICES) + 2
    rest = number[~at_end]
    wanted, total = plan.porous[axis], plan.slices[axis] - plan.overflow[axis]
    share = 1.0 if wanted == total and total else min(max(wanted / max(total, 1), 0.3), 0.7)
    length = round(share * len(rest))
    start = rest[0] + int(rng.integers(0, len(rest) - length + 1))
    region = (number >= start) & (number < start + length) & ~at_end
    near = (number >= start - keep_off) & (number < start + length + keep_off)
    clean = rest if not voids else number[~near & ~at_end]
    middle = number[at_end][bead // 3 : bead - bead // 3] if overflow else number[:0]
    return _Stack(
        rng.choice(number[region], wanted, replace=False),
        rng.choice(clean, total - wanted, replace=False),
        rng.choice(middle, plan.overflow[axis], replace=False),
        (start, start + length - 1),
        int(middle.mean()) if overflow else 0,
    )


def _x_slices(
    plan: BatteryPlan, shape: BatteryShape, voids: list[Sheet], rng: np.random.Generator
) -> list[tuple[str, int, str | None]]:
    """Draw x slices between the voids; the few that are labelled porous go right through one."""
    position = np.array([slice_position(shape, 0, i) for i in range(STACK_SLICES)])
    clean = np.ones(STACK_SLICES, dtype=bool)
    for void in voids:
        band = 1.6 * void.width + float(np.abs(void.slope) @ np.asarray(void.radius))
        clean &= np.abs(position - void.centre[0]) > band
    hit = rng.choice(len(voids), plan.porous["x"]) if voids else np.zeros(0, dtype=np.int64)
    through = sorted({int(np.abs(position - voids[i].centre[0]).argmin()) for i in hit})
    normal = rng.choice(np.flatnonzero(clean), plan.slices["x"] - len(through), replace=False)
    return [("x", i, POROSITY) for i in through] + [("x", int(i), None) for i in normal]


def _draw_bead(shape: BatteryShape, ends: dict[int, float], rng: np.random.Generator) -> Bead:
    """Return a bead on either x face, at the ends of the y and z stacks that were kept for it."""
    side = float(rng.choice([-1.0, 1.0]))
    spread = _OVERFLOW_REGION * REACH * shape.extent
    radius = (float(rng.uniform(0.07, 0.11)), float(spread[1]), float(spread[2]))
    return Bead((shape.centre[0] + side * float(shape.extent[0]), ends[1], ends[2]), radius)


def _draw_sheet(
    axis: int,
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    slope: float,
    config: StandinConfig,
    rng: np.random.Generator,
) -> Sheet:
    """Return a sheet with random contrast, width and slope; voids and confusers both come from this one place."""
    contrast = float(np.clip(config.void_contrast * rng.uniform(0.7, 1.3), 0, 1))
    width = config.void_width_px * 2 / 128 * float(rng.uniform(0.8, 1.2))
    slopes = rng.uniform(-slope, slope, 2)
    return Sheet(axis, tuple(centre.tolist()), tuple(radius.tolist()), tuple(slopes.tolist()), width, contrast)


def _draw_radius(shape: BatteryShape, axis: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the half extents of a sheet: about a sixth of the image tall, and less than half of a thin battery."""
    return np.minimum(rng.uniform(0.12, 0.24, 2), 0.45 * np.delete(shape.extent, axis))


def _draw_confusers(shape: BatteryShape, config: StandinConfig, rng: np.random.Generator) -> list[Sheet]:
    """Draw creases across y, as many as `confuser_rate` asks for, and oblique scratches; in every battery alike."""
    cover = 0.18 / (REACH * float(shape.extent[0]))  # share of the x stack that one crease takes up
    creases = int(rng.poisson(-np.log1p(-config.confuser_rate) / cover))
    scratches = int(rng.poisson(_SCRATCHES))
    sheets = []
    for slope in [_VOID_SLOPE] * creases + [_SCRATCH_SLOPE] * scratches:
        radius = _draw_radius(shape, 1, rng)
        half = REACH * shape.extent
        centres = np.asarray(shape.centre) + rng.uniform(-half, half, (_TRIES, 3))
        offsets = np.stack([_SQUARE[:, 0] * radius[0], np.zeros(len(_SQUARE)), _SQUARE[:, 1] * radius[1]], axis=1)
        centre = _most_solid(shape, centres, centres[:, None] + offsets)
        sheets.append(_draw_sheet(1, centre, radius, slope, config, rng))
    return sheets


def _most_solid(shape: BatteryShape, centres: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centre (of (T, 3)) whose sample points (T, P, 3) lie in solid matter most often."""
    solid = shape.attenuation((points[..., 0], points[..., 1], points[..., 2])) > _SOLID
    return centres[int(np.argmax(solid.sum(axis=1)))]


def _draw_voids(
    shape: BatteryShape,
    porous: dict[int, NDArray[np.int64]],
    regions: dict[int, tuple[float, float]],
    config: StandinConfig,
    rng: np.random.Generator,
) -> list[Sheet]:
    """Place a void for every porous slice that does not yet cut one clearly; all lie on a few planes across x.

    Gas collects at a few interfaces, and few planes leave room for the x slices between them.
    """
    half = 0.8 * float(shape.extent[0])
    planes = shape.centre[0] + rng.uniform(-half, half, int(rng.integers(3, 6)))
    demands = [(axis, slice_position(shape, axis, int(i))) for axis in (1, 2) for i in porous[axis]]
    voids: list[Sheet] = []
    for axis, position in demands or [(1, sum(regions[1]) / 2)]:  # a porous x slice alone needs a void as well
        if not any(void.depth(axis, position) <= _CLEAR for void in voids):
            voids.append(_draw_void(shape, axis, position, planes, regions, config, rng))
    return voids


def _draw_void(
    shape: BatteryShape,
    axis: int,
    position: float,
    planes: NDArray[np.float64],
    regions: dict[int, tuple[float, float]],
    config: StandinConfig,
    rng: np.random.Generator,
) -> Sheet:
    """Return a void that the slice at `position` on `axis` cuts clearly and that stays inside the allowed regions."""
    low, high = np.array(regions[1] + regions[2]).reshape(2, 2).T
    radius = np.minimum(_draw_radius(shape, 0, rng), 0.49 * (high - low))
    i = axis - 1
    # Near the edge of its region only a void that fits between the slice and the edge can be cut clearly.
    radius[i] = min(radius[i], 0.98 * min(position - low[i], high[i] - position) / (1 - _CUT))
    box_low, box_high = low + radius, high - radius
    box_low[i] = max(box_low[i], position - _CUT * radius[i])
    box_high[i] = min(box_high[i], position + _CUT * radius[i])
    centres = np.concatenate([rng.choice(planes, (_TRIES, 1)), rng.uniform(box_low, box_high, (_TRIES, 2))], axis=1)
    offsets = np.concatenate([np.zeros((len(_SQUARE), 1)), _SQUARE * radius], axis=1)
    points = centres[:, None] + offsets
    chord = points.copy()
    chord[..., axis] = position  # the line that the slice will show counts as much as the sheet around it
    centre = _most_solid(shape, centres, np.concatenate([points, chord], axis=1))
    return _draw_sheet(0, centre, radius, _VOID_SLOPE, config, rng)
