"""Where the slices and the defects of one battery lie: placed so that every planned label is true.

Porous slices of an axis come from one region of the stack and normal ones from outside it; every porous slice gets a
void that it cuts clearly, and no void reaches a normal slice. Resin runs over at one end of the stack, kept free of
both.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from projects.battery.standin.config import AXES, POROSITY, RESIN_OVERFLOW, STACK_SLICES, StandinConfig
from projects.battery.standin.defects import Bead, Sheet
from projects.battery.standin.phantom import POTTING, BatteryShape
from projects.battery.standin.plan import BatteryPlan

REACH = 0.85  # slices and voids lie within this share of the battery's half extent
_MARGIN = 0.1  # a void may reach this share of the half extent beyond the region of porous slices
_CLEAR = 0.6  # a slice within this share of a void's radius shows it clearly
_CUT = 0.5  # the slice that a void is made for cuts it within this share of its radius
_OVERFLOW_REGION = 0.2  # share of the stack at one end where resin may run over
_RADIUS = (0.14, 0.28)  # half extents of a sheet: 14 to 28 % of the image tall where it is cut in the middle
_VOID_SLOPE, _SCRATCH_SLOPE = 0.02, 1.0  # a sheet's greatest tilt
_SCRATCHES = 0.4  # mean number in a battery
_TRIES = 24  # places tried for a sheet; the one with most solid matter around wins
_SOLID = POTTING / 2
_SQUARE = np.stack(np.meshgrid([-0.6, 0.0, 0.6], [-0.6, 0.0, 0.6]), axis=-1).reshape(-1, 2)


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
    clean, within = np.ones(STACK_SLICES, dtype=bool), np.zeros(STACK_SLICES, dtype=bool)
    for void in voids:
        away = np.abs(position - void.centre[0])
        clean &= away > _band(void.width, void.radius)
        within |= away < 0.45 * void.width
    through = rng.choice(np.flatnonzero(within), plan.porous["x"], replace=False)
    normal = rng.choice(np.flatnonzero(clean), plan.slices["x"] - plan.porous["x"], replace=False)
    return [("x", int(i), POROSITY) for i in through] + [("x", int(i), None) for i in normal]


def _band(width: float, radius: tuple[float, float]) -> float:
    """Return how far from a void's middle an x slice must pass to see nothing of it."""
    return 1.6 * width + _VOID_SLOPE * sum(radius)


def _draw_bead(shape: BatteryShape, ends: dict[int, float], rng: np.random.Generator) -> Bead:
    """Return a bead on either x face, at the ends of the y and z stacks that were kept for it."""
    side = float(rng.choice([-1.0, 1.0]))
    spread = _OVERFLOW_REGION * REACH * shape.extent
    radius = (float(rng.uniform(0.10, 0.14)), float(spread[1]), float(spread[2]))
    return Bead((shape.centre[0] + side * float(shape.extent[0]), ends[1], ends[2]), radius, side)


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
    return np.minimum(rng.uniform(*_RADIUS, 2), 0.45 * np.delete(shape.extent, axis))


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
    best: NDArray[np.float64] = centres[int(np.argmax(solid.sum(axis=1)))]
    return best


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
    most = min(5, max(1, int(half / (2 * _band(1.2 * config.void_width_px * 2 / 128, _RADIUS[1:] * 2)))))
    planes = shape.centre[0] + rng.uniform(-half, half, int(rng.integers(min(2, most), most + 1)))
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
    chord[..., axis] = position  # the line that the slice will show counts more than the sheet around it
    centre = _most_solid(shape, centres, np.concatenate([points, chord, chord], axis=1))
    return _draw_sheet(0, centre, radius, _VOID_SLOPE, config, rng)
