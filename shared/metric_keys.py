"""Metric keys: `<stage>/<metric>`, `<stage>/<task>/<metric>`, and `val/group/<group>/loss` for a module group."""

import re
from dataclasses import dataclass

from shared.errors import ConfigError

STAGES = ("train", "val", "test", "calibrate")
FORMS = "<stage>/<metric>, <stage>/<task>/<metric> or val/group/<group>/loss"
_GROUP = "group"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class MetricKey:
    """A metric key taken apart; at most one of `task` and `group` is set."""

    stage: str
    metric: str
    task: str | None = None
    group: str | None = None

    def __str__(self) -> str:
        if self.group is not None:
            return group_loss_key(self.group)
        return metric_key(self.stage, self.metric, self.task)


def metric_key(stage: str, metric: str, task: str | None = None) -> str:
    """Return `<stage>/<metric>` or `<stage>/<task>/<metric>`.

    Raises:
        ValueError: If the stage is unknown, a name holds more than letters, digits, `_`, `.`, `-`, or the task is the
            reserved word `group`.

    Example:
        >>> metric_key("val", "f1_macro"), metric_key("val", "mae", task="valence")
        ('val/f1_macro', 'val/valence/mae')
    """
    if stage not in STAGES:
        raise ValueError(f"stage is {stage!r}, allowed: {', '.join(STAGES)}")
    names = [metric] if task is None else [task, metric]
    for name in names:
        _check_name(name)
    if task == _GROUP:
        raise ValueError(f"task is {_GROUP!r}, which is reserved for val/group/<group>/loss")
    return "/".join([stage, *names])


def group_loss_key(group: str) -> str:
    """Return `val/group/<group>/loss`.

    Raises:
        ValueError: If the group's name holds more than letters, digits, `_`, `.`, `-`.
    """
    _check_name(group)
    return f"val/{_GROUP}/{group}/loss"


def parse(key: str) -> MetricKey:
    """Take a key apart; `str()` of the result is `key` again.

    Raises:
        ConfigError: If the key has none of the allowed forms (keys to parse come from a `monitor` in the config).
    """
    parts = key.split("/")
    try:
        if len(parts) == 4 and parts[:2] == ["val", _GROUP] and parts[3] == "loss":
            group_loss_key(parts[2])
            return MetricKey("val", "loss", group=parts[2])
        if len(parts) not in (2, 3):
            raise ValueError(f"it has {len(parts)} parts")
        task = parts[1] if len(parts) == 3 else None
        metric_key(parts[0], parts[-1], task)
    except ValueError as error:
        raise ConfigError(f"metric key {key!r} is none ({error}); allowed: {FORMS}") from None
    return MetricKey(parts[0], parts[-1], task)


def _check_name(name: str) -> None:
    """Raise ValueError unless `name` can stand between two slashes."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r} holds other than letters, digits, '_', '.' and '-'")
    # Lightning appends this when several loaders log one key; read as a metric it would hide the real one.
    if name.startswith("dataloader_idx_"):
        raise ValueError(f"name {name!r} is Lightning's loader suffix; log with add_dataloader_idx=False")
