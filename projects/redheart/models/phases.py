"""The three phases: calibrating oneself, taking another's place, hearing a community."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import ResidualMLP, initialise, learned, masked_mean, masked_softmax
from projects.redheart.models.parts import kind_masks
from projects.redheart.tasks import EMOTION, TASKS

LARGEST_SCALE = 4.0


def confidence(logits: Tensor) -> Tensor:
    """How sure an answer is: probabilities, entropy, and the lead of the first over the second.

    Args:
        logits: (B, K).

    Returns:
        (B, K + 2); entropy as a share of that of an even distribution.
    """
    log_probability = logits.log_softmax(-1)
    probability = log_probability.exp()
    entropy = -(probability * log_probability).sum(-1, keepdim=True) / math.log(logits.shape[-1])
    best = probability.topk(2, dim=-1).values
    return torch.cat([probability, entropy, best[:, :1] - best[:, 1:]], dim=-1)


class EmotionCalibrator(Analyzer):
    """Phase 0: the preliminary emotion logits on a scale and with offsets that depend on the story.

    One scale for each story, between 1/4 and 4, makes the answer surer or less sure without changing its order; one
    offset for each emotion changes it. Both are read from the story and from how sure the preliminary answer is. This
    is a part of the network, trained with it; it replaces none of the calibrators that have a fold of their own.

    Args:
        width: Size H of the story's states.
        hidden: Size of the states that scale and offsets are read from.
        blocks: Residual perceptrons.
        dropout: Share dropped in them.

    Source: temperature and vector scaling, Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017); a
        temperature for each instance, Joy et al., "Sample-dependent Adaptive Temperature Scaling" (AAAI 2023).
    """

    tasks: ClassVar[tuple[str, ...]] = (EMOTION,)

    def __init__(self, width: int, *, hidden: int, blocks: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.read_story = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden))
        self.read_confidence = nn.Linear(TASKS[EMOTION] + 2, hidden)
        self.think = nn.Sequential(*(ResidualMLP(hidden, 2 * hidden, dropout) for _ in range(blocks)))
        self.scale = nn.Linear(hidden, 1)
        self.offset = nn.Linear(hidden, TASKS[EMOTION])
        self.apply(initialise)

    def forward(self, context: Context) -> Contribution:
        """Contribute to emotion."""
        logits = context.preliminary[EMOTION]
        sure = confidence(logits).to(context.pooled.dtype)
        state = self.think(self.read_story(context.pooled) + self.read_confidence(sure))
        scale = torch.exp(math.log(LARGEST_SCALE) * torch.tanh(self.scale(state)))
        return {EMOTION: (scale * logits + self.offset(state)).to(context.pooled.dtype)}


class EmpathyLearner(Analyzer):
    """Phase 1: the story read twice, from the place of the one who acts and from that of the other.

    The state of the action (or of the whole story where no action is told) asks the sentences what they mean for it; a
    learned turn of the question asks them what they mean for the other. Both readings and their difference answer.

    Args:
        width: Size H of the story's states.
        hidden: Size of question and reading.
        dropout: Share dropped of the readings.

    Source: imagining oneself and imagining the other as two readings of one event: Batson, Early and Salvarani,
        "Perspective Taking", Personality and Social Psychology Bulletin 23 (1997).
    """

    tasks: ClassVar[tuple[str, ...]] = (EMOTION, "regret")

    def __init__(self, width: int, *, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, hidden)
        self.memory = nn.Linear(width, 2 * hidden, bias=False)
        self.turn = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.ModuleDict({task: nn.Linear(4 * hidden, TASKS[task]) for task in self.tasks})
        self.apply(initialise)

    def forward(self, context: Context) -> Contribution:
        """Contribute to emotion and regret."""
        text, _, told = kind_masks(context.mask, context.part).unbind(1)
        action = torch.where(told.any(1, keepdim=True), masked_mean(context.sequence, told), context.pooled)
        own = self.query(self.norm(action))
        queries = torch.stack([own, own + self.turn(own)], dim=1)  # (B, 2, hidden)
        keys, values = self.memory(self.norm(context.sequence)).chunk(2, dim=-1)
        scores = queries @ keys.transpose(1, 2) * keys.shape[-1] ** -0.5
        read = masked_softmax(scores, text[:, None]).to(values.dtype) @ values
        mine, theirs = read.unbind(1)
        state = self.dropout(torch.cat([queries[:, 1], mine, theirs, theirs - mine], dim=-1))
        return {task: answer(state).to(context.pooled.dtype) for task, answer in self.answer.items()}


class CommunityNetwork(Analyzer):
    """Phase 2: what communities would say to a story like this one, and how far they agree.

    Each community is a memory of prototypes: a story it knows (a key) and its reaction (a value). A story is assigned
    to the prototypes of each softly, by likeness. The mean of the reactions over the communities and their spread
    adjust the preliminary answers. The prototypes are learned with everything else; no real community stands behind
    them.

    Args:
        width: Size H of the story's states.
        hidden: Size of keys and values.
        communities: Memories, at least 2.
        prototypes: Prototypes of each, at least 2.
        dropout: Share dropped in the mixing.

    Raises:
        ValueError: If there is no spread over communities or no choice of prototypes.

    Source: memory read by soft assignment: Sukhbaatar et al., "End-To-End Memory Networks" (NeurIPS 2015); learned
        prototypes: Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning" (NeurIPS 2017).
    """

    tasks: ClassVar[tuple[str, ...]] = (EMOTION, "bentham", "regret")

    def __init__(
        self, width: int, *, hidden: int, communities: int = 4, prototypes: int = 32, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if communities < 2 or prototypes < 2:
            raise ValueError(f"communities {communities}, prototypes {prototypes}; allowed: at least 2 of each")
        self.read_story = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.LayerNorm(hidden))
        self.key = learned(communities, prototypes, hidden, inputs=hidden)
        self.value = learned(communities, prototypes, hidden, inputs=hidden)
        self.mix = nn.Sequential(nn.Linear(3 * hidden, hidden), ResidualMLP(hidden, hidden, dropout))
        self.adjust = nn.ModuleDict({task: nn.Linear(hidden, TASKS[task]) for task in self.tasks})
        self.apply(initialise)

    def assignment(self, story: Tensor) -> Tensor:
        """(B, D) -> (B, communities, prototypes): share of each prototype, summing to 1 within a community."""
        return torch.einsum("bd,cpd->bcp", story, self.key).softmax(-1)

    def forward(self, context: Context) -> Contribution:
        """Contribute to emotion, Bentham's scores and regret."""
        story = self.read_story(context.pooled)
        reactions = torch.einsum("bcp,cpd->bcd", self.assignment(story), self.value)
        consensus = reactions.mean(1)
        spread = (reactions - consensus[:, None]).abs().mean(1)
        state = self.mix(torch.cat([story, consensus, spread], dim=-1))
        dtype = context.pooled.dtype
        return {task: (context.preliminary[task] + layer(state)).to(dtype) for task, layer in self.adjust.items()}
