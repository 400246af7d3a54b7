"""Runs of the engine that a command starts, finds again and goes on with, so that nothing is trained twice."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shared.config import Settings, check_config, differing_keys
from shared.entry import CONFIG_FOLDER
from shared.errors import ConfigError, RunInterrupted, TrainingError, UserError
from shared.learning_rate import rate_from_sweep
from shared.resume import saved_settings
from shared.run_dir import RunDirectory

PRIMARY = "redheart"
NOT_FINITE = "not finite"
"""What the NaN guard says of a fit that it stopped; such a fit is a result, and is not tried again."""


@dataclass(frozen=True)
class EngineRun:
    """One run of the engine.

    Attributes:
        run: Its directory.
        found: Whether it was finished before.
        failure: The sentence it failed with because its loss was not finite, None where it is complete.
    """

    run: RunDirectory
    found: bool
    failure: str | None = None


def composed(overrides: Sequence[str]) -> DictConfig:
    """Compose the primary configuration as the command line of `train` does.

    Raises:
        ConfigError: If an override names what is not there.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
            return compose(PRIMARY, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"the overrides {' '.join(overrides)} cannot be composed: {first}") from error


def run_once(config: DictConfig, overrides: Sequence[str] = (), quiet: bool = False, again: str = "") -> EngineRun:
    """Run the engine, or take over or go on with the run of this very configuration.

    Args:
        config: Composed configuration, `resume` null.
        overrides: Kept in overrides.txt.
        quiet: Show no progress.
        again: How the command is given again, for the message of an interruption.

    Returns:
        The run; a fit that was stopped because its loss was not finite has a `failure`.

    Raises:
        RunInterrupted: A signal stopped it; the same call goes on.
        UserError: What the engine raises, but for a loss that is not finite.
    """
    from shared.engine import fit

    settings = check_config(config)
    settings.plain["optimizer"] = rate_from_sweep(settings.plain["optimizer"], settings.sweeps)
    found = find(settings)
    if found is not None and found.found:
        return found
    own = config.copy()
    own.resume = None if found is None else str(found.run.path)
    try:
        return EngineRun(fit(own, overrides=tuple(overrides), quiet=quiet).run, found=False)
    except RunInterrupted as error:
        hint = f", or give the same command again: {again}" if again else ", or give the same command again"
        raise RunInterrupted(error.signum, f"{error}{hint}") from error
    except TrainingError as error:
        if NOT_FINITE not in str(error):
            raise
        failed = find(settings)
        assert failed is not None
        return EngineRun(failed.run, found=False, failure=str(error))


def find(settings: Settings) -> EngineRun | None:
    """Look for a run of this very configuration and data: the newest complete one, else the newest to be resumed.

    A run of the same configuration on other data, for example of a folder that was prepared anew, is passed over.

    Args:
        settings: With `optimizer.lr_from` resolved, as the engine writes it into config.yaml.

    Raises:
        ConfigError: If another process is working on it.
    """
    folder = settings.outputs / settings.project / settings.experiment
    unfinished: EngineRun | None = None
    data = _Data(settings)
    for path in sorted(folder.glob("*/status.json"), reverse=True):
        run = RunDirectory(path.parent)
        if not _same_configuration(run, settings) or not data.is_of(run):
            continue
        status = run.status()
        if status["state"] == "done":
            return EngineRun(run, found=True)
        if run.is_alive():
            raise ConfigError(f"{run.path} is still running (process {status['pid']} on {status['host']}); wait for it")
        failure = status.get("error", "")
        if status["state"] == "failed" and NOT_FINITE in failure:
            return EngineRun(run, found=True, failure=failure)
        unfinished = unfinished or EngineRun(run, found=False)
    return unfinished


def _same_configuration(run: RunDirectory, settings: Settings) -> bool:
    try:
        saved = saved_settings(run).plain
    except UserError:  # a run that died before its configuration was whole, or one of another version of the code
        return False
    return all(key == "resume" for key in differing_keys(settings.plain, saved))


class _Data:
    """The data of a configuration as they are now; read when the first run asks, since mostly none does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read: dict[str, str] = {}

    def is_of(self, run: RunDirectory) -> bool:
        """Whether a run was made with them; so counts one that had not read any yet."""
        check = run.done("check")
        if check is None or "data_hash" not in check:
            return True
        recorded = {"data_hash": check["data_hash"], "fingerprint": check.get("data", {}).get("fingerprint")}
        now = self._now()
        # A run that is older than the fingerprint is known by its hash of ids, labels, groups and texts alone.
        return all(recorded[key] in (None, value) for key, value in now.items())

    def _now(self) -> dict[str, str]:
        from projects.redheart.data.text_datamodule import TextDataModule
        from shared.instantiate import instantiate

        if not self._read:
            settings = self._settings
            made = instantiate(settings.plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache)
            if isinstance(made, TextDataModule):  # its index would embed the stories first
                self._read = {"data_hash": made.corpus.index.data_hash(), "fingerprint": made.fingerprint}
            else:
                self._read = {"data_hash": made.index.data_hash()}
        return self._read


def plain_of(config: DictConfig) -> dict[str, object]:
    """A composed configuration as plain containers, for hashing."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
