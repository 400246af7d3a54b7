"""The backbone: a transformer over the embedded parts of a story."""

import torch
from torch import Tensor, nn

from projects.redheart.models.layers import SelfBlock, initialise, learned, recomputed

PART_TYPES = 3
"""Sentence of the text, title, action."""


class RedHeartUnifiedBackbone(nn.Module):
    """States of the parts of a story, and one state of the whole.

    Pre-norm transformer (Vaswani et al. 2017; Xiong et al. 2020) with learned embeddings of what a part is and where it
    stands. A learned story token stands before the parts, as [CLS] does in BERT (Devlin et al. 2019); its last state is
    the state of the story. The parts come embedded by a sentence encoder: words are not seen here.

    Args:
        embedding_dim: Size of an embedded part.
        width: Size of a state, H.
        num_layers: Transformer layers.
        num_heads: Attention heads; must divide the width.
        feedforward: Hidden size of the perceptron in a layer.
        dropout: Share dropped after each attention and perceptron.
        max_parts: Longest sequence that is accepted.
    """

    def __init__(
        self,
        embedding_dim: int,
        width: int,
        *,
        num_layers: int,
        num_heads: int,
        feedforward: int,
        dropout: float,
        max_parts: int,
    ) -> None:
        super().__init__()
        self.max_parts = max_parts
        self.activation_checkpointing = False
        self.embed = nn.Sequential(nn.LayerNorm(embedding_dim), nn.Linear(embedding_dim, width))
        self.part_type = learned(PART_TYPES, width, inputs=width)
        self.position = learned(max_parts, width, inputs=width)
        self.story = learned(1, 1, width, inputs=width)
        self.layers = nn.ModuleList(SelfBlock(width, num_heads, feedforward, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise)

    def forward(self, embedding: Tensor, mask: Tensor, part: Tensor, *, mix: bool = True) -> tuple[Tensor, Tensor]:
        """Read stories.

        Args:
            embedding: (B, S, D) embedded parts.
            mask: (B, S) bool, True where there is a part.
            part: (B, S) int64, 0 a sentence, 1 the title, 2 the action.
            mix: False leaves the layers out: each part stands for itself and the story is their mean.

        Returns:
            Sequence (B, S, H), 0 where there is no part, and the story's state (B, H), finite also where a row has no
            part at all.

        Raises:
            ValueError: If the sequence is longer than `max_parts`.
        """
        if mask.shape[1] > self.max_parts:
            raise ValueError(f"a story has {mask.shape[1]} parts; allowed: up to max_parts = {self.max_parts}")
        # Counted over the parts that are there, so that gaps and padding do not shift a position.
        place = (mask.cumsum(dim=1) - 1).clamp(min=0)
        sequence = self.embed(embedding) + self.part_type[part] + self.position[place]
        sequence = torch.where(mask[..., None], sequence, 0.0)
        story = self.story.expand(len(mask), 1, -1).to(sequence.dtype)
        if mix:
            story, sequence = self._mixed(story, sequence, mask)
        else:
            story = story + sequence.sum(dim=1, keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None]
        normed = self.norm(torch.cat([story, sequence], dim=1))
        return torch.where(mask[..., None], normed[:, 1:], 0.0), normed[:, 0]

    def _mixed(self, story: Tensor, sequence: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Story and sequence after the layers."""
        states = torch.cat([story, sequence], dim=1)
        there = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        for layer in self.layers:
            states = recomputed(self.activation_checkpointing, layer, states, there)
        return states[:, :1], states[:, 1:]
