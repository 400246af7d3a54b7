"""The shell around the engine: composes the configuration with Hydra, turns errors into one sentence and an exit code.

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 130 and 143 interrupted by SIGINT and SIGTERM. Nothing
heavy is imported before the configuration is composed, so `--help` and `--cfg job` answer at once.
"""

import difflib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from shared.errors import RunInterrupted, UserError

CONFIG_FOLDER = str(Path(__file__).resolve().parents[1] / "conf")
SWEEPER_ROOT = "hydra.sweeper."
SWEEPERS = "hydra_plugins.sweetspot."
"""Sweepers whose jobs are points of a ledger."""


def train(project: str, job: Callable[[DictConfig], float | None] | None = None) -> None:
    """Run `python -m projects.<project>.train`; ends the process with the exit code if it is not 0.

    Args:
        project: Name of the primary configuration file, without its ending.
        job: What is done with the composed configuration, where it is not one run of the engine.
    """
    reached: list[bool] = []

    def run(config: DictConfig) -> float | None:
        reached.append(True)
        return (job or run_job)(config)

    # A sweep that has begun is composed, so that what stops it later is no wrong usage.
    run.begun = lambda: reached.append(True)  # type: ignore[attr-defined]
    if job is not None:
        run.is_other_command = True  # type: ignore[attr-defined]
    _register_sweepers(sys.argv[1:])
    try:
        hydra.main(version_base="1.3", config_path=CONFIG_FOLDER, config_name=project)(run)()
    except SystemExit as stop:
        if reached or stop.code in (0, None) or isinstance(stop.__cause__, UserError):
            raise
        # Hydra has said what it could not compose; it does not say which key was meant, and exits with 1.
        for hint in _nearest_keys(project, sys.argv[1:]):
            print(hint, file=sys.stderr)
        raise SystemExit(2) from stop


def run_job(config: DictConfig) -> float | None:
    """Run one composed job and print its last line; returns the monitored value, for sweepers that minimise one.

    A job of a sweep with a ledger runs the point that its name says, and returns nothing.

    Raises:
        SystemExit: With the error's exit code, after its sentence is on standard error.
    """
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN and str(hydra_config.sweeper.get("_target_")).startswith(SWEEPERS):
        _run_point()
        return None
    from shared.engine import fit

    overrides = tuple(HydraConfig.get().overrides.task)
    with exit_codes():
        result = fit(_with_saved_config(config, overrides), overrides=overrides)
    print(f"run: {result.run.path}", flush=True)
    return result.metrics.get(str(config.runtime.monitor))


def _run_point() -> None:
    """Run the point of a sweep that this job is for."""
    from shared.sweep.jobs import job_of, run_job

    with exit_codes():
        try:
            run_job(*job_of(HydraConfig.get()))
        except RunInterrupted as stop:  # Hydra takes any Exception for the job's result, and goes on
            raise SystemExit(stop.exit_code) from stop


def _register_sweepers(arguments: list[str]) -> None:
    """Make our sweepers known to Hydra; a run of one job needs none, and starts without them."""
    if any(argument.startswith("-") or argument.startswith("hydra.mode") for argument in arguments):
        from shared.sweep.plugins import register

        register()


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn a `UserError` of the block into its sentence on standard error and its exit code.

    Raises:
        SystemExit: With the error's exit code.
    """
    try:
        yield
    except UserError as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error


def sentence(error: UserError) -> str:
    """The error's own words; from a loader worker it arrives as the last line of a stack trace."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return text.strip().splitlines()[-1].partition(": ")[2]


def _with_saved_config(config: DictConfig, overrides: tuple[str, ...]) -> DictConfig:
    """With `resume=<path>` as the only override, the run's own configuration; otherwise the composed one."""
    value = config.resume
    if value in (None, "auto") or len(overrides) != 1:
        return config
    path = Path(str(value))
    saved = (path.parent.parent if path.suffix == ".ckpt" else path) / "config.yaml"
    if not saved.is_file():
        return config  # the engine says what is wrong with the path
    loaded = OmegaConf.load(saved)
    loaded.resume = value
    assert isinstance(loaded, DictConfig)
    return loaded


def _nearest_keys(project: str, arguments: list[str]) -> list[str]:
    """One sentence for each override whose key the primary configuration lacks, with the nearest that it has."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    groups = [a for a in arguments if "=" in a and Path(CONFIG_FOLDER, a.split("=")[0].lstrip("+")).is_dir()]
    try:
        with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
            composed = compose(project, groups, return_hydra_config=True)
            keys = _dotted(OmegaConf.to_container(composed, resolve=False))
    except Exception:  # the group override itself is wrong, and Hydra has said so
        return []
    hints = []
    for argument in arguments:
        key = argument.split("=")[0].lstrip("+~")
        is_sweeper = key.startswith(SWEEPER_ROOT)
        known = [name for name in keys if name.startswith(SWEEPER_ROOT if is_sweeper else "hydra") == is_sweeper]
        if "=" in argument and key not in known and (is_sweeper or not argument.startswith(("hydra", "+"))):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            hints.append(f"error: unknown config key {key}; the nearest is {near[0]}")
    return hints


def _dotted(node: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a nested mapping."""
    if not isinstance(node, dict):
        return []
    keys = []
    for key, value in node.items():
        keys.append(f"{prefix}{key}")
        keys += _dotted(value, f"{prefix}{key}.")
    return keys
