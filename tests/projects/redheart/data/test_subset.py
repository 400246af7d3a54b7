"""A subset keeps folds and classes, whatever the order of the rows."""

import numpy as np
import pytest

from projects.redheart.data.subset import TRAIN, stratified_subset
from shared.errors import ConfigError


def sorted_set() -> tuple[np.ndarray, np.ndarray]:
    """800 rows sorted by label: in train 100 of each class 0 to 5, one of class 6, 39 without label; 160 others."""
    label = np.repeat([0, 1, 2, 3, 4, 5, 6, -1], [100, 100, 100, 100, 100, 100, 1, 39])
    fold = np.full(len(label), TRAIN)
    others = np.repeat([code for code in range(5) if code != TRAIN], 40)
    labels = np.concatenate([label, np.tile(np.arange(4), 40)])
    return np.concatenate([fold, others]).astype(np.int8), labels.astype(np.int16)


def test_shares_stay_and_the_rare_class_is_there() -> None:
    fold, label = sorted_set()
    rows = stratified_subset(fold, label, 200)
    assert len(np.unique(rows)) == 200
    assert (np.diff(rows) > 0).all()
    train = label[rows][fold[rows] == TRAIN]
    assert [int((train == code).sum()) for code in range(6)] == pytest.approx([25] * 6, abs=1)
    assert (train == 6).sum() == 1
    for code in set(range(5)) - {TRAIN}:
        assert np.bincount(label[rows][fold[rows] == code], minlength=4)[:4].tolist() == pytest.approx([2.5] * 4, abs=1)


def test_the_draw_is_the_same_again_and_is_not_the_first_rows() -> None:
    fold, label = sorted_set()
    rows = stratified_subset(fold, label, 200)
    np.testing.assert_array_equal(rows, stratified_subset(fold, label, 200))
    own = rows[(label[rows] == 0) & (fold[rows] == TRAIN)]
    assert own.max() > len(own)


def test_the_smallest_subset_has_each_class_in_train_and_each_fold() -> None:
    fold, label = sorted_set()
    rows = stratified_subset(fold, label, 11)
    assert sorted(label[rows][fold[rows] == TRAIN].tolist()) == list(range(7))
    assert sorted(set(fold[rows].tolist())) == list(range(5))
    with pytest.raises(ConfigError, match=r"data.num_stories is 10; allowed is null, or 11 or more: one story of each"):
        stratified_subset(fold, label, 10)


def test_all_rows_can_be_asked_for_and_no_more() -> None:
    fold, label = sorted_set()
    np.testing.assert_array_equal(stratified_subset(fold, label, len(fold)), np.arange(len(fold)))
    for num in (0, len(fold) + 1):
        with pytest.raises(ValueError, match=rf"num is {num}; allowed is 1 to {len(fold)}"):
            stratified_subset(fold, label, num)
