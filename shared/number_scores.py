"""Scores of predicted numbers, each with its own missing targets, as functions of group weights."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.rank_correlation import RankCorrelations

METRICS = ("mae", "rmse", "r2", "spearman")
BOUNDS = {"mae": (0.0, np.inf), "rmse": (0.0, np.inf), "r2": (-np.inf, 1.0), "spearman": (-1.0, 1.0)}
"""Metric to the values that it can take."""
NEED_SPREAD = ("r2", "spearman")
"""Metrics that are undefined where the target does not vary."""

_NOTHING = 1e-12  # of a sum of squares: what rounding leaves of no spread

Floats = NDArray[np.float64]


class NumberScores:
    """Scores of several networks on D numbers of the same samples, each over the samples that have a target for it.

    Every score of a number counts the samples that have it; a weight multiplies every sample of its group. R^2 is
    1 - squared error / squared distance from the mean; Spearman's correlation is that of `RankCorrelations`.

    Args:
        predictions: Row to (N, D).
        target: (N, D), anything where masked.
        mask: (N, D) bool, True where there is a target.
        group: (N,) integer codes, any values.

    Attributes:
        rows: Names of the rows.
        num_groups: G, the groups that have a target at all.
        num_samples: Samples that have a target at all.
        constant: (D,) bool: all targets there are of a number are equal, or there is none.
        present: (D,) bool: a number has a target.
        still: Row to (D,) bool: all its predictions of a number, where there is a target, are equal.

    Raises:
        ValueError: If shapes do not fit, no target is there, or a number that counts is not finite.
    """

    def __init__(
        self, predictions: Mapping[str, ArrayLike], target: ArrayLike, mask: ArrayLike, group: ArrayLike
    ) -> None:
        self._target, valid = np.asarray(target, dtype=np.float64), np.asarray(mask)
        said = {name: np.asarray(values, dtype=np.float64) for name, values in predictions.items()}
        codes = np.asarray(group)
        _check(said, self._target, valid, codes)
        counted = valid.any(axis=1)
        names, self._group = np.unique(codes[counted], return_inverse=True)
        self.num_groups, self.num_samples = len(names), int(counted.sum())
        self._target, self._mask = self._target[counted], valid[counted]
        said = {name: values[counted] for name, values in said.items()}
        self.rows = tuple(said)
        self.present = self._mask.any(axis=0)
        self.constant = _constant(self._target, self._mask)
        self.still = {name: _constant(values, self._mask) for name, values in said.items()}
        self._size = self._sums(self._mask.astype(np.float64))
        self._errors = {name: np.where(self._mask, values - self._target, 0.0) for name, values in said.items()}
        self._absolute = {name: self._sums(np.abs(error)) for name, error in self._errors.items()}
        self._squared = {name: self._sums(np.square(error)) for name, error in self._errors.items()}
        self._correlations = [self._correlation(said, number) for number in range(self._target.shape[1])]

    def values(self, weights: Floats) -> dict[str, Floats]:
        """Each metric of each row and number.

        Args:
            weights: (W, G).

        Returns:
            Metric to (W, rows, D), NaN where the weights leave it undefined.
        """
        size = weights @ self._size  # (W, D)
        absolute = np.stack([_ratio(weights @ self._absolute[name], size) for name in self.rows], axis=1)
        residual = np.stack([weights @ self._squared[name] for name in self.rows], axis=1)  # (W, rows, D)
        spread = self._spread(weights, size)[:, None]
        return {
            "mae": absolute,
            "rmse": np.sqrt(_ratio(residual, size[:, None])),
            "r2": 1.0 - _ratio(residual, spread),
            "spearman": np.stack([correlation(weights) for correlation in self._correlations], axis=2),
        }

    def counted(self, metric: str) -> NDArray[np.bool_]:
        """The numbers (D,) that a mean over numbers takes in: those with a target, and where needed with spread."""
        return np.asarray(self.present & ~self.constant if metric in NEED_SPREAD else self.present)

    def _spread(self, weights: Floats, size: Floats) -> Floats:
        """Squared distance of the targets from their weighted mean, (W, D); 0 where it is rounding only."""
        known = self._mask.sum(axis=0)
        centre = np.where(self._mask, self._target, 0.0).sum(axis=0) / np.maximum(known, 1)
        centred = np.where(self._mask, self._target - centre, 0.0)  # sums of squares of small numbers stay exact
        total, squares = weights @ self._sums(centred), weights @ self._sums(np.square(centred))
        spread = squares - np.square(total) / np.maximum(size, _NOTHING)
        return np.asarray(np.where(self.constant | (spread <= _NOTHING * squares), 0.0, spread))

    def _correlation(self, said: Mapping[str, Floats], number: int) -> RankCorrelations:
        here = self._mask[:, number]
        columns = [said[name][here, number] for name in self.rows]
        return RankCorrelations(columns, self._target[here, number], self._group[here])

    def _sums(self, values: Floats) -> Floats:
        """Sums by group: (N, D) -> (G, D)."""
        sums = np.zeros((self.num_groups, values.shape[1]))
        np.add.at(sums, self._group, values)
        return sums


def _check(said: Mapping[str, Floats], target: Floats, mask: NDArray[np.bool_], group: NDArray[np.int64]) -> None:
    """Raise ValueError unless everything fits."""
    if target.ndim != 2 or mask.shape != target.shape or mask.dtype != np.bool_:
        raise ValueError(f"target {target.shape} and mask {mask.shape} ({mask.dtype}) must be (N, D), the mask bool")
    if group.shape != target.shape[:1] or group.dtype.kind not in "iu":
        raise ValueError(f"group is {group.dtype} of shape {group.shape}; integer codes ({len(target)},) are needed")
    if not mask.any() or not said:
        raise ValueError("there is no target or no prediction; at least one of each is needed")
    for name, values in {**said, "target": target}.items():
        if values.shape != target.shape:
            raise ValueError(f"the numbers of {name} have shape {values.shape}; {target.shape} is needed")
        if not np.isfinite(values[mask]).all():
            raise ValueError(f"the numbers of {name} hold NaN or infinity where there is a target")


def _constant(values: Floats, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which columns have no two different values where the mask holds."""
    highest = np.where(mask, values, -np.inf).max(axis=0)
    lowest = np.where(mask, values, np.inf).min(axis=0)
    return np.asarray(highest <= lowest)


def _ratio(above: Floats, below: Floats) -> Floats:
    """Quotient with NaN, and no warning, where there is nothing to divide by."""
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
