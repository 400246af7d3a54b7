"""The trunk of the heads: one query for each number of an answer reads the story."""

import torch
from torch import Tensor, nn

from projects.redheart.models.layers import CrossBlock, SelfBlock, initialise, learned, recomputed
from projects.redheart.tasks import EMOTION, TASKS


class SharedTrunk(nn.Module):
    """Task queries over the story, and the emotion of each part.

    As in DETR (Carion et al. 2020), each number of an answer has a learned query; in every layer the queries of all
    tasks read the sequence and then each other, so that tasks share what they found. The trajectory is the part of the
    trunk that the signal modules follow: emotion logits of each part by itself.

    Args:
        width: Size of a state, H.
        num_layers: Layers, each a reading of the story and of the other queries.
        num_heads: Attention heads; must divide the width.
        hidden: Hidden size of the perceptrons.
        dropout: Share dropped after each attention and perceptron.
    """

    def __init__(self, width: int, *, num_layers: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.activation_checkpointing = False
        self.queries = learned(sum(TASKS.values()), width, inputs=width)
        self.reading = nn.ModuleList(CrossBlock(width, num_heads, hidden, dropout) for _ in range(num_layers))
        self.sharing = nn.ModuleList(SelfBlock(width, num_heads, hidden, dropout) for _ in range(num_layers))
        self.trajectory = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, TASKS[EMOTION]))
        self.apply(initialise)

    def forward(self, sequence: Tensor, mask: Tensor, pooled: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Answer the queries.

        Args:
            sequence: (B, S, H).
            mask: (B, S) bool.
            pooled: (B, H) state of the story.

        Returns:
            Task -> (B, D, H), a state for each number of its answer; trajectory (B, S, 7), 0 where there is no part.
        """
        states = self.queries + pooled[:, None]
        everyone = mask.new_ones(states.shape[:2])
        for reading, sharing in zip(self.reading, self.sharing, strict=True):
            states = recomputed(self.activation_checkpointing, reading, states, sequence, mask)
            states = recomputed(self.activation_checkpointing, sharing, states, everyone)
        by_task = dict(zip(TASKS, torch.split(states, list(TASKS.values()), dim=1), strict=True))
        return by_task, torch.where(mask[..., None], self.trajectory(sequence), 0.0)
