"""The axes of a search: what each swept key may be, read from Hydra's overrides."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError
from shared.sweep.canonical import same_values
from shared.sweep.grid import axis_key, axis_values, parse_overrides

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override

_EDGE = 1e-9


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`, both included; whole ones only, or evenly spread in log space, where said."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """One of some values, each with the override that sets it; `ordered` where they are steps of one size."""

    overrides: tuple[str, ...]
    values: tuple[Any, ...]
    ordered: bool = False


Axis = Interval | Choice
Axes = dict[str, tuple[str, Axis]]
"""Swept key -> the key as the override has it (with its plus signs), and what it may be."""


def parse_search(arguments: Sequence[str], loader: "ConfigLoader | None" = None) -> tuple[tuple[str, ...], Axes]:
    """Split the arguments of a multirun into those that are fixed and the axes of a search.

    Args:
        arguments: In Hydra's grammar: `a=interval(0,1)`, `a=tag(log,interval(1e-5,1e-3))`, `a=int(interval(1,9))` for
            whole numbers, `a=range(0,10,2)`, `a=choice(x,y)` or `a=x,y`.
        loader: Hydra's, for the options of `glob`.

    Returns:
        The fixed overrides, and what `OptunaPlanner` takes.

    Raises:
        ConfigError: If an argument is none of Hydra's grammar, or an interval is empty.

    Example:
        >>> parse_search(["trainer=cpu", "+a=interval(0,1)"])
        (('trainer=cpu',), {'a': ('+a', Interval(low=0.0, high=1.0, log=False, whole=False))})
    """
    fixed: list[str] = []
    axes: Axes = {}
    for override in parse_overrides(arguments, loader):
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
            continue
        key = axis_key(override)
        if key in axes:
            raise ConfigError(f"{key} is swept twice; say what it may be in one override")
        axes[key] = override.get_key_element(), _axis(override)
    return tuple(fixed), axes


def _axis(override: "Override") -> Axis:
    if override.is_interval_sweep():
        return _interval(override)
    listed, _ = axis_values(override)
    return Choice(tuple(listed), tuple(listed.values()), ordered=override.is_range_sweep())


def _interval(override: "Override") -> Interval:
    sweep: Any = override.value()
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (log and low <= 0):
        needed = "two finite numbers, the smaller first" + (" and above 0" if log else "")
        raise ConfigError(f"{override.input_line} is no range to search in; {needed}, are needed")
    return Interval(low, high, log, whole=isinstance(low, int) and isinstance(high, int))


def place_of(axis: Axis, value: Any) -> float | int | None:
    """What a value is to Optuna: the place of a choice, a number inside the interval; None where it is outside."""
    if isinstance(axis, Choice):
        return next((place for place, other in enumerate(axis.values) if same_values(value, other)), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    slack = _EDGE * max(abs(axis.low), abs(axis.high))
    if not axis.low - slack <= value <= axis.high + slack or (axis.whole and not isinstance(value, int)):
        return None
    return value if axis.whole else min(max(float(value), axis.low), axis.high)


def plain_axis(axis: Axis) -> dict[str, Any]:
    """As JSON has it."""
    if isinstance(axis, Choice):
        return {"values": list(axis.values)}
    return {"low": axis.low, "high": axis.high, "log": axis.log, "whole": axis.whole}


def axis_of(plain: Mapping[str, Any]) -> Axis:
    """The axis that `plain_axis` has written; of a choice the values alone, without the overrides that set them.

    Raises:
        LookupError: If a part is missing.
    """
    if "values" in plain:
        values = tuple(plain["values"])
        return Choice(tuple(map(str, values)), values)
    return Interval(plain["low"], plain["high"], log=plain["log"], whole=plain["whole"])


def listed_values(axis: Axis) -> Sequence[Any]:
    """All values of a choice or of whole numbers."""
    return axis.values if isinstance(axis, Choice) else range(int(axis.low), int(axis.high) + 1)


def size_of(axes: Axes) -> int | None:
    """Number of points of the space, None where it is endless."""
    if any(isinstance(axis, Interval) and not axis.whole for _, axis in axes.values()):
        return None
    return math.prod(len(listed_values(axis)) for _, axis in axes.values())


def drawn_value(axis: Axis, chance: random.Random) -> float | int:
    """A random number of an interval, evenly in log space where it is said; the place of a choice."""
    if isinstance(axis, Choice):
        return chance.randrange(len(axis.values))
    if axis.log:
        drawn = math.exp(chance.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        drawn = chance.uniform(axis.low, axis.high)
    return min(max(round(drawn), int(axis.low)), int(axis.high)) if axis.whole else drawn
