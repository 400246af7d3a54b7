"""The battery classifiers by name: `build_network("late_fusion", num_classes=5, meta_sizes=(2, 3))`."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from projects.battery.models.image_only import ImageClassifier
from projects.battery.models.late_fusion import LateFusion
from projects.battery.models.metadata import MetadataClassifier
from projects.battery.models.network import Network
from shared.backbone import Provenance, build_backbone

BUILDERS: dict[str, Callable[..., Network]] = {
    "late_fusion": LateFusion,
    "metadata": MetadataClassifier,
    "timm": ImageClassifier,
}

__all__ = ["BUILDERS", "Network", "Provenance", "build_backbone", "build_network"]


def build_network(name: str, **parameters: Any) -> Network:
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
