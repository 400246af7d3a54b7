"""Bentham's dimensions: an expert each, equal to ten perceptrons, then interaction."""

import pytest
import torch
from torch.nn import functional as F

from projects.redheart.models.neural.bentham import DIMENSIONS, NeuralBenthamAnalyzer
from tests.fabricate.story_network import fabricated_context, tiny_sizes


@pytest.fixture
def analyzer() -> NeuralBenthamAnalyzer:
    """The tiny analyzer."""
    torch.manual_seed(0)
    return NeuralBenthamAnalyzer(64, **tiny_sizes()["analyzers"]["neural_bentham"]).eval()


def test_experts_are_ten_perceptrons(analyzer: NeuralBenthamAnalyzer) -> None:
    states = torch.randn(3, DIMENSIONS, 64)

    together = analyzer._experts(states)

    for number in range(DIMENSIONS):
        hidden = F.gelu(states[:, number] @ analyzer.expert_in[number] + analyzer.expert_in_bias[number])
        alone = hidden @ analyzer.expert_out[number] + analyzer.expert_out_bias[number]
        torch.testing.assert_close(together[:, number], alone)


def test_dimensions_take_account_of_each_other(analyzer: NeuralBenthamAnalyzer) -> None:
    """Another query of the first dimension changes all; without interaction only its own."""
    context = fabricated_context()
    found = []
    for interaction in (analyzer.interaction, torch.nn.ModuleList()):
        analyzer.interaction = interaction
        before = analyzer(context)["bentham"]
        with torch.no_grad():
            analyzer.queries[0] += torch.randn(64)
        found.append((analyzer(context)["bentham"] - before).abs().amax(dim=0) > 1e-6)

    assert found[0].all()
    assert found[1].tolist() == [True] + [False] * (DIMENSIONS - 1)
