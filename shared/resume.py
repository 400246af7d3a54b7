"""Which run a `resume=` value means, and whether the configuration given with it fits."""

import os
from pathlib import Path
from typing import Any

import yaml

from shared.checkpoint_io import newest_intact
from shared.config import Settings, check_config, differing_keys
from shared.errors import CheckpointError, ConfigError, UserError
from shared.point_hooks import POINT_KIND
from shared.run_dir import RunDirectory, unfinished_runs


def find_run(settings: Settings, point: bool = False) -> tuple[RunDirectory, Path | None] | None:
    """The run that `settings.resume` names, and the checkpoint if it names one; None to start afresh.

    Args:
        settings: Checked configuration.
        point: Whether a sweep asks, which alone may go on with one of its points.

    Raises:
        ConfigError: If nothing is there, the run is finished or still alive, or the configuration differs.
    """
    if settings.resume is None:
        return None
    if settings.resume == "auto":
        found = unfinished_runs(settings.outputs, settings.project, settings.experiment)
        if not found:
            return None
        run, checkpoint = next((run for run in found if not _differences(settings.plain, run)), found[0]), None
    else:
        path = Path(settings.resume)
        checkpoint = path if path.suffix == ".ckpt" else None
        if checkpoint is not None and not checkpoint.is_file():
            raise ConfigError(f"resume: {checkpoint} does not exist")
        run = RunDirectory.open(run_folder(path).resolve())
    status = run.status()
    if status.get("kind") == "evaluation":
        raise ConfigError(f"resume: {run.path} is an evaluation; run evaluate again")
    if status.get("kind") == POINT_KIND and not point:
        raise ConfigError(f"resume: {run.path} is a point of a sweep; give the sweep's command again, which resumes it")
    if status["state"] == "done":
        raise ConfigError(f"resume: {run.path} is finished; start a new run without resume")
    if run.is_alive():
        raise ConfigError(f"resume: {run.path} is still running (process {status['pid']} on {status['host']})")
    return run, checkpoint


def run_folder(path: Path) -> Path:
    """The run directory that a path means: itself, or for a checkpoint the first folder above it with a status."""
    if path.suffix != ".ckpt":
        return path
    return next((folder for folder in path.parents if (folder / "status.json").is_file()), path.parent)


def _differences(given: dict[str, Any], run: RunDirectory) -> list[str]:
    """Keys in which a run's configuration differs; all of them where it cannot be read."""
    try:
        saved = saved_settings(run).plain
    except UserError:
        return ["config.yaml"]
    return [key for key in differing_keys(given, saved) if key != "resume"]


def saved_settings(run: RunDirectory) -> Settings:
    """Configuration that a run was started with.

    Raises:
        CheckpointError: If config.yaml is missing or damaged.
    """
    path = run.path / "config.yaml"
    try:
        return check_config(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); the run cannot be resumed or loaded") from error


def refuse_differences(given: dict[str, Any], run: RunDirectory, saved: dict[str, Any]) -> None:
    """Refuse to go on under another configuration than the run was started with.

    Raises:
        ConfigError: Naming the keys that differ.
    """
    keys = [key for key in differing_keys(given, saved) if key != "resume"]
    if keys:
        shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        raise ConfigError(
            f"resume: {run.path} was started with another configuration; differing keys: {shown}. Give the same "
            f"overrides, or only resume={os.path.relpath(run.path)}, or start afresh without resume"
        )


def checkpoint_to_resume(run: RunDirectory, named: Path | None) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint of a run (None where it had not saved one yet), and what had to be passed over."""
    if named is not None:
        return newest_intact([named])
    candidates = [path for name in ("last.ckpt", "best.ckpt") if (path := run.checkpoints / name).exists()]
    return newest_intact(candidates) if candidates else (None, [])
