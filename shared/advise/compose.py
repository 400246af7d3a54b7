"""Ready override lines: a suggestion counts only after it was composed with its run's own and checked as at a start."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.advise.records import Record
from shared.config import check_config, check_targets, differing_keys, to_plain
from shared.errors import ConfigError
from shared.instantiate import instantiate
from shared.learning_rate import without_origin

_NOT_CARRIED = ("resume",)


@dataclass(frozen=True)
class Command:
    """A run that can be started.

    Attributes:
        project: Whose `train` it is.
        overrides: All its overrides, in order.
        notes: What differs from the run that it is made from, beside the suggestion.
    """

    project: str
    overrides: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """What follows the name of the Python interpreter."""
        return ["-m", f"projects.{self.project}.train", *self.overrides]


def ready(record: Record, changes: Sequence[str]) -> Command:
    """The run's own overrides with `changes`, composed and checked down to the optimiser and the datamodule.

    What the run's configuration holds but its overrides do not explain (a run started from Python, a file of conf/
    that has changed since) is pinned key by key, so that nothing differs from it but the changes.

    Args:
        record: Run with a configuration.
        changes: Overrides `key=value` or `group=option`.

    Raises:
        ConfigError: If the run has no configuration, a key is not in it, or a value is refused.
    """
    if record.config is None or record.project is None:
        raise ConfigError(f"{record.path} has no readable configuration to change")
    project = record.project
    groups = [change for change in changes if _is_group(change)]
    for change in changes:
        if change not in groups and _absent(record, _key(change)):
            raise ConfigError(f"{record.path} has no config key {_key(change)}")
    own = [text for text in record.overrides if text.strip() and _key(text) not in _NOT_CARRIED]
    kept = [text for text in own if not any(_covers(change, text) for change in changes)]
    pins, notes = _pins(record, _compose(project, own), own, changes)
    command = Command(project, (*kept, *pins, *changes), tuple(notes))
    composed = _compose(project, command.overrides)
    plain = to_plain(composed)
    _check(plain, changes)
    differing = [key for key in differing_keys(record.config, plain) if not _follows(composed, key)]
    strays = [key for key in differing if not _expected(key, record, changes)]
    if strays:
        raise ConfigError(f"{record.path} cannot be made again from its overrides; differing keys: {', '.join(strays)}")
    return command


def written(value: Any) -> str:
    """A value as an override writes it.

    Example:
        >>> written([0.5, None, True, "a b"])
        "[0.5,null,true,'a b']"
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return f"{value:.10g}" if isinstance(value, float) and math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(written(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{text}'"


def _pins(record: Record, composed: Any, own: Sequence[str], changes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides for what the run's configuration has and its own overrides do not give, and what is new since."""
    assert record.config is not None
    plain = to_plain(composed)
    pins, new = [], []
    for key in differing_keys(plain, record.config):
        if key.split(".")[0] in _NOT_CARRIED or any(_covers(change, key) for change in changes):
            continue
        value = record.value(key, _ABSENT)
        if value is _ABSENT or _is_side_class(key):
            new.append(key)
        else:
            pins.append(f"++{key}={written(value)}")
    notes = []
    if new:
        notes.append(f"changed in the code since that run, taken as it is now: {', '.join(new)}")
    if pins:
        notes.append(f"set as that run had it, its overrides alone give another value: {', '.join(map(_key, pins))}")
    return pins, notes


def _compose(project: str, overrides: Sequence[str]) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from shared.entry import CONFIG_FOLDER

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
            return compose(project, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(overrides)} does not compose: {str(error).splitlines()[0]}") from error


def _check(plain: dict[str, Any], changes: Sequence[str]) -> None:
    """All that a start checks before it reads data, and what the optimiser, the schedule and the datamodule check."""
    import torch

    from shared.engine import ENGINE_SETS
    from shared.optim import build_optimizer, build_scheduler
    from shared.stages.train import check_callbacks

    settings = check_config(plain)
    check_targets(settings, ENGINE_SETS)
    check_callbacks(settings)
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(2, 2))], without_origin(plain["optimizer"]))
    build_scheduler(optimizer, plain["scheduler"], total_steps=1000, steps_per_epoch=10)
    for key in ("batch_size", "eval_batch_size"):
        if int(plain["data"].get(key, 1)) < 1:
            raise ConfigError(f"data.{key} is {plain['data'][key]}; allowed are whole numbers from 1 on")
    if any(_key(change).split(".")[0] == "data" for change in changes):
        instantiate(plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache)


def _expected(key: str, record: Record, changes: Sequence[str]) -> bool:
    """Whether a key may differ from the run: it is changed, new in the code since, or no setting of the fit."""
    return (
        key.split(".")[0] in _NOT_CARRIED
        or _absent(record, key)
        or _is_side_class(key)
        or any(_covers(change, key) for change in changes)
    )


def _follows(composed: Any, key: str) -> bool:
    """Whether a key's value is that of another (`${seed}`), so that it changes with it."""
    from omegaconf import OmegaConf

    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(composed, parent)
    return OmegaConf.is_config(node) and name in node and bool(OmegaConf.is_interpolation(node, name))


def _is_side_class(key: str) -> bool:
    """Whether a key names the class of a callback or logger: one that was renamed since is the new one."""
    parts = key.split(".")
    return parts[0] in ("callbacks", "logger") and parts[-1] == "_target_"


def _covers(change: str, other: str) -> bool:
    """Whether `change` sets what `other` (an override or a key) sets, or a node above or below it."""
    a, b = _key(change).split("."), _key(other).split(".")
    return a == b[: len(a)] or (not _is_group(other) and b == a[: len(b)] and "=" in other)


def _key(override: str) -> str:
    return override.split("=")[0].lstrip("+~").split("@")[0]


def _is_group(override: str) -> bool:
    from shared.entry import CONFIG_FOLDER

    return "=" in override and Path(CONFIG_FOLDER, _key(override)).is_dir()


def _absent(record: Record, key: str) -> bool:
    return record.value(key, _ABSENT) is _ABSENT


_ABSENT = object()
