"""Runs of the engine that a command starts, finds again and goes on with, so that nothing is trained twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from shared.compose import composed as compose_primary
from shared.config import Settings, check_config
from shared.errors import RunInterrupted, TrainingError
from shared.found_runs import Verdict, by_state, find_same_run
from shared.learning_rate import rate_from_sweep
from shared.run_dir import RunDirectory
from shared.sweep.objective import NOT_FINITE

PRIMARY = "redheart"
DATA_KEYS = ("data_hash", "fingerprint")


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
    return compose_primary(PRIMARY, overrides)


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
    data = DataNow(settings)

    def judge(run: RunDirectory, status: Mapping[str, Any]) -> Verdict:
        if not data.is_of(run):
            return "other"
        return by_state(run, status) if _divergence(status) is None else "finished"

    found = find_same_run(settings, judge)
    if found is None:
        return None
    failure = _divergence(found.run.status()) if found.is_finished else None
    return EngineRun(found.run, found=found.is_finished, failure=failure)


def _divergence(status: Mapping[str, Any]) -> str | None:
    """The sentence of a run that failed because its loss was not finite: a result, which is not tried again."""
    failure = str(status.get("error", ""))
    return failure if status["state"] == "failed" and NOT_FINITE in failure else None


class DataNow:
    """The data of a configuration as they are now; read when first asked, since mostly nobody asks.

    Args:
        settings: The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read: dict[str, str] = {}

    def is_of(self, run: RunDirectory) -> bool:
        """Whether a run was made with them; so counts one that had not read any yet."""
        check = run.done("check")
        if check is None or "data_hash" not in check:
            return True
        return not self.differs_in({**check, "fingerprint": check.get("data", {}).get("fingerprint")})

    def differs_in(self, recorded: Mapping[str, Any]) -> list[str]:
        """Which of `data_hash` and `fingerprint` were others; one that was not recorded is passed over.

        A run that is older than the fingerprint is known by its hash of ids, labels, groups and texts alone.
        """
        if all(recorded.get(key) is None for key in DATA_KEYS):
            return []
        return [key for key, value in self._now().items() if recorded.get(key) not in (None, value)]

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
