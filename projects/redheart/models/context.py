"""What every analyzer is given and what it gives back."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

Contribution = dict[str, Tensor]
"""Task -> (B, size of the task's answer), in logit space."""


class Context(NamedTuple):
    """A batch of stories as the backbone and the heads have understood them.

    Attributes:
        sequence: (B, S, H) states of the parts.
        mask: (B, S) bool, True where there is a part.
        part: (B, S) int64: 0 a sentence of the text, 1 the title, 2 the action; 0 where there is no part.
        pooled: (B, H) state of the whole story.
        trajectory: (B, S, 7) emotion logits of each part, in the order of the parts.
        preliminary: Task -> (B, D), what the heads say.
    """

    sequence: Tensor
    mask: Tensor
    part: Tensor
    pooled: Tensor
    trajectory: Tensor
    preliminary: dict[str, Tensor]


class Analyzer(nn.Module):
    """Base of all analyzers: a module whose contributions the fusion weighs."""

    tasks: ClassVar[tuple[str, ...]]
    """Tasks that it contributes to."""

    @abstractmethod
    def forward(self, context: Context) -> Contribution:
        """One contribution for each of `tasks`; what is padded never changes it."""
