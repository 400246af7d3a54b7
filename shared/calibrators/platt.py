"""Platt scaling, one class against the rest: a straight line on the log-odds of each class."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from shared.calibrators.base import OneVsRestCalibrator

_MAX_STEPS = 200
_LAST_STEP = 1e-4
_LONGEST_STEP = 4.0
_STEEPEST_START = 8.0  # slope per standard deviation
_RIDGE = 1e-12


class PlattCalibrator(OneVsRestCalibrator):
    """p_k proportional to sigmoid(slope_k * f_k + offset_k) with f_k the log-odds of class k.

    Args:
        slope: (C,).
        offset: (C,).

    Raises:
        ValueError: If the two differ in shape or are not finite.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines" (1999), equation 2, whose A is minus our slope.
    """

    method = "platt"
    slope: Tensor
    offset: Tensor

    def __init__(self, slope: Tensor, offset: Tensor) -> None:
        super().__init__()
        if slope.ndim != 1 or slope.shape != offset.shape:
            raise ValueError(f"slope {tuple(slope.shape)} and offset {tuple(offset.shape)} must both be (C,)")
        if not (torch.isfinite(slope).all() and torch.isfinite(offset).all()):
            raise ValueError("slope and offset must be finite")
        self.register_buffer("slope", slope.to(torch.float64))
        self.register_buffer("offset", offset.to(torch.float64))

    def from_margins(self, margins: Tensor) -> Tensor:
        """The log of sigmoid(slope * f + offset)."""
        return logsigmoid(margins * self.slope.to(margins.dtype) + self.offset.to(margins.dtype))


def fit_platt(margins: Tensor, target: Tensor, parts: Sequence[Tensor]) -> list[PlattCalibrator]:
    """Fit each class on each part of the samples; parts after the first start from the first one's line.

    The targets are Platt's (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), which keep the line finite on separable classes.

    Args:
        margins: (N, C) float64 log-odds.
        target: (N,) int64.
        parts: Boolean masks (N,).

    Source: Platt (1999), section 2.2; Lin, Lin and Weng, "A Note on Platt's Probabilistic Outputs for Support Vector
    Machines", Mach. Learn. 68 (2007) on why Newton; there steps are halved by the loss, here by the slope along them.
    """
    weights = torch.stack([mask.to(torch.float64) for mask in parts])
    lines = torch.stack(
        [_fit_class(column, target == code, weights) for code, column in enumerate(margins.T.contiguous())], dim=1
    )  # (parts, C, 2)
    return [PlattCalibrator(line[:, 0].clone(), line[:, 1].clone()) for line in lines]


def _fit_class(margin: Tensor, hit: Tensor, weights: Tensor) -> Tensor:
    """(slope, offset) of one class on each part, (parts, 2); computed in the standardised margin."""
    centre, spread = margin.mean(), margin.std(correction=0)
    scaled = (margin - centre) / spread if spread > 0 else torch.zeros_like(margin)
    curve = _Curve(scaled, hit, weights)
    # In the given margin that is slope 1 and offset 0, which changes nothing; flatter where most of it is saturated.
    line = torch.stack([spread, centre]) * min(1.0, _STEEPEST_START / max(float(spread), 1e-300))
    first = _minimise(curve, 0, line, curve.at(line)[0])
    shared = curve.at(first)  # all other parts start here, so one look serves them all
    lines = torch.stack([first, *(_minimise(curve, part, first, shared[part]) for part in range(1, len(weights)))])
    if spread == 0:  # a constant says nothing: only the offset counts
        return torch.stack([torch.zeros(len(lines), dtype=torch.float64), lines[:, 1]], dim=1)
    slope = lines[:, 0] / spread
    return torch.stack([slope, lines[:, 1] - slope * centre], dim=1)


class _Curve:
    """Mean cross-entropy between sigmoid(line) and Platt's targets of weighted samples: its gradient and Hessian."""

    def __init__(self, scaled: Tensor, hit: Tensor, weights: Tensor) -> None:
        self._scaled, self._weights = scaled, weights
        self._size = weights.sum(dim=1)
        positive = weights @ hit.to(torch.float64)
        negative = self._size - positive
        high, low = (positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0)
        along = weights @ scaled
        along_hit = weights @ torch.where(hit, scaled, 0.0)
        # The targets enter the gradient only through these two sums.
        wanted = high * positive + low * negative
        wanted_along = high * along_hit + low * (along - along_hit)
        self._wanted = torch.stack([wanted_along, wanted])  # (2, parts)

    def at(self, line: Tensor, part: int | None = None) -> Tensor:
        """Rows (gradient: slope, offset; Hessian: slope-slope, slope-offset, offset-offset), one per part asked for."""
        parts = slice(None) if part is None else slice(part, part + 1)
        weights = self._weights[parts]
        stated = torch.sigmoid(self._scaled * line[0] + line[1])
        bend = stated * (1.0 - stated)
        bent = bend * self._scaled
        sums = [weights @ column for column in (stated * self._scaled, stated, bent * self._scaled, bent, bend)]
        sums[0] = sums[0] - self._wanted[0, parts]
        sums[1] = sums[1] - self._wanted[1, parts]
        return torch.stack(sums, dim=1) / self._size[parts, None]


def _minimise(curve: _Curve, part: int, line: Tensor, start: Tensor) -> Tensor:
    """Newton's method from a line whose derivatives are known."""
    now = start
    for _ in range(_MAX_STEPS):
        step, slope = _newton_step(now)
        # The error after a Newton step is about its square: the last one needs no second look.
        while float(step.abs().max()) > _LAST_STEP:
            ahead = curve.at(line + step, part)[0]
            # The function is convex along the step, so the slope at its far end tells whether it went too far.
            if abs(float(ahead[:2] @ step)) <= 0.9 * abs(slope):
                break
            step, slope = 0.5 * step, 0.5 * slope
        else:
            return line + step
        line, now = line + step, ahead
    raise AssertionError("a damped Newton search on a convex function ends")


def _newton_step(derivatives: Tensor) -> tuple[Tensor, float]:
    """The step (2,) and the slope along it; the ridge keeps a flat tail invertible."""
    g0, g1, h00, h01, h11 = derivatives.tolist()
    h00, h11 = h00 + _RIDGE, h11 + _RIDGE
    determinant = h00 * h11 - h01 * h01
    step = ((h01 * g1 - h11 * g0) / determinant, (h01 * g0 - h00 * g1) / determinant)
    # On a saturated sigmoid there is hardly any curvature and the step would lead to the far side of the same.
    scale = min(1.0, _LONGEST_STEP / max(abs(step[0]), abs(step[1]), 1e-300))
    step = (scale * step[0], scale * step[1])
    return torch.tensor(step, dtype=torch.float64), step[0] * g0 + step[1] * g1
