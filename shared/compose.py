"""Composes a primary configuration as its command line does, for commands that are not Hydra programs themselves."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from shared.entry import CONFIG_FOLDER
from shared.errors import ConfigError


def composed(primary: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a primary configuration with overrides.

    Args:
        primary: Name of the primary configuration file, without its ending.
        overrides: As on the command line of `train`.

    Raises:
        ConfigError: If there is no such primary, or an override names what is not there.
    """
    with _own_hydra():
        try:
            with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
                return compose(primary, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            first = str(error).strip().splitlines()[0]
            raise ConfigError(f"the overrides {' '.join(overrides)} cannot be composed: {first}") from error


@contextmanager
def _own_hydra() -> Iterator[None]:
    """A sweeper composes while Hydra's own main function is at work; that must find its state as it left it."""
    instance = GlobalHydra.instance()
    former = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        instance.hydra = former
