"""Scores of predicted curves as functions of group weights, ready for `shared.statistics.estimate`.

A curve is what one output channel of a network says along an axis, such as a response over a frequency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.statistics import BoundedStatistic, Statistic

FLAT = 1e-6
"""A curve whose highest and lowest point are closer than this share of its size has neither a shape nor a peak."""


@dataclass(frozen=True)
class CurveAxes:
    """What the dimensions of a target mean.

    Attributes:
        channels: C names.
        name: Of the axis.
        unit: Of its values; "" for none.
        values: (L,) ascending positions along the axis.

    Raises:
        ValueError: If there is no channel, or the values do not rise.
    """

    channels: tuple[str, ...]
    name: str
    unit: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ValueError(f"channels are {self.channels}; at least one is needed, each with its own name")
        if not self.values or np.any(np.diff(self.values) <= 0):
            raise ValueError(f"the values of axis {self.name!r} must rise, found {self.values[:5]}")

    @classmethod
    def from_dict(cls, node: Mapping[str, Any]) -> "CurveAxes":
        """From {"channels": [...], "axis": {"name", "unit", "values"}}, as `BaseModule.curve_axes` gives it."""
        axis = node["axis"]
        return cls(tuple(node["channels"]), str(axis["name"]), str(axis["unit"]), tuple(map(float, axis["values"])))

    def axis_dict(self) -> dict[str, Any]:
        """The axis for JSON."""
        return {"name": self.name, "unit": self.unit, "values": list(self.values)}


class CurveScores:
    """Scores of one model on one set of curves; each method returns a statistic of weights (D, G) -> (D,).

    A weight multiplies every sample of its group. Samples are reduced to sums per group once.

    Args:
        prediction: (N, C, L).
        target: (N, C, L).
        group: (N,) integer codes, any values.
        values: (L,) positions along the axis, for the peak.

    Attributes:
        num_groups: G, the number of distinct groups.

    Raises:
        ValueError: If shapes do not fit or a number is not finite.
    """

    def __init__(self, prediction: ArrayLike, target: ArrayLike, group: ArrayLike, values: Sequence[float]) -> None:
        self._prediction = np.asarray(prediction, dtype=np.float64)
        self._target = np.asarray(target, dtype=np.float64)
        self._values = np.asarray(values, dtype=np.float64)
        groups = np.asarray(group)
        shape = self._target.shape
        if len(shape) != 3 or self._prediction.shape != shape or self._values.shape != shape[2:]:
            raise ValueError(
                f"prediction {self._prediction.shape}, target {shape} and axis {self._values.shape} do not fit; "
                "(N, C, L) twice and (L,) are needed"
            )
        if groups.shape != shape[:1] or groups.dtype.kind not in "iu":
            raise ValueError(f"group is {groups.dtype} of shape {groups.shape}; integer codes ({shape[0]},) are needed")
        if not (np.isfinite(self._prediction).all() and np.isfinite(self._target).all()):
            raise ValueError("a predicted or a true curve holds NaN or infinity")
        names, self._group = np.unique(groups, return_inverse=True)
        self.num_groups = len(names)
        self._error = (self._prediction - self._target).reshape(len(groups), -1)

    def all(self) -> dict[str, Statistic]:
        """Every score by its metric key."""
        return {
            "r2": self.r2(),
            "rmse": self.rmse(),
            "mae": self.mae(),
            "pearson": self.pearson(),
            "peak_shift": self.peak_shift(),
        }

    def rmse(self) -> Statistic:
        """Root of the mean squared error, in the target's unit."""
        mean = self._mean(np.square(self._error).mean(axis=1))
        return BoundedStatistic(lambda weights: np.sqrt(mean(weights)), 0.0, np.inf)

    def mae(self) -> Statistic:
        """Mean absolute error, in the target's unit."""
        return BoundedStatistic(self._mean(np.abs(self._error).mean(axis=1)), 0.0, np.inf)

    def r2(self) -> Statistic:
        """R^2 over all outputs (channels and points) together: 1 - squared error / squared distance from their means.

        The same number as scikit-learn's `r2_score` with `multioutput="variance_weighted"`. Its default, the mean of
        the R^2 of each output, is ruled by outputs that hardly vary: one whose spread is a thousandth of the error
        adds minus a million to the sum, though nobody would miss it.
        """
        target = self._target.reshape(len(self._target), -1)
        centred = target - target.mean(axis=0)  # sums of squares of small numbers stay exact
        size = self._sums(np.ones(len(target)))
        total, squares = self._sums(centred), self._sums(np.square(centred).sum(axis=1))
        residual = self._sums(np.square(self._error).sum(axis=1))

        def score(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            spread = weights @ squares - (np.square(weights @ total).sum(axis=1) / (weights @ size))
            # A draw may hold equal samples only: rounding is all that is left then.
            known = spread > 1e-12 * (weights @ squares)
            return 1.0 - np.divide(weights @ residual, spread, out=np.full(len(weights), np.nan), where=known)

        return BoundedStatistic(score, -np.inf, 1.0)

    def pearson(self) -> Statistic:
        """Correlation along the axis, averaged over curves; true curves that are flat are left out.

        A flat prediction of a curve with a shape counts as correlation 0.
        """
        true, said = _centred(self._target), _centred(self._prediction)
        norms = np.linalg.norm(true, axis=2) * np.linalg.norm(said, axis=2)
        flat = is_flat(self._target)
        dead = is_flat(self._prediction) | (norms == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(dead, 0.0, (true * said).sum(axis=2) / norms)
        return BoundedStatistic(self._mean_over_curves(values, ~flat), -1.0, 1.0)

    def peak_shift(self) -> Statistic:
        """Distance between the highest points of the predicted and the true curve, in the axis's unit.

        The peak is the vertex of the parabola through the highest point and its neighbours; flat true curves, which
        have none, are left out.
        """
        shift = np.abs(peaks(self._prediction, self._values) - peaks(self._target, self._values))
        return BoundedStatistic(self._mean_over_curves(shift, ~is_flat(self._target)), 0.0, np.inf)

    def _mean_over_curves(self, values: NDArray[np.float64], counted: NDArray[np.bool_]) -> Statistic:
        """Mean of values (N, C) over the curves that count."""
        total = self._sums(np.where(counted, values, 0.0).sum(axis=1))
        number = self._sums(counted.sum(axis=1).astype(np.float64))

        def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            below = weights @ number
            return np.divide(weights @ total, below, out=np.full(len(weights), np.nan), where=below > 0)

        return mean

    def _mean(self, values: NDArray[np.float64]) -> Statistic:
        """Mean of one number a sample, (N,)."""
        total, size = self._sums(values), self._sums(np.ones(len(values)))
        return lambda weights: np.asarray((weights @ total) / (weights @ size))

    def _sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums by group: (N, ...) -> (G, ...)."""
        sums = np.zeros((self.num_groups, *values.shape[1:]))
        np.add.at(sums, self._group, values)
        return sums


def peaks(curves: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Position of the highest point of each curve, between the points of the axis.

    Args:
        curves: (..., L).
        values: (L,) ascending; the parabola is used where the three points are equally far apart.

    Returns:
        (...) in the axis's unit, within its range.
    """
    top = curves.argmax(axis=-1)
    if len(values) < 3:
        return np.asarray(values[top])
    middle = np.clip(top, 1, len(values) - 2)
    left, centre, right = (np.take_along_axis(curves, (middle + k)[..., None], -1)[..., 0] for k in (-1, 0, 1))
    before, after = values[middle] - values[middle - 1], values[middle + 1] - values[middle]
    bend = left - 2 * centre + right
    inside = (top == middle) & (bend < 0) & np.isclose(before, after)
    offset = np.divide(0.5 * (left - right), bend, out=np.zeros_like(bend), where=inside)
    return np.asarray(values[top] + np.where(inside, offset * before, 0.0))


def _centred(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(curves - curves.mean(axis=2, keepdims=True))


def is_flat(curves: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which curves (N, C, L) have a range that is nothing beside their size, (N, C); see `FLAT`."""
    return np.asarray(np.ptp(curves, axis=2) <= FLAT * np.abs(curves).max(axis=2))
