"""Emotion by appraisal: a story is judged in four steps, and each pair of emotions is decided from these judgements."""

from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import CrossBlock, ResidualMLP, initialise, learned
from projects.redheart.tasks import EMOTION, TASKS

CHECKS: dict[str, tuple[str, ...]] = {
    "relevance": ("novelty", "intrinsic pleasantness", "goal relevance"),
    "implication": ("agent", "intention", "outcome probability", "discrepancy", "conduciveness", "urgency"),
    "coping": ("control", "power", "adjustment"),
    "norms": ("internal standards", "external standards"),
}
"""Objectives of appraisal in the order in which they are pursued, and the stimulus evaluation checks of each.

Source: Scherer, "Appraisal Considered as a Process of Multilevel Sequential Checking", in Scherer, Schorr and Johnstone
(eds.), "Appraisal Processes in Emotion" (2001).
"""

PAIRS: tuple[tuple[int, int], ...] = tuple(combinations(range(TASKS[EMOTION]), 2))
"""The 21 pairs of emotions, by label."""


class AppraisalStep(nn.Module):
    """One objective: read the story with what was judged before, then say the checks and take them along.

    Args:
        width: Size H of a state.
        num_heads: Attention heads; must divide the width.
        hidden: Hidden size of the residual perceptrons.
        blocks: Residual perceptrons, the one after the attention included; at least 1.
        num_checks: Checks of this objective.
        dropout: Share dropped in the blocks.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, blocks: int, num_checks: int, dropout: float) -> None:
        super().__init__()
        self.query = learned(width, inputs=width)
        self.read = CrossBlock(width, num_heads, hidden, dropout)
        self.think = nn.Sequential(*(ResidualMLP(width, hidden, dropout) for _ in range(blocks - 1)))
        self.judge = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_checks))
        self.remember = nn.Linear(num_checks, width)

    def forward(self, state: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """(B, H) -> the next state (B, H), and the checks (B, num_checks) in [-1, 1]."""
        query = (state + self.query)[:, None]
        state = self.think(self.read(query, context.sequence, context.mask)[:, 0])
        checks = torch.tanh(self.judge(state))
        return state + self.remember(checks), checks


class PairExperts(nn.Module):
    """A small perceptron for each pair of emotions: which of the two is it?

    Args:
        features: Numbers that each expert reads.
        hidden: Size of each expert's hidden layer.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.weight = learned(len(PAIRS), features, hidden, inputs=features)
        self.bias = nn.Parameter(torch.zeros(len(PAIRS), hidden))
        self.answer = learned(len(PAIRS), hidden, inputs=hidden)

    def forward(self, features: Tensor) -> Tensor:
        """(B, features) -> (B, 21): positive where the first emotion of the pair is the likelier."""
        hidden = F.gelu(torch.einsum("bf,pfh->bph", features, self.weight) + self.bias)
        return torch.einsum("bph,ph->bp", hidden, self.answer)


def votes(decisions: Tensor, gate: Tensor) -> Tensor:
    """Sum the decisions of all pairs into one logit for each emotion.

    Args:
        decisions: (B, 21), log odds of the first emotion of each of `PAIRS` against the second.
        gate: (B, 21), weight of each pair, summing to 1.

    Returns:
        (B, 7), summing to 0: with an even gate the mean decision of each emotion against the six others.

    Source: coupling of pairwise classifiers by voting, Hastie and Tibshirani, "Classification by Pairwise Coupling",
        Annals of Statistics 26 (1998); here with log odds and a learned weight in place of votes.
    """
    first, second = torch.triu_indices(TASKS[EMOTION], TASKS[EMOTION], 1, device=decisions.device)  # order of PAIRS
    against = decisions.new_zeros(len(decisions), TASKS[EMOTION], TASKS[EMOTION])
    against[:, first, second] = decisions * gate.to(decisions.dtype)
    return (against.sum(2) - against.sum(1)) * (len(PAIRS) / (TASKS[EMOTION] - 1))


class AdvancedEmotion(Analyzer):
    """Appraisal in four steps, then experts for the pairs of emotions under a gate, and a profile of checks.

    The steps follow the component process model: relevance, implication, coping potential, norms, each with the result
    of those before. The 14 checks reach the emotions on two ways: each emotion has a linear profile over them, and 21
    experts each decide between two emotions from checks and final state, as far as the gate holds the pair for
    relevant. What a check really measures is not supervised: its name says its place in the model, no more.

    Args:
        width: Size H of the story's states.
        hidden: Hidden size of the residual perceptrons.
        expert_hidden: Hidden size of each expert.
        num_heads: Attention heads; must divide the width.
        blocks: Residual perceptrons in each step, at least 1.
        dropout: Share dropped in the blocks.
    """

    tasks: ClassVar[tuple[str, ...]] = (EMOTION,)

    def __init__(
        self, width: int, *, hidden: int, expert_hidden: int, num_heads: int = 4, blocks: int = 3, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleDict(
            {
                name: AppraisalStep(width, num_heads, hidden, blocks, len(checks), dropout)
                for name, checks in CHECKS.items()
            }
        )
        num_checks = sum(len(checks) for checks in CHECKS.values())
        self.norm = nn.LayerNorm(width)
        self.profile = nn.Linear(num_checks, TASKS[EMOTION])
        self.gate = nn.Linear(width, len(PAIRS))
        self.experts = PairExperts(width + num_checks, expert_hidden)
        self.apply(initialise)

    def forward(self, context: Context) -> Contribution:
        """Contribute to emotion."""
        state, judged = context.pooled, []
        for step in self.steps.values():
            state, checks = step(state, context)
            judged.append(checks)
        checks, state = torch.cat(judged, dim=-1), self.norm(state)
        decisions = self.experts(torch.cat([state, checks], dim=-1))
        emotion = votes(decisions, self.gate(state).softmax(-1)) + self.profile(checks)
        return {EMOTION: emotion.to(context.pooled.dtype)}
