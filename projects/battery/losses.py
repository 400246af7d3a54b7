"""Focal loss with label smoothing, and the joint loss of a network with auxiliary heads."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_PROBABILITY = 1e-6
REDUCTIONS = ("mean", "sum", "none")


def focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 1.5,
    alpha: Tensor | None = None,
    smoothing: float = 0.07,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy against smoothed labels, scaled down where the true class is already likely.

    With p = softmax(logits), K classes, true class y, smoothing s, q_k = (1 - s)·[k = y] + s/K:

        loss = alpha_y · (1 - p_t)^gamma · (- sum_k q_k · log p_k),    p_t = clamp(p_y, 1e-6, 1 - 1e-6)

    Only p_t is clamped: the logarithm stays exact, so a sample that is badly wrong keeps its gradient; the upper
    bound keeps the gradient finite for gamma < 1. At gamma 0 without alpha this is torch's `cross_entropy` with
    `label_smoothing`. 'mean' divides by the number of samples, not by the sum of their alphas, so that it is the mean
    of what 'none' returns and adds up over groups and micro-batches.

    Args:
        logits: (B, K), any floating type; half precision is computed in float32.
        target: (B,) int64, 0..K-1.
        gamma: Focusing exponent, >= 0.
        alpha: (K,) weight of each true class, >= 0.
        smoothing: Share s of the label spread evenly over all classes, in [0, 1).
        reduction: `mean`, `sum` or `none`.

    Returns:
        A scalar, or (B,) for `none`; float32 for half-precision logits.

    Raises:
        ValueError: On a parameter outside its range or an alpha of another shape.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5, there without smoothing.

    Example:
        >>> round(focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=2.0, smoothing=0.0).item(), 4)
        0.1733
    """
    _check(logits, gamma, alpha, smoothing, reduction)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    log_p = F.log_softmax(logits, dim=1)  # (B, K)
    log_p_true = log_p.gather(1, target[:, None])[:, 0]  # (B,)
    loss = -(1.0 - smoothing) * log_p_true - smoothing * log_p.mean(dim=1)
    if gamma > 0:
        p_true = log_p_true.exp().clamp(MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
        loss = (1.0 - p_true) ** gamma * loss
    if alpha is not None:
        loss = alpha.to(loss)[target] * loss
    return _reduce(loss, reduction)


class JointLoss(nn.Module):
    """Focal loss of the fused logits plus the weighted focal losses of the auxiliary rows.

    Weight 1 asks an auxiliary answer for as much as the fused one, which is what makes it a fair baseline.
    """

    alpha: Tensor | None

    def __init__(
        self,
        gamma: float = 1.5,
        alpha: Sequence[float] | None = None,
        smoothing: float = 0.07,
        auxiliary_weights: Mapping[str, float] | None = None,
    ) -> None:
        """Store the parameters of `focal_loss` and one weight > 0 for each auxiliary row.

        Raises:
            ValueError: On a weight that is not above 0: its head would be reported without having been trained.
        """
        super().__init__()
        self.gamma, self.smoothing = gamma, smoothing
        self.auxiliary_weights = dict(auxiliary_weights or {})
        for row, weight in self.auxiliary_weights.items():
            if not weight > 0:
                raise ValueError(f"auxiliary weight of {row!r} is {weight}, allowed: above 0")
        # Not persistent: it is configuration, and the snapshots' module groups cover the network's state only.
        self.register_buffer("alpha", None if alpha is None else torch.tensor(list(alpha)), persistent=False)

    def forward(self, outputs: Mapping[str, Tensor], target: Tensor, reduction: str = "mean") -> dict[str, Tensor]:
        """Return `loss` (the weighted sum) and the unweighted loss of each row under its own name.

        Args:
            outputs: What the network returned: `logits` and its auxiliary rows, each (B, K).
            target: (B,) int64.
            reduction: As in `focal_loss`; applies to every entry.

        Raises:
            ValueError: If rows and weights do not match one to one.
        """
        rows = set(outputs) - {"logits"}
        if rows != set(self.auxiliary_weights):
            raise ValueError(
                f"the network returns the auxiliary rows {sorted(rows)}, the loss has weights for "
                f"{sorted(self.auxiliary_weights)}; each row needs exactly one weight"
            )
        parts = {
            row: focal_loss(
                logits, target, gamma=self.gamma, alpha=self.alpha, smoothing=self.smoothing, reduction=reduction
            )
            for row, logits in outputs.items()
        }
        total = parts["logits"]
        for row, weight in self.auxiliary_weights.items():
            total = total + weight * parts[row]
        return {"loss": total, **parts}


def _check(logits: Tensor, gamma: float, alpha: Tensor | None, smoothing: float, reduction: str) -> None:
    """Raise ValueError on what would otherwise give a plausible wrong number."""
    if logits.ndim != 2:
        raise ValueError(f"logits have shape {tuple(logits.shape)}, allowed: (batch, classes)")
    if not gamma >= 0:
        raise ValueError(f"gamma is {gamma}, allowed: 0 or more")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}, allowed: 0 up to, but not, 1")
    if alpha is not None and alpha.shape != logits.shape[1:]:
        raise ValueError(f"alpha has shape {tuple(alpha.shape)}, allowed: ({logits.shape[1]},), one a class")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}, allowed: {', '.join(REDUCTIONS)}")


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    """(B,) -> scalar, or unchanged for `none`."""
    if reduction == "mean":
        return loss.mean()
    return loss.sum() if reduction == "sum" else loss
