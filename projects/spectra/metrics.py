"""Metrics that follow a fit epoch by epoch; the report's, with intervals, come from `shared.curve_scores`."""

import torch
from torch import Tensor
from torchmetrics import MeanSquaredError, Metric, MetricCollection

from projects.spectra.losses import pearson_along_axis


class EpochR2(Metric):
    """Coefficient of determination of all outputs together over the whole epoch.

    Equal to scikit-learn's `r2_score` with `multioutput="variance_weighted"`, the report's R^2; an epoch whose targets
    do not vary at all, such as one of a single sample, counts 1 if it is met exactly and 0 otherwise. The sums are kept
    in float64: spectra vary little about their mean, and float32 sums of squares lose that.

    Args:
        num_outputs: Values of one sample.
    """

    error: Tensor
    total: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        for name in ("error", "total", "square"):
            self.add_state(name, torch.zeros(num_outputs, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch, (B, ...) twice."""
        y = target.detach().flatten(1).double()
        x = prediction.detach().flatten(1).double()
        self.error += (y - x).square().sum(dim=0)
        self.total += y.sum(dim=0)
        self.square += y.square().sum(dim=0)
        self.count += len(y)

    def compute(self) -> Tensor:
        """At most 1."""
        variation = (self.square - self.total.square() / self.count).sum()
        # What float64 leaves of the difference of two equal sums.
        constant = variation <= 1e-12 * self.square.sum()
        error = self.error.sum()
        share = error / torch.where(constant, 1.0, variation)
        return (1.0 - torch.where(constant, (error > 0).double(), share)).float()


class MeanPearson(Metric):
    """Mean over curves of the correlation along the axis; torchmetrics' own correlates across samples."""

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch, (B, ..., L) twice."""
        correlation = pearson_along_axis(prediction.detach(), target)
        self.total += correlation.double().sum()
        self.count += correlation.numel()

    def compute(self) -> Tensor:
        """The mean, in [-1, 1]."""
        return (self.total / self.count).float()


def validation_metrics(num_outputs: int) -> MetricCollection:
    """Squared error and R2 over all `num_outputs` values of a sample, pearson along the axis; of (B, ..., L) twice."""
    return MetricCollection(
        {"mse": MeanSquaredError(), "r2": EpochR2(num_outputs), "pearson": MeanPearson()},
        compute_groups=False,  # the three have no states in common
    )
