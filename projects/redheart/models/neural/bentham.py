"""Bentham's felicific calculus with one expert for each of its ten numbers."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import Attention, SelfBlock, initialise, learned
from projects.redheart.tasks import TASKS

DIMENSIONS = TASKS["bentham"]


class NeuralBenthamAnalyzer(Analyzer):
    """A query and an expert for each dimension; then the dimensions take account of each other.

    J. Bentham, "An Introduction to the Principles of Morals and Legislation" (1789), ch. IV: the value of a pleasure or
    pain is summed over its intensity, duration, certainty, propinquity, fecundity, purity and extent; three more are
    the reference work's. That the dimensions are judged one by one and then together is the procedure of that chapter;
    queries, experts (dense: each dimension has its own, nothing is routed) and attention are ours.

    Args:
        width: Size of a state, H.
        hidden: Hidden size of each expert.
        interaction_hidden: Hidden size of the perceptrons of the interaction.
        num_heads: Attention heads; must divide the width.
        interaction_blocks: Transformer layers among the ten dimensions.
        dropout: Share dropped after attention, experts and perceptrons.
    """

    tasks: ClassVar[tuple[str, ...]] = ("bentham",)

    def __init__(
        self,
        width: int,
        *,
        hidden: int,
        interaction_hidden: int,
        num_heads: int,
        interaction_blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.queries = learned(DIMENSIONS, width, inputs=width)
        self.norm_query = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width)
        self.read = Attention(width, num_heads)
        self.norm_expert = nn.LayerNorm(width)
        self.expert_in = learned(DIMENSIONS, width, hidden, inputs=width)
        self.expert_in_bias = nn.Parameter(torch.zeros(DIMENSIONS, 1, hidden))
        self.expert_out = learned(DIMENSIONS, hidden, width, inputs=hidden)
        self.expert_out_bias = nn.Parameter(torch.zeros(DIMENSIONS, 1, width))
        self.dropout = nn.Dropout(dropout)
        self.interaction = nn.ModuleList(
            SelfBlock(width, num_heads, interaction_hidden, dropout) for _ in range(interaction_blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.direction = learned(DIMENSIONS, width, inputs=width)
        self.bias = nn.Parameter(torch.zeros(DIMENSIONS))
        self.apply(initialise)

    def forward(self, context: Context) -> Contribution:
        """Logits of the ten numbers (B, 10)."""
        states = self.queries + context.pooled[:, None]
        read = self.read(self.norm_query(states), self.norm_memory(context.sequence), context.mask)
        states = states + self.dropout(read)
        states = states + self.dropout(self._experts(self.norm_expert(states)))
        everyone = context.mask.new_ones(states.shape[:2])
        for block in self.interaction:
            states = block(states, everyone)
        return {"bentham": (self.norm(states) * self.direction).sum(dim=-1) + self.bias}

    def _experts(self, states: Tensor) -> Tensor:
        """Each dimension's own perceptron: (B, 10, H) -> (B, 10, H)."""
        by_dimension = states.transpose(0, 1)
        hidden = F.gelu(torch.baddbmm(self.expert_in_bias, by_dimension, self.expert_in))
        return torch.baddbmm(self.expert_out_bias, hidden, self.expert_out).transpose(0, 1)
