"""What a sweep refuses before anything is run, one sentence each."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from shared.compose import composed
from shared.config import Settings, check_config
from shared.entry import CONFIG_FOLDER
from shared.errors import ConfigError
from shared.learning_rate import rate_from_sweep
from shared.sweep.axes import Interval
from shared.sweep.planner import Planner
from shared.sweep.scoring import RATE_KEY
from shared.sweep.search import NOT_SEARCHED
from shared.sweep.settings import SweepSettings

POINTS_SET = {
    "resume": "a sweep goes on by itself when its command is given again",
    "stages": "points of a sweep only fit, and never open accept, calibrate or test",
}
"""Keys that a user may not give, and why."""
THROWN_AWAY = {
    "callbacks": "points keep progress and gradient norms alone, as their configuration has them",
    "logger": "points log to their run directories alone, and their scores do not depend on it",
    "experiment": "points name their runs after the sweep",
    "paths": "points of a sweep stand in one place, and where that is changes no result",
}
"""Roots that may be given, but not swept: all values would be the same point measured again."""


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
    if settings.plain["optimizer"].get("lr_from") is not None:
        if RATE_KEY in _swept(planner):
            raise ConfigError(f"{RATE_KEY}_from is given to a sweep over {RATE_KEY}: leave it out")
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


def refuse_points(
    primary: str, fixed: tuple[str, ...], planner: Planner, settings: SweepSettings | None = None
) -> dict[str, str]:
    """Compose each swept value once, so that a slip of the hand does not show after a night.

    Args:
        primary: Primary configuration.
        fixed: Overrides without the swept ones.
        planner: Of the sweep.
        settings: The sweeper's; None: nothing is set by them.

    Returns:
        For each choice of a swept configuration group its override and the hash of what it composes to.

    Raises:
        ConfigError: If a value does not compose, points throw it away, or a learning rate is not above 0.
    """
    axes = _axes(planner)
    first = {key: next(iter(axis)) for key, axis in axes.items()}
    choices: dict[str, str] = {}
    for key, axis in axes.items():
        _refuse_thrown_away(key, settings)
        for value in axis.values():
            if key == RATE_KEY and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
                raise ConfigError(f"{RATE_KEY} is {value!r} in the sweep; a learning rate must be above 0")
        # Plain values differ in nothing that composing could find; each choice of a group is another file.
        tried: Iterable[str] = axis if _is_group(key) else list(axis)[:1]
        for override in tried:
            config = composed(primary, [*fixed, *(first | {key: override}).values()])
            if _is_group(key):
                choices[override] = _hash_of_choice(primary, fixed, key, override, config)
    return choices


def _refuse_thrown_away(key: str, settings: SweepSettings | None) -> None:
    """Refuse to sweep what points set themselves.

    Raises:
        ConfigError: With the reason.
    """
    root = key.split(".")[0].split("/")[0].split("@")[0]
    if root in THROWN_AWAY and not (root == "experiment" and _is_group(key)):
        raise ConfigError(f"{key} cannot be swept: {THROWN_AWAY[root]}; give it one value")
    given = (
        {} if settings is None else {"trainer.max_epochs": settings.epochs, settings.subset_key: settings.num_samples}
    )
    if given.get(key) is not None:
        by = "epochs" if key == "trainer.max_epochs" else "num_samples"
        raise ConfigError(
            f"{key} is swept, and hydra.sweeper.{by}={given[key]} sets it for all points; give one of them"
        )


def _hash_of_choice(primary: str, fixed: tuple[str, ...], key: str, override: str, config: DictConfig) -> str:
    """Hash of what a choice composes to, whatever else is swept beside it."""
    try:
        config = composed(primary, [*fixed, override])
        roots = [root for root in config if root not in NOT_SEARCHED]
    except ConfigError:  # the fixed overrides are about what only another swept choice brings
        roots = [key.split("/")[0].split("@")[0]]
    plain = {str(root): OmegaConf.to_container(OmegaConf.create({"node": config.get(root)})) for root in roots}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


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
