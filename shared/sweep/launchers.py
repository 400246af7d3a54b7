"""Our defaults for the launchers that others have written: conf/launcher/<name>.yaml over the plugin's own."""

from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shared.errors import ConfigError

GROUP = "hydra/launcher"


def adopt_defaults(folder: Path) -> list[str]:
    """Lay each file of the folder over the settings of the launcher of that name, where that launcher is installed.

    Not files of Hydra's own group hydra/launcher: Hydra 1.3 lays such a file over a plugin's node of that name too, but
    warns in every process, and means to let the file replace the node. What the command line says still counts most,
    and an unknown key is still refused.

    Args:
        folder: With one YAML file a launcher.

    Returns:
        Names of the launchers that were found.

    Raises:
        ConfigError: A file sets what its launcher does not know, or a value of the wrong type.
    """
    Plugins.instance()  # looks for plugins and lets them store their settings
    store = ConfigStore.instance()
    known = set(store.list(GROUP))
    found = []
    for path in sorted(folder.glob("*.yaml")):
        if path.name in known:
            entry = store.load(f"{GROUP}/{path.name}")
            store.store(path.stem, _merged(entry.node, path), group=GROUP, package=entry.package, provider="sweetspot")
            found.append(path.stem)
    return found


def _merged(node: object, path: Path) -> DictConfig:
    assert isinstance(node, DictConfig)
    try:
        merged = OmegaConf.merge(node, OmegaConf.load(path))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path} does not fit the launcher {path.stem}: {str(error).splitlines()[0]}") from error
    assert isinstance(merged, DictConfig)
    return merged
