"""Temperature scaling: one number for all logits, by maximum likelihood in double precision."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.calibrators.base import Calibrator

_ROWS_PER_CHUNK = 2000  # blocks that stay in the cache are three times as fast as the whole table
_MAX_STEPS = 200


class TemperatureCalibrator(Calibrator):
    """logits / T; the order of the classes stays, so no decision changes.

    Args:
        temperature: T > 0; above 1 the network was over-confident.

    Raises:
        ValueError: If T is not positive and finite.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 9.
    """

    method = "temperature"
    temperature: Tensor

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature is {temperature}; a positive finite number is needed")
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float64))

    def calibrate(self, logits: Tensor, domain: Tensor | None) -> Tensor:
        """The logits divided by T."""
        return logits / self.temperature.to(logits.dtype)


@dataclass(frozen=True)
class TemperatureFit:
    """A fitted temperature.

    Attributes:
        temperature: T > 0.
        warning: Why T is not the maximum of the likelihood, None where it is.
    """

    temperature: float
    warning: str | None = None


def fit_temperatures(
    logits: Tensor, target: Tensor, parts: Sequence[Tensor], num_groups: Sequence[int], start: float = 1.0
) -> list[TemperatureFit]:
    """The temperature of smallest mean negative log-likelihood on each part of the samples.

    The likelihood is convex in 1/T, so Newton's method in a bracket finds its one minimum; parts after the first start
    from the first one's, where the terms of all samples are known already. Three kinds of samples have no minimum, and
    say so in `warning`:

    - each sample is right: the likelihood grows without end as T falls. T is lowered only until the mean probability
      (geometric) of the target is (n + 1) / (n + 2), what the rule of succession allows after n groups without a miss;
    - the target's logit is on average no higher than the row's mean: T is set so high that all classes are equal;
    - the logits of each row are equal: T is 1.

    Args:
        logits: (N, C) float64.
        target: (N,) int64.
        parts: Boolean masks (N,), each with at least one sample.
        num_groups: Independent groups in each part.
        start: Where the search begins, for example the temperature of more samples.

    Source: Guo et al., ICML 2017, section 4.2; the rule of succession is Laplace's.
    """
    likelihood = _Likelihood(logits, target)
    fits: list[TemperatureFit] = []
    for mask, groups in zip(parts, num_groups, strict=True):
        fit = _fit_one(likelihood, mask, groups, start)
        if not fits and fit.warning is None:
            start = fit.temperature
        fits.append(fit)
    return fits


class _Likelihood:
    """Negative log-likelihood of samples and its derivatives with respect to beta = 1/T."""

    def __init__(self, logits: Tensor, target: Tensor) -> None:
        self.centred = logits - logits.max(dim=1, keepdim=True).values  # at most 0, so exp cannot overflow
        self.chosen = self.centred.gather(1, target[:, None]).squeeze(1)
        self.mean = self.centred.mean(dim=1)
        self.lowest = self.centred.min(dim=1).values
        self._known: dict[float, Tensor] = {}

    def at(self, beta: float, weight: Tensor, share: bool = False) -> tuple[float, float, float]:
        """Value, slope and curvature, averaged with weights (N,); with `share` the terms are kept for other weights."""
        terms = self._known.get(beta)
        if terms is None:
            tables = (self.centred, self.chosen)
            blocks = zip(*(torch.split(table, _ROWS_PER_CHUNK) for table in tables), strict=True)
            terms = torch.cat([_terms(rows, chosen, beta) for rows, chosen in blocks], dim=1)
            if share:
                self._known[beta] = terms
        value, slope, curvature = (terms @ weight / weight.sum()).tolist()
        return value, slope, curvature


def _terms(centred: Tensor, chosen: Tensor, beta: float) -> Tensor:
    """Each sample's value, slope and curvature, (3, N)."""
    odds = torch.exp(centred * beta)
    total = odds.sum(dim=1)
    weighted = odds.mul_(centred)
    mean = weighted.sum(dim=1) / total
    square = weighted.mul_(centred).sum(dim=1) / total
    return torch.stack([torch.log(total) - beta * chosen, mean - chosen, square - mean * mean])


def _fit_one(likelihood: _Likelihood, mask: Tensor, num_groups: int, start: float) -> TemperatureFit:
    weight = mask.to(torch.float64)
    spread = float(-likelihood.lowest[mask].min())
    if spread == 0:
        return TemperatureFit(1.0, "all logits of a row are equal, so no temperature changes anything")
    if likelihood.chosen[mask].min() == 0:
        return TemperatureFit(
            1.0 / _after_no_miss(likelihood, weight, num_groups),
            f"every sample is right, so the likelihood has no maximum: T is bounded as {num_groups} groups allow",
        )
    # That is the slope at 1/T = 0; if it is zero but for rounding, so is 1/T.
    if float((likelihood.mean - likelihood.chosen)[mask].mean()) >= -1e-6 * spread:
        return TemperatureFit(
            1e4 * spread, "the logits are no better than chance, so T is set so high that all classes are equal"
        )
    return TemperatureFit(1.0 / _minimum(likelihood, weight, 1.0 / start))


def _minimum(likelihood: _Likelihood, weight: Tensor, beta: float) -> float:
    """Newton's method on a convex function whose slope is negative at 0 and positive somewhere."""
    low, high = 0.0, math.inf
    for step_number in range(_MAX_STEPS):
        _, slope, curvature = likelihood.at(beta, weight, share=step_number == 0)
        low, high = (beta, high) if slope < 0 else (low, beta)
        proposed = min(beta - slope / curvature, 8.0 * beta) if curvature > 0 else 8.0 * beta
        if not low <= proposed <= high or proposed <= 0:
            proposed = 0.5 * (low + high) if low else 0.125 * high
        # Newton's relative error after a step is about the square of the step, here below 1e-9.
        if abs(proposed - beta) <= 3e-5 * beta:
            return proposed
        beta = proposed
    raise AssertionError("a bracketed Newton search ends")


def _after_no_miss(likelihood: _Likelihood, weight: Tensor, num_groups: int) -> float:
    """The beta >= 1 at which the mean negative log-likelihood is log((n + 2) / (n + 1)); 1 if it is lower there."""
    allowed = math.log((num_groups + 2) / (num_groups + 1))
    beta = 1.0
    for _ in range(_MAX_STEPS):
        value, slope, _ = likelihood.at(beta, weight)
        # Convexity keeps Newton left of the root; doubling at most keeps a flat start from jumping far beyond.
        if value <= allowed * (1 + 1e-6) or slope >= 0:
            break
        beta += min((value - allowed) / -slope, beta)
    return beta
