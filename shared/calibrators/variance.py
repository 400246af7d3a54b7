"""Variance scaling, the counterpart of temperature for regression heads that state a variance."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.calibrators.cross_fit import deal_folds
from shared.calibrators.inputs import too_few_groups
from shared.errors import DataError


class VarianceCalibrator(nn.Module):
    """Multiplies stated variances by one number; the predictions stay.

    Args:
        scale: s^2 > 0; above 1 the network was over-confident.

    Raises:
        ValueError: If s^2 is not positive and finite.
    """

    method: ClassVar[str] = "variance"
    scale: Tensor

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale is {scale}; a positive finite number is needed")
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def forward(self, variance: Tensor) -> Tensor:
        """Calibrated variance, in the shape of the stated one and in the target's unit squared."""
        return variance * self.scale.to(variance.dtype)


@dataclass(frozen=True)
class VarianceChoice:
    """The variance calibrator to use, or why there is none.

    Attributes:
        calibrator: None where scaling does not apply or brings nothing.
        method: "variance", "identity" or "does not apply".
        reason: One sentence.
        cv: Gaussian NLL on held-out groups, its gain over identity and standard error; empty where nothing was fitted.
        num_samples: N.
        num_groups: G.
    """

    calibrator: VarianceCalibrator | None
    method: str
    reason: str
    cv: dict[str, dict[str, float]]
    num_samples: int
    num_groups: int

    def as_dict(self) -> dict[str, Any]:
        """What `calibration.json` says of the choice."""
        return {
            "method": self.method,
            "reason": self.reason,
            "temperature": None,
            "variance_scale": None if self.calibrator is None else float(self.calibrator.scale),
            "n": self.num_samples,
            "groups": self.num_groups,
            "cv": self.cv,
        }


def fit_variance_scale(prediction: Tensor, variance: Tensor, target: Tensor) -> float:
    """s^2 = mean((y - mu)^2 / var), the maximum of the Gaussian likelihood.

    Args:
        prediction: mu, any shape.
        variance: Stated variance, same shape, positive.
        target: y, same shape.

    Raises:
        ValueError: If the shapes differ.
        DataError: If a value is not finite or a variance not positive.

    Source: Laves et al., "Well-calibrated Regression Uncertainty in Medical Imaging with Deep Learning", MIDL 2020,
    equation 9.

    Example:
        >>> fit_variance_scale(torch.zeros(2), torch.tensor([1.0, 4.0]), torch.tensor([2.0, 4.0]))
        4.0
    """
    if not prediction.shape == variance.shape == target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)}, variance {tuple(variance.shape)} and target {tuple(target.shape)} "
            "must have one shape"
        )
    for name, tensor in (("prediction", prediction), ("variance", variance), ("target", target)):
        if not torch.isfinite(tensor).all():
            raise DataError(f"calibrate part: {name} is not finite (NaN or infinity) somewhere")
    if not (variance > 0).all():
        raise DataError(f"calibrate part: variance falls to {float(variance.min()):.3g}; it must be positive")
    return float(((target.double() - prediction.double()) ** 2 / variance.double()).mean())


def choose_variance(
    prediction: Tensor,
    variance: Tensor | None,
    target: Tensor,
    group: NDArray[np.integer],
    *,
    folds: int = 5,
    seed: int = 0,
) -> VarianceChoice:
    """Scale the variance if that lowers the Gaussian NLL on held-out groups by more than one standard error.

    With fewer than 6 groups nothing is fitted, and the reason says so.

    Args:
        prediction: (N, ...).
        variance: Same shape; None for point predictions, to which calibration does not apply.
        target: Same shape.
        group: (N,) integer codes.
        folds: Folds of whole groups.
        seed: Of the folds.

    Raises:
        ValueError: If shapes differ.
        DataError: If a value is not finite or a variance not positive.
    """
    dense = np.unique(np.asarray(group), return_inverse=True)[1]
    num_samples, num_groups = len(prediction), len(np.unique(dense))
    if variance is None:
        why = "the network states point predictions without a variance, so there is no probability to calibrate"
        return VarianceChoice(None, "does not apply", why, {}, num_samples, num_groups)
    scale = fit_variance_scale(prediction, variance, target)
    why_not = too_few_groups(num_groups) or ("every prediction is exact" if scale == 0 else None)
    if why_not is not None:
        return VarianceChoice(None, "identity", f"nothing can be fitted: {why_not}", {}, num_samples, num_groups)
    squared = (
        ((target.double() - prediction.double()) ** 2 / variance.double()).reshape(num_samples, -1).mean(1).numpy()
    )
    fold = deal_folds(np.zeros(num_samples, dtype=np.int64), dense, min(folds, num_groups), seed)
    held = np.empty(num_samples)
    for part in range(min(folds, num_groups)):
        held[fold == part] = squared[fold != part].mean()
    # log var is common to both sides, so what differs is half of (log s^2 + z / s^2) - z.
    gain = 0.5 * (squared - np.log(held) - squared / held)
    per_group = np.bincount(dense, gain) / np.bincount(dense)
    mean, error = float(per_group.mean()), float(per_group.std(ddof=1) / math.sqrt(num_groups))
    cv = {"variance": {"gain": mean, "se": error}}
    told = f"the Gaussian NLL over {num_groups} groups held out of the fit by {mean:.3g} (standard error {error:.2g})"
    if mean > error:
        reason = f"s^2 = {scale:.3g} lowers {told}"
        return VarianceChoice(VarianceCalibrator(scale), "variance", reason, cv, num_samples, num_groups)
    reason = f"scaling lowers {told}, not by more than one standard error"
    return VarianceChoice(None, "identity", reason, cv, num_samples, num_groups)
