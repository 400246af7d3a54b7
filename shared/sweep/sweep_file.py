"""The file `sweep.json` of a sweep's folder: its name, and what it may name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.errors import ConfigError
from shared.sweep.settings import OBJECTIVE_ROOMS

SWEEP_FILE = "sweep.json"
CONF = Path(__file__).resolve().parents[2] / "conf"


def check_names(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a file that names what is not of this project: its objective is imported and run by all who help.

    Args:
        path: The file, for messages.
        content: What it says.

    Raises:
        ConfigError: `objective` is no function below one of OBJECTIVE_ROOMS, or `primary` no configuration of `conf`.
    """
    objective, primary = content.get("objective"), content.get("primary")
    if not isinstance(objective, str) or not _is_allowed(objective):
        rooms = ", ".join(OBJECTIVE_ROOMS)
        raise ConfigError(f"{path}: objective is {objective!r}; it must be a function below one of {rooms}")
    known = sorted(one.stem for one in CONF.glob("*.yaml"))
    if primary not in known:
        raise ConfigError(f"{path}: primary is {primary!r}; allowed are {', '.join(known)}")


def _is_allowed(objective: str) -> bool:
    return objective.startswith(OBJECTIVE_ROOMS) and all(part.isidentifier() for part in objective.split("."))
