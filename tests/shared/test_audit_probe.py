import numpy as np
import pytest
from sklearn.linear_model import Ridge

from shared.audit_probe import (
    RIDGE,
    CrossValidatedProbe,
    bin_categories,
    bin_numbers,
    deal_folds,
    draw_shuffle,
    encode,
    find_level,
)


def test_numbers_fall_in_equally_full_bins_and_nan_in_its_own():
    values = np.append(np.arange(100.0), [np.nan, np.nan])
    codes, num_bins = bin_numbers(values, np.zeros(102, int), np.array([10]))
    assert num_bins == 11
    assert np.bincount(codes).tolist() == [10] * 10 + [2]
    assert (np.diff(codes[:100]) >= 0).all()


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_tied_numbers_share_a_bin_apart_from_the_rest(share):
    values = (np.arange(200) >= 200 * share).astype(float)
    codes, _ = bin_numbers(values, np.zeros(200, int), np.array([10]))
    assert len(np.unique(codes)) == 2
    assert len(np.unique(codes[values == 0])) == 1


def test_numbers_are_ranked_within_their_stratum():
    stratum = np.repeat([0, 1], 50)
    codes, _ = bin_numbers(np.arange(100.0), stratum, np.array([10, 10]))
    assert codes[:50].tolist() == codes[50:].tolist()


def test_rare_categories_share_one_bin():
    values = np.array(["a"] * 50 + ["b"] * 30 + [f"id{k}" for k in range(100)])
    codes, num_bins = bin_categories(values)
    assert num_bins == 33
    assert codes[0] == 0
    assert codes[50] == 1
    assert np.sum(codes == 32) == 70


def test_level_is_read_off_the_data():
    cell = np.repeat(np.arange(20), 10)
    by_row, by_group = np.tile([0, 1], 100), np.arange(20)[cell] % 2
    nearly = by_group.copy()
    nearly[0] = 1 - nearly[0]  # one stray row
    strata = np.zeros(20, dtype=np.int64)
    assert find_level(by_row, 2, cell, strata).cell_codes is None
    for codes in (by_group, nearly):
        level = find_level(codes, 2, cell, strata)
        assert level.cell_codes is not None
        assert level.cell_codes.tolist() == (np.arange(20) % 2).tolist()


def test_group_level_numbers_get_bins_of_several_groups():
    cell = np.repeat(np.arange(12), 10)
    found = encode(np.arange(12.0)[cell], False, cell, np.zeros(12, dtype=np.int64))
    assert np.bincount(found.codes).tolist() == [40, 40, 40]


def test_shuffle_moves_rows_in_their_cell_and_cells_in_their_stratum():
    cell, strata = np.random.default_rng(0).integers(0, 10, 200), np.arange(10) % 2
    shuffle = draw_shuffle(np.random.default_rng(1), cell, strata)
    assert sorted(shuffle.rows.tolist()) == list(range(200))
    assert (cell[shuffle.rows] == cell).all()
    assert sorted(shuffle.cells.tolist()) == list(range(10))
    assert (strata[shuffle.cells] == strata).all()
    assert (shuffle.rows != np.arange(200)).any()


def test_shuffles_are_uniform():
    rng, cell = np.random.default_rng(2), np.array([0, 0, 0, 1])
    seen = [tuple(draw_shuffle(rng, cell, np.zeros(2, dtype=np.int64)).rows) for _ in range(3000)]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == 6
    assert min(counts) > 400  # 500 expected, standard deviation 20


def test_folds_keep_groups_and_spread_positives():
    rng = np.random.default_rng(3)
    group = np.concatenate([np.arange(30), rng.integers(0, 30, 570)])
    stratum, target = group % 2, (group % 3 == 0)
    fold = deal_folds(target, stratum, group, 5, rng)
    assert all(len(np.unique(fold[group == g])) == 1 for g in range(30))
    for s in (0, 1):
        positives = [len(np.unique(group[(fold == k) & target & (stratum == s)])) for k in range(5)]
        assert positives == [1] * 5


def test_probe_equals_sklearn_ridge_out_of_fold():
    rng = np.random.default_rng(4)
    codes = [rng.integers(0, 3, 300), rng.integers(0, 4, 300)]
    target, stratum, fold = rng.random(300) < 0.4, rng.integers(0, 2, 300), rng.integers(0, 5, 300)
    found = CrossValidatedProbe(target, stratum, fold, 5).scores(codes, [3, 4])
    ones = np.concatenate([np.eye(3)[codes[0]], np.eye(4)[codes[1]]], axis=1)
    for s in (0, 1):
        for k in range(5):
            train, held_out = (stratum == s) & (fold != k), (stratum == s) & (fold == k)
            # No intercept in either: the target is centred by hand.
            ridge = Ridge(alpha=RIDGE, fit_intercept=False).fit(ones[train], target[train] - target[train].mean())
            np.testing.assert_allclose(found[held_out], ridge.predict(ones[held_out]), atol=1e-8)


def test_probe_sees_no_row_of_the_held_out_fold():
    rng = np.random.default_rng(5)
    codes, target, fold = rng.integers(0, 5, 200), rng.random(200) < 0.5, np.arange(200) % 4
    flipped = np.where(fold == 2, ~target, target)
    zeros = np.zeros(200, dtype=np.int64)
    before = CrossValidatedProbe(target, zeros, fold, 4).scores([codes], [5])
    after = CrossValidatedProbe(flipped, zeros, fold, 4).scores([codes], [5])
    np.testing.assert_array_equal(before[fold == 2], after[fold == 2])
    assert (before[fold != 2] != after[fold != 2]).any()


def test_constant_feature_is_predicted_exactly_equal():
    # (k / n) * n is not always k in floating point, and a rank sees the last digit; few sizes show it: try many.
    rng = np.random.default_rng(6)
    for num_samples in range(40, 140):
        target, fold = rng.random(num_samples) < 0.37, rng.integers(0, 5, num_samples)
        zeros = np.zeros(num_samples, dtype=np.int64)
        scores = CrossValidatedProbe(target, zeros, fold, 5).scores([zeros], [1])
        assert len(np.unique(scores)) == 1, num_samples
