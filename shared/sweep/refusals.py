"""What a sweep refuses before anything is run, one sentence each."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.compose import composed
from shared.config import Settings, check_config
from shared.entry import CONFIG_FOLDER
from shared.errors import ConfigError
from shared.learning_rate import rate_from_sweep
from shared.sweep.axes import Interval
from shared.sweep.planner import Planner
from shared.sweep.scoring import RATE_KEY

POINTS_SET = {
    "resume": "a sweep goes on by itself when its command is given again",
    "stages": "points of a sweep only fit, and never open accept, calibrate or test",
}
"""Keys that a user may not give, and why."""


def fixed_config(primary: str, fixed: tuple[str, ...], planner: Planner) -> tuple[Settings, tuple[str, ...]]:
    """Check what is the same for every point.

    Args:
        primary: Primary configuration.
        fixed: Overrides without the swept ones.
        planner: Of the sweep.

    Returns:
        The checked configuration of the fixed overrides, with the first of each swept choice; and the overrides, with
        the sweep pinned that `optimizer.lr_from=latest` means now.

    Raises:
        ConfigError: If a key is given that points set, it does not compose, or it asks for several nodes.
    """
    for argument in (*fixed, *_axes(planner)):
        key = argument.split("=")[0].lstrip("+~")
        if key in POINTS_SET:
            raise ConfigError(f"{key} cannot be given to a sweep: {POINTS_SET[key]}")
    settings = check_config(_composed_at_first(primary, fixed, planner))
    nodes = settings.plain["trainer"].get("num_nodes", 1)
    if nodes != 1:
        raise ConfigError(f"trainer.num_nodes is {nodes}; a point of a sweep runs on one node, so 1 is needed")
    if settings.plain["optimizer"].get("lr_from") is not None and RATE_KEY not in _swept(planner):
        found = rate_from_sweep(settings.plain["optimizer"], settings.sweeps)
        settings.plain["optimizer"] = found
        kept = [argument for argument in fixed if argument.split("=")[0].lstrip("+") != f"{RATE_KEY}_from"]
        fixed = (*kept, f"{RATE_KEY}_from='{found['lr_from']}'")
    return settings, fixed


def refuse_objective(name: str) -> None:
    """Look for the objective's file without running it, since it may take seconds to import.

    Raises:
        ConfigError: It is not there.
    """
    module = name.rpartition(".")[0]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(f"hydra.sweeper.objective is {name}, and there is no module {module}")


def refuse_points(primary: str, fixed: tuple[str, ...], planner: Planner) -> None:
    """Compose each swept value once, so that a slip of the hand does not show after a night.

    Raises:
        ConfigError: If a value does not compose, or a learning rate is not above 0.
    """
    axes = _axes(planner)
    first = {key: next(iter(axis)) for key, axis in axes.items()}
    for key, axis in axes.items():
        for value in axis.values():
            if key == RATE_KEY and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
                raise ConfigError(f"{RATE_KEY} is {value!r} in the sweep; a learning rate must be above 0")
        # Plain values differ in nothing that composing could find; each choice of a group is another file.
        tried: Iterable[str] = axis if _is_group(key) else list(axis)[:1]
        for override in tried:
            composed(primary, [*fixed, *(first | {key: override}).values()])


def _composed_at_first(primary: str, fixed: tuple[str, ...], planner: Planner) -> Any:
    """What is the same for all points; fixed overrides may be about what only a swept choice brings."""
    try:
        return composed(primary, fixed)
    except ConfigError:
        axes = _axes(planner)
        if not axes:
            raise
        return composed(primary, [*fixed, *(next(iter(axis)) for axis in axes.values())])


def _axes(planner: Planner) -> dict[str, dict[str, Any]]:
    """Swept keys with overrides that stand for their values: all listed ones, both ends of an interval."""
    axes: dict[str, dict[str, Any]] = {}
    for key, axis in getattr(planner, "axes", {}).items():
        if isinstance(axis, dict):
            axes[key] = axis
            continue
        element, what = axis
        if isinstance(what, Interval):
            axes[key] = {f"{element}={end}": end for end in (what.low, what.high)}
        else:
            axes[key] = dict(zip(what.overrides, what.values, strict=True))
    return axes


def _swept(planner: Planner) -> set[str]:
    key = getattr(planner, "key", None)
    return {*getattr(planner, "axes", ()), *([key] if key else [])}


def _is_group(key: str) -> bool:
    return Path(CONFIG_FOLDER, key.split("@")[0]).is_dir()
