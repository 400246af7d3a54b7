"""What a sweep searches: `sweep.json`, written once, and the configuration of each of its points."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from shared.compose import composed
from shared.config import differing_keys
from shared.errors import ConfigError
from shared.sweep import contexts
from shared.sweep.changes import Change
from shared.sweep.ledger import SweepLedger
from shared.sweep.limits import newest_limits, note_limits
from shared.sweep.scoring import Direction
from shared.sweep.search_file import SCHEMA, read_content, write_once
from shared.sweep.settings import SEARCHED
from shared.sweep.states import PointView
from shared.sweep.sweep_file import SWEEP_FILE, check_names

if TYPE_CHECKING:
    from shared.sweep.settings import SweepSettings

KEPT_CALLBACKS = ("progress", "gradient_norms")
"""A point never saves snapshots nor stops early; only these callbacks stay, where the configuration has them."""
NOT_SEARCHED = ("resume", "paths", "experiment", "stages", "callbacks", "logger")
"""Roots that make no result of a point another one, or that the rules for points set."""


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        folder: Of the sweep.
        sweeper: Kind of the planner: "grid", "hierarchical_lr" or "optuna".
        primary: Primary configuration.
        overrides: Fixed ones, the same for every point.
        objective: Dotted name of the function that measures a point.
        settings: The sweeper's plain settings.
        config_hash: Of what `overrides` compose to.
        direction: Whether the smallest ("min") or the largest ("max") score is the best.
        score_name: What a score is, in a few words.
        generation: Of code and data, from 0.
    """

    folder: Path
    sweeper: str
    primary: str
    overrides: tuple[str, ...]
    objective: str
    settings: Mapping[str, Any]
    config_hash: str
    direction: Direction
    score_name: str
    generation: int

    @classmethod
    def open_or_create(
        cls,
        folder: Path,
        *,
        sweeper: str,
        primary: str,
        overrides: tuple[str, ...],
        settings: "SweepSettings",
        direction: str,
        score_name: str,
        config: Mapping[str, Any],
        say: Callable[[str], None],
        choices: Mapping[str, str] | None = None,
    ) -> "Search":
        """Write sweep.json, or go on with the one that is there, if it is of the same search.

        Args:
            folder: Of the sweep; made if there is none.
            sweeper: Kind of the planner.
            primary: Primary configuration.
            overrides: Fixed ones.
            settings: Checked settings.
            direction: "min" or "max".
            score_name: What a score is, in a few words.
            config: What primary and overrides compose to, plain.
            say: Told what the user should know.
            choices: Overrides of swept configuration groups, each with the hash of what it composes to.

        Raises:
            ConfigError: The sweep there is another search, or its code, data or choices were others.
            DataError: The folder cannot be written.
        """
        from shared.sweep.settings import plain_settings

        plain = plain_settings(settings)
        searched = {root: node for root, node in config.items() if root not in NOT_SEARCHED}
        content = {
            "schema": SCHEMA, "sweeper": sweeper, "primary": primary, "overrides": list(overrides), "settings": plain,
            "objective": settings.objective, "direction": direction, "score_name": score_name,
            "config": searched, "config_hash": _hash(searched), "started": time.time(),
        }  # fmt: skip
        if not write_once(folder / SWEEP_FILE, content, say):
            _refuse_another(folder / SWEEP_FILE, content)
        if settings.num_samples is not None and not has_key(config, settings.subset_key):
            say(
                f"{primary} has no {settings.subset_key} that would cut its data to {settings.num_samples} samples, so "
                "every point trains on all of train"
            )
        note_limits(folder, read_content(folder / SWEEP_FILE)["settings"], plain)
        _enter(folder, primary, settings, plain, config.get("data") or {}, choices or {}, say)
        return cls.load(folder, plain)

    @classmethod
    def load(cls, folder: Path, settings: Mapping[str, Any] | None = None) -> "Search":
        """Read a sweep's search.

        Args:
            folder: Of the sweep.
            settings: As given today; None: those that the sweep was started with.

        Raises:
            ConfigError: There is none, it cannot be read, or it names what is not of this project.
        """
        content = read_content(folder / SWEEP_FILE)
        check_names(folder / SWEEP_FILE, content)
        plain = content["settings"] | newest_limits(folder) if settings is None else dict(settings)
        return cls(
            folder=folder,
            sweeper=content["sweeper"],
            primary=content["primary"],
            overrides=tuple(content["overrides"]),
            objective=content["objective"],
            settings=plain,
            config_hash=content["config_hash"],
            direction=cast(Direction, content["direction"]),
            score_name=content["score_name"],
            generation=ledger_of(folder, plain).generation,
        )

    def ledger(self) -> SweepLedger:
        """A ledger of its own, with the limits of the settings."""
        return ledger_of(self.folder, self.settings)

    def code_hash(self) -> str:
        """Hash of the code as it was when this process first asked."""
        return contexts.code_hash(self.primary, self.objective)

    def has_known_code(self) -> bool:
        """Whether points of this generation may be made with the code of this process."""
        return contexts.is_known(contexts.contexts(self.folder), self.code_hash())

    def require_point(self, id: str, code_hash: str) -> None:
        """Refuse a point of former code, and code that is not that of the sweep: before each point, where it is run.

        Args:
            id: Of the point.
            code_hash: Of the code when the process that imports it began.

        Raises:
            ConfigError: The code here is none of those that the sweep goes by, it has changed since this process
                began, or the sweep has begun a new generation of points.
        """
        ledger = self.ledger()
        view, newest = ledger.point(id), ledger.generation
        if view.generation != newest:
            raise ConfigError(
                f"point {view.number} is of generation {view.generation} of the sweep {self.folder}, whose points have "
                f"been begun anew with other code (generation {newest}); it is not run any more"
            )
        self.require_unchanged_code(code_hash)
        self.require_known_code()

    def require_unchanged_code(self, code_hash: str) -> None:
        """Refuse to go on in a process whose code is no longer that on the disk.

        Args:
            code_hash: Of the code when the process began.

        Raises:
            ConfigError: It was changed.
        """
        if contexts.code_hash_now(self.primary, self.objective) != code_hash:
            raise ConfigError(
                f"the code was changed while the sweep {self.folder} ran, and what further points load would not be "
                "of one state; start it again"
            )

    def require_known_code(self) -> None:
        """Refuse to add results of other code.

        Raises:
            ConfigError: The code here is none of those that the sweep goes by.
        """
        if not self.has_known_code():
            raise ConfigError(
                f"the code here is another than that of the sweep {self.folder}; check out the same, or start the "
                "sweep again with hydra.sweeper.on_change=keep or rerun"
            )

    def point_config(self, view: PointView) -> DictConfig:
        """The configuration of a point: a fit that never opens accept, calibrate or test.

        Raises:
            ConfigError: It cannot be composed.
        """
        config = composed(self.primary, [*self.overrides, *view.overrides])
        epochs, num_samples = self.settings["epochs"], self.settings["num_samples"]
        with open_dict(config):
            config.experiment = f"sweep-{self.folder.name}"
            config.stages = ["fit"]
            config.resume = None
            if "lr_from" in config.optimizer and "optimizer.lr" in view.values:
                config.optimizer.lr_from = None
            config.callbacks = {name: node for name, node in config.callbacks.items() if name in KEPT_CALLBACKS}
            if epochs is not None:
                config.trainer.max_epochs = epochs
            if num_samples is not None:
                cut_to_subset(config, num_samples, self.settings["subset_key"])
        return config


