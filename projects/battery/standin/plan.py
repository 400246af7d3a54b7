"""Which battery gives which slices with which label: pure arithmetic on counts, no pixels.

The label of a slice is fixed before anything is drawn, and the defects are then placed so that the label is true. That
keeps the class counts exact, the porosity rates on y and z equal, and the form of a battery without information about
its defects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from projects.battery.standin.config import AXES, FORMS, PLAN_STREAM, POROSITY, RESIN_OVERFLOW, StandinConfig

_PARTIAL_RATES = (0.3, 0.9)  # a battery with voids in one region: 30 to 90 % of its y and z slices show them
_ONE_AXIS_RATES = (0.2, 0.8)  # a battery that shows them on y or z only
_MIXED_MEAN = 0.425  # mean rate over y and z of these two patterns, in equal parts


@dataclass(frozen=True)
class BatteryPlan:
    """One unit of work: a battery and how many of its slices show what.

    Attributes:
        battery_id: 1 to 9999, unique over both kinds.
        kind: "cell" or "module".
        form: "pouch", "cylindrical" or "prismatic".
        slices: Axis -> number of slices.
        porous: Axis -> number of those that show porosity.
        overflow: Axis -> number of those that show resin overflow.
    """

    battery_id: int
    kind: str
    form: str
    slices: dict[str, int]
    porous: dict[str, int]
    overflow: dict[str, int]

    @property
    def num_slices(self) -> int:
        """Return the number of images of this battery."""
        return sum(self.slices.values())


def plan_batteries(config: StandinConfig) -> list[BatteryPlan]:
    """Return the plan of every battery, by battery id; a pure function of the configuration."""
    rng = np.random.default_rng([config.seed, PLAN_STREAM])
    counts = apportion(config.class_shares, config.num_slices)
    cells = _num_cells(config, sum(counts[:2]), sum(counts[2:]))
    ids = rng.permutation(np.arange(1, config.num_batteries + 1))
    plans = _plan_kind("cell", ids[:cells], counts[0] + counts[1], counts[1], 0, config, rng)
    plans += _plan_kind("module", ids[cells:], sum(counts[2:]), counts[3], counts[4], config, rng)
    return sorted(plans, key=lambda plan: plan.battery_id)


def apportion(shares: Sequence[float], total: int) -> list[int]:
    """Return whole numbers in the proportion of `shares` that add up to `total` (largest remainders)."""
    exact = np.asarray(shares, dtype=np.float64) / np.sum(shares) * total
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]


def _num_cells(config: StandinConfig, cell_slices: int, module_slices: int) -> int:
    """Return how many batteries are cells; each kind that has slices gets a battery where there are two or more."""
    if config.num_batteries == 1:
        return int(cell_slices >= module_slices)
    cells = round(config.num_batteries * cell_slices / (cell_slices + module_slices))
    return min(max(cells, int(cell_slices > 0)), config.num_batteries - int(module_slices > 0))


def _plan_kind(
    kind: str,
    ids: NDArray[np.int64],
    num_slices: int,
    num_porous: int,
    num_overflow: int,
    config: StandinConfig,
    rng: np.random.Generator,
) -> list[BatteryPlan]:
    """Plan all batteries of one kind; arrays are (batteries, 3 axes)."""
    if len(ids) == 0:
        return []
    num_slices, num_porous, num_overflow = _fit_single_battery(kind, num_slices, num_porous, num_overflow, config)
    forms = np.arange(len(ids)) % len(FORMS)  # the ids are in random order, so this is as random as a draw
    slices = _spread_slices(len(ids), num_slices, rng)
    overflow = _spread_overflow(slices, num_overflow, config.resin_overflow_batteries, rng)
    porous = _spread_porosity(slices - overflow, forms, num_porous, config.x_normal_share, rng)

    def by_axis(row: NDArray[np.int64]) -> dict[str, int]:
        return {axis: int(count) for axis, count in zip(AXES, row, strict=True)}

    return [
        BatteryPlan(int(ids[i]), kind, FORMS[forms[i]], by_axis(slices[i]), by_axis(porous[i]), by_axis(overflow[i]))
        for i in range(len(ids))
    ]


def _fit_single_battery(
    kind: str, num_slices: int, num_porous: int, num_overflow: int, config: StandinConfig
) -> tuple[int, int, int]:
    """With one battery in all, it takes every slice, and only the defects of its own kind."""
    if config.num_batteries > 1:
        return num_slices, num_porous, num_overflow
    return config.num_slices, num_porous, num_overflow if kind == "module" else 0


def _spread_slices(num_batteries: int, num_slices: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return (batteries, 3) counts: a third on each axis, as even over the batteries as whole numbers allow."""
    slices = np.zeros((num_batteries, len(AXES)), dtype=np.int64)
    for axis, total in enumerate(apportion((1, 1, 1), num_slices)):
        base, extra = divmod(total, num_batteries)
        slices[:, axis] = base
        slices[rng.permutation(num_batteries)[:extra], axis] += 1
    return slices


