"""How large each module is, and how large it should be in the full configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from projects.redheart.models.network import StoryNetwork

FULL = "full"
TOTAL_TARGET = 730_466_848
"""Parameters of the full configuration; reached within TOTAL_TOLERANCE. The reference's rounded figures of the modules
sum to 730.5 million."""

TOTAL_TOLERANCE = 0.001

GROUPS: dict[str, dict[str, int | None]] = {
    "backbone": {"backbone": 90_624_132},
    "heads": {
        "heads.trunk": 90_000_000,
        "heads.emotion": 17_300_000,
        "heads.bentham": 13_900_000,
        "heads.regret": 19_900_000,
        "heads.surd": 12_000_000,
    },
    "neural analyzers": {
        "analyzers.neural_emotion": 122_600_000,
        "analyzers.neural_bentham": 78_300_000,
        "analyzers.neural_regret": 153_900_000,
        "analyzers.neural_surd": 13_500_000,
    },
    "advanced analyzers": {
        "analyzers.advanced_emotion": 63_000_000,
        "analyzers.advanced_regret": 44_200_000,
        "analyzers.advanced_bentham": 2_500_000,
        "analyzers.advanced_surd": 2_200_000,
    },
    "DSP and Kalman": {"analyzers.dsp": 2_300_000, "analyzers.kalman": 700},
    "phases": {
        "analyzers.emotion_calibrator": 2_000_000,
        "analyzers.empathy_learner": 200_000,
        "analyzers.community_network": 2_100_000,
    },
    "fusion": {"fusion": None},
}
"""Group -> module by its name in the network -> parameters in the full configuration. The reference work has no fusion;
the 90.0 million of the trunk are what the heads share there (153.1 million less the four named)."""


@dataclass(frozen=True)
class ModuleSize:
    """Parameters of a module, or of several together.

    Attributes:
        group: Its group, a key of GROUPS.
        module: Its name in the network.
        target: Parameters it should have; None: nothing is asked.
        actual: Parameters it has.
    """

    group: str
    module: str
    target: int | None
    actual: int

    @property
    def difference(self) -> int | None:
        """Actual less target."""
        return None if self.target is None else self.actual - self.target

    @property
    def percent(self) -> float | None:
        """Difference in percent of the target."""
        return None if self.target is None else 100 * (self.actual - self.target) / self.target


def on_meta(embedding_dim: int, sizes: Mapping[str, Any]) -> StoryNetwork:
    """Build the network with shapes only: no memory is taken and nothing can be computed."""
    with torch.device("meta"):
        network = StoryNetwork(embedding_dim, sizes)
    # What torch.export leaves behind in a process can let single small tensors slip past the device context.
    return network.to("meta")


def module_sizes(network: nn.Module, *, targets: bool) -> list[ModuleSize]:
    """Size of each module, in the order of GROUPS.

    Args:
        network: A `StoryNetwork`; modules that it leaves out have 0 parameters.
        targets: Compare with the full configuration.

    Raises:
        ValueError: If a parameter lies in none of the modules.
    """
    names = [module for modules in GROUPS.values() for module in modules]
    counts = dict.fromkeys(names, 0)
    for parameter, tensor in network.named_parameters():
        owner = next((name for name in names if parameter.startswith(f"{name}.")), None)
        if owner is None:
            raise ValueError(f"parameter {parameter} lies in none of the modules {', '.join(names)}")
        counts[owner] += tensor.numel()
    return [
        ModuleSize(group, module, target if targets else None, counts[module])
        for group, modules in GROUPS.items()
        for module, target in modules.items()
    ]


def together(group: str, sizes: list[ModuleSize]) -> ModuleSize:
    """Sum of some modules; its target is that of those that have one."""
    asked = [size.target for size in sizes if size.target is not None]
    return ModuleSize(group, "", sum(asked) if asked else None, sum(size.actual for size in sizes))
