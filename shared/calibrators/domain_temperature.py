"""One temperature per domain (cell or module, studio or real), drawn towards the common one where groups are few."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.calibrators.base import Calibrator
from shared.calibrators.temperature import TemperatureFit, fit_temperatures

MIN_GROUPS = 5  # with fewer groups a domain has no temperature of its own
HALF_WEIGHT_GROUPS = 20  # with so many groups a domain's own temperature counts one half


class DomainTemperatureCalibrator(Calibrator):
    """logits / T of the sample's domain; an unknown domain (-1, or a code never seen) gets the common T.

    Args:
        temperature: The common T.
        domain_temperature: (D,) one T per domain code 0 to D - 1.

    Raises:
        ValueError: If a temperature is not positive and finite.
    """

    method = "domain_temperature"
    temperature: Tensor
    domain_temperature: Tensor

    def __init__(self, temperature: float, domain_temperature: Sequence[float]) -> None:
        super().__init__()
        wrong = [t for t in (temperature, *domain_temperature) if not (math.isfinite(t) and t > 0)]
        if wrong:
            raise ValueError(f"temperatures {wrong} were given; positive finite numbers are needed")
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float64))
        self.register_buffer("domain_temperature", torch.tensor([*domain_temperature], dtype=torch.float64))

    def calibrate(self, logits: Tensor, domain: Tensor | None) -> Tensor:
        """The logits divided by the T of each row's domain."""
        if domain is None:
            return logits / self.temperature.to(logits.dtype)
        known = self.domain_temperature.shape[0]
        table = torch.cat([self.domain_temperature, self.temperature[None]])
        place = torch.where((domain >= 0) & (domain < known), domain, known)
        return logits / table[place].to(logits.dtype)[:, None]


@dataclass(frozen=True)
class DomainFit:
    """The temperature of one domain.

    Attributes:
        temperature: T_g after shrinkage, in use.
        own: The domain's own maximum of the likelihood; None where it was not fitted or has none.
        weight: w, the share of its own log T.
        num_samples: Samples of the domain.
        num_groups: Groups n_g with a sample of the domain.
        warning: Why the domain has no temperature of its own although it has groups enough, or None.
    """

    temperature: float
    own: float | None
    weight: float
    num_samples: int
    num_groups: int
    warning: str | None = None


def shrinkage_weight(num_groups: int) -> float:
    """Weight of a domain's own log T: w = n_g / (n_g + 20), and 0 below 5 groups.

    Example:
        >>> shrinkage_weight(4), shrinkage_weight(20), shrinkage_weight(60)
        (0.0, 0.5, 0.75)
    """
    return num_groups / (num_groups + HALF_WEIGHT_GROUPS) if num_groups >= MIN_GROUPS else 0.0


def fit_domains(
    logits: Tensor,
    target: Tensor,
    group: Tensor,
    rows: Tensor,
    parts: Sequence[Tensor],
    common: Sequence[TemperatureFit],
) -> list[DomainFit]:
    """The temperature of one domain on each part of the samples: log T_g = w log T_own + (1 - w) log T.

    Args:
        logits: (N, C) float64.
        target: (N,) int64.
        group: (N,) int64 codes.
        rows: (N,) bool, the samples of the domain.
        parts: Boolean masks (N,), the samples to fit on.
        common: The temperature of all samples of each part.
    """
    inside = [part[rows] for part in parts]
    counts = [len(torch.unique(group[rows][mask])) for mask in inside]
    weights = [shrinkage_weight(count) for count in counts]
    own: list[TemperatureFit | None] = [None] * len(parts)
    able = [place for place, weight in enumerate(weights) if weight > 0]
    if able:
        found = fit_temperatures(
            logits[rows],
            target[rows],
            [inside[place] for place in able],
            [counts[place] for place in able],
            common[0].temperature,
        )
        for place, fit in zip(able, found, strict=True):
            own[place] = fit
    return [
        _shrink(own[place], common[place].temperature, weights[place], int(inside[place].sum()), counts[place])
        for place in range(len(parts))
    ]


def _shrink(own: TemperatureFit | None, common: float, weight: float, num_samples: int, num_groups: int) -> DomainFit:
    if own is None:
        return DomainFit(common, None, 0.0, num_samples, num_groups)
    if own.warning is not None:  # a bound is no estimate to be averaged with one
        return DomainFit(common, None, 0.0, num_samples, num_groups, own.warning)
    shrunk = math.exp(weight * math.log(own.temperature) + (1.0 - weight) * math.log(common))
    return DomainFit(shrunk, own.temperature, weight, num_samples, num_groups)
