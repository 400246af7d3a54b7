"""What `hydra.sweeper.*` may hold: the keys of each sweeper, their types and ranges."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from shared.errors import ConfigError
from shared.instantiate import unknown_key
from shared.sweep.halving_rule import HalvingRule

WHERE = "hydra.sweeper"
ON_CHANGE = ("refuse", "rerun", "keep")
OBJECTIVE_ROOMS = ("shared.", "projects.", "tests.", "bench.")
"""Where an objective may stand: a sweep's folder names code that is run on every machine that helps."""


@dataclass(frozen=True)
class SweepSettings:
    """What every sweeper of ours takes.

    Attributes:
        name: Of the folder; None: from what is searched.
        objective: Dotted name of the function that measures a point.
        epochs: Length of every fit; None: as configured.
        num_samples: Size of the subset that is trained on; None: all.
        subset_key: Configuration key that cuts the data to it; where a project lacks it, all are trained on.
        retries: How often a point that failed is tried again.
        max_interruptions: How often in a row a point may be interrupted without getting further.
        lease_s: Seconds without a heartbeat after which a point on another machine counts as lost.
        on_change: What is done where the code has changed since the sweep began, one of ON_CHANGE.
        max_disk_gb: What all the sweep's files may take, in 10^9 bytes; None: no limit.
        keep_top: How many of the best points keep their checkpoints where the disk is limited.
        halving: Successive halving {first_epoch, eta}; None: every point goes to its end.
        at_once: Most points of one launch; None: as many as suits the launcher.
    """

    name: str | None
    objective: str
    epochs: int | None
    num_samples: int | None
    subset_key: str
    retries: int
    max_interruptions: int
    lease_s: float
    on_change: str
    max_disk_gb: float | None
    keep_top: int
    halving: dict[str, int] | None
    at_once: int | None

    def __post_init__(self) -> None:
        if self.name is not None and not (self.name and all(c.isalnum() or c in "_-" for c in self.name)):
            raise ConfigError(
                f"{WHERE}.name is {self.name!r}; it names a folder, so letters, digits, _ and - are allowed"
            )
        if not self.objective.startswith(OBJECTIVE_ROOMS):
            rooms = ", ".join(OBJECTIVE_ROOMS)
            raise ConfigError(f"{WHERE}.objective is {self.objective!r}; it must be a function below one of {rooms}")
        if self.on_change not in ON_CHANGE:
            raise ConfigError(f"{WHERE}.on_change is {self.on_change!r}; allowed are {', '.join(ON_CHANGE)}")
        for key, least in (
            ("epochs", 1),
            ("num_samples", 1),
            ("retries", 0),
            ("max_interruptions", 0),
            ("keep_top", 1),
            ("at_once", 1),
        ):
            _at_least(key, getattr(self, key), least)
        for key in ("lease_s", "max_disk_gb"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{WHERE}.{key} is {value}; it must be above 0")
        HalvingRule.of({"halving": self.halving})


@dataclass(frozen=True)
class GridSettings(SweepSettings):
    """What the grid takes: its values stand on the command line."""


@dataclass(frozen=True)
class RateSettings(SweepSettings):
    """What the hierarchical sweep over learning rates takes; its planner checks the numbers."""

    low: float
    high: float
    points_per_stage: int
    stages: int
    key: str


@dataclass(frozen=True)
class OptunaSettings(SweepSettings):
    """What a sweep by Optuna takes; its planner checks the numbers."""

    total: int | None
    batch: int
    sampler: str
    seed: int


SEARCHED = ("objective", "epochs", "num_samples", "subset_key", "lease_s", "halving", "key")
"""Settings that results depend on, or on which all who share a ledger must agree: another value is another search."""


def read_settings(kind: type[SweepSettings], given: Mapping[str, Any]) -> SweepSettings:
    """Check the keys and types of a sweeper's settings.

    Args:
        kind: The sweeper's dataclass.
        given: Plain mapping, as configured.

    Raises:
        ConfigError: For an unknown key (naming the nearest), a missing one, or a value that is not allowed.
    """
    known = [field.name for field in fields(kind)]
    for key in given:
        if key not in known:
            raise ConfigError(unknown_key(f"{WHERE}.{key}", [f"{WHERE}.{name}" for name in known]))
    hints = get_type_hints(kind)
    for name in known:
        if given.get(name, MISSING) is MISSING:
            raise ConfigError(f"the configuration lacks {WHERE}.{name}")
        types = tuple(dict if _is_mapping(part) else part for part in get_args(hints[name]) or (hints[name],))
        accepted = (*types, int) if float in types else types
        value = given[name]
        if not isinstance(value, accepted) or isinstance(value, bool):
            names = " or ".join("null" if part is NoneType else part.__name__ for part in types)
            raise ConfigError(f"{WHERE}.{name} is {value!r}; it must be {names}")
    return kind(**given)


def plain_settings(settings: SweepSettings) -> dict[str, Any]:
    """The settings as sweep.json keeps them."""
    return asdict(settings)


def default_name(kind: str, parts: Mapping[str, Any]) -> str:
    """A folder's name that is the same for the same search: the sweeper and six hex digits.

    Args:
        kind: Of the sweeper.
        parts: Plain values that tell one search from another; their order does not count.
    """
    content = json.dumps(parts, sort_keys=True)
    return f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:6]}"


def _is_mapping(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is dict


def _at_least(key: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{WHERE}.{key} is {value}; allowed are whole numbers from {least} on")
