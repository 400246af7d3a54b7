"""What the files of a run say about it: state, configuration, overrides, curves; and which runs lie below a folder."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shared.advise.curves import Curves, parse_log, parse_metrics, read_text
from shared.errors import ConfigError, DataError, UserError
from shared.run_dir import RunDirectory

LOG, METRICS = "train_log.txt", "metrics.csv"
_EMPTY = Curves(np.zeros(0, dtype=np.int64), {})


@dataclass(frozen=True)
class Record:
    """One run as its files tell it.

    Attributes:
        path: Run directory, or the log file where there is only that.
        state: running, interrupted, failed or done; died for one that says running but whose process is gone; None
            where nothing says.
        stage: Stage that the run was in.
        error: The sentence it failed with, where the status holds one.
        config: Its configuration as nested plain containers, None where there is none.
        overrides: What was typed.
        curves: Its curves, possibly of no epoch.
        notes: Sentences on what could not be read.
    """

    path: Path
    state: str | None = None
    stage: str | None = None
    error: str | None = None
    config: dict[str, Any] | None = None
    overrides: tuple[str, ...] = ()
    curves: Curves = _EMPTY
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the run is called in tables: its folder's name, or the file's and its folder's."""
        return self.path.name if self.path.is_dir() else "/".join(self.path.parts[-2:])

    @property
    def project(self) -> str | None:
        """Project, from the datamodule's place (`projects.<name>.data...`)."""
        parts = str(self.value("data._target_", "")).split(".")
        return parts[1] if len(parts) > 2 and parts[0] == "projects" else None

    @property
    def monitor(self) -> tuple[str, str]:
        """Key and mode by which runs are compared; the val loss where the run names none, or never logged it."""
        key = str(self.value("runtime.monitor", "val/loss"))
        if not np.isfinite(self.curves.column(key)).any():
            return "val/loss", "min"
        return key, str(self.value("runtime.monitor_mode", "min"))

    def value(self, key: str, default: Any = None) -> Any:
        """Value of a dotted configuration key, `default` where it is absent."""
        node: Any = self.config
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                return default
            node = node[part]
        return node

    def best(self, key: str, mode: str) -> tuple[float, int] | None:
        """Best finite value of a metric and its epoch, None where there is none."""
        values = self.curves.column(key)
        if not np.isfinite(values).any():
            return None
        worst = -math.inf if mode == "max" else math.inf
        finite = np.where(np.isfinite(values), values, worst)
        at = int(np.argmax(finite) if mode == "max" else np.argmin(finite))
        return float(values[at]), int(self.curves.epochs[at])


def find_records(places: Sequence[Path]) -> tuple[list[Record], list[str]]:
    """The runs that the given places are or hold, oldest name first, and sentences on what was passed over.

    Args:
        places: Run directories, folders that hold runs at any depth, or log files.

    Raises:
        ConfigError: If a place does not exist or none of them holds a run.
    """
    found: dict[Path, Record] = {}
    passed: list[str] = []
    for place in places:
        if not place.exists():
            raise ConfigError(f"{place} does not exist; give run directories, folders that hold runs, or log files")
        for path in [place] if place.is_file() else _runs_below(place):
            try:
                found[path.resolve()] = _read_log(path) if path.is_file() else read_run(path)
            except UserError as error:
                passed.append(str(error))
    if not found:
        said = f" ({'; '.join(passed)})" if passed else ""
        raise ConfigError(f"no run in {', '.join(map(str, places))}: nothing there has a {METRICS} or {LOG}{said}")
    return list(found.values()), passed


def read_run(path: Path) -> Record:
    """Read a run directory, as far as it can be read.

    Raises:
        DataError: If the directory is no training run (an evaluation, or a run without a fit).
    """
    record = _with_status(Record(path))
    record = _with_config(record)
    try:
        record = replace(record, overrides=tuple((path / "overrides.txt").read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError):
        record = replace(record, notes=(*record.notes, "overrides.txt cannot be read"))
    record = _with_curves(record)
    if not len(record.curves) and record.state == "done":
        raise DataError(f"{path} is passed over: it is done and trained nothing")
    planned = record.curves.max_epochs or record.value("trainer.max_epochs")
    curves = replace(record.curves, max_epochs=planned if isinstance(planned, int) else None)
    return replace(record, curves=curves, notes=(*record.notes, *curves.notes))


def _runs_below(folder: Path) -> list[Path]:
    """Runs at any depth, without looking inside runs or behind links such as `latest`."""
    runs: list[Path] = []
    for place, folders, files in os.walk(folder):
        if {"status.json", "config.yaml", METRICS} & set(files):
            runs.append(Path(place))
            folders.clear()
        elif LOG in files:
            runs.append(Path(place) / LOG)
        folders.sort()
    return runs


def _read_log(path: Path) -> Record:
    curves = parse_log(read_text(path))
    if not len(curves):
        raise DataError(f"{path} is passed over: it has no whole line [EPOCH] N/total train_loss=X val_loss=Y ...")
    return Record(path, curves=curves, notes=curves.notes)


def _with_status(record: Record) -> Record:
    run = RunDirectory(record.path)
    try:
        status = run.status()
        state = str(status["state"])
        if state == "running" and not run.is_alive():
            state = "died"
    except (UserError, KeyError, TypeError, ValueError):
        return replace(record, notes=(*record.notes, "status.json cannot be read, so how the run ended is unknown"))
    if status.get("kind") == "evaluation":
        raise DataError(f"{record.path} is passed over: it is an evaluation of another run")
    stage, error = status.get("stage"), status.get("error")
    return replace(record, state=state, stage=stage and str(stage), error=error and str(error))


def _with_config(record: Record) -> Record:
    try:
        config = yaml.safe_load((record.path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        config = None
    if not isinstance(config, dict):
        return replace(record, notes=(*record.notes, "config.yaml cannot be read, so no override can be checked"))
    return replace(record, config=config)


def _with_curves(record: Record) -> Record:
    """From metrics.csv, which has every metric; from the log where that fails."""
    notes: list[str] = []
    for name, parse in ((METRICS, parse_metrics), (LOG, parse_log)):
        if not (record.path / name).is_file():
            continue
        try:
            curves = parse(read_text(record.path / name))
        except DataError as error:
            notes.append(f"{name} is passed over: {error}")
            continue
        if len(curves):
            return replace(record, curves=curves, notes=(*record.notes, *notes))
    return replace(record, notes=(*record.notes, *notes))
