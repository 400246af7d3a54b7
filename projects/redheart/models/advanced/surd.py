"""SURD by predictive coding: each part is foretold from the earlier ones, and what was not foretold is the surprise."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import initialise, learned, masked_mean, masked_softmax
from projects.redheart.models.parts import kind_masks
from projects.redheart.models.signal.trajectory import close_gaps, last_sample
from projects.redheart.tasks import SURD_METRICS

LOG_VARIANCE_LIMIT = 4.0


def peak(values: Tensor, present: Tensor) -> Tensor:
    """(B, S), (B, S) bool -> (B,): mean under the values' own softmax, between mean and maximum; 0 without parts."""
    return (masked_softmax(values, present) * values.masked_fill(~present, 0.0)).sum(1)


def slowness(features: Tensor, present: Tensor) -> Tensor:
    """How fast each feature changes for its range: mean squared step over variance; low for slow features.

    Args:
        features: (B, S, K), samples first.
        present: (B, S) bool.

    Returns:
        (B, K), >= 0; 0 where there are fewer than two samples. White noise has 2.

    Source: the Delta value of Wiskott and Sejnowski, "Slow Feature Analysis", Neural Computation 14 (2002), eq. 1 to 4;
        there a constraint brings the variance to 1, here it divides.
    """
    if features.shape[1] < 2:
        return features.new_zeros(features.shape[0], features.shape[2])
    both = present[:, 1:] & present[:, :-1]
    step = masked_mean((features[:, 1:] - features[:, :-1]).square(), both)
    mean = masked_mean(features, present)
    variance = masked_mean((features - mean[:, None]).square(), present)
    return step / (variance + 1e-3)


class AdvancedSurd(Analyzer):
    """Prediction error, predicted variance, nearness to title and action, and slow features.

    Parts become codes. Attention over the parts up to each one, which fades with the distance, foretells mean and
    variance of the next code; the first is foretold from nothing. Surprise reads the surprisal of the parts (the
    Gaussian negative log-likelihood of each code), uncertainty the foretold log variances, relevance the cosine of each
    sentence with title and action, depth how slowly learned features of the codes change: what stays while the
    wording changes is what a story is about. The whole story corrects each.

    Args:
        width: Size H of the story's states.
        hidden: Size of a code.
        slow: Number of slow features.
        dropout: Share dropped of the codes.

    Source: Rao and Ballard, "Predictive Coding in the Visual Cortex", Nature Neuroscience 2 (1999); surprisal of text:
        Levy, "Expectation-based Syntactic Comprehension", Cognition 106 (2008).
    """

    tasks: ClassVar[tuple[str, ...]] = ("surd",)

    def __init__(self, width: int, *, hidden: int, slow: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.LayerNorm(hidden))
        self.dropout = nn.Dropout(dropout)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.memory = nn.Linear(hidden, 2 * hidden, bias=False)
        self.fade = nn.Parameter(torch.zeros(()))
        self.mean = nn.Linear(hidden, hidden)
        self.log_variance = nn.Linear(hidden, hidden)
        self.start = learned(2, hidden, inputs=hidden)
        self.slow = nn.Linear(hidden, slow, bias=False)
        self.topic = nn.Linear(hidden, hidden, bias=False)
        sizes = {"surprise": 3, "uncertainty": 3, "relevance": 3, "depth": 2 * slow}
        self.answer = nn.ModuleDict({name: nn.Linear(sizes[name], 1) for name in SURD_METRICS})
        self.correction = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, len(SURD_METRICS))
        )
        self.apply(initialise)

    def foretell(self, codes: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of each code from the earlier ones alone.

        Args:
            codes: (B, S, D), samples first.
            present: (B, S) bool.

        Returns:
            Twice (B, S, D); position 0 is foretold by learned constants.
        """
        length = codes.shape[1]
        step = torch.arange(length, device=codes.device)
        distance = step[:, None] - step[None, :]
        codes = self.dropout(codes)
        keys, values = self.memory(codes).chunk(2, dim=-1)
        scores = self.query(codes) @ keys.transpose(1, 2) * keys.shape[-1] ** -0.5
        scores = scores - F.softplus(self.fade) * distance.clamp(min=0).to(scores.dtype)
        weights = masked_softmax(scores, (distance >= 0) & present[:, None, :])
        told = codes + weights.to(values.dtype) @ values
        start = self.start.to(told.dtype).expand(len(codes), 2, -1)
        mean = torch.cat([start[:, :1], self.mean(told)[:, :-1]], dim=1)
        log_variance = torch.cat([start[:, 1:], self.log_variance(told)[:, :-1]], dim=1)
        return mean, LOG_VARIANCE_LIMIT * torch.tanh(log_variance / LOG_VARIANCE_LIMIT)

    def relevance(self, codes: Tensor, context: Context) -> Tensor:
        """(B, S, D) -> (B, 3): mean and peak cosine of sentences with title and action, and whether these exist."""
        text, title, action = kind_masks(context.mask, context.part).unbind(1)
        named = title | action
        topic = masked_mean(codes, named)
        cosine = F.cosine_similarity(self.topic(codes), topic[:, None], dim=-1, eps=1e-4)
        known = named.any(1).to(cosine.dtype)
        mean = masked_mean(cosine[..., None], text)[:, 0]
        return torch.stack([mean * known, peak(cosine, text) * known, known], dim=1)

    def forward(self, context: Context) -> Contribution:
        """Contribute to SURD."""
        in_place = self.encode(context.sequence)
        codes, present, length = close_gaps(in_place, context.mask)
        mean, log_variance = self.foretell(codes, present)
        surprisal = ((codes - mean).square() * torch.exp(-log_variance) + log_variance).mean(-1) / 2
        uncertainty = log_variance.mean(-1)
        slow = self.slow(codes)
        read = {
            name: torch.stack(
                [masked_mean(each[..., None], present)[:, 0], peak(each, present), last_sample(each, length)], dim=1
            )
            for name, each in (("surprise", surprisal), ("uncertainty", uncertainty))
        }
        read["relevance"] = self.relevance(in_place, context)
        read["depth"] = torch.cat([slowness(slow, present), masked_mean(slow, present)], dim=1)
        dtype = context.pooled.dtype
        answers = [self.answer[name](read[name].to(dtype)) for name in SURD_METRICS]
        return {"surd": (torch.cat(answers, dim=1) + self.correction(context.pooled)).to(dtype)}
