"""Isotonic calibration, one class against the rest: the best rising curve from log-odds to frequency."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

from shared.calibrators.base import OneVsRestCalibrator, class_margins

Knots = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Margins (K,), rising, and the frequency (K,) at each."""


class IsotonicCalibrator(OneVsRestCalibrator):
    """p_k proportional to a rising piecewise linear function of the log-odds of class k, flat outside its knots.

    Margins are computed in double precision, whatever the network's: at a step of the curve a rounding would decide.

    Args:
        knots: (C, K) margins, not falling along a row; a row that has fewer knots repeats its last.
        values: (C, K) frequency at each knot, in [0, 1].
        floor: Smallest frequency of a class before normalisation, in (0, 1): what never came is not impossible.

    Raises:
        ValueError: If the shapes differ, a row falls, or the floor is out of range.
    """

    method = "isotonic"
    knots: Tensor
    values: Tensor
    floor: Tensor

    def __init__(self, knots: Tensor, values: Tensor, floor: float) -> None:
        super().__init__()
        if knots.ndim != 2 or knots.shape != values.shape or knots.shape[1] < 1:
            raise ValueError(f"knots {tuple(knots.shape)} and values {tuple(values.shape)} must both be (C, K)")
        if not (torch.diff(knots, dim=1) >= 0).all() or not torch.isfinite(knots).all():
            raise ValueError("knots must be finite and must not fall along a row")
        if not 0.0 < floor < 1.0:
            raise ValueError(f"floor is {floor}; it must lie between 0 and 1")
        self.register_buffer("knots", knots.to(torch.float64))
        self.register_buffer("values", values.to(torch.float64))
        self.register_buffer("floor", torch.tensor(floor, dtype=torch.float64))

    def calibrate(self, logits: Tensor, domain: Tensor | None) -> Tensor:
        """Log of the curve's value, in the dtype of the logits."""
        return self.from_margins(class_margins(logits.double())).to(logits.dtype)

    def from_margins(self, margins: Tensor) -> Tensor:
        """Log of each class's curve at its margin, not below the floor."""
        by_class = margins.T.contiguous()  # (C, B)
        if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():  # ONNX has no binary search
            behind = (by_class[:, :, None] >= self.knots[:, None, :]).sum(dim=2)
        else:
            behind = torch.searchsorted(self.knots, by_class, right=True)
        last = self.knots.shape[1] - 1
        left, right = (behind - 1).clamp(0, last), behind.clamp(0, last)
        low, high = self.knots.gather(1, left), self.knots.gather(1, right)
        width = high - low
        share = torch.where(width > 0, (by_class - low) / torch.where(width > 0, width, 1.0), 0.0)
        from_value = self.values.gather(1, left)
        curve = from_value + share * (self.values.gather(1, right) - from_value)
        return torch.log(torch.maximum(curve, self.floor)).T


def fit_isotonic(
    margins: Tensor, target: Tensor, parts: Sequence[Tensor], floor: float | None = None
) -> list[IsotonicCalibrator]:
    """Fit each class on each part of the samples, with one sort per class.

    Args:
        margins: (N, C) float64 log-odds.
        target: (N,) int64.
        parts: Boolean masks (N,), each with at least one sample.
        floor: Of the calibrator; None: 1 / (n + 2) of the part, Laplace's value for what never came in n samples.

    Source: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates",
    KDD 2002, section 4; the curve is scikit-learn's (equal margins pooled first, linear between blocks).
    """
    columns, classes = margins.T.contiguous().numpy(), target.numpy()
    masks = [mask.numpy() for mask in parts]
    curves: list[list[Knots]] = [[] for _ in parts]
    for code, column in enumerate(columns):
        order = np.argsort(column)
        rising, hit = column[order], (classes[order] == code).astype(np.float64)
        for part, mask in enumerate(masks):
            inside = mask[order]
            curves[part].append(_rising_curve(rising[inside], hit[inside]))
    floors = [1.0 / (int(mask.sum()) + 2.0) if floor is None else floor for mask in masks]
    return [_calibrator(knots, lowest) for knots, lowest in zip(curves, floors, strict=True)]


def _rising_curve(margin: NDArray[np.float64], hit: NDArray[np.float64]) -> Knots:
    """The ends of the constant blocks of the isotonic fit; samples stand in order of margin."""
    first = np.flatnonzero(np.concatenate([[True], margin[1:] != margin[:-1]]))
    if len(first) < len(margin):  # equal margins must get one value, whatever the order they stand in
        count = np.diff(np.append(first, len(margin))).astype(np.float64)
        fit = isotonic_regression(np.add.reduceat(hit, first) / count, weights=count)
        margin = margin[first]
    else:
        fit = isotonic_regression(hit)
    ends = np.unique(np.concatenate([fit.blocks[:-1], fit.blocks[1:] - 1]))
    return margin[ends], fit.x[ends]


def _calibrator(curves: Sequence[Knots], floor: float) -> IsotonicCalibrator:
    longest = max(len(margin) for margin, _ in curves)
    knots, values = (
        torch.from_numpy(np.stack([np.pad(curve[side], (0, longest - len(curve[side])), "edge") for curve in curves]))
        for side in (0, 1)
    )
    return IsotonicCalibrator(knots, values, floor)
