"""Folds of stories: group-disjoint, stratified by emotion; a story without label serves the train fold only."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError
from shared.folds import FOLDS
from shared.sample_index import SampleIndex
from shared.splits import split_groups

DEFAULT_SHARES: Mapping[str, float] = MappingProxyType(
    {"train": 0.80, "val": 0.04, "accept": 0.03, "calibrate": 0.03, "test": 0.10}
)
"""Shares of the groups with a label: 80 / 10 / 10 of the reference, its validation part cut 4 / 3 / 3."""


def split_stories(
    index: SampleIndex, labelled: NDArray[np.bool_], shares: Mapping[str, float] = DEFAULT_SHARES, seed: int = 0
) -> NDArray[np.int8]:
    """Assign every group of stories to a fold.

    Args:
        index: N stories, of `story_index`.
        labelled: (N,) whether the story has a label of its own; the index holds 0 where it has none.
        shares: Fold -> share of the groups that have a label.
        seed: Which of the equally good splits is drawn.

    Returns:
        (N,) int8 fold codes. A group without any label is in train; the others are stratified by label.

    Raises:
        DataError: No story has a label, or there are too few groups.
        ConfigError: The shares are no distribution over the folds.
    """
    if labelled.shape != (len(index),) or labelled.dtype != np.bool_:
        raise DataError(f"labelled must be bool of shape ({len(index)},), found {labelled.dtype} of {labelled.shape}.")
    if not labelled.any():
        raise DataError(
            "no story has a label; the folds are stratified by it, so at least one in each class is needed."
        )
    fold = np.full(len(index), FOLDS.index("train"), dtype=np.int8)
    fold[labelled] = split_groups(index.label[labelled], index.group[labelled], shares, seed)
    # A story without label goes where the labelled stories of its group went, if it has any.
    of_group = np.full(len(index.group_names), FOLDS.index("train"), dtype=np.int8)
    of_group[index.group[labelled]] = fold[labelled]
    fold[~labelled] = of_group[index.group[~labelled]]
    return fold


def class_shares(
    index: SampleIndex, labelled: NDArray[np.bool_], fold: NDArray[np.int8]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return fold -> class -> {"n", "share"}: stories with that label, and their share of the labelled ones there.

    Example:
        `class_shares(...)["test"]["joy"]` is `{"n": 140, "share": 0.1423}`.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for code, name in enumerate(FOLDS):
        counts = np.bincount(index.label[labelled & (fold == code)], minlength=len(index.classes))
        total = max(int(counts.sum()), 1)
        table[name] = {
            label: {"n": int(count), "share": round(int(count) / total, 4)}
            for label, count in zip(index.classes, counts, strict=True)
        }
    return table
