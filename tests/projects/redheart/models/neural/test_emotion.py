"""Hierarchical attention: title and action frame the sentences, and attended parts bring their emotion."""

import pytest
import torch

from projects.redheart.models.context import Context
from projects.redheart.models.neural.emotion import NeuralEmotionAnalyzer
from tests.fabricate.story_network import fabricated_context, tiny_sizes


@pytest.fixture
def analyzer() -> NeuralEmotionAnalyzer:
    """The tiny analyzer."""
    torch.manual_seed(0)
    return NeuralEmotionAnalyzer(64, **tiny_sizes()["analyzers"]["neural_emotion"]).eval()


@pytest.fixture
def context() -> Context:
    """Four stories."""
    return fabricated_context()


def test_a_shift_of_the_whole_trajectory_arrives_unchanged(analyzer: NeuralEmotionAnalyzer, context: Context) -> None:
    """The attention over parts sums to 1 over the story, whatever its kinds."""
    shift = torch.arange(7.0)

    before = analyzer(context)["emotion"]
    after = analyzer(context._replace(trajectory=context.trajectory + shift))["emotion"]

    torch.testing.assert_close(after - before, shift.expand(4, 7), atol=1e-4, rtol=0)


def test_title_and_action_see_the_sentences(analyzer: NeuralEmotionAnalyzer, context: Context) -> None:
    """With the transformer layers out of the way, sentences reach the framing kinds by contextual attention alone."""
    masks = torch.tensor([[False, False, True, True]])
    states, kinds = context.sequence[:1, :4], context.sequence[:1, :3]

    seen = analyzer._framed(kinds, states, masks)
    other = analyzer._framed(kinds, states * torch.tensor([1.0, 1.0, -1.0, 1.0])[:, None], masks)
    same = analyzer._framed(kinds, states * torch.tensor([-1.0, 1.0, 1.0, 1.0])[:, None], masks)

    assert (seen - other).abs().amax(dim=-1).min() > 1e-3
    assert torch.equal(seen, same)


def test_the_kind_of_a_part_matters(analyzer: NeuralEmotionAnalyzer, context: Context) -> None:
    as_text = analyzer(context._replace(part=torch.zeros_like(context.part)))["emotion"]

    changed = (analyzer(context)["emotion"] - as_text).abs().amax(dim=1) > 1e-3

    assert changed.tolist() == [True, True, False, True]
