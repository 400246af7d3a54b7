"""The launchers that others have written: our defaults for them, how much they bear, and what their jobs say."""

import os
from collections.abc import Iterable
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shared.errors import ConfigError

GROUP = "hydra/launcher"
SLURM_ARRAY = 1000
"""Jobs of an array: SLURM's MaxArraySize is 1001 unless the cluster says otherwise, and an array begins with 0."""


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


def most_at_once(launcher: str) -> int | None:
    """How many jobs a launch may hold where nobody has said.

    Args:
        launcher: Name of its class.

    Returns:
        The number of cores where each job is a process that starts at once, an array's length under SLURM, None for a
        launcher that has its own limit.
    """
    return {"LocalLauncher": len(os.sched_getaffinity(0)), "SlurmLauncher": SLURM_ARRAY}.get(launcher)


def job_faults(returned: object) -> dict[int, str]:
    """What the jobs of a launch raised, which Hydra keeps to itself.

    Args:
        returned: By the launcher: a JobReturn for each job, or anything else, which says nothing.

    Returns:
        Type and first line of the error, by the job's place in the launch.
    """
    faults = {}
    for place, job in enumerate(returned if isinstance(returned, Iterable) else ()):
        if isinstance(job, JobReturn) and job.status == JobStatus.FAILED:
            faults[place] = first_line(job._return_value)  # the property would raise it
    return faults


def first_line(error: BaseException) -> str:
    """Type and first line of an error."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'without a message'}"


def _merged(node: object, path: Path) -> DictConfig:
    assert isinstance(node, DictConfig)
    try:
        merged = OmegaConf.merge(node, OmegaConf.load(path))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path} does not fit the launcher {path.stem}: {str(error).splitlines()[0]}") from error
    assert isinstance(merged, DictConfig)
    return merged
