from itertools import product

import numpy as np
import pytest

from shared.errors import DataError
from shared.stratify import membership, quotas, stratify_groups, swap_groups

SHARES = np.array([0.5, 0.1, 0.15, 0.05, 0.2])


def test_membership_is_the_table_of_present_classes():
    group_of_row, member = membership(np.array([7, 3, 3, 7]), np.array([20, 20, 5, 5]))
    assert group_of_row.tolist() == [1, 1, 0, 0]
    assert member.tolist() == [[True, True], [True, True]]
    _, member = membership(np.array([7, 3]), np.array([20, 5]))
    assert member.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("num_groups", "expected"),
    [
        (20, [10, 2, 3, 1, 4]),  # exact
        (30, [15, 3, 5, 1, 6]),  # 15, 3, 4.5, 1.5, 6: the tie goes to the larger share
        (320, [160, 32, 48, 16, 64]),
        (5, [1, 1, 1, 1, 1]),  # at least one each
        (4, [2, 0, 1, 0, 1]),  # fewer groups than folds: 2, 0.4, 0.6, 0.2, 0.8
        (0, [0, 0, 0, 0, 0]),
    ],
)
def test_quotas_by_hand(num_groups, expected):
    assert quotas(SHARES, num_groups).tolist() == expected


def test_quotas_are_the_best_whole_numbers():
    # Largest remainder minimises the largest distance to the exact share; compared with all ways to hand out 9 groups.
    shares = np.array([0.62, 0.25, 0.13])
    best = min(
        (counts for counts in product(range(10), repeat=3) if sum(counts) == 9 and min(counts) >= 1),
        key=lambda counts: np.abs(np.array(counts) - 9 * shares).sum(),
    )
    assert quotas(shares, 9).tolist() == list(best)


def test_rounding_noise_takes_no_group_away():
    # 0.1 + 0.2 is a little more than 0.3 and 0.7 * 10 a little less than 7.
    assert quotas(np.array([0.1 + 0.2, 0.7]), 10).tolist() == [3, 7]


def test_swaps_reach_the_best_split_of_a_small_table():
    # 8 groups over two folds of four: every assignment can be tried.
    rng = np.random.default_rng(3)
    shares = np.array([0.5, 0.5])

    def distance(fold, member):
        counts = np.stack([member[fold == code].sum(axis=0) for code in (0, 1)])
        return ((counts - np.outer(shares, member.sum(axis=0))) ** 2).sum()

    halves = [np.array(fold) for fold in product((0, 1), repeat=8) if sum(fold) == 4]
    better = 0
    for _ in range(20):
        member = rng.random((8, 3)) < 0.5
        member[~member.any(axis=1), 0] = True
        start = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        found = swap_groups(member, start, shares, None)
        assert np.bincount(found).tolist() == [4, 4]
        assert distance(found, member) <= distance(start, member)
        better += distance(found, member) < distance(start, member)
        assert distance(found, member) <= min(distance(fold, member) for fold in halves) + 1
    assert better > 10


def test_swaps_never_take_the_last_group_of_a_class_out_of_the_covered_fold():
    # Fold 0 holds the only group of class 0; moving it would make classes 1 and 2 fit better.
    member = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=bool)
    fold = swap_groups(member, np.array([0, 0, 1, 1]), np.array([0.5, 0.5]), cover=0)
    assert fold[0] == 0


def test_a_fold_too_small_to_cover_all_classes_is_an_error():
    member = np.eye(8, dtype=bool)
    with pytest.raises(DataError, match="train would get 4 of 8 groups, too few to hold all 8 classes"):
        stratify_groups(member, np.array([0.5, 0.5]), 0, cover=0)
    assert np.bincount(stratify_groups(member, np.array([0.5, 0.5]), 0, cover=None)).tolist() == [4, 4]


def test_too_many_different_sets_are_left_to_the_first_pass():
    rng = np.random.default_rng(0)
    member = rng.random((600, 20)) < 0.5
    start = rng.integers(0, 5, 600)
    assert swap_groups(member, start, SHARES, None) is start