def _spread_overflow(
    slices: NDArray[np.int64], total: int, num_batteries: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return (batteries, 3) counts of overflow slices on y and z, one round after another over the chosen batteries."""
    overflow = np.zeros_like(slices)
    chosen = rng.permutation(len(slices))[:num_batteries]
    room = slices.copy()
    room[:, 0] = 0
    turn = 0
    while overflow.sum() < min(total, room[chosen].sum()):
        battery, axis = chosen[turn % len(chosen)], 1 + (turn + turn // len(chosen)) % 2
        overflow[battery, axis] += overflow[battery, axis] < room[battery, axis]
        turn += 1
    return overflow


def _spread_porosity(
    free: NDArray[np.int64], forms: NDArray[np.int64], total: int, x_normal_share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return (batteries, 3) counts of slices with porosity.

    Every slice gets the key rate - u with u uniform; the highest keys of an axis show porosity. A battery of rate 1
    thus keeps nearly all of its slices (such as 98 %), and one of rate 0 stays clean unless the quota asks for more.
    """
    porous = np.zeros_like(free)
    on_x = min(int(free[:, 0].sum() * (1.0 - x_normal_share) + rng.random()), total)
    quotas = [on_x, *(int(count) for count in apportion((1, 1), total - on_x))]
    target = min(1.0, (total - on_x) / max(1, int(free[:, 1:].sum())))
    rates = _porosity_rates(forms, target, rng)
    for axis, quota in enumerate(quotas):
        battery = np.repeat(np.arange(len(free)), free[:, axis])
        rate = rates[battery, axis]
        key = np.where(rate > 0, rate, -1.0) - rng.random(len(battery))
        np.add.at(porous[:, axis], battery[np.argsort(-key, kind="stable")[:quota]], 1)
    return porous


def _porosity_rates(forms: NDArray[np.int64], target: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (batteries, 3) wanted rates: clean, saturated, partial or one-axis batteries in equal parts of each form.

    Field reports give rates on x/y/z such as 0/100/100, 0/30/0 and 2/100/98 %.
    """
    mixed = min(0.5 * target, 0.8 * (1.0 - target))
    saturated = target - _MIXED_MEAN * mixed
    shares = (saturated, mixed / 2, mixed / 4, mixed / 4, max(0.0, 1.0 - saturated - mixed))
    rates = np.zeros((len(forms), len(AXES)))
    for form in range(len(FORMS)):
        members = rng.permutation(np.flatnonzero(forms == form))
        pattern = np.repeat(np.arange(len(shares)), apportion(shares, len(members)))
        partial = rng.uniform(*_PARTIAL_RATES, len(members))
        single = rng.uniform(*_ONE_AXIS_RATES, len(members))
        rates[members, 1] = np.choose(pattern, [1.0, partial, single, 0.0, 0.0])
        rates[members, 2] = np.choose(pattern, [1.0, partial, 0.0, single, 0.0])
        rates[members, 0] = (pattern < 4) * 1.0  # an x slice shows porosity only in a porous battery
    return rates


def class_counts(plans: Sequence[BatteryPlan]) -> dict[str, int]:
    """Return the number of images by class name."""
    counts: dict[str, int] = {}
    for plan in plans:
        porous, overflow = sum(plan.porous.values()), sum(plan.overflow.values())
        for name, count in (
            ("normal", plan.num_slices - porous - overflow),
            (POROSITY, porous),
            (RESIN_OVERFLOW, overflow),
        ):
            key = f"{plan.kind}_{name}"
            counts[key] = counts.get(key, 0) + count
    return {name: count for name, count in sorted(counts.items()) if count}
