"""Small blocks that the parts of the network share: masked attention, residual perceptrons, masked pooling."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def initialise(module: nn.Module) -> None:
    """Give a linear layer truncated normal weights; to be used as `self.apply(initialise)`.

    The deviation is 0.02 at 768 inputs, as in BERT (Devlin et al. 2019), and grows as 1/sqrt(inputs), so that a narrow
    network starts with signals of the same size.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=deviation(module.in_features))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def deviation(inputs: int) -> float:
    """Standard deviation of first weights that read so many inputs."""
    return float(0.02 * (768 / inputs) ** 0.5)


def learned(*shape: int, inputs: int) -> nn.Parameter:
    """A parameter with first values like those of a linear layer of so many inputs."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=deviation(inputs)))


def masked_mean(sequence: Tensor, mask: Tensor) -> Tensor:
    """Mean over the parts that are there.

    Args:
        sequence: (B, S, D).
        mask: (B, S) bool.

    Returns:
        (B, D); 0 where a row has no part.
    """
    kept = torch.where(mask[..., None], sequence, 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1).to(sequence.dtype)


def masked_softmax(scores: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """Softmax over the places that are there.

    Args:
        scores: Any shape; may broadcast to that of the mask.
        mask: Bool; may broadcast to the shape of the scores.
        dim: The dimension that sums to 1.

    Returns:
        Weights; all 0 where nothing is there, never NaN.
    """
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim).masked_fill(~mask, 0.0)


def recomputed(enabled: bool, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; enabled: forget its activations and compute them again in the backward pass.

    Dropout draws the same numbers both times (`preserve_rng_state`), so gradients are the same as without.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=True)
    return function(*arguments)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) over the parts that are there.

    Queries, keys and values have no bias: that of the keys would never get a gradient, as the softmax ignores it.

    Args:
        width: Size of a state.
        num_heads: Heads; must divide the width.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width is {width}; allowed: multiples of num_heads = {num_heads}")
        self.num_heads = num_heads
        self.query = nn.Linear(width, width, bias=False)
        self.memory = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Read the memory.

        Args:
            query: (B, Q, H).
            memory: (B, S, H).
            mask: (B, S) bool, True where the memory may be read.

        Returns:
            (B, Q, H); the output's bias alone where a row has nothing to read.
        """
        keys, values = self.memory(memory).chunk(2, dim=-1)
        readable = mask.any(dim=1)
        # A row with nothing to read would give NaN: it reads everything, and what it read is dropped.
        allowed = (mask | ~readable[:, None])[:, None, None, :]
        asked, keys, values = (self._heads(tensor) for tensor in (self.query(query), keys, values))
        read = F.scaled_dot_product_attention(asked, keys, values, attn_mask=allowed)
        read = read.transpose(1, 2).flatten(2).masked_fill(~readable[:, None, None], 0.0)
        return self.out(read)

    def _heads(self, states: Tensor) -> Tensor:
        """(B, N, H) -> (B, heads, N, H / heads)."""
        return states.reshape(*states.shape[:2], self.num_heads, -1).transpose(1, 2)


class ResidualMLP(nn.Module):
    """A perceptron of one hidden layer added to its input, normalised before (Xiong et al. 2020).

    Args:
        width: Size of a state.
        hidden: Size of the hidden layer.
        dropout: Share dropped after the perceptron.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(dropout))

    def forward(self, states: Tensor) -> Tensor:
        """(..., H) -> (..., H)."""
        return states + self.layers(self.norm(states))


class SelfBlock(nn.Module):
    """A pre-norm transformer layer: the states read each other, then a residual perceptron.

    Args:
        width: Size of a state.
        num_heads: Attention heads; must divide the width.
        hidden: Hidden size of the perceptron.
        dropout: Share dropped after attention and perceptron.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.mlp = ResidualMLP(width, hidden, dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(B, S, H), (B, S) bool -> (B, S, H)."""
        normed = self.norm(states)
        states = states + self.dropout(self.attention(normed, normed, mask))
        return self.mlp(states)


class CrossBlock(nn.Module):
    """Queries read a memory, then a residual perceptron.

    Args:
        width: Size of a state.
        num_heads: Attention heads; must divide the width.
        hidden: Hidden size of the perceptron.
        dropout: Share dropped after attention and perceptron.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.mlp = ResidualMLP(width, hidden, dropout)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """(B, Q, H), (B, S, H), (B, S) bool -> (B, Q, H)."""
        read = self.attention(self.norm(query), self.norm_memory(memory), mask)
        return self.mlp(query + self.dropout(read))


class AttentionPool(nn.Module):
    """One state from many, weighed by their likeness to a learned context vector.

    Yang et al., "Hierarchical Attention Networks for Document Classification" (NAACL 2016), eq. 5 to 7:
    u = tanh(W h + b), weights = softmax(u . u_context).

    Args:
        width: Size of a state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.context = learned(width, inputs=width)

    def weights(self, states: Tensor, mask: Tensor) -> Tensor:
        """Attention that each state gets.

        Args:
            states: (B, S, H).
            mask: (B, S) bool, or (B, K, S) for K pools over the same states.

        Returns:
            Of the shape of the mask, summing to 1 over the states that are there; 0 elsewhere.
        """
        scores = torch.tanh(self.project(states)) @ self.context
        return masked_softmax(scores if mask.dim() == 2 else scores[:, None], mask)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(B, S, H), (B, S) bool -> (B, H); 0 where a row has no part."""
        return torch.einsum("bs,bsh->bh", self.weights(states, mask), states)
