"""Parts of the shortcut audit: features as bins, a cross-validated linear probe, and the permutations it is held to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_QUANTILE_BINS = 10  # fine enough for a threshold anywhere, coarse enough for some tens of rows a bin
MAX_CATEGORIES = 32  # the rest, each rare, becomes one: an identifier with a value a row must not blow up the probe
GROUPS_PER_BIN = 4  # for numbers that belong to the group, whose rows are copies of one observation
RIDGE = 10.0  # pseudo-rows per bin: what three rows say is shrunk by more than half
MIN_WITHIN_SHARE = 0.2  # a feature with less of its variation inside groups is taken as the group's own


@dataclass(frozen=True)
class BinnedFeature:
    """One feature as the probe sees it.

    Attributes:
        codes: (N,) bin of each row.
        num_bins: Number of bins.
        cell_codes: (cells,) the most frequent bin of each cell if the feature belongs to the group, None if it varies
            within groups. A cell is the part of a group in one stratum.
    """

    codes: NDArray[np.int64]
    num_bins: int
    cell_codes: NDArray[np.int64] | None

    def permuted(self, shuffle: "Shuffle", cell: NDArray[np.int64]) -> NDArray[np.int64]:
        """The codes (N,) moved by the rule of the feature's level."""
        if self.cell_codes is None:
            return self.codes[shuffle.rows]
        return self.cell_codes[shuffle.cells][cell]


@dataclass(frozen=True)
class Shuffle:
    """Where each row takes its within-group values from, and each cell its group-level values."""

    rows: NDArray[np.int64]
    cells: NDArray[np.int64]