def ledger_of(folder: Path, settings: Mapping[str, Any]) -> SweepLedger:
    """The ledger in a sweep's folder, with the limits that the settings say."""
    return SweepLedger(
        folder,
        retries=settings["retries"],
        max_interruptions=settings["max_interruptions"],
        lease_s=settings["lease_s"],
    )


def _enter(
    folder: Path, primary: str, settings: "SweepSettings", plain: Mapping[str, Any], data: Mapping[str, Any],
    choices: Mapping[str, str], say: Callable[[str], None],
) -> None:  # fmt: skip
    """Compare code, choices and data with those that the points there were made with, and do what `on_change` says.

    Raises:
        ConfigError: They have changed, points are done, and `on_change` is "refuse".
    """
    ledger = ledger_of(folder, plain)
    views = ledger.points()
    done = sum(view.state == "done" for view in views)
    begun = sum(view.run is not None and not view.is_settled for view in views)
    now = contexts.code_hash(primary, settings.objective)
    contexts.enter(folder, now, settings.on_change, done, say, begun)
    change = Change(ledger, now, settings.on_change, say)
    change.enter_choices(choices)
    change.enter_data(data)


def _refuse_another(path: Path, given: Mapping[str, Any]) -> None:
    """Refuse to add points of one search to those of another.

    Raises:
        ConfigError: Naming what differs.
    """
    there = read_content(path)
    keys = [key for key in ("sweeper", "primary", "direction", "score_name") if there[key] != given[key]]
    old, new = there["settings"], given["settings"]
    keys += [f"hydra.sweeper.{key}" for key in SEARCHED if old.get(key) != new.get(key)]
    keys += differing_keys(there["config"], given["config"])
    if not there["config"] and sorted(there["overrides"]) != sorted(given["overrides"]):
        keys.append("overrides")
    if keys == ["hydra.sweeper.lease_s"]:
        raise ConfigError(
            f"hydra.sweeper.lease_s is {new['lease_s']:g}, and that of the sweep {path.parent} is {old['lease_s']:g}: "
            "all who share a ledger must agree when a lease is over; give the sweep's"
        )
    if keys:
        shown = ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
        raise ConfigError(
            f"the sweep {path.parent} is another search; it differs in {shown}: give another hydra.sweeper.name"
        )


def cut_to_subset(config: DictConfig, num_samples: int, key: str) -> bool:
    """Train on a subset; a smaller set is left as it is.

    Args:
        config: Composed configuration, changed in place.
        num_samples: Size of the subset.
        key: Dotted key that cuts the data.

    Returns:
        False where the configuration lacks the key: then nothing is changed.
    """
    if not has_key(config, key):
        return False
    former = OmegaConf.select(config, key)
    OmegaConf.update(config, key, num_samples if former is None else min(former, num_samples))
    return True


def has_key(config: Mapping[str, Any] | DictConfig, key: str) -> bool:
    """Whether a nested configuration has a dotted key, null or not."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping | DictConfig) or part not in node:
            return False
        node = node[part]
    return True


def _hash(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
