"""Masked losses of the four tasks, the weights between them, and agreement of two passes (R-Drop)."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.redheart.tasks import EMOTION, SCORES, TASKS

Answers = Mapping[str, Tensor]
"""Task -> (B, D) logits."""
Parts = Mapping[str, Answers]
"""Module ("heads" among them) -> what it contributes, in logit space."""

WEIGHTINGS = ("fixed", "uncertainty")
FIRST_SCORE_VARIANCE = 1 / 12
"""Variance of a number spread evenly over [0, 1]: what a score's uncertainty begins with. Adam moves a number by about
one learning rate a step, too little to find the order of magnitude by itself."""


def element_losses(task: str, logits: Tensor, target: Tensor, mask: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Loss of each target; 0 where there is none.

    Cross-entropy for the emotion, (sigmoid(z) - y)^2 for scores. Not Huber's smooth L1: errors lie in [0, 1], where
    that is half the square with the same threshold of 1, and the square has its minimum at the mean, which is what a
    score annotated several ways should be answered with (and what the Gaussian of Kendall et al. assumes).

    Args:
        task: Name in TASKS.
        logits: (B, D).
        target: (B,) int64 for the emotion, (B, D) in [0, 1] otherwise; anything finite where masked.
        mask: Of the target's shape, True where there is a target.
        smoothing: Share of the label spread over all emotions, in [0, 1).

    Returns:
        Of the target's shape, float32 or wider.

    Example:
        >>> element_losses("regret", torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1).bool()).item()
        0.25
    """
    if task == EMOTION:
        losses = F.cross_entropy(_wide(logits), target, reduction="none", label_smoothing=smoothing)
    else:
        losses = (_wide(logits).sigmoid() - target).square()
    return torch.where(mask, losses, 0.0)