def encode(
    values: NDArray[np.generic], categorical: bool, cell: NDArray[np.int64], cell_stratum: NDArray[np.int64]
) -> BinnedFeature:
    """Bin one feature and decide whether it varies within groups or belongs to them.

    A number that belongs to the group gets at most one bin per four groups of the stratum. With one group a bin,
    nothing learnt on some groups would say anything about the others, and the audit would be blind to it.

    Args:
        values: (N,) numbers, or anything that sorts if `categorical`.
        categorical: Whether the values are names.
        cell: (N,) cell of each row, 0 .. cells - 1; a cell is the part of a group in one stratum.
        cell_stratum: (cells,) stratum of each cell, 0 .. strata - 1.
    """
    if categorical:
        return find_level(*bin_categories(values), cell, cell_stratum)
    numbers, stratum = values.astype(np.float64), cell_stratum[cell]
    num_cells = np.bincount(cell_stratum)
    fine = find_level(*bin_numbers(numbers, stratum, np.full_like(num_cells, NUM_QUANTILE_BINS)), cell, cell_stratum)
    if fine.cell_codes is None:
        return fine
    coarse = np.clip(num_cells // GROUPS_PER_BIN, 2, NUM_QUANTILE_BINS)
    codes, num_bins = bin_numbers(numbers, stratum, coarse)
    return BinnedFeature(codes, num_bins, _most_frequent(codes, num_bins, cell))


def bin_numbers(
    values: NDArray[np.float64], stratum: NDArray[np.int64], bins: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Quantile bins within each stratum by mid-rank, so that equal values share one bin; NaN has the last bin.

    Args:
        values: (N,) numbers.
        stratum: (N,) in 0 .. strata - 1.
        bins: (strata,) number of quantile bins in each.

    Returns:
        Codes (N,) and the number of bins, that of NaN included.
    """
    missing = int(bins.max())
    codes = np.full(len(values), missing, dtype=np.int64)
    for value, num_bins in enumerate(bins):
        rows = np.flatnonzero((stratum == value) & ~np.isnan(values))
        if len(rows):
            _, inverse, count = np.unique(values[rows], return_inverse=True, return_counts=True)
            mid_rank = (np.cumsum(count) - count / 2.0) / len(rows)  # in (0, 1)
            codes[rows] = np.floor(mid_rank[inverse] * num_bins).astype(np.int64)
    return codes, missing + 1


def bin_categories(values: NDArray[np.generic]) -> tuple[NDArray[np.int64], int]:
    """One bin for each of the 32 most frequent values, one for all others.

    Returns:
        Codes (N,) and the number of bins.
    """
    names, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(names))
    codes = np.minimum(rank, MAX_CATEGORIES)[inverse]
    return codes, int(codes.max()) + 1


def find_level(
    codes: NDArray[np.int64], num_bins: int, cell: NDArray[np.int64], cell_stratum: NDArray[np.int64]
) -> BinnedFeature:
    """Decide from the data whether a feature varies within groups or belongs to them.

    The measure is the share of the Gini variation (1 - sum of squared bin shares) within strata that is left within
    cells. A scanner changed once in the middle of a battery does not make the scanner a property of the slice.

    Args:
        codes: (N,) bins.
        num_bins: K.
        cell: (N,) as in `encode`.
        cell_stratum: (cells,) as in `encode`.
    """
    by_cell = _count_bins(codes, num_bins, cell)
    by_stratum = np.zeros((int(cell_stratum.max()) + 1, num_bins), dtype=np.int64)
    np.add.at(by_stratum, cell_stratum, by_cell)
    total, within = _gini(by_stratum), _gini(by_cell)
    varies_within = total > 0 and within >= MIN_WITHIN_SHARE * total
    return BinnedFeature(codes, num_bins, None if varies_within else _most_frequent(codes, num_bins, cell))


def draw_shuffle(rng: np.random.Generator, cell: NDArray[np.int64], cell_stratum: NDArray[np.int64]) -> Shuffle:
    """One permutation: rows within their cell, and cells within their stratum.

    All features of an audit share it. What belongs together in a row or a group thus stays together, and only its
    relation to the target is broken.
    """
    return Shuffle(rows=_shuffle_within(rng, cell), cells=_shuffle_within(rng, cell_stratum))


def deal_folds(
    target: NDArray[np.bool_],
    stratum: NDArray[np.int64],
    group: NDArray[np.int64],
    num_folds: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Fold (N,) of each row: groups, sorted by stratum and share of positives, dealt round the folds like cards.

    A group that lies in several strata counts for its first row's. Ties are broken at random. Unlike a split to train
    on, this one never declines: a fold without positives costs the probe a little, not its honesty.

    Args:
        target: (N,) bool.
        stratum: (N,) int.
        group: (N,) codes 0 .. groups - 1.
        num_folds: Number of folds, at most the number of groups.
        rng: Breaks ties.
    """
    size = np.bincount(group)
    share = np.bincount(group, weights=target) / size
    _, first = np.unique(group, return_index=True)
    order = np.lexsort((rng.random(len(size)), share, stratum[first]))
    fold_of_group = np.empty(len(size), dtype=np.int64)
    fold_of_group[order] = np.arange(len(size)) % num_folds
    return fold_of_group[group]


class CrossValidatedProbe:
    """Ridge regression of the target on one-hot bins, fitted within each stratum, predicting only unseen groups.

    On one feature it is the smoothed target mean per bin; on several, an additive model that does not count correlated
    features twice. Targets are centred by the training folds' mean: with an intercept, predictions of different folds
    would differ by those means alone, against the truth, and a useless feature would score below 0.5.

    Args:
        target: (N,) bool.
        stratum: (N,) int.
        fold: (N,) in [0, num_folds).
        num_folds: Number of folds.
    """

    def __init__(
        self, target: NDArray[np.bool_], stratum: NDArray[np.int64], fold: NDArray[np.int64], num_folds: int
    ) -> None:
        self._target = target.astype(np.float64)
        # rows of each fold, by stratum
        self._strata = [
            [np.flatnonzero((stratum == value) & (fold == k)) for k in range(num_folds)] for value in np.unique(stratum)
        ]

    def scores(self, codes: list[NDArray[np.int64]], num_bins: list[int]) -> NDArray[np.float64]:
        """Out-of-fold predictions (N,) from one or more binned features, relative to the training mean."""
        offsets = np.concatenate([[0], np.cumsum(num_bins)])
        columns = np.stack(codes, axis=1) + offsets[:-1]  # (N, F) column of each row's one per feature
        predicted = np.empty(len(self._target))
        for folds in self._strata:
            weights = self._fit(columns, folds, int(offsets[-1]))
            for rows, weight in zip(folds, weights, strict=True):
                predicted[rows] = weight[columns[rows]].sum(axis=1)
        # Equal predictions of different folds differ in the last digits, and a rank would take that for order.
        return np.round(predicted, 9)

    def _fit(self, columns: NDArray[np.int64], folds: list[NDArray[np.intp]], width: int) -> NDArray[np.float64]:
        """Coefficients (folds, width), each from the rows of all other folds."""
        num_folds = len(folds)
        gram, count = np.zeros((num_folds, width, width)), np.zeros((num_folds, width))
        hits, size, positives = np.zeros((num_folds, width)), np.zeros(num_folds), np.zeros(num_folds)
        for k, rows in enumerate(folds):
            ones = np.zeros((len(rows), width))
            ones[np.arange(len(rows))[:, None], columns[rows]] = 1.0
            gram[k], count[k], hits[k] = ones.T @ ones, ones.sum(axis=0), self._target[rows] @ ones
            size[k], positives[k] = len(rows), self._target[rows].sum()
        # What a fold is predicted from is the sum over all folds without its own.
        gram, count, hits = gram.sum(axis=0) - gram, count.sum(axis=0) - count, hits.sum(axis=0) - hits
        mean = (positives.sum() - positives) / np.maximum(size.sum() - size, 1.0)
        moment = hits - mean[:, None] * count
        return np.linalg.solve(gram + RIDGE * np.eye(width), moment[:, :, None])[:, :, 0]


def _count_bins(codes: NDArray[np.int64], num_bins: int, cell: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by cell and bin, (cells, num_bins)."""
    num_cells = int(cell.max()) + 1
    return np.bincount(cell * num_bins + codes, minlength=num_cells * num_bins).reshape(num_cells, num_bins)


def _most_frequent(codes: NDArray[np.int64], num_bins: int, cell: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin (cells,) that most rows of each cell have."""
    return _count_bins(codes, num_bins, cell).argmax(axis=1)


def _gini(counts: NDArray[np.int64]) -> float:
    """Sum over rows of counts (R, K) of n * (1 - sum of squared shares)."""
    size = np.maximum(counts.sum(axis=1), 1)
    return float(np.sum(size - np.sum(counts.astype(np.float64) ** 2, axis=1) / size))


def _shuffle_within(rng: np.random.Generator, block: NDArray[np.int64]) -> NDArray[np.int64]:
    """A permutation (n,) of positions that moves each only within its block."""
    source = np.empty(len(block), dtype=np.int64)
    source[np.argsort(block, kind="stable")] = np.lexsort((rng.random(len(block)), block))
    return source
