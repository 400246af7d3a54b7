"""The hedonic calculus carried out: pleasures and pains of the parts, then the circumstances by their definition."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import ResidualMLP, initialise
from projects.redheart.models.signal.trajectory import as_signal, full_precision
from projects.redheart.tasks import BENTHAM_SCORES

NUM_CIRCUMSTANCES = 7
NUM_VALUES = len(BENTHAM_SCORES) - NUM_CIRCUMSTANCES
MARGIN = 1e-3
"""How far an answer stays from 0 and 1, where its logit would be infinite."""


class Sensations(NamedTuple):
    """What each part of a story does to those it concerns; each (B, S), parts first, 0 where there is none.

    Attributes:
        pleasure: Strength, >= 0.
        pain: Strength, >= 0.
        lasting: Share of the time it lasts, in [0, 1].
        probability: That it comes about, in [0, 1].
        delay: How far off it is, >= 0.
        persons: Measure of how many it concerns, >= 0.
    """

    pleasure: Tensor
    pain: Tensor
    lasting: Tensor
    probability: Tensor
    delay: Tensor
    persons: Tensor


def circumstances(sensations: Sensations, present: Tensor) -> Tensor:
    """Bentham's seven circumstances of a pleasure or pain, each by its definition, from those of the parts.

    Args:
        sensations: Of each part.
        present: (B, S) bool.

    Returns:
        (B, 7) in [0, 1]: intensity (mean strength, saturating), duration (mean share of time), certainty and
        propinquity (means weighed by strength; propinquity falls with delay as exp(-delay)), fecundity (chance that a
        sensation is followed at once by one of its kind; 1/2 where nothing follows), purity (chance that none of the
        opposite kind ever follows; 1/2 likewise), extent (persons weighed by strength, saturating).

    Source: Bentham, "An Introduction to the Principles of Morals and Legislation" (1789), ch. IV, 2 to 4.
    """
    pleasure, pain, lasting, probability, delay, persons = sensations
    strength = pleasure + pain
    number, total = present.sum(1).clamp(min=1).to(strength.dtype), strength.sum(1) + MARGIN
    later = strength.new_ones(strength.shape[1], strength.shape[1]).triu(1)  # 1 where the column comes after the row
    at_once = later.tril(1)

    def chance_of_same(follows: Tensor) -> Tensor:
        pairs = torch.einsum("bs,st,bt->b", strength, follows, strength)
        same = sum(torch.einsum("bs,st,bt->b", kind, follows, kind) for kind in (pleasure, pain))
        return (same + MARGIN) / (pairs + 2 * MARGIN)

    return torch.stack(
        [
            1 - torch.exp(-strength.sum(1) / number),
            (lasting * present).sum(1) / number,
            (strength * probability).sum(1) / total,
            (strength * torch.exp(-delay)).sum(1) / total,
            chance_of_same(at_once),
            chance_of_same(later),
            1 - torch.exp(-(strength * persons).sum(1) / total),
        ],
        dim=1,
    )


def balance(sensations: Sensations) -> Tensor:
    """(B,) in (-1, 1): expected pleasure minus expected pain, nearer ones counting more, over the strength of all.

    Source: Bentham, ch. IV, 5: the values of all pleasures on the one side, those of all pains on the other.
    """
    pleasure, pain, _, probability, delay, _ = sensations
    expected = (pleasure - pain) * probability * torch.exp(-delay)
    return expected.sum(1) / ((pleasure + pain).sum(1) + MARGIN)


class AdvancedBentham(Analyzer):
    """Sensations of each part by a perceptron, everything after that by the calculus.

    The seven circumstances follow from the sensations without a further weight. Moral, social and personal value are
    the balance of pleasure over pain times a mean of the circumstances under learned weights that are never negative
    and sum to 1: more of a circumstance never turns a good deed bad. Each answer is then brought to the scale of the
    annotation by a positive gain and a correction from the whole story.

    Args:
        width: Size H of the story's states.
        hidden: Size of the perceptron's states.
        dropout: Share dropped in the perceptron.
    """

    tasks: ClassVar[tuple[str, ...]] = ("bentham",)

    def __init__(self, width: int, *, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.feel = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            ResidualMLP(hidden, hidden, dropout),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, len(Sensations._fields)),
        )
        self.weight = nn.Parameter(0.02 * torch.randn(NUM_VALUES, NUM_CIRCUMSTANCES))
        self.gain = nn.Parameter(torch.zeros(len(BENTHAM_SCORES)))
        self.correction = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(BENTHAM_SCORES)))
        self.apply(initialise)

    def sensations(self, raw: Tensor, mask: Tensor) -> tuple[Sensations, Tensor]:
        """Turn free numbers of the parts (B, S, 6) into sensations; also say where there are parts, (B, S)."""
        raw, present, _ = as_signal(raw, mask)
        pleasure, pain, lasting, probability, delay, persons = raw.unbind(-1)
        there = present.to(raw.dtype)
        return Sensations(
            F.softplus(pleasure) * there,
            F.softplus(pain) * there,
            lasting.sigmoid() * there,
            probability.sigmoid() * there,
            F.softplus(delay) * there,
            F.softplus(persons) * there,
        ), present

    def forward(self, context: Context) -> Contribution:
        """Contribute to Bentham's scores."""
        correction, raw = self.correction(context.pooled), self.feel(context.sequence)
        with full_precision(context.pooled.device):
            sensations, present = self.sensations(raw, context.mask)
            seven = circumstances(sensations, present)
            values = balance(sensations)[:, None] * (seven @ self.weight.to(seven.dtype).softmax(-1).T)
            share = torch.cat([seven, (1 + values) / 2], dim=1).clamp(MARGIN, 1 - MARGIN)
            answer = F.softplus(self.gain.to(share.dtype)) * share.logit()
        return {"bentham": (answer + correction).to(context.pooled.dtype)}
