"""Is there a run of this very configuration already: finished, unfinished and to be gone on with, or still running?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared.config import Settings, differing_keys
from shared.errors import ConfigError, UserError
from shared.resume import saved_settings
from shared.run_dir import RunDirectory

Verdict = Literal["finished", "unfinished", "other"]
"""What a run of the same configuration is to the one who asks; "other" ones are passed over."""

Judge = Callable[[RunDirectory, Mapping[str, Any]], Verdict]
"""Judges a run by its directory and the content of its status."""


@dataclass(frozen=True)
class FoundRun:
    """A run of the configuration that was asked for.

    Attributes:
        run: Its directory.
        is_finished: Whether there is nothing left to do; otherwise it can be resumed.
    """

    run: RunDirectory
    is_finished: bool


def by_state(run: RunDirectory, status: Mapping[str, Any]) -> Verdict:
    """The plain judge: a run is finished once its state is "done"."""
    return "finished" if status["state"] == "done" else "unfinished"


def find_same_run(settings: Settings, judge: Judge = by_state) -> FoundRun | None:
    """Look among the runs of the experiment: the newest finished one, else the newest to be resumed.

    Args:
        settings: As the engine writes them into config.yaml, so with `optimizer.lr_from` resolved; `resume` does not
            count.
        judge: Asked about each run of this configuration, the newest first, until one is finished.

    Returns:
        None where there is no such run.

    Raises:
        ConfigError: If another process is working on one.
    """
    folder = settings.outputs / settings.project / settings.experiment
    unfinished: FoundRun | None = None
    for path in sorted(folder.glob("*/status.json"), reverse=True):
        run = RunDirectory(path.parent)
        if not has_configuration(run, settings):
            continue
        status = run.status()
        verdict = judge(run, status)
        if verdict == "finished":
            return FoundRun(run, is_finished=True)
        if verdict == "other":
            continue
        if run.is_alive():
            raise ConfigError(f"{run.path} is still running (process {status['pid']} on {status['host']}); wait for it")
        unfinished = unfinished or FoundRun(run, is_finished=False)
    return unfinished


def has_configuration(run: RunDirectory, settings: Settings) -> bool:
    """Whether a run was made with these settings, but for `resume`."""
    try:
        saved = saved_settings(run).plain
    except UserError:  # a run that died before its configuration was whole, or one of another version of the code
        return False
    return all(key == "resume" for key in differing_keys(settings.plain, saved))
