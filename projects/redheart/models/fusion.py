"""Learned weights of what head and analyzers say about each task."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from projects.redheart.models.context import Contribution
from projects.redheart.tasks import TASKS

HEAD = "heads"
"""Name of the heads' own answers among the contributions."""

HEAD_SHARE = 0.5
"""Weight of the head at the start; the analyzers share the rest."""


class Fusion(nn.Module):
    """For each task a weighted mean of all contributions, the weights a softmax over learned scores.

    A module that is left out gives its weight to the others in proportion. Where only one contributes, its answer is
    the task's and no score is learned.

    Args:
        contributors: Analyzer -> the tasks that it contributes to. The heads contribute to every task.
    """

    def __init__(self, contributors: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.names = {task: (HEAD, *(name for name, tasks in contributors.items() if task in tasks)) for task in TASKS}
        self.scores = nn.ParameterDict(
            {task: nn.Parameter(_first_scores(len(names))) for task, names in self.names.items() if len(names) > 1}
        )

    def forward(self, parts: Mapping[str, Contribution]) -> dict[str, Tensor]:
        """Mean of the contributions that are there.

        Args:
            parts: Module, "heads" among them -> its contribution; modules may be missing.

        Returns:
            Task -> (B, D) logits.

        Raises:
            ValueError: If nothing contributes to a task.
        """
        return {task: self._fused(task, parts) for task in TASKS}

    def weights(self, task: str, present: Sequence[str]) -> Tensor:
        """Weights of the contributors that are present, in their order, summing to 1."""
        if task not in self.scores:
            return torch.ones(1)
        scores = self.scores[task]
        if len(present) < len(scores):
            scores = scores[[self.names[task].index(name) for name in present]]
        return torch.softmax(scores, dim=0)

    def _fused(self, task: str, parts: Mapping[str, Contribution]) -> Tensor:
        """One task's weighted mean."""
        present = [name for name in self.names[task] if name in parts]
        if not present:
            raise ValueError(f"nothing contributes to {task}: off must leave one of {', '.join(self.names[task])}")
        if len(present) == 1:
            return parts[present[0]][task]
        stacked = torch.stack([parts[name][task] for name in present], dim=-1)
        return stacked @ self.weights(task, present).to(stacked.dtype)


def _first_scores(count: int) -> Tensor:
    """Scores by which the head, which stands first, gets its share."""
    scores = torch.zeros(count)
    scores[0] = math.log(HEAD_SHARE / (1 - HEAD_SHARE) * (count - 1))
    return scores
