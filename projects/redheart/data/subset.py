"""A smaller set with the same folds and classes, whatever the order of the file."""

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError
from shared.folds import FOLDS
from shared.stratify import quotas

TRAIN = FOLDS.index("train")
SUBSET_STREAM = 0x5B5E7
"""Seed of the draw. It is no option: runs that differ in their seed, and the points of a sweep, see one subset."""


def stratified_subset(fold: NDArray[np.int8], label: NDArray[np.int16], num: int) -> NDArray[np.int64]:
    """Draw rows so that each (fold, label) keeps its share, by largest remainder; the same rows in every call.

    Args:
        fold: (N,) fold codes.
        label: (N,) class codes, -1 where there is none.
        num: How many rows, 1 to N.

    Returns:
        (num,) ascending rows: of every class that train has at least one in train, of every other fold at least one.

    Raises:
        ConfigError: `num` is too small for that.
        ValueError: There are fewer rows than `num`.
    """
    if not 0 < num <= len(fold):
        raise ValueError(f"num is {num}; allowed is 1 to {len(fold)}, the number of rows")
    strata, of_row, sizes = np.unique(np.stack([fold, label]), axis=1, return_inverse=True, return_counts=True)
    of_row = of_row.reshape(-1)
    needed = _needed(strata, sizes)
    if num < len(needed):
        raise ConfigError(
            f"data.num_stories is {num}; allowed is null, or {len(needed)} or more: one story of each class in train "
            "and one in each other fold"
        )
    counts = quotas(sizes / len(fold), num)
    for place in needed:
        if counts[place] == 0:
            spare = np.where(np.isin(np.arange(len(counts)), needed), counts - 1, counts)
            counts[int(spare.argmax())] -= 1
            counts[place] = 1
    generator = np.random.default_rng([SUBSET_STREAM, len(fold)])
    drawn = [generator.permutation(np.flatnonzero(of_row == place))[:count] for place, count in enumerate(counts)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _needed(strata: NDArray[np.int16], sizes: NDArray[np.int64]) -> list[int]:
    """Places of the strata that no subset may lack: train's classes, and the largest of every other fold."""
    fold, label = strata
    places = np.flatnonzero((fold == TRAIN) & (label >= 0)).tolist()
    for code in np.unique(fold[fold != TRAIN]):
        own = np.flatnonzero(fold == code)
        places.append(int(own[sizes[own].argmax()]))
    return places
