"""Spearman's correlation as a function of group weights: the ranks are those of each draw, not of the whole set."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NUMBERS_PER_CHUNK = 160_000  # weights of the samples held at a time, 1.3 MB: they stay in the processor's cache
_NOTHING = 1e-12  # of the largest spread that ranks can have: below it all values are equal but for rounding


class RankCorrelations:
    """Spearman's correlation of several predictions with one target, for many weights of the groups at once.

    A weight of 2 is the same as having each sample of the group twice: the rank of a value is the weight of all smaller
    ones plus half the weight of its equals (mid-ranks), and the correlation is Pearson's of such ranks under the same
    weights. So for whole weights it is, exactly, Spearman's correlation of the drawn samples with ties averaged.

    Args:
        predictions: Arrays (n,).
        target: (n,).
        group: (n,) columns of the weights.

    Source: Spearman (1904); mid-ranks as in scipy.stats.spearmanr, which tests/shared/test_rank_correlation.py
    compares with on repeated samples.
    """

    def __init__(self, predictions: Sequence[Floats], target: Floats, group: NDArray[np.int64]) -> None:
        order = np.argsort(target, kind="stable")  # in this order the target's own weights need no sorting
        self._group = group[order]
        self._target = _Ranking(target[order])
        self._predictions = [_Ranking(values[order]) for values in predictions]
        self._size = len(target)

    def __call__(self, weights: Floats) -> Floats:
        """Correlations (D, P) for weights (D, G); NaN where a draw leaves the target or a prediction without spread."""
        found = np.full((len(weights), len(self._predictions)), np.nan)
        if self._size == 0:
            return found
        chunk = max(1, _NUMBERS_PER_CHUNK // self._size)
        for start in range(0, len(weights), chunk):
            # One row a group: taking rows is copying memory, taking columns is not.
            by_group = np.ascontiguousarray(weights[start : start + chunk].T)
            found[start : start + chunk] = self._chunk(by_group)
        return found

    def _chunk(self, by_group: Floats) -> Floats:
        """Correlations (d, P) for weights (G, d)."""
        mass = by_group[self._group]  # (n, d)
        total = mass.sum(axis=0)
        true = self._target.centred(mass, total)
        weighted = mass * true
        least = _NOTHING * total**3
        true_spread = np.einsum("nd,nd->d", weighted, true)
        result = np.full((len(total), len(self._predictions)), np.nan)
        for place, ranking in enumerate(self._predictions):
            said = ranking.centred(by_group[self._group[ranking.order]], total)
            spread = np.einsum("nd,nd,nd->d", mass, said, said)
            known = (true_spread > least) & (spread > least)
            both = np.einsum("nd,nd->d", weighted, said)[known]
            result[known, place] = np.clip(both / np.sqrt(true_spread[known] * spread[known]), -1.0, 1.0)
        return result


class _Ranking:
    """The order of the values (n,), and which of them are equal."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        last_of_block = np.append(ordered[1:] != ordered[:-1], True)
        self._ends = np.flatnonzero(last_of_block)
        block = np.concatenate([[0], np.cumsum(last_of_block)[:-1]])
        self._block = np.empty(len(values), dtype=np.int64)  # of each value, in the given order
        self._block[self.order] = block

    def centred(self, mass: Floats, total: Floats) -> Floats:
        """Mid-ranks minus their mean, (n, d) in the given order, from weights (n, d) in the order of the values."""
        upto = np.cumsum(mass, axis=0)[self._ends]
        middle = upto.copy()
        middle[1:] += upto[:-1]
        middle *= 0.5
        middle -= 0.5 * total  # the weighted mean of mid-ranks is half of all weight
        return np.asarray(middle[self._block])
