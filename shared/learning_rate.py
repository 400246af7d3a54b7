"""`optimizer.lr_from`: the learning rate that a sweep has found, in place of a number in the configuration."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.config import differing_keys
from shared.errors import ConfigError

OPTIMAL_FILE = "optimal_lr.json"
SWEEP_FILE = "sweep.json"
COMPARED = ("model", "data")
SUBSET_KEYS = ("data.num_stories",)
"""Sizes of what is trained on, beside the sweep's own `subset_key`."""
LATEST = "latest"


def rate_from_sweep(optimizer: dict[str, Any], sweeps: Path) -> dict[str, Any]:
    """The optimiser's configuration with the rate that `lr_from` stands for.

    Args:
        optimizer: With `lr`, and `lr_from`: a sweep's folder, "latest" or None.
        sweeps: Where the project's sweeps are.

    Returns:
        A copy with `lr` replaced and `lr_from` the folder's path; where `lr_from` is None or absent, an equal copy.

    Raises:
        ConfigError: If there is no such sweep, or it has found no rate.
    """
    named = optimizer.get("lr_from")
    if named is None:
        return dict(optimizer)
    folder = _newest(sweeps) if named == LATEST else Path(str(named))
    path = folder / OPTIMAL_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"optimizer.lr_from is {str(named)!r}, but there is no {path}: finish that sweep, name another, or null"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"optimizer.lr_from: {path} cannot be read ({error}); run the sweep again") from error
    rate = found.get("lr") if isinstance(found, dict) else None
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise ConfigError(f"optimizer.lr_from: {path} has the lr {rate!r}; a number above 0 is needed")
    return optimizer | {"lr": float(rate), "lr_from": str(folder)}


def difference_from_sweep(plain: Mapping[str, Any]) -> str | None:
    """One sentence where the rate was found for another model or other data than those of a configuration.

    The size of the subset that the sweep trained on may differ: that is what the subset is for.

    Args:
        plain: Whole configuration, its `optimizer.lr_from` a folder, "latest" no more.

    Returns:
        None where they are the same, or the sweep does not say what they were.
    """
    named = plain["optimizer"].get("lr_from")
    if named is None:
        return None
    try:
        facts = json.loads((Path(named) / SWEEP_FILE).read_text(encoding="utf-8"))
        searched, subset_key = facts["config"], facts["settings"]["subset_key"]
        there = {root: _comparable(searched[root]) for root in COMPARED}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    here = {root: _comparable(plain[root]) for root in COMPARED}
    keys = [key for key in differing_keys(there, here) if key not in (subset_key, *SUBSET_KEYS)]
    if not keys:
        return None
    shown = ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
    return f"optimizer.lr_from: the sweep {named} found its rate for another configuration; it differs in {shown}"


def _comparable(node: Mapping[str, Any]) -> dict[str, Any]:
    """Where weights come from is pinned to a path when a run begins; whether they do is what counts."""
    return {key: value is not None if key == "init_from" else value for key, value in node.items()}


def without_origin(optimizer: dict[str, Any]) -> dict[str, Any]:
    """What the optimiser itself is built from: everything but where its rate came from."""
    return {key: value for key, value in optimizer.items() if key != "lr_from"}


def _newest(sweeps: Path) -> Path:
    """The sweep that was last to find a rate.

    Raises:
        ConfigError: If there is none.
    """
    found = sorted(sweeps.glob(f"*/{OPTIMAL_FILE}"), key=lambda path: (path.stat().st_mtime_ns, path))
    if not found:
        raise ConfigError(
            f"optimizer.lr_from is {LATEST!r}, but no sweep below {sweeps} has found a rate: run one first, or null"
        )
    return found[-1].parent
