"""Regret over time: what was done against what could have been done or left undone, now and much later."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import CrossBlock, SelfBlock, initialise, learned, masked_mean
from projects.redheart.models.parts import kind_masks


def foregone(actual: Tensor, alternatives: Tensor, temperature: Tensor) -> Tensor:
    """Value of what was not chosen over what was: smooth maximum of the alternatives minus the actual value.

    Args:
        actual: (...) value of what was done.
        alternatives: (..., K) values of what could have been.
        temperature: Scalar > 0; towards 0 the maximum, towards infinity the mean.

    Returns:
        (...).

    Source: regret as the difference to the best foregone outcome, Loomes and Sugden, "Regret Theory", Economic
        Journal 92 (1982), and Bell, Operations Research 30 (1982).
    """
    best = temperature * (torch.logsumexp(alternatives / temperature, -1) - math.log(alternatives.shape[-1]))
    return best - actual


class Horizon(nn.Module):
    """One step further into the future: each course of events reads the story, and is held against the others.

    Args:
        width: Size H of a state.
        num_heads: Attention heads; must divide the width.
        hidden: Hidden size of the residual perceptrons.
        dropout: Share dropped in the blocks.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.unfold = CrossBlock(width, num_heads, hidden, dropout)
        self.compare = SelfBlock(width, num_heads, hidden, dropout)
        # No bias: only differences of values count, and a shift of all would never get a gradient.
        self.value = nn.Sequential(nn.LayerNorm(width, bias=False), nn.Linear(width, 1, bias=False))

    def forward(self, courses: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """(B, C, H) -> the courses one horizon later (B, C, H), and their values (B, C)."""
        courses = self.unfold(courses, context.sequence, context.mask)
        courses = self.compare(courses, courses.new_ones(courses.shape[:2], dtype=torch.bool))
        return courses, self.value(courses)[..., 0]


class AdvancedRegret(Analyzer):
    """Alternatives to the action, imagined at several horizons, weighed as people weigh action and inaction.

    The action (the parts that tell it, else the whole story) is one course of events; learned shifts of it are others:
    half of them other deeds (regret of action), half of them not doing it (regret of inaction). All courses are
    unfolded over the horizons side by side by attention to the story, without a recurrent cell; at each horizon a
    course has a value. The regret of action weighs near horizons more at first, that of inaction far ones, and the
    story shifts these weights and the share of the two.

    Args:
        width: Size H of the story's states.
        hidden: Hidden size of the residual perceptrons.
        num_heads: Attention heads; must divide the width.
        alternatives: Courses of each kind, at least 1.
        horizons: Steps into the future, at least 2.
        dropout: Share dropped in the blocks.

    Raises:
        ValueError: If there is no alternative, or no time to weigh.

    Source: Gilovich and Medvec, "The Experience of Regret: What, When, and Why", Psychological Review 102 (1995): deeds
        are regretted more in the short run, what was left undone in the long run.
    """

    tasks: ClassVar[tuple[str, ...]] = ("regret",)

    def __init__(
        self,
        width: int,
        *,
        hidden: int,
        num_heads: int = 4,
        alternatives: int = 3,
        horizons: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if alternatives < 1 or horizons < 2:
            raise ValueError(f"alternatives {alternatives}, horizons {horizons}; allowed: at least 1 and at least 2")
        self.act = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.shifts = learned(2 * alternatives, width, inputs=1)
        self.horizons = nn.ModuleList(Horizon(width, num_heads, hidden, dropout) for _ in range(horizons))
        near = torch.linspace(0.5, -0.5, horizons)
        self.time_weight = nn.Parameter(torch.stack([near, -near]))  # (action and inaction, horizons)
        self.time_weight_of_story = nn.Linear(width, 2 * horizons)
        self.kind = nn.Linear(width, 2)
        self.temperature = nn.Parameter(torch.zeros(()))
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.offset = nn.Parameter(torch.zeros(()))
        self.apply(initialise)

    def courses(self, context: Context) -> Tensor:
        """Return (B, 1 + 2 K, H): what was done, other deeds, ways of not doing it."""
        _, _, told = kind_masks(context.mask, context.part).unbind(1)
        action = torch.where(told.any(1, keepdim=True), masked_mean(context.sequence, told), context.pooled)
        action = self.act(action + context.pooled)[:, None]
        return torch.cat([action, action + self.shifts], dim=1)

    def forward(self, context: Context) -> Contribution:
        """Contribute to regret."""
        courses, losses = self.courses(context), []
        temperature = F.softplus(self.temperature)
        for horizon in self.horizons:
            courses, value = horizon(courses, context)
            deeds, omissions = value[:, 1:].chunk(2, dim=1)
            losses.append(torch.stack([foregone(value[:, 0], kind, temperature) for kind in (deeds, omissions)], 1))
        weight = self.time_weight_of_story(context.pooled).unflatten(-1, self.time_weight.shape) + self.time_weight
        over_time = (torch.stack(losses, dim=2) * weight.softmax(-1)).sum(-1)  # (B, 2)
        regret = (over_time * self.kind(context.pooled).softmax(-1)).sum(-1, keepdim=True)
        return {"regret": (F.softplus(self.gain) * regret + self.offset).to(context.pooled.dtype)}
