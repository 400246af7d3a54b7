import pytest
from torch import nn

from bench.redheart_memory import PARTS, flops_of_a_row, utilisation
from tests.fabricate.story_module import story_module


def test_the_arithmetic_is_that_of_activations_computed_once() -> None:
    found = {}
    for again in (False, True):
        module = story_module(activation_checkpointing=again, embedding_dim=384)
        found[again] = flops_of_a_row(module)
        assert module.network.activation_checkpointing is again
        assert all(weight.grad is None for weight in module.parameters())
    assert found[True] == found[False]
    # A weight meets each part at most once, forward, for its own gradient and for its input's: 2 operations each.
    linear = sum(layer.weight.numel() for layer in module.network.modules() if isinstance(layer, nn.Linear))
    assert 0.3 * 6 * linear < found[False] < 6 * linear * PARTS * 1.5


@pytest.mark.parametrize(
    ("name", "weights", "given", "expected"),
    [
        ("NVIDIA H200", "bfloat16", None, ", 10.00 % of 989.4 TFLOP/s (NVIDIA H200, dense bfloat16)"),
        ("NVIDIA H100 PCIe", "bfloat16", None, ", 13.08 % of 756.5 TFLOP/s (NVIDIA H100 PCIe, dense bfloat16)"),
        ("CPU", "bfloat16", None, ""),
        ("NVIDIA H200", "float32", None, ""),
        ("CPU", "float32", 197.88, ", 50.00 % of 197.88 TFLOP/s (CPU, dense float32)"),
    ],
)
def test_utilisation_is_told_where_the_device_is_known(name: str, weights: str, given, expected: str) -> None:
    assert utilisation(98.94, name, weights, given) == expected
