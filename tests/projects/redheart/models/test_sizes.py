"""Sizes of the configurations, counted on the meta device."""

import pytest
import torch

from projects.redheart.models import sizes
from tests.fabricate import story_network

MODULE_TOLERANCE = 0.01
MODULE_SLACK = 500
"""A module is right within 1 % of its target, or within this many parameters: the reference rounds to 0.1 thousand."""


def total(name: str) -> int:
    """Parameters of a configuration."""
    return sum(weight.numel() for weight in sizes.on_meta(384, story_network.sizes(name)).parameters())


def test_targets_are_those_of_the_reference() -> None:
    by_group = {group: sum(filter(None, modules.values())) for group, modules in sizes.GROUPS.items()}

    assert by_group == {
        "backbone": 90_624_132, "heads": 153_100_000, "neural analyzers": 368_300_000,
        "advanced analyzers": 111_900_000, "DSP and Kalman": 2_300_700, "phases": 4_300_000, "fusion": 0,
    }  # fmt: skip
    assert abs(sum(by_group.values()) / sizes.TOTAL_TARGET - 1) < sizes.TOTAL_TOLERANCE


def test_full_has_the_size_of_the_reference() -> None:
    network = sizes.on_meta(384, story_network.sizes("full"))

    found = sizes.module_sizes(network, targets=True)

    assert {weight.device.type for weight in network.parameters()} == {"meta"}
    assert sum(size.actual for size in found) == pytest.approx(sizes.TOTAL_TARGET, rel=sizes.TOTAL_TOLERANCE)
    for size in found:
        if size.target is not None:
            assert abs(size.actual - size.target) <= max(MODULE_TOLERANCE * size.target, MODULE_SLACK), size


@pytest.mark.parametrize(("name", "low", "high"), [("tiny", 0.8e6, 1.3e6), ("base", 12e6, 20e6)])
def test_smaller_configurations(name: str, low: float, high: float) -> None:
    assert low <= total(name) <= high


def test_every_parameter_is_counted_once() -> None:
    network = sizes.on_meta(384, story_network.tiny_sizes())

    found = sizes.module_sizes(network, targets=False)

    assert sum(size.actual for size in found) == sum(weight.numel() for weight in network.parameters())
    assert [size.target for size in found] == [None] * len(found)
    assert all(size.actual > 0 for size in found)


def test_a_parameter_of_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^parameter weight lies in none of the modules backbone, heads\.trunk, "):
        sizes.module_sizes(torch.nn.Linear(2, 2), targets=False)


def test_difference_and_percent_of_hand() -> None:
    size = sizes.ModuleSize("g", "m", 200, 190)

    assert (size.difference, size.percent) == (-10, -5.0)
    assert sizes.ModuleSize("g", "m", None, 190).percent is None


def test_together_sums_actual_and_target() -> None:
    parts = [sizes.ModuleSize("g", "a", 10, 11), sizes.ModuleSize("g", "b", None, 5)]

    assert sizes.together("g", parts) == sizes.ModuleSize("g", "", 10, 16)
