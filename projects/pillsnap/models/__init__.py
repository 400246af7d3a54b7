"""The pill classifiers by name: `build_network("timm", num_classes=100, backbone="tf_efficientnetv2_s")`."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from projects.pillsnap.models.pill_network import PillNetwork

BUILDERS: dict[str, Callable[..., PillNetwork]] = {"timm": PillNetwork}

__all__ = ["BUILDERS", "PillNetwork", "build_network"]


def build_network(name: str, **parameters: Any) -> PillNetwork:
    """Build a classifier by name.

    Args:
        name: A key of `BUILDERS`.
        parameters: The constructor's arguments: names and numbers only.

    Raises:
        ValueError: On an unknown name or parameter, naming what is allowed.
        CheckpointError: If the asked-for weights cannot be had.
    """
    if name not in BUILDERS:
        raise ValueError(f"network is {name!r}, allowed: {', '.join(sorted(BUILDERS))}")
    allowed = list(inspect.signature(BUILDERS[name]).parameters)
    for key in parameters:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"network {name!r} has no parameter {key!r}, allowed: {', '.join(allowed)}{hint}")
    return BUILDERS[name](**parameters)
