"""The battery classifiers by name: `build_network("late_fusion", num_classes=5, meta_sizes=(2, 3))`."""

from collections.abc import Callable
from typing import Any

from projects.battery.models.image_only import ImageClassifier
from projects.battery.models.late_fusion import LateFusion
from projects.battery.models.metadata import MetadataClassifier
from projects.battery.models.network import Network
from shared.backbone import Provenance, build_backbone
from shared.builders import build_by_name

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
    return build_by_name(BUILDERS, name, {}, parameters)
