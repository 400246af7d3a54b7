"""The pill classifiers by name: `build_network("timm", num_classes=100, backbone="tf_efficientnetv2_s")`."""

from collections.abc import Callable
from typing import Any

from projects.pillsnap.models.pill_network import PillNetwork
from shared.builders import build_by_name

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
    return build_by_name(BUILDERS, name, {}, parameters)
