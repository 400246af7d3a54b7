"""What every calibrator is: a small module behind a network that turns logits into logits which mean what they say."""

from typing import ClassVar

import torch
from torch import Tensor, nn


class Calibrator(nn.Module):
    """Maps logits to calibrated logits: their softmax is the calibrated probability.

    The parameters are buffers, so a checkpoint and an export carry them. Half precision is widened to float32, since
    calibration is about the digits that half precision drops.
    """

    method: ClassVar[str] = ""

    def forward(self, logits: Tensor, domain: Tensor | None = None) -> Tensor:
        """Calibrated logits (B, C), log-probabilities up to a constant of the row.

        Args:
            logits: (B, C) as the network gives them.
            domain: (B,) int64 codes of the domain (for example cell or module), -1 where unknown; None: all unknown.
        """
        wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        return self.calibrate(wide, domain)

    def calibrate(self, logits: Tensor, domain: Tensor | None) -> Tensor:
        """What the method does, on logits of single or double precision."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it calibrates")


class IdentityCalibrator(Calibrator):
    """Leaves the logits alone: what is calibrated already, or cannot be calibrated on the samples at hand."""

    method = "identity"

    def calibrate(self, logits: Tensor, domain: Tensor | None) -> Tensor:
        """The logits themselves."""
        return logits


class OneVsRestCalibrator(Calibrator):
    """Calibrates each class against the rest as a function of its log-odds, then normalises over the classes."""

    def calibrate(self, logits: Tensor, domain: Tensor | None) -> Tensor:
        """One score per class from the log-odds of the class."""
        return self.from_margins(class_margins(logits))

    def from_margins(self, margins: Tensor) -> Tensor:
        """Log of the unnormalised probability of each class (B, C), given its log-odds (B, C)."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it scores a class")


def class_margins(logits: Tensor) -> Tensor:
    """Log-odds of each class against all others, log p_k - log(1 - p_k), without loss of digits near p = 1.

    Args:
        logits: (B, C) with C >= 2.

    Returns:
        (B, C) in the dtype of the logits.

    Example:
        >>> class_margins(torch.tensor([[3.0, 1.0]])).tolist()
        [[2.0, -2.0]]
    """
    stated = torch.log_softmax(logits, dim=1)
    classes = torch.arange(logits.shape[1], device=logits.device)
    top = classes == stated.argmax(dim=1, keepdim=True)
    # 1 - p cancels where p is near 1, which only the top class can be: there the others are summed instead.
    others = torch.logsumexp(stated.masked_fill(top, -torch.inf), dim=1, keepdim=True)
    small = torch.log1p(-torch.exp(stated.masked_fill(top, -1.0)))
    return stated - torch.where(top, others, small)
