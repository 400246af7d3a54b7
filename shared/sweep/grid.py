"""Plain grids: every combination of the values that the overrides of a multirun list."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError
from shared.sweep.canonical import canonical_value, same_values
from shared.sweep.plans import Proposal
from shared.sweep.states import PointView

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override

MAX_POINTS = 100_000
"""A larger grid is a slip of the hand: at a minute a point it would take two months."""

Axes = dict[str, dict[str, Any]]
"""Swept key -> override as Hydra takes it -> canonical value."""


class GridPlanner:
    """Plans all combinations of the listed values at once; asked again, only those that are not there yet.

    Args:
        axes: Swept keys, each with its overrides and their values; the last key varies fastest. Without a key the grid
            is one point with nothing swept.
        notes: Sentences to be shown, for example about values listed twice.

    Raises:
        ConfigError: If the grid has more than `MAX_POINTS` points.
    """

    def __init__(self, axes: Axes, notes: Sequence[str] = ()) -> None:
        number = math.prod(len(axis) for axis in axes.values())
        if number > MAX_POINTS:
            raise ConfigError(f"the grid over {', '.join(axes)} has {number} points; allowed are up to {MAX_POINTS}")
        self.axes = axes
        self.total: int | None = number
        self.notes: list[str] = list(notes)
        self._known: dict[str, dict[str, int | None]] = {key: {} for key in axes}

    def space(self) -> dict[str, Any]:
        """The values of each key."""
        return {"kind": "grid", "values": {key: list(axis.values()) for key, axis in self.axes.items()}}

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether the values are a combination of this grid."""
        return self._place(values) is not None

    def propose(self, points: Sequence[PointView]) -> list[Proposal] | None:
        """The combinations that no point has; None where there is none."""
        there = {self._place(point.values) for point in points}
        missing = [
            Proposal({key: value for key, (_, value) in zip(self.axes, cell, strict=True)}, tuple(o for o, _ in cell))
            for place, cell in self._cells()
            if place not in there
        ]
        return missing or None

    def _cells(self) -> list[tuple[tuple[int, ...], tuple[tuple[str, Any], ...]]]:
        """All combinations, each with the place of its values on their axes."""
        places = itertools.product(*(range(len(axis)) for axis in self.axes.values()))
        cells = itertools.product(*(axis.items() for axis in self.axes.values()))
        return list(zip(places, cells, strict=True))

    def _place(self, values: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Where on each axis a point's value stands; None where it is not of this grid."""
        if values.keys() != self.axes.keys():
            return None
        places = [self._place_on(key, values[key]) for key in self.axes]
        return None if None in places else tuple(place for place in places if place is not None)

    def _place_on(self, key: str, value: Any) -> int | None:
        name = repr(canonical_value(value))
        if name not in self._known[key]:  # each value is compared with all others once: 10,000 points have few values
            listed = enumerate(self.axes[key].values())
            self._known[key][name] = next((place for place, other in listed if same_values(value, other)), None)
        return self._known[key][name]


def parse_grid(arguments: Sequence[str], loader: "ConfigLoader | None" = None) -> tuple[tuple[str, ...], GridPlanner]:
    """Split the arguments of a multirun into those that are fixed and a grid of those that list values.

    Args:
        arguments: In Hydra's grammar: `a=1,2`, `a=choice(1,2)`, `a=range(0,3)`, `a=glob(*)`; `model=x,y` for a group.
        loader: Hydra's, for the options of `glob`.

    Raises:
        ConfigError: If an argument is none of Hydra's grammar, has no values, or is an interval.

    Example:
        >>> fixed, grid = parse_grid(["trainer=cpu", "optimizer.lr=1e-3,0.001,1e-4"])
        >>> fixed, grid.space()["values"]
        (('trainer=cpu',), {'optimizer.lr': [0.001, 0.0001]})
    """
    fixed: list[str] = []
    axes: Axes = {}
    notes: list[str] = []
    for override in parse_overrides(arguments, loader):
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
            continue
        if not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.input_line} is an interval, which a grid cannot enumerate; list values, give range() or "
                "choice(), or take hydra/sweeper=optuna"
            )
        key = axis_key(override)
        if key in axes:
            raise ConfigError(f"{key} is swept twice; list all its values in one override")
        axes[key], listed = axis_values(override)
        if listed > len(axes[key]):
            notes.append(f"{override.input_line} lists {listed} values, {len(axes[key])} of them different")
    return tuple(fixed), GridPlanner(axes, notes)


def parse_overrides(arguments: Sequence[str], loader: "ConfigLoader | None" = None) -> "list[Override]":
    """Hydra's own reading of overrides.

    Raises:
        ConfigError: If one is none of Hydra's grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=loader)
    overrides: list[Override] = []
    for argument in arguments:
        try:
            overrides += parser.parse_overrides([argument])
        except HydraException as error:
            raise ConfigError(f"{argument} is no override of Hydra's: {str(error).splitlines()[0]}") from error
    return overrides


def axis_key(override: "Override") -> str:
    """The key that an override sets, however it sets it: `+a=1` and `a=1` are about the same."""
    return override.get_key_element().lstrip("+")


def axis_values(override: "Override") -> tuple[dict[str, Any], int]:
    """Overrides and canonical values that a sweep override lists, equal ones once; and how many it lists.

    Raises:
        ConfigError: If it lists none, or one that is no point of an axis (not finite).
    """
    from hydra.core.override_parser.types import Override, Transformer
    from hydra.errors import HydraException

    element = override.get_key_element()
    try:
        texts = list(override.sweep_iterator(Transformer.str))
        # Quoted texts are told from bare ones by Hydra alone; its own conversion, as BasicSweeper has none to borrow.
        values = [canonical_value(Override._convert_value(value)) for value in override.sweep_iterator()]
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{override.input_line} cannot be swept: {error}") from error
    if not values:
        raise ConfigError(f"{override.input_line} lists no value; at least 1 is needed")
    kept: dict[str, Any] = {}
    for text, value in zip(texts, values, strict=True):
        if not any(same_values(value, other) for other in kept.values()):
            kept[f"{element}={text}"] = value
    return kept, len(values)
