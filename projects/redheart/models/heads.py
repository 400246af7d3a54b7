"""The heads: what the shared trunk found about a task, read out as the numbers of its answer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from projects.redheart.models.layers import ResidualMLP, initialise, learned, masked_mean
from projects.redheart.models.trunk import SharedTrunk
from projects.redheart.tasks import EMOTION, TASKS


class TaskHead(nn.Module):
    """Reads the states of one task: residual perceptrons, then one direction for each number.

    Args:
        task: Its name in TASKS.
        width: Size of a state, H.
        hidden: Hidden size of the perceptrons.
        blocks: Perceptrons.
        dropout: Share dropped after each.
    """

    def __init__(self, task: str, width: int, *, hidden: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualMLP(width, hidden, dropout) for _ in range(blocks)), nn.LayerNorm(width))
        self.direction = learned(TASKS[task], width, inputs=width)
        self.bias = nn.Parameter(torch.zeros(TASKS[task]))
        self.apply(initialise)

    def forward(self, states: Tensor) -> Tensor:
        """(B, D, H) -> (B, D) logits."""
        return (self.blocks(states) * self.direction).sum(dim=-1) + self.bias


class EmotionHead(TaskHead):
    """Emotion of the story: what its queries found, plus the mean of what the parts say each by itself."""

    def __init__(self, width: int, *, hidden: int, blocks: int, dropout: float) -> None:
        super().__init__(EMOTION, width, hidden=hidden, blocks=blocks, dropout=dropout)
        self.share = nn.Parameter(torch.ones(TASKS[EMOTION]))

    def read(self, states: Tensor, trajectory: Tensor, mask: Tensor) -> Tensor:
        """(B, 7, H), (B, S, 7), (B, S) -> (B, 7) logits."""
        return self(states) + self.share * masked_mean(trajectory, mask)


class BenthamHead(TaskHead):
    """The ten felicific numbers, each from its own query."""

    def __init__(self, width: int, *, hidden: int, blocks: int, dropout: float) -> None:
        super().__init__("bentham", width, hidden=hidden, blocks=blocks, dropout=dropout)


class RegretHead(TaskHead):
    """The regret factor."""

    def __init__(self, width: int, *, hidden: int, blocks: int, dropout: float) -> None:
        super().__init__("regret", width, hidden=hidden, blocks=blocks, dropout=dropout)


class SurdHead(TaskHead):
    """The four numbers of surprise, uncertainty, relevance and depth."""

    def __init__(self, width: int, *, hidden: int, blocks: int, dropout: float) -> None:
        super().__init__("surd", width, hidden=hidden, blocks=blocks, dropout=dropout)


class Heads(nn.Module):
    """The trunk and the four heads.

    Args:
        width: Size of a state, H.
        sizes: "trunk", "emotion", "bentham", "regret", "surd" -> the arguments of that part.
    """

    def __init__(self, width: int, sizes: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.trunk = SharedTrunk(width, **sizes["trunk"])
        self.emotion = EmotionHead(width, **sizes[EMOTION])
        self.bentham = BenthamHead(width, **sizes["bentham"])
        self.regret = RegretHead(width, **sizes["regret"])
        self.surd = SurdHead(width, **sizes["surd"])

    def forward(self, sequence: Tensor, mask: Tensor, pooled: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Say what the network would answer without its analyzers.

        Args:
            sequence: (B, S, H).
            mask: (B, S) bool.
            pooled: (B, H).

        Returns:
            Task -> (B, D) logits; trajectory (B, S, 7), the emotion logits of each part.
        """
        states, trajectory = self.trunk(sequence, mask, pooled)
        answers = {
            EMOTION: self.emotion.read(states[EMOTION], trajectory, mask),
            "bentham": self.bentham(states["bentham"]),
            "regret": self.regret(states["regret"]),
            "surd": self.surd(states["surd"]),
        }
        return answers, trajectory
