"""Area under the ROC curve as a function of group weights: the share of positive x negative pairs in order."""

import numpy as np
from numpy.typing import NDArray

_MAX_GROUPS_FOR_MATRIX = 512  # above, a pass over the sorted samples per draw is cheaper than a G x G matrix
_SAMPLES_PER_CHUNK = 500_000  # draws x samples held at a time, about what stays in the processor's cache


class PooledAuroc:
    """AUROC within strata, pooled by the number of positive x negative pairs; ties count half.

    With weights w the value is sum over strata and pairs of w_pos * w_neg * [pos > neg] divided by the same sum without
    the bracket. Without strata it is the common AUROC. NaN where the weights leave no pair.

    Up to 512 groups the pairs are counted once into a matrix M by (group of the positive, group of the negative), and
    every draw is the quadratic form w' M w. With more groups each draw sums over the samples sorted once.

    Args:
        score: (N,), higher means more likely positive.
        positive: (N,) bool.
        group: (N,) codes in [0, num_groups).
        num_groups: G.
        stratum: (N,) int, pairs are formed within a stratum only; None for one stratum.

    Raises:
        ValueError: If the arrays differ in length or a score is NaN.
    """

    def __init__(
        self,
        score: NDArray[np.floating],
        positive: NDArray[np.bool_],
        group: NDArray[np.integer],
        num_groups: int,
        stratum: NDArray[np.integer] | None = None,
    ) -> None:
        strata = np.zeros(len(score), dtype=np.int64) if stratum is None else stratum
        if not len(score) == len(positive) == len(group) == len(strata):
            lengths = len(score), len(positive), len(group), len(strata)
            raise ValueError(f"score, positive, group and stratum must be equally long, found {lengths}")
        if np.isnan(score).any():
            raise ValueError(f"score holds NaN in {int(np.isnan(score).sum())} of {len(score)} rows")
        # A stratum without both classes has no pair and says nothing.
        parts = [_Stratum(score[m], positive[m], group[m], num_groups) for m in _masks(strata)]
        self._parts = [part for part in parts if part.num_pairs]
        self._matrix = None
        if num_groups <= _MAX_GROUPS_FOR_MATRIX:
            self._matrix = sum((part.win_matrix() for part in self._parts), np.zeros((num_groups, num_groups)))

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """AUROC (D,) for group weights (D, G)."""
        pairs = np.zeros(len(weights))
        for part in self._parts:
            pairs += part.weighted_pairs(weights)
        if self._matrix is not None:
            wins = np.einsum("dg,dg->d", weights @ self._matrix, weights)
        else:
            wins = np.zeros(len(weights))
            for part in self._parts:
                wins += part.weighted_wins(weights)
        return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def count_wins(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Number of pairs with the positive's score above the negative's, ties counted half (Mann-Whitney's U).

    Example:
        >>> count_wins(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
        3.5
    """
    below = np.sort(negative)
    return float(np.sum(np.searchsorted(below, positive, "left") + np.searchsorted(below, positive, "right"))) / 2.0


class _Stratum:
    """The positives and negatives of one stratum, each sorted by score."""

    def __init__(
        self,
        score: NDArray[np.floating],
        positive: NDArray[np.bool_],
        group: NDArray[np.integer],
        num_groups: int,
    ) -> None:
        order = np.argsort(score, kind="stable")
        score, positive, group = score[order], positive[order], group[order]
        self.pos_score, self.pos_group = score[positive], group[positive]
        self.neg_score, self.neg_group = score[~positive], group[~positive]
        self.num_groups = num_groups
        self.num_pairs = len(self.pos_score) * len(self.neg_score)
        self._pos_count = np.bincount(self.pos_group, minlength=num_groups).astype(np.float64)
        self._neg_count = np.bincount(self.neg_group, minlength=num_groups).astype(np.float64)

    def weighted_pairs(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return (weights @ self._pos_count) * (weights @ self._neg_count)

    def win_matrix(self) -> NDArray[np.float64]:
        """Pairs won by (group of the positive, group of the negative), (G, G)."""
        matrix = np.zeros((self.num_groups, self.num_groups))
        for code in np.unique(self.neg_group):
            below = self.neg_score[self.neg_group == code]
            twice = np.searchsorted(below, self.pos_score, "left") + np.searchsorted(below, self.pos_score, "right")
            matrix[:, code] = np.bincount(self.pos_group, weights=twice / 2.0, minlength=self.num_groups)
        return matrix

    def weighted_wins(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted pairs won (D,): every positive collects the weight of the negatives below it, half of the tied."""
        start = np.searchsorted(self.neg_score, self.pos_score, "left")
        stop = np.searchsorted(self.neg_score, self.pos_score, "right")
        wins = np.empty(len(weights))
        step = max(1, _SAMPLES_PER_CHUNK // (len(self.pos_score) + len(self.neg_score)))
        for first in range(0, len(weights), step):
            block = weights[first : first + step]
            below = np.zeros((len(block), len(self.neg_score) + 1))
            np.cumsum(block[:, self.neg_group], axis=1, out=below[:, 1:])
            reached = (below[:, start] + below[:, stop]) / 2.0
            wins[first : first + step] = np.einsum("dn,dn->d", block[:, self.pos_group], reached)
        return wins


def _masks(stratum: NDArray[np.integer]) -> list[NDArray[np.bool_]]:
    return [stratum == value for value in np.unique(stratum)]
