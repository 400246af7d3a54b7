"""Regret by counterfactual pairs."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import CrossBlock, ResidualMLP, initialise, learned
from projects.redheart.models.parts import KINDS, kind_masks, kind_means

FIRST_SCALE = 4.0
TEXT, ACTION = KINDS.index("text"), KINDS.index("action")


class NeuralRegretAnalyzer(Analyzer):
    """What was done against what could have been done, through the same eyes.

    Regret is felt for the difference between the outcome of what one did and the outcome of what one did not: Loomes
    and Sugden (1982), Mellers et al. ("Decision affect theory", 1997), Coricelli et al. ("Regret and its avoidance",
    2005, regret as the difference between obtained and foregone outcome), Zeelenberg and Pieters ("A theory of regret
    regulation", 2007, regret grows with one's own responsibility). Here:

    1. the deed is the mean state of the action (of the whole story where none is given);
    2. each counterfactual deed is the deed changed in a learned way that depends on the story;
    3. one and the same network imagines the outcome of each deed in the sentences of the text and values it;
    4. regret's logit is responsibility x scale x (value of the foregone - value of the obtained) + threshold. The
       foregone value is a soft maximum over the alternatives: one regrets the best that was missed.

    Scale and responsibility are positive, so regret never falls when the foregone outcome looks better.

    Args:
        width: Size of a state, H.
        hidden: Hidden size of the perceptrons.
        num_heads: Attention heads; must divide the width.
        blocks: Layers of imagination, each a reading of the text and a perceptron.
        alternatives: Counterfactual deeds.
        dropout: Share dropped after attention and perceptrons.
    """

    tasks: ClassVar[tuple[str, ...]] = ("regret",)

    def __init__(
        self, width: int, *, hidden: int, num_heads: int, blocks: int, alternatives: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.change = nn.Linear(2 * width, alternatives * width)
        self.direction = learned(alternatives, width, inputs=1)
        self.blocks = nn.ModuleList(CrossBlock(width, num_heads, hidden, dropout) for _ in range(blocks))
        # No bias in the readout: it would shift all values alike, cancel in the difference and never be trained.
        self.value = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1, False))
        self.responsibility = nn.Sequential(
            ResidualMLP(width, width, dropout), nn.LayerNorm(width), nn.Linear(width, 1)
        )
        # Values of alternatives lie close together at first; from here their difference is heard.
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        self.threshold = nn.Parameter(torch.zeros(()))
        self.apply(initialise)

    def forward(self, context: Context) -> Contribution:
        """Logit of the regret factor (B, 1)."""
        obtained, foregone = self.values(context)
        return {"regret": self.judge(obtained, foregone, self._responsibility(context))}

    def values(self, context: Context) -> tuple[Tensor, Tensor]:
        """Value of the outcome that was obtained (B,) and of each that was foregone (B, alternatives)."""
        masks = kind_masks(context.mask, context.part)
        deed = torch.where(
            masks[:, ACTION].any(dim=1, keepdim=True), kind_means(context.sequence, masks)[:, ACTION], context.pooled
        )
        change = self.change(self.norm(torch.cat([deed, context.pooled], dim=-1)))
        others = deed[:, None] + self.direction + torch.tanh(change.unflatten(-1, (len(self.direction), -1)))
        outcomes = torch.cat([deed[:, None], others], dim=1) + context.pooled[:, None]
        for block in self.blocks:
            outcomes = block(outcomes, context.sequence, masks[:, TEXT])
        value = self.value(outcomes).squeeze(-1)
        return value[:, 0], value[:, 1:]

    def judge(self, obtained: Tensor, foregone: Tensor, responsibility: Tensor) -> Tensor:
        """Regret's logit.

        Args:
            obtained: (B,) value of the outcome obtained.
            foregone: (B, K) values of the alternatives' outcomes.
            responsibility: (B,) positive.

        Returns:
            (B, 1), growing with every foregone value and falling with the obtained one.
        """
        best = torch.logsumexp(foregone, dim=1) - math.log(foregone.shape[1])
        difference = responsibility * F.softplus(self.scale) * (best - obtained)
        return (difference + self.threshold)[:, None]

    def _responsibility(self, context: Context) -> Tensor:
        """How much of it was one's own doing (B,), around 1 at first."""
        return 2 * torch.sigmoid(self.responsibility(context.pooled)).squeeze(-1)
