"""Emotion by hierarchical and contextual attention."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import (
    Attention,
    AttentionPool,
    ResidualMLP,
    SelfBlock,
    initialise,
    learned,
)
from projects.redheart.models.parts import KINDS, kind_masks
from projects.redheart.tasks import EMOTION, TASKS


class NeuralEmotionAnalyzer(Analyzer):
    """From sentences to kinds of parts to the story, at each level weighed by attention.

    Yang et al., "Hierarchical Attention Networks for Document Classification" (NAACL 2016): a level encodes its members
    in the light of each other, then pools them by their likeness to a learned context vector. We depart from it in
    three ways: the level of words lies in the sentence encoder; transformer layers stand where theirs are GRUs; and the
    levels are part -> kind (text, title, action) -> story. Before the kinds are pooled, title and action look at the
    sentences they frame (contextual attention), and a gate says how much of what they saw is taken.

    The emotion of a part is also read directly: its logits in the trajectory count by the attention that it got.

    Args:
        width: Size of a state, H.
        hidden: Hidden size of the perceptrons.
        num_heads: Attention heads; must divide the width.
        part_blocks: Transformer layers over the parts.
        story_blocks: Residual perceptrons over the state of the story.
        dropout: Share dropped after attention and perceptrons.
    """

    tasks: ClassVar[tuple[str, ...]] = (EMOTION,)

    def __init__(
        self, width: int, *, hidden: int, num_heads: int, part_blocks: int, story_blocks: int, dropout: float
    ) -> None:
        super().__init__()
        self.kind = learned(len(KINDS), width, inputs=width)
        self.parts = nn.ModuleList(SelfBlock(width, num_heads, hidden, dropout) for _ in range(part_blocks))
        self.part_pool = AttentionPool(width)
        self.look = Attention(width, num_heads)
        self.gate = nn.Linear(2 * width, width)
        self.kind_pool = AttentionPool(width)
        self.story = nn.Sequential(
            nn.LayerNorm(width),
            *(ResidualMLP(width, hidden, dropout) for _ in range(story_blocks)),
            nn.LayerNorm(width),
        )
        self.out = nn.Linear(width, TASKS[EMOTION])
        self.share = nn.Parameter(torch.ones(TASKS[EMOTION]))
        self.apply(initialise)

    def forward(self, context: Context) -> Contribution:
        """Emotion logits (B, 7)."""
        states = context.sequence + self.kind[context.part]
        for block in self.parts:
            states = block(states, context.mask)
        masks = kind_masks(context.mask, context.part)
        kinds, weights = self._kinds(states, masks)
        present = masks.any(dim=2)
        kinds = kinds + self._framed(kinds, states, masks[:, 0]) * present[..., None]
        by_kind = self.kind_pool.weights(kinds, present)
        story = torch.einsum("bk,bkh->bh", by_kind, kinds) + context.pooled
        part_weights = torch.einsum("bk,bks->bs", by_kind, weights)
        trajectory = torch.where(context.mask[..., None], context.trajectory, 0.0)
        evidence = torch.einsum("bs,bsd->bd", part_weights, trajectory)
        return {EMOTION: self.out(self.story(story)) + self.share * evidence}

    def _kinds(self, states: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """State of each kind (B, 3, H) and the weights (B, 3, S) that its parts got."""
        # Padded states may hold anything; a weight of 0 would still spread a NaN.
        states = torch.where(masks.any(dim=1)[..., None], states, 0.0)
        weights = self.part_pool.weights(states, masks)
        return torch.einsum("bks,bsh->bkh", weights, states), weights

    def _framed(self, kinds: Tensor, states: Tensor, sentences: Tensor) -> Tensor:
        """What each kind sees in the sentences, gated (B, 3, H)."""
        seen = self.look(kinds, states, sentences)
        return torch.sigmoid(self.gate(torch.cat([kinds, seen], dim=-1))) * seen
