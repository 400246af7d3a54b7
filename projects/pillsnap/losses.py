"""Cross-entropy with label smoothing, on plain batches and on batches whose images were mixed."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pill_loss(logits: Tensor, target: Tensor, *, smoothing: float = 0.1, shares: Tensor | None = None) -> Tensor:
    """Mean cross-entropy against smoothed labels; where images were mixed, each label counts by its image's share.

    With p = softmax(logits), K classes, smoothing s, q_k = (1 - s)·[k = y] + s/K and image i made of the share w_ij of
    image j:

        loss = mean_i sum_j w_ij · (- sum_k q_k(y_j) · log p_ik)

    which is the cross-entropy against the mixed label, since that is linear in the label.

    Args:
        logits: (B, K), any floating type; half precision is computed in float32.
        target: (B,) int64 in 0..K-1, or -1 where the label is unknown: such a sample adds nothing.
        smoothing: s, in [0, 1).
        shares: (B, B) w, rows sum to 1; None: nothing was mixed.

    Returns:
        Scalar, 0 where no label is known.

    Raises:
        ValueError: If smoothing or a shape is out of range.

    Source: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7; Zhang et al., "mixup", 2018.

    Example:
        >>> round(pill_loss(torch.zeros(1, 4), torch.tensor([2])).item(), 4)
        1.3863
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}, allowed: 0 up to, but not, 1")
    if logits.ndim != 2 or target.shape != logits.shape[:1]:
        raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} must be (B, K) and (B,)")
    if shares is not None and shares.shape != (len(target), len(target)):
        raise ValueError(f"shares have shape {tuple(shares.shape)}, allowed: ({len(target)}, {len(target)})")
    log_p = F.log_softmax(logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits, dim=1)
    known = (target >= 0).to(log_p.dtype)  # (B,)
    label = target.clamp_min(0)
    if shares is None:
        loss = -(1 - smoothing) * log_p.gather(1, label[:, None])[:, 0] - smoothing * log_p.mean(dim=1)  # (B,)
        return (loss * known).sum() / known.sum().clamp_min(1)
    # (B, B): row i holds the loss of image i under the label of each image j
    pairs = -(1 - smoothing) * log_p[:, label] - smoothing * log_p.mean(dim=1, keepdim=True)
    weights = shares.to(log_p) * known
    return (pairs * weights).sum() / weights.sum().clamp_min(1e-12)
