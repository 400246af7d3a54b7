"""The rounds: ordinary runs of the engine, each tested on another part of the data; finished ones are found again."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf, open_dict

from projects.battery.data.datamodule import ElpvDataModule
from shared.atomic import replacing
from shared.config import Settings, check_config, differing_keys
from shared.engine import fit
from shared.errors import ConfigError, DataError, RunInterrupted, UserError
from shared.report.outputs import TestOutputs
from shared.resume import saved_settings
from shared.run_dir import RunDirectory

NUM_ROUNDS = ElpvDataModule.NUM_CV_FOLDS
ROWS_FILE = "test_rows.npz"
"""In a round's run directory: probabilities of every row of its table, where predictions.csv has those of final."""

Say = Callable[[str], None]


def check_usage(settings: Settings) -> None:
    """Refuse what makes no cross-validation.

    Raises:
        ConfigError: Naming the key.
    """
    data = settings.plain["data"]
    if "cross_validation_fold" not in data:
        raise ConfigError(
            f"data._target_ is {data['_target_']}, which has no rounds of a cross-validation; use data=battery_elpv "
            "or +experiment=elpv_late_fusion"
        )
    if data["cross_validation_fold"] is not None:
        raise ConfigError(
            f"data.cross_validation_fold is {data['cross_validation_fold']}; cross_validate sets it for each round: "
            "leave it out"
        )
    if settings.resume is not None:
        raise ConfigError(f"resume is {settings.resume}; cross_validate finds its rounds by itself: leave it out")
    lacking = [stage for stage in ("fit", "test") if stage not in settings.stages]
    if lacking:
        raise ConfigError(f"stages lacks {' and '.join(lacking)}, without which a round predicts nothing")


def round_config(config: DictConfig, number: int) -> DictConfig:
    """Return the configuration of one round; only the first audits, since their samples are nearly the same."""
    own = config.copy()
    with open_dict(own):
        own.experiment = f"{config.experiment}-round{number}"
        own.data.cross_validation_fold = number
        own.stages = [stage for stage in config.stages if stage != "audit" or number == 0]
    return own


def run_rounds(config: DictConfig, overrides: tuple[str, ...], say: Say, quiet: bool = False) -> list[RunDirectory]:
    """Train and test every round that is not finished yet; an interrupted one goes on where it stopped.

    Returns:
        The runs, in the order of the rounds.

    Raises:
        RunInterrupted: A signal stopped a round; the same call goes on with it.
        UserError: What a round raises.
    """
    runs = []
    for number in range(NUM_ROUNDS):
        own = round_config(config, number)
        found, finished = find_round(check_config(own))
        if found is not None and finished:
            say(f"round {number + 1} of {NUM_ROUNDS}: done before, {found.path}")
            runs.append(found)
            continue
        say(f"round {number + 1} of {NUM_ROUNDS}: " + ("starts" if found is None else f"goes on with {found.path}"))
        own.resume = None if found is None else str(found.path)
        runs.append(_run_round(own, overrides, quiet))
    return runs


def _run_round(own: DictConfig, overrides: tuple[str, ...], quiet: bool) -> RunDirectory:
    """Run one round; its network and its loaders are gone when this returns."""
    try:
        result = fit(own, overrides=overrides, quiet=quiet)
    except RunInterrupted as error:
        raise RunInterrupted(error.signum, f"{error}, or give the same cross_validate command again") from error
    assert result.outputs is not None  # stages hold test
    save_rows(result.run.path / ROWS_FILE, result.outputs)
    return result.run


def find_round(settings: Settings) -> tuple[RunDirectory | None, bool]:
    """Look for a run of this very configuration: the newest finished one, else the newest that can be resumed.

    Returns:
        The run or None, and whether it is finished.

    Raises:
        ConfigError: If another process is working on it.
    """
    folder = settings.outputs / settings.project / settings.experiment
    unfinished: RunDirectory | None = None
    for path in sorted(folder.glob("*/status.json"), reverse=True):
        run = RunDirectory(path.parent)
        if not _same_configuration(run, settings):
            continue
        status = run.status()
        if status["state"] == "done":
            if (run.path / ROWS_FILE).is_file():
                return run, True
            continue  # stopped between its end and the rows: they cannot be had again without opening test again
        if run.is_alive():
            raise ConfigError(f"{run.path} is still running (process {status['pid']} on {status['host']}); wait for it")
        unfinished = unfinished or run
    return unfinished, False


def _same_configuration(run: RunDirectory, settings: Settings) -> bool:
    try:
        saved = saved_settings(run).plain
    except UserError:  # a run that died before its configuration was whole, or one of another version of the code
        return False
    return all(key == "resume" for key in differing_keys(settings.plain, saved))


def save_rows(path: Path, outputs: TestOutputs) -> None:
    """Write the probabilities of every row, the targets and the rows of the index, atomically."""
    arrays: dict[str, NDArray[np.generic]] = {f"probs/{name}": values for name, values in outputs.probs.items()}
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, target=outputs.target, rows=outputs.rows, **arrays)


def load_rows(path: Path) -> TestOutputs:
    """Read what `save_rows` wrote.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        probs = {key.removeprefix("probs/"): array for key, array in arrays.items() if key.startswith("probs/")}
        return TestOutputs(probs=probs, target=arrays["target"], rows=arrays["rows"])
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is missing or damaged ({error}); remove its run to have the round made anew"
        ) from error


def as_yaml(config: DictConfig) -> str:
    """The configuration as config.yaml holds it."""
    return OmegaConf.to_yaml(config, resolve=True)
