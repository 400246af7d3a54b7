"""Masked attention equals that of torch, masking leaves nothing behind, and recomputation changes no gradient."""

import pytest
import torch
from torch import nn

from projects.redheart.models import layers

MASK = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])


@pytest.fixture
def states() -> torch.Tensor:
    """(3, 3, 8) states."""
    return torch.randn(3, 3, 8, generator=torch.Generator().manual_seed(0))


def test_first_weights_have_the_deviation_of_bert_at_its_width() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(768, 500).apply(layers.initialise)

    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert linear.bias.abs().max() == 0
    assert layers.learned(300, 192, inputs=192).std().item() == pytest.approx(0.04, rel=0.02)


def test_masked_mean_counts_only_what_is_there(states: torch.Tensor) -> None:
    states[~MASK] = float("nan")

    mean = layers.masked_mean(states, MASK)

    torch.testing.assert_close(mean[0], states[0, :2].mean(dim=0))
    assert (mean[2] == 0).all()


def test_masked_softmax_of_hand() -> None:
    weights = layers.masked_softmax(torch.zeros(3, 3), MASK)

    assert weights.tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_attention_equals_that_of_torch(states: torch.Tensor) -> None:
    torch.manual_seed(0)
    ours = layers.Attention(8, 2).apply(layers.initialise)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.memory.weight]))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)

    read = ours(states, states, MASK)

    torch.testing.assert_close(read[:2], theirs(states[:2], states[:2], states[:2], ~MASK[:2])[0])


def test_attention_with_nothing_to_read_gives_its_bias_whatever_is_padded(states: torch.Tensor) -> None:
    attention = layers.Attention(8, 2)
    states.requires_grad_()

    read = attention(states, states, MASK)
    read.sum().backward()

    torch.testing.assert_close(read[2], attention.out.bias.expand(3, 8))
    assert states.grad is not None
    assert states.grad.isfinite().all()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"^width is 8; allowed: multiples of num_heads = 3$"):
        layers.Attention(8, 3)


def test_attention_pool_of_hand() -> None:
    pool = layers.AttentionPool(2)
    with torch.no_grad():
        pool.project.weight.copy_(torch.eye(2))
        pool.project.bias.zero_()
        pool.context.copy_(torch.tensor([2.0, 0.0]))
    states = torch.tensor([[[1.0, 5.0], [0.0, 7.0], [9.0, 9.0]]])

    weights = pool.weights(states, torch.tensor([[True, True, False]]))

    likeness = torch.exp(2 * torch.tanh(torch.tensor(1.0))).item()
    assert weights[0].tolist() == pytest.approx([likeness / (likeness + 1), 1 / (likeness + 1), 0.0])
    torch.testing.assert_close(pool(states, torch.tensor([[False, True, False]])), torch.tensor([[0.0, 7.0]]))


def test_pools_over_the_same_states_side_by_side(states: torch.Tensor) -> None:
    pool = layers.AttentionPool(8)
    masks = torch.stack([MASK, ~MASK], dim=1)

    weights = pool.weights(states, masks)

    torch.testing.assert_close(weights[:, 0], pool.weights(states, MASK))
    torch.testing.assert_close(weights[:, 1], pool.weights(states, ~MASK))


@pytest.mark.parametrize("block", [layers.SelfBlock(8, 2, 16, 0.3), layers.CrossBlock(8, 2, 16, 0.3)])
def test_recomputation_gives_the_same_gradients_under_dropout(block: nn.Module, states: torch.Tensor) -> None:
    block.train().apply(layers.initialise)
    arguments = (states, MASK) if isinstance(block, layers.SelfBlock) else (states, states, MASK)
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(3)
        block.zero_grad()
        layers.recomputed(enabled, block, *arguments).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in block.parameters()])

    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))
    assert any(gradient.abs().max() > 0 for gradient in gradients[0])


def test_recomputation_is_a_plain_call_where_no_gradient_is_asked(states: torch.Tensor) -> None:
    with torch.no_grad():
        assert layers.recomputed(True, lambda value: value + 1, states).grad_fn is None