def sample_losses(logits: Tensor, target: Tensor, mask: Tensor, heads: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """Sum over tasks of each story's mean loss over the targets that it has; weights 1, no smoothing.

    Args:
        logits: (B, 7) of the emotion.
        target: (B,) int64.
        mask: (B,) bool.
        heads: Task -> {"prediction", "target", "mask"}, (B, D) each, predictions in [0, 1].

    Returns:
        (B,), float32 or wider; 0 for a story without any target.
    """
    total = element_losses(EMOTION, logits, target, mask)
    for head in heads.values():
        errors = torch.where(head["mask"], (_wide(head["prediction"]) - head["target"]).square(), 0.0)
        total = total + errors.sum(dim=1) / head["mask"].sum(dim=1).clamp(min=1)
    return total


def valid_targets(mask: Answers) -> dict[str, Tensor]:
    """Number of targets of each task in a batch, scalar float32."""
    return {task: mask[task].sum().float() for task in TASKS}


def symmetric_kl(first: Tensor, second: Tensor) -> Tensor:
    """Mean of KL(p || q) and KL(q || p) of two softmax distributions, row by row.

    Computed as the sum of (p - q)(log p - log q) / 2: each term is 0 or more, so that nearly equal distributions lose
    no digits, and log p is finite for any finite logits, so that 0 times it is 0.

    Args:
        first: (B, K) logits.
        second: (B, K) logits.

    Returns:
        (B,), float32 or wider.

    Source: Wu et al., "R-Drop", NeurIPS 2021, eq. 2.

    Example:
        >>> symmetric_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).item()
        0.0
    """
    p, q = _wide(first).log_softmax(dim=-1), _wide(second).log_softmax(dim=-1)
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(dim=-1)


def disagreement(task: str, first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """How far two passes are apart for each target, 0 where there is none: symmetric KL, or the squared difference.

    Args:
        task: Name in TASKS.
        first: (B, D) logits.
        second: (B, D) logits.
        mask: (B,) for the emotion, (B, D) otherwise.
    """
    apart = (
        symmetric_kl(first, second) if task == EMOTION else (_wide(first).sigmoid() - _wide(second).sigmoid()).square()
    )
    return torch.where(mask, apart, 0.0)


def twice(value: Any) -> Any:
    """A batch with its rows doubled: all of them, and all once more, so that dropout treats the two differently."""
    if isinstance(value, Tensor):
        return torch.cat([value, value])
    return {key: twice(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


class Loss(NamedTuple):
    """Loss of some rows, as a share of their batch's.

    Attributes:
        objective: What is minimised, scalar.
        tasks: Task -> its mean loss with weight 1 and without smoothing, detached: comparable with the one on val.
    """

    objective: Tensor
    tasks: dict[str, Tensor]


class MultiTaskLoss(nn.Module):
    """What a fit minimises: the tasks' losses, weighed, with their switches.

        sum_t c_t L_t + sum_t s_t / 2  +  alpha sum_t c_t R_t  +  beta mean_m sum_t c_t L_t(m)

    L_t is task t's mean over its valid targets, R_t the disagreement of two passes, L_t(m) the loss of module m's own
    contribution (the heads' preliminary answers, an analyzer's) over the tasks that it has. Fixed weights: c_t = w_t
    and no s_t. Uncertainty: c_t = exp(-s_t), halved for scores, with learned s_t = log sigma_t^2; in the last two terms
    c_t is a constant, so that the variances are learned from the answers alone. A task without any target in the batch
    has neither loss nor s_t.

    Args:
        weighting: "fixed" or "uncertainty".
        weights: Task -> weight >= 0, for "fixed"; a task left out has 1.
        label_smoothing: Share of the label spread over all emotions, in [0, 1).
        rdrop_alpha: alpha >= 0; 0 is off: one pass.
        auxiliary_weight: beta >= 0; 0 is off.

    Raises:
        ValueError: If a value is out of range, or weights are given to a weighting that learns them.

    Source: Kendall, Gal, Cipolla, CVPR 2018, eq. 7 and 10 (s_t = log sigma_t^2 in place of sigma_t).
    """

    def __init__(
        self,
        *,
        weighting: str = "fixed",
        weights: Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
        rdrop_alpha: float = 0.0,
        auxiliary_weight: float = 0.0,
    ) -> None:
        super().__init__()
        _check(weighting, weights or {}, label_smoothing, rdrop_alpha, auxiliary_weight)
        self.smoothing, self.rdrop_alpha, self.auxiliary_weight = label_smoothing, rdrop_alpha, auxiliary_weight
        self.weights = {task: float((weights or {}).get(task, 1.0)) for task in TASKS}
        self.log_variance: nn.ParameterDict | None = None
        if weighting == "uncertainty":
            first = {task: math.log(FIRST_SCORE_VARIANCE) if task in SCORES else 0.0 for task in TASKS}
            self.log_variance = nn.ParameterDict({task: nn.Parameter(torch.tensor(first[task])) for task in TASKS})

    @property
    def passes(self) -> int:
        """Rows of the outputs for each row of the target: 2 with R-Drop."""
        return 2 if self.rdrop_alpha > 0 else 1

    def forward(
        self, outputs: Answers, parts: Parts, target: Answers, mask: Answers, *, totals: Answers, share: float
    ) -> Loss:
        """Loss of some rows of a batch; the losses of all its rows add up to the batch's.

        Args:
            outputs: Task -> (P * B, D) logits, P = `passes`, the second pass behind the first.
            parts: Module -> task -> (P * B, D); read only where `auxiliary_weight` is above 0.
            target: Task -> (B,) or (B, D).
            mask: Like the target, True where there is one.
            totals: Task -> number of valid targets in the whole batch, scalar.
            share: Rows here / rows in the whole batch.
        """
        if self.passes == 2:
            pairs = {task: logits.chunk(2) for task, logits in outputs.items()}
            target, mask = twice(target), twice(mask)
        counts = {task: totals[task].clamp(min=1) for task in TASKS}

        def task_loss(task: str, logits: Tensor) -> Tensor:
            losses = element_losses(task, logits, target[task], mask[task], smoothing=self.smoothing)
            return losses.sum() / (self.passes * counts[task])

        terms = []
        for task, logits in outputs.items():
            weight, extra = self._weight(task)
            terms.append(weight * task_loss(task, logits))
            if extra is not None:
                terms.append(torch.where(totals[task] > 0, extra, 0.0) * share)
        constant = {task: self._weight(task)[0] for task in TASKS}
        constant = {task: c.detach() if isinstance(c, Tensor) else c for task, c in constant.items()}
        if self.passes == 2:
            for task, (first, second) in pairs.items():
                apart = disagreement(task, first, second, mask[task][: len(first)])
                terms.append(self.rdrop_alpha * constant[task] * (apart.sum() / counts[task]))
        if self.auxiliary_weight > 0 and parts:
            own = [constant[t] * task_loss(t, z) for p in parts.values() for t, z in p.items()]
            terms.append(self.auxiliary_weight / len(parts) * torch.stack(own).sum())
        doubled = {task: self.passes * totals[task] for task in TASKS}
        with torch.no_grad():
            plain = self.plain(outputs, target, mask, totals=doubled)
        return Loss(_added(terms), plain)

    def plain(self, outputs: Answers, target: Answers, mask: Answers, *, totals: Answers) -> dict[str, Tensor]:
        """Task -> its mean loss with weight 1 and without smoothing; shapes as in `forward`, one pass."""
        return {
            task: element_losses(task, logits, target[task], mask[task]).sum() / totals[task].clamp(min=1)
            for task, logits in outputs.items()
        }

    def task_weights(self) -> dict[str, float]:
        """Weight that each task's loss has now, without the factor 1/2 of scores under uncertainty."""
        if self.log_variance is None:
            return dict(self.weights)
        return {task: math.exp(-float(value.detach())) for task, value in self.log_variance.items()}

    def formula(self) -> str:
        r"""LaTeX of the loss, with its numbers.

        n_t is the number of targets of task t, angles are the mean over them (in L_t also over both passes), y is a
        target, p the prediction (with q where there are two passes), M the number of modules and t in m a task that
        module m contributes to. A bar marks a constant: nothing is learned through it.
        """
        if self.log_variance is None:
            terms = [" + ".join(rf"{self.weights[task]:g}\,{_of('L', task)}" for task in TASKS)]
            constants = {task: f"{self.weights[task]:g}" for task in TASKS}
        else:
            factor = {task: r"\tfrac{1}{2}" if task in SCORES else "" for task in TASKS}
            terms = [" + ".join(rf"{factor[task]}e^{{-{_of('s', task)}}} {_of('L', task)}" for task in TASKS)]
            terms.append(r"\tfrac{1}{2}\sum_{t:\,n_t>0} s_t")
            constants = {task: rf"{factor[task]}e^{{-\bar{{s}}_{{\mathrm{{{task}}}}}}}" for task in TASKS}
        smooth = rf"{1 - self.smoothing:g}\,y_k + \tfrac{{{self.smoothing:g}}}{{7}}" if self.smoothing > 0 else "y_k"
        where = [
            rf"L_{{\mathrm{{emotion}}}} = -\langle\textstyle\sum_k ({smooth})\log p_k\rangle",
            r"L_{t\neq\mathrm{emotion}} = \langle (p-y)^2\rangle",
        ]
        if self.rdrop_alpha > 0:
            terms.append(rf"{self.rdrop_alpha:g}\sum_t c_t R_t")
            where += [
                r"R_{\mathrm{emotion}} = \tfrac{1}{2}\langle\mathrm{KL}(p\,\|\,q) + \mathrm{KL}(q\,\|\,p)\rangle",
                r"R_{t\neq\mathrm{emotion}} = \langle (p-q)^2\rangle",
            ]
        if self.auxiliary_weight > 0:
            terms.append(
                rf"{self.auxiliary_weight:g}\,\tfrac{{1}}{{M}}\sum_{{m=1}}^{{M}}\sum_{{t\in m}} c_t L_t^{{(m)}}"
            )
        if self.rdrop_alpha > 0 or self.auxiliary_weight > 0:
            where.append(", ".join(f"{_of('c', task)} = {value}" for task, value in constants.items()))
        return r",\quad ".join([r"\mathcal{L} = " + " + ".join(terms), *where])

    def _weight(self, task: str) -> tuple[Tensor | float, Tensor | None]:
        """c_t, and s_t / 2 where it is learned."""
        if self.log_variance is None:
            return self.weights[task], None
        s = self.log_variance[task].float()
        return (-s).exp() * (0.5 if task in SCORES else 1.0), 0.5 * s


def _of(symbol: str, task: str) -> str:
    return rf"{symbol}_{{\mathrm{{{task}}}}}"


def _added(terms: Iterable[Tensor]) -> Tensor:
    """Sum in the order given."""
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def _wide(tensor: Tensor) -> Tensor:
    """Float32 for half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _check(
    weighting: str, weights: Mapping[str, float], label_smoothing: float, rdrop_alpha: float, auxiliary_weight: float
) -> None:
    if weighting not in WEIGHTINGS:
        raise ValueError(f"task_weighting is {weighting!r}, allowed: {', '.join(WEIGHTINGS)}")
    if weights and weighting != "fixed":
        raise ValueError(
            f"task_weights are {dict(weights)}, but task_weighting {weighting!r} learns them; leave one out"
        )
    for task, weight in weights.items():
        if task not in TASKS or not 0 <= weight < math.inf:
            raise ValueError(f"task_weights has {task!r}: {weight}, allowed: 0 or more for {', '.join(TASKS)}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}, allowed: 0 up to, but not, 1")
    for name, value in {"rdrop_alpha": rdrop_alpha, "auxiliary_weight": auxiliary_weight}.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}, allowed: 0 or more")
