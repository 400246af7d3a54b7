"""Regret grows with what was missed, falls with what was had, and is trained by the difference alone."""

import pytest
import torch

from projects.redheart.models.neural.regret import NeuralRegretAnalyzer
from tests.fabricate.story_network import fabricated_context, tiny_sizes


@pytest.fixture
def analyzer() -> NeuralRegretAnalyzer:
    """The tiny analyzer."""
    torch.manual_seed(0)
    return NeuralRegretAnalyzer(64, **tiny_sizes()["analyzers"]["neural_regret"]).eval()


def test_regret_is_monotone_in_both_values(analyzer: NeuralRegretAnalyzer) -> None:
    obtained = torch.randn(50, requires_grad=True)
    foregone = torch.randn(50, 4, requires_grad=True)

    analyzer.judge(obtained, foregone, torch.rand(50) + 0.1).sum().backward()

    assert obtained.grad is not None
    assert foregone.grad is not None
    assert (obtained.grad < 0).all()
    assert (foregone.grad > 0).all()


def test_nothing_missed_is_the_threshold_alone(analyzer: NeuralRegretAnalyzer) -> None:
    with torch.no_grad():
        analyzer.threshold.fill_(-1.5)

    logit = analyzer.judge(torch.tensor([0.3]), torch.full((1, 4), 0.3), torch.tensor([1.0]))

    assert logit.item() == pytest.approx(-1.5)


def test_difference_of_hand(analyzer: NeuralRegretAnalyzer) -> None:
    """softplus(0) = log 2; one alternative is its own maximum; responsibility 2 doubles."""
    with torch.no_grad():
        analyzer.scale.fill_(0.0)

    logit = analyzer.judge(torch.tensor([1.0]), torch.tensor([[4.0]]), torch.tensor([2.0]))

    assert logit.item() == pytest.approx(2 * 0.6931472 * 3)


def test_a_deed_and_the_same_deed_have_the_same_value(analyzer: NeuralRegretAnalyzer) -> None:
    """Actual and counterfactual outcomes run through one network: without a change there is nothing to regret."""
    with torch.no_grad():
        analyzer.direction.zero_()
        analyzer.change.weight.zero_()

    obtained, foregone = analyzer.values(fabricated_context())

    torch.testing.assert_close(foregone, obtained[:, None].expand(4, 4))


def test_the_deed_is_the_action_where_there_is_one(analyzer: NeuralRegretAnalyzer) -> None:
    """Another action changes what its story obtained; told as a title, which nothing reads here, it does not."""
    context = fabricated_context()
    sequence = context.sequence.clone()
    sequence[0, 1] += 1.0

    changed = analyzer.values(context._replace(sequence=sequence))[0] != analyzer.values(context)[0]
    part = context.part.masked_fill(context.part == 2, 1)
    as_title, plain_title = context._replace(sequence=sequence, part=part), context._replace(part=part)

    assert changed.tolist() == [True, False, False, False]
    assert torch.equal(analyzer.values(as_title)[0], analyzer.values(plain_title)[0])
