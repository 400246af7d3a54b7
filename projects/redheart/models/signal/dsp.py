"""Emotions as signals: what filters, envelopes and a spectrum say about the way a story feels from part to part."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import ResidualMLP, initialise
from projects.redheart.models.signal.envelopes import enveloped_mean
from projects.redheart.models.signal.filters import FilterBank, spectral_energies
from projects.redheart.models.signal.trajectory import Signal, as_signal, full_precision, last_sample, sentences
from projects.redheart.tasks import EMOTION, TASKS

ADSR_NUMBERS = 5
"""Attack, decay, hold and release as shares of the story, and the level of the sustain."""


class EmotionDSPSimulator(Analyzer):
    """Filters, envelopes and spectrum of the emotion trajectory, read together with the whole story.

    Each of the seven emotions runs through its own bank of low-passes (moods that build up) and band-passes (ups and
    downs of a certain length); of each output the last value, the mean and the root mean square go on. Each has an
    envelope of its own, whose times depend on the story and under which its mean is taken. The spectrum says how its
    fluctuation divides over slow and fast. All of this is float32 whatever the rest of the network computes in.

    Args:
        width: Size H of the story's states.
        hidden: Size of the states that signal and story are mixed in.
        filters: Low-passes for each emotion, and as many band-passes.
        blocks: Residual perceptrons that mix.
        transform_length: Even length of the Fourier transform, at least the longest story in parts.
        dropout: Share dropped in the mixing.

    Raises:
        ValueError: If there is no filter, or the transform's length is odd or 0; on a story longer than it, too.
    """

    tasks: ClassVar[tuple[str, ...]] = (EMOTION, "surd")

    def __init__(
        self,
        width: int,
        *,
        hidden: int,
        filters: int = 4,
        blocks: int = 2,
        transform_length: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if filters < 1 or transform_length < 2 or transform_length % 2:
            raise ValueError(
                f"filters {filters}, transform_length {transform_length}; allowed: at least 1, and even from 2 on"
            )
        channels = TASKS[EMOTION]
        self.transform_length = transform_length
        self.bank = FilterBank(channels, filters)
        self.envelope = nn.Parameter(torch.zeros(channels, ADSR_NUMBERS))
        self.envelope_of_story = nn.Linear(width, channels * ADSR_NUMBERS)
        num_features = channels * (2 * filters * 3 + 1 + transform_length // 2 + 1)
        self.read_signal = nn.Sequential(nn.LayerNorm(num_features), nn.Linear(num_features, hidden))
        self.read_story = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden))
        self.mix = nn.Sequential(*(ResidualMLP(hidden, 2 * hidden, dropout) for _ in range(blocks)))
        self.answer = nn.ModuleDict({task: nn.Linear(hidden, TASKS[task]) for task in self.tasks})
        self.apply(initialise)

    def features(self, signal: Signal, envelopes: Tensor) -> Tensor:
        """Numbers that do not depend on the padding.

        Args:
            signal: Values (B, S, 7).
            envelopes: (B, 7, 5): logits of four shares and of the sustain level.

        Returns:
            (B, features) in the dtype of the signal.
        """
        values, present, length = signal
        number = length.clamp(min=1).to(values.dtype)[:, None, None]
        filtered = self.bank(signal)  # (B, S, 7, 2 F)
        mean = filtered.sum(1) / number
        # The small number keeps the root's slope finite where a filter gives nothing, as for a story of one part.
        energy = (filtered.square().sum(1) / number + 1e-6).sqrt()
        shaped = enveloped_mean(values, present, envelopes[..., :4], envelopes[..., 4])
        spectrum = torch.log1p(spectral_energies(signal, self.transform_length))
        numbers = (last_sample(filtered, length), mean, energy, shaped, spectrum)
        return torch.cat([number.flatten(1) for number in numbers], dim=1)

    def forward(self, context: Context) -> Contribution:
        """Contribute to emotion and SURD."""
        of_story = self.envelope_of_story(context.pooled).unflatten(-1, self.envelope.shape)
        with full_precision(context.pooled.device):
            signal = as_signal(context.trajectory, sentences(context))
            envelopes = of_story.to(signal.values.dtype) + self.envelope.to(signal.values.dtype)
            features = self.features(signal, envelopes)
        state = self.read_signal(features.to(context.pooled.dtype)) + self.read_story(context.pooled)
        state = self.mix(state)
        return {task: answer(state).to(context.pooled.dtype) for task, answer in self.answer.items()}
