"""Metrics that follow a fit epoch by epoch over the targets that there are."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from projects.redheart.losses import element_losses
from projects.redheart.tasks import SCORES, TASKS
from shared.metric_keys import group_loss_key, metric_key

Pair = tuple[str, str]
"""Module and task."""


class MaskedMeans(Metric):
    """Means of several quantities, each over its own valid targets, as one number.

    Args:
        size: Number of quantities, P.
        reduce: "sum" of the means, 0 for one without any target; or "mean" of those that have one, NaN if none has.
    """

    full_state_update = False
    totals: Tensor
    counts: Tensor

    def __init__(self, size: int, reduce: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.reduce = reduce
        self.add_state("totals", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, totals: Tensor, counts: Tensor) -> None:
        """Add sums (P,) and how many numbers are in each, (P,)."""
        self.totals += totals.to(self.totals)
        self.counts += counts.to(self.counts)

    def compute(self) -> Tensor:
        """The one number, scalar float64."""
        means = self.totals / self.counts.clamp(min=1)
        return means.sum() if self.reduce == "sum" else means.sum() / (self.counts > 0).sum()


class StoryMetrics(nn.Module):
    """All that is logged on val, from one batch after the other.

    | key | what |
    |---|---|
    | `val/loss` | sum of the tasks' mean losses, weights 1, without smoothing |
    | `val/<task>/loss`, `val/<task>/mae` | of each task; the error of scores in [0, 1] |
    | `val/accuracy`, `val/f1_macro` | of the emotion |
    | `val/group/<group>/loss` | mean loss of the group's own contributions; of A, of the heads' preliminary answers |

    Args:
        num_classes: Emotions.
        groups: Module group -> its (module, task) pairs. A pair that a batch does not have counts as without targets.
    """

    def __init__(self, num_classes: int, groups: Mapping[str, Sequence[Pair]]) -> None:
        super().__init__()
        self.pairs = {group: list(pairs) for group, pairs in groups.items()}
        self.emotion = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "f1_macro": MulticlassF1Score(num_classes, average="macro"),
            }
        )
        self.loss = MaskedMeans(len(TASKS), "sum")
        self.tasks = nn.ModuleDict({task: MaskedMeans(1, "mean") for task in TASKS})
        self.mae = nn.ModuleDict({task: MaskedMeans(1, "mean") for task in SCORES})
        self.groups = nn.ModuleDict({group: MaskedMeans(len(pairs), "mean") for group, pairs in self.pairs.items()})

    def update(
        self,
        outputs: Mapping[str, Tensor],
        parts: Mapping[str, Mapping[str, Tensor]],
        target: Mapping[str, Tensor],
        mask: Mapping[str, Tensor],
    ) -> None:
        """Take in one batch; see `MultiTaskLoss.forward` for the shapes."""
        counts = {task: mask[task].sum() for task in TASKS}
        totals = {task: element_losses(task, outputs[task], target[task], mask[task]).sum() for task in TASKS}
        self.loss.update(torch.stack([totals[task] for task in TASKS]), torch.stack([counts[task] for task in TASKS]))
        for task in TASKS:
            cast("MaskedMeans", self.tasks[task]).update(totals[task][None], counts[task][None])
        for task in SCORES:
            errors = torch.where(mask[task], (outputs[task].float().sigmoid() - target[task]).abs(), 0.0)
            cast("MaskedMeans", self.mae[task]).update(errors.sum()[None], counts[task][None])
        labelled = mask["emotion"]
        if bool(labelled.any()):
            self.emotion.update(outputs["emotion"][labelled].float(), target["emotion"][labelled])
        for group, pairs in self.pairs.items():
            own = [_own(parts, pair, target, mask) for pair in pairs]
            sums, numbers = (torch.stack(column) for column in zip(*own, strict=True))
            cast("MaskedMeans", self.groups[group]).update(sums, numbers)

    def to_log(self) -> dict[str, Metric]:
        """Key -> metric, for `LightningModule.log`."""
        found: dict[str, Metric] = {metric_key("val", "loss"): self.loss}
        found |= {metric_key("val", name): metric for name, metric in self.emotion.items()}
        found |= {metric_key("val", "loss", task): cast("Metric", metric) for task, metric in self.tasks.items()}
        found |= {metric_key("val", "mae", task): cast("Metric", metric) for task, metric in self.mae.items()}
        return found | {group_loss_key(group): cast("Metric", metric) for group, metric in self.groups.items()}


def _own(
    parts: Mapping[str, Mapping[str, Tensor]], pair: Pair, target: Mapping[str, Tensor], mask: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Summed loss of one module's contribution to one task, and its number of targets."""
    module, task = pair
    if module not in parts:
        nothing = torch.zeros((), device=mask[task].device)
        return nothing, nothing
    losses = element_losses(task, parts[module][task], target[task], mask[task])
    return losses.sum(), mask[task].sum().to(losses.dtype)
