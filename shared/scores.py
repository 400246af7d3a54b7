"""Classification scores as functions of group weights, ready for `shared.statistics.estimate`."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.auroc import PooledAuroc
from shared.calibration import (
    bin_index,
    check_probabilities,
    confidence_and_hit,
    equal_mass_index,
    sample_brier,
    sample_nll,
)
from shared.statistics import BoundedStatistic, Statistic

TOP = 5
MANY_CLASSES = 20
"""From so many classes on the five most likely are told beside the most likely one."""


class ClassificationScores:
    """Scores of one model on one set of samples; each method returns a statistic of weights (D, G) -> (D,).

    A weight multiplies every sample of its group: 2 is the same as having each of them twice. Samples are reduced to
    sums per group once, so a draw costs a few products of length G. A class that no sample of the whole set belongs to
    is left out of the macro averages; one that only a draw lacks makes that draw undefined (NaN), since an average over
    fewer classes would be another quantity.

    Two models on the same samples are compared with `estimate_difference`; their groups then stand in the same order.

    Args:
        probs: (N, C) probabilities, rows sum to 1.
        target: (N,) class indices in [0, C - 1].
        group: (N,) integer codes, any values.
        num_bins: Bins of the calibration error.

    Attributes:
        num_groups: G, the number of distinct groups.
        group_values: (G,) the given code of each column of the weights, ascending.
        num_classes: C.

    Raises:
        ValueError: If `probs` are no probabilities (logits, NaN), or `target` or `group` does not fit them.
    """

    def __init__(self, probs: ArrayLike, target: ArrayLike, group: ArrayLike, num_bins: int = 15) -> None:
        self._probs, self._target = check_probabilities(probs, target)
        groups = np.asarray(group)
        if groups.shape != self._target.shape or groups.dtype.kind not in "iu":
            raise ValueError(
                f"group has shape {groups.shape} and dtype {groups.dtype}; "
                f"integer codes of shape {self._target.shape} are needed"
            )
        self.group_values, self._group = np.unique(groups, return_inverse=True)
        self.num_groups = len(self.group_values)
        self.num_classes = self._probs.shape[1]
        self.num_bins = num_bins
        self._size = self._sums(np.ones(len(groups)))
        self._present = np.unique(self._target)

    def accuracy(self) -> Statistic:
        """Share of samples whose most likely class is the target."""
        return self._mean((self._probs.argmax(axis=1) == self._target).astype(np.float64), highest=1.0)

    def accuracy_top5(self) -> Statistic:
        """Share of samples whose target is among the five most likely classes; of equal ones the first count.

        Raises:
            ValueError: If there are five classes or fewer, where it says nothing.
        """
        if self.num_classes <= TOP:
            raise ValueError(f"there are {self.num_classes} classes; the best {TOP} of them say nothing")
        best = np.argsort(-self._probs, axis=1, kind="stable")[:, :TOP]
        return self._mean((best == self._target[:, None]).any(axis=1).astype(np.float64), highest=1.0)

    def f1(self, class_index: int) -> Statistic:
        """F1 = 2 TP / (2 TP + FP + FN) of one class; NaN where the weights leave no sample of it.

        Raises:
            ValueError: If there is no such class.
        """
        if not 0 <= class_index < self.num_classes:
            raise ValueError(f"class_index is {class_index}; allowed are 0 to {self.num_classes - 1}")
        return BoundedStatistic(self._f1_of(np.array([class_index])), 0.0, 1.0)

    def f1_macro(self) -> Statistic:
        """Unweighted mean of F1 over the classes present in the whole set."""
        return BoundedStatistic(self._f1_of(self._present), 0.0, 1.0)

    def auroc_macro(self) -> Statistic:
        """Two classes: AUROC of class 1. More: one class against the rest, mean over the classes present."""
        classes = [1] if self.num_classes == 2 else self._present
        areas = [PooledAuroc(self._probs[:, c], self._target == c, self._group, self.num_groups) for c in classes]

        def macro(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(np.mean([area(weights) for area in areas], axis=0))

        return BoundedStatistic(macro, 0.0, 1.0)

    def ece(self) -> Statistic:
        """Expected calibration error of the top label, as `shared.calibration.expected_calibration_error` defines it.

        Resampling adds noise to every bin, and an absolute value turns noise into error: for a well calibrated model
        the interval lies too high and may not hold the point estimate.
        """
        confidence, hit = confidence_and_hit(self._probs, self._target)
        gap = self._sums(hit - confidence, bin_index(confidence, self.num_bins), self.num_bins)  # (G, bins)

        def error(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return _ratio(np.abs(weights @ gap).sum(axis=1), weights @ self._size)

        return BoundedStatistic(error, 0.0, 1.0)

    def classwise_ece(self) -> Statistic:
        """Calibration error of each class's own probability over equal-width bins, averaged over all classes.

        Source: Kull et al., "Beyond temperature scaling", NeurIPS 2019, section 2.
        """
        shape = (self.num_classes, self.num_groups, self.num_bins)
        gap = np.empty(shape)
        for k in range(self.num_classes):
            column = np.minimum(self._probs[:, k], 1.0)
            gap[k] = self._sums((self._target == k) - column, bin_index(column, self.num_bins), self.num_bins)

        def error(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            # One class at a time: all of them together would need D x classes x bins numbers at once.
            total = sum(np.abs(weights @ part).sum(axis=1) for part in gap) / self.num_classes
            return _ratio(np.asarray(total), weights @ self._size)

        return BoundedStatistic(error, 0.0, 1.0)

    def adaptive_ece(self) -> Statistic:
        """Calibration error of the top label over bins that hold equally many samples of the whole set.

        The bins are fixed once, on all samples; a draw weighs them, it does not cut them anew.

        Source: Nguyen and O'Connor, "Posterior calibration and exploratory analysis for NLP models", EMNLP 2015.
        """
        confidence, hit = confidence_and_hit(self._probs, self._target)
        gap = self._sums(hit - confidence, equal_mass_index(confidence, self.num_bins), self.num_bins)

        def error(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return _ratio(np.abs(weights @ gap).sum(axis=1), weights @ self._size)

        return BoundedStatistic(error, 0.0, 1.0)

    def brier(self) -> Statistic:
        """Mean over samples of the squared distance summed over classes, in [0, 2]."""
        return self._mean(sample_brier(self._probs, self._target), highest=2.0)

    def nll(self) -> Statistic:
        """Mean of -log p(target) in nats, p cut from below at `shared.calibration.PROBABILITY_FLOOR`."""
        return self._mean(sample_nll(self._probs, self._target), highest=np.inf)

    def all(self) -> dict[str, Statistic]:
        """Every score that describes the whole set, by name; the top five of many classes only."""
        top5 = {"accuracy_top5": self.accuracy_top5()} if self.num_classes >= MANY_CLASSES else {}
        return {
            "accuracy": self.accuracy(),
            **top5,
            "f1_macro": self.f1_macro(),
            "auroc_macro": self.auroc_macro(),
            "ece": self.ece(),
            "brier": self.brier(),
            "nll": self.nll(),
        }

    def _sums(
        self, values: NDArray[np.float64], column: NDArray[np.int64] | None = None, num_columns: int = 1
    ) -> NDArray[np.float64]:
        """Sums of values (N,) per group: (G,), or (G, num_columns) when each sample names its column."""
        if column is None:
            return np.bincount(self._group, values, self.num_groups).astype(np.float64)
        cells = self._group * num_columns + column
        sums = np.bincount(cells, values, self.num_groups * num_columns).astype(np.float64)
        return sums.reshape(self.num_groups, num_columns)

    def _mean(self, per_sample: NDArray[np.float64], highest: float) -> Statistic:
        total, size = self._sums(per_sample), self._size

        def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return _ratio(weights @ total, weights @ size)

        return BoundedStatistic(mean, 0.0, highest)

    def _f1_of(self, classes: NDArray[np.int64]) -> Statistic:
        """Mean F1 over `classes`, from the diagonal and the two margins of each group's confusion matrix."""
        predicted = self._probs.argmax(axis=1)
        count = np.ones(len(predicted))
        hits = self._sums((predicted == self._target).astype(np.float64), self._target, self.num_classes)[:, classes]
        actual = self._sums(count, self._target, self.num_classes)[:, classes]
        called = self._sums(count, predicted, self.num_classes)[:, classes]

        def mean_f1(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            support = weights @ actual  # (D, classes); 2 TP + FP + FN = support + called
            f1 = _ratio(2.0 * (weights @ hits), np.where(support > 0, support + weights @ called, 0.0))
            return np.asarray(f1.mean(axis=1))

        return mean_f1


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotient with NaN, and no warning, where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
