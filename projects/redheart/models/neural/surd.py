"""SURD numbers by decomposing the information that the parts carry about the story."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.information import SHARES, decompose, gaussian_information
from projects.redheart.models.layers import AttentionPool, ResidualMLP, initialise, learned
from projects.redheart.models.parts import KINDS, kind_masks
from projects.redheart.tasks import TASKS


class NeuralSurdAnalyzer(Analyzer):
    """What title, action and text each tell of the story, what they repeat, and what they tell only together.

    From the state of each kind of part, and of the whole story as the target, a network draws factors of a Gaussian
    model: variables that share some directions, plus unit noise. The mutual information between parts and story is then
    exact and differentiable, and is decomposed as in `projects.redheart.models.information`. The eleven shares enter
    the answer twice, by themselves and together with the state of the story. The model is one of a single story, not of
    a batch, so a row never depends on its neighbours; that the network learns it from the target numbers, and not by
    maximum likelihood, is our departure from both papers.

    Args:
        width: Size of a state, H.
        hidden: Hidden size of the perceptrons.
        numbers: Gaussian variables of each part, K.
        rank: Common directions, M.
        blocks: Perceptrons before the factors, and again before the answer.
        dropout: Share dropped after perceptrons.
    """

    tasks: ClassVar[tuple[str, ...]] = ("surd",)

    def __init__(self, width: int, *, hidden: int, numbers: int, rank: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.pool = AttentionPool(width)
        self.role = learned(len(KINDS) + 1, width, inputs=width)
        self.encode = nn.Sequential(*(ResidualMLP(width, hidden, dropout) for _ in range(blocks)), nn.LayerNorm(width))
        self.factors = nn.Linear(width, numbers * rank)
        self.numbers = numbers
        self.embed = nn.Linear(len(SHARES), width)
        self.story = nn.Sequential(*(ResidualMLP(width, hidden, dropout) for _ in range(blocks)), nn.LayerNorm(width))
        self.out = nn.Linear(width, TASKS["surd"])
        self.direct = nn.Linear(len(SHARES), TASKS["surd"])
        self.apply(initialise)

    def forward(self, context: Context) -> Contribution:
        """Logits of surprise, uncertainty, relevance and depth (B, 4)."""
        shares = self.shares(context).to(context.pooled.dtype)
        story = self.story(context.pooled + self.embed(shares))
        return {"surd": self.out(story) + self.direct(shares)}

    def shares(self, context: Context) -> Tensor:
        """Shares of information in nats (B, 11) float32, in the order of SHARES with text, title, action as 0, 1, 2."""
        masks = kind_masks(context.mask, context.part)
        sequence = torch.where(context.mask[..., None], context.sequence, 0.0)
        kinds = torch.einsum("bks,bsh->bkh", self.pool.weights(sequence, masks), sequence)
        states = torch.cat([kinds, context.pooled[:, None]], dim=1) + self.role
        factors = self.factors(self.encode(states)).unflatten(-1, (self.numbers, -1))
        # Determinants lose too much in half precision. A kind that is not there tells nothing: its factors are 0.
        with torch.autocast(factors.device.type, enabled=False):
            there = torch.cat([masks.any(dim=2), masks.new_ones(len(masks), 1)], dim=1)
            return decompose(gaussian_information(factors.float() * there[..., None, None]))
