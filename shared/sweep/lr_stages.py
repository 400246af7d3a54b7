"""Learning rates in stages: first over the whole range, then closer and closer around the best (hierarchical sweep)."""

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

from shared.errors import ConfigError
from shared.sweep.plans import Proposal
from shared.sweep.scoring import ranked
from shared.sweep.states import PointView

STEP = 1.1
"""Rates up to this factor apart are within 10 % of one another, and by such steps one is moved away."""
SHRINK = 3.0
"""The spacing of a stage is that of the stage before, divided by this (in log space)."""
DIGITS = 4
"""Significant digits of a rate: short to read, and the same on machines whose logarithms differ in the last bit."""
_EDGE = 1e-6


class HierarchicalRates:
    """Plans `stages` stages of `points_per_stage` rates each.

    Stage 0 spreads over [low, high] in log space, both ends included; a rate that an earlier sweep has tested within
    10 % is used in place of the new one. Stage k puts rates around the best so far, at a third of the distance of the
    stage before; one within 10 % of a tested rate is moved away by steps of x1.1 to the nearest free one. Failed rates
    count as tested. So do those stopped early, which are the best only where no other has a score. Where nothing is
    free there are fewer rates, and `notes` says so.

    Which stages are there is read off the points: the rates of stage k are those marked k that were planned after the
    rates of stage k - 1. So a sweep over another range in the same folder takes what lies in its range as tested and
    goes through its own stages.

    Args:
        low: Lower end of the range, above 0.
        high: Upper end.
        points_per_stage: At least 2.
        stages: At least 1.
        key: Of the configuration, the one thing that differs from point to point.

    Raises:
        ConfigError: If a number is not allowed, with the key `hydra.sweeper.<name>`.
    """

    def __init__(
        self,
        low: float = 1e-5,
        high: float = 5e-4,
        points_per_stage: int = 5,
        stages: int = 5,
        key: str = "optimizer.lr",
    ) -> None:
        for name, rate in (("low", low), ("high", high)):
            _check_rate(name, rate)
        if low >= high:
            raise ConfigError(f"hydra.sweeper.low is {low:g} and hydra.sweeper.high {high:g}; low must be below high")
        _check_count("points_per_stage", points_per_stage, 2)
        _check_count("stages", stages, 1)
        self.low, self.high = float(low), float(high)
        self.points_per_stage, self.stages, self.key = points_per_stage, stages, key
        self.total: int | None = points_per_stage * stages
        self.notes: list[str] = []

    def space(self) -> dict[str, Any]:
        """Range, numbers and key."""
        return {
            "kind": "hierarchical_lr", "key": self.key, "low": self.low, "high": self.high,
            "points_per_stage": self.points_per_stage, "stages": self.stages,
        }  # fmt: skip

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether the values are one rate inside the range."""
        rate = values.get(self.key)
        if set(values) != {self.key} or isinstance(rate, bool) or not isinstance(rate, int | float):
            return False
        return self.low * (1 - _EDGE) <= rate <= self.high * (1 + _EDGE)

    def propose(self, points: Sequence[PointView]) -> list[Proposal] | None:
        """The rates of the first stage that is not planned yet, once all before it are settled."""
        self.notes = []
        inside = sorted((point for point in points if self.contains(point.values)), key=lambda point: point.number)
        missing, start = self._first_stage(inside)
        if missing:
            return [self._proposal(rate, 0) for rate in missing]
        for stage in range(1, self.stages):
            there = _batch(inside, stage, start)
            before = [point for point in inside if point.number < start]
            if there:
                # Fewer because there was no room, or because fewer were asked for when it was planned?
                if len(there) < self.points_per_stage and len(self._around_best(before, before, stage)) <= len(there):
                    self._note_fewer(stage, len(there))
                start = there[-1].number + 1
                continue
            if not all(point.is_settled for point in before):
                return []
            rates = self._around_best(before, inside, stage)
            self._note_fewer(stage, len(rates))
            if rates:
                return [self._proposal(rate, stage) for rate in rates]
        return None

    def _proposal(self, rate: float, stage: int) -> Proposal:
        return Proposal(values={self.key: rate}, overrides=(f"{self.key}={rate!r}",), stage=stage)

    def _first_stage(self, inside: Sequence[PointView]) -> tuple[list[float], int]:
        """Rates of stage 0 that no point stands for, and the number after the last point that stands for one."""
        standing: set[int] = set()
        missing: list[float] = []
        for target in self._spread():
            near = [point.number for point in inside if is_near(self._rate(point), target)]
            if near:
                standing.add(min(near))
            elif not any(is_near(target, rate) for rate in missing):
                missing.append(target)
        self._note_fewer(0, len(standing) + len(missing))
        return sorted(missing), max(standing, default=-1) + 1

    def _spread(self) -> list[float]:
        """Targets of stage 0: the ends before those between, so that a narrow range keeps its ends."""
        steps = self.points_per_stage - 1
        between = [_rounded(self.low * (self.high / self.low) ** (n / steps)) for n in range(1, steps)]
        return [self.low, self.high, *between]

    def _around_best(self, before: Sequence[PointView], inside: Sequence[PointView], stage: int) -> list[float]:
        order = ranked(before)
        if not order:
            self.notes.append(f"no rate has a score before stage {stage}: there is nothing to search around")
            return []
        best = self._rate(order[0])
        spacing = math.log(self.high / self.low) / (self.points_per_stage - 1) / SHRINK**stage
        taken = [self._rate(point) for point in inside]
        found: list[float] = []
        for offset in _offsets(self.points_per_stage):
            free = self._nearest_free(best * math.exp(offset * spacing), [*taken, *found], up=offset >= 0)
            if free is not None:
                found.append(free)
        return sorted(found)

    def _nearest_free(self, target: float, taken: Sequence[float], *, up: bool) -> float | None:
        """The target, clipped to the range, or the rate the fewest steps of x1.1 away from it that is free."""
        target = min(max(target, self.low), self.high)
        reach = math.ceil(math.log(self.high / self.low) / math.log(STEP))
        for steps in range(reach + 1):
            for sign in (1, -1) if up else (-1, 1):
                rate = _rounded(target * STEP ** (sign * steps), sign if steps else 0)
                if self.low <= rate <= self.high and not any(is_near(rate, other) for other in taken):
                    return rate
        return None

    def _note_fewer(self, stage: int, number: int) -> None:
        if number < self.points_per_stage:
            self.notes.append(
                f"stage {stage} has {number} of {self.points_per_stage} rates: no other between {self.low:g} and "
                f"{self.high:g} is more than 10 % away from those tested; widen hydra.sweeper.low or hydra.sweeper.high"
            )

    def _rate(self, point: PointView) -> float:
        return float(point.values[self.key])


def is_near(one: float, other: float) -> bool:
    """Whether two rates are within 10 % of one another: at most a factor of 1.1 apart, whichever is the larger.

    Example:
        >>> is_near(1e-4, 1.1e-4), is_near(1.11e-4, 1e-4)
        (True, False)
    """
    return max(one, other) <= STEP * min(one, other) * (1 + _EDGE)


def _rounded(rate: float, away: int = 0) -> float:
    """The rate in four digits; `away` 1 or -1 rounds up or down, so that a step of x1.1 never ends within 10 %."""
    digits = Decimal(repr(rate * (1 + 2 * _EDGE * away)))
    rounding = {1: ROUND_CEILING, -1: ROUND_FLOOR}.get(away, ROUND_HALF_EVEN)
    return float(digits.quantize(Decimal(1).scaleb(digits.adjusted() - DIGITS + 1), rounding))


def _batch(inside: Sequence[PointView], stage: int, start: int) -> list[PointView]:
    """The rates of a stage: the first points of its mark from number `start` on, up to one with another mark."""
    found: list[PointView] = []
    for point in inside:
        if point.number < start:
            continue
        if point.stage == stage and (not found or point.number == found[-1].number + 1):
            found.append(point)
        elif found:
            break
    return found


def _offsets(number: int) -> list[int]:
    """Places around the best in units of the spacing, nearest first; 0 (tested already, so moved) comes last.

    Example:
        >>> _offsets(5)
        [-1, 1, -2, 2, 0]
    """
    sides = [sign * distance for distance in range(1, number // 2 + 1) for sign in (-1, 1)]
    return [*sides, 0] if number % 2 else sides


def _check_rate(name: str, rate: Any) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise ConfigError(f"hydra.sweeper.{name} is {rate!r}; a learning rate above 0 is needed, for example 1e-5")


def _check_count(name: str, number: Any, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ConfigError(f"hydra.sweeper.{name} is {number!r}; a whole number from {least} on is needed")
