import doctest
import math

import numpy as np
import pytest
from scipy import stats

import shared.crossover.acceptance as acceptance
from shared.crossover.acceptance import CROSS_FITTED, HELD_OUT, accept, group_means


def test_examples():
    assert doctest.testmod(acceptance).failed == 0


def test_hand_value():
    """Gains 1..6: mean 3.5, sd sqrt(3.5), standard error 0.763763, t(.95, 5) = 2.015048."""
    found = accept(np.arange(1.0, 7.0), HELD_OUT)
    assert found.decision == "accepted"
    assert found.mean_gain == pytest.approx(3.5)
    assert found.lower == pytest.approx(3.5 - 2.015048 * 0.763763, abs=1e-5)
    assert found.smallest_detectable == pytest.approx(2.5 * 0.763763, abs=1e-5)
    assert (found.n_groups, found.form) == (6, HELD_OUT)
    assert "over 6 groups (held-out accept part)" in found.reason
    assert "smallest gain that could have been seen is 1.909" in found.reason


@pytest.mark.parametrize("n", [6, 17, 60])
def test_the_bound_is_scipys_one_sided_t_test(n):
    d = np.random.default_rng(n).normal(0.3, 1.0, n)
    found = accept(d, HELD_OUT)
    test = stats.ttest_1samp(d, 0.0, alternative="greater")
    assert found.lower == pytest.approx(test.confidence_interval(0.95).low)
    assert (found.decision == "accepted") == (test.pvalue < 0.05)


@pytest.mark.parametrize(("n", "blocks"), [(6, 6), (20, 10), (38, 10)])
def test_the_cross_fitted_error_is_corrected_for_shared_data(n, blocks):
    """Nadeau and Bengio: the squared error grows by 1 + K / (K - 1)."""
    d = np.random.default_rng(n).normal(0.3, 1.0, n)
    plain, corrected = accept(d, HELD_OUT), accept(d, CROSS_FITTED, blocks)
    factor = math.sqrt(1 + blocks / (blocks - 1))
    assert d.mean() - corrected.lower == pytest.approx(factor * (d.mean() - plain.lower))
    assert corrected.smallest_detectable == pytest.approx(factor * plain.smallest_detectable)
    assert corrected.groups_needed == math.ceil((2.5 * factor * d.std(ddof=1) / d.mean()) ** 2)
    assert "corrected for the data that the blocks share" in corrected.reason
    assert "corrected" not in plain.reason


def test_a_gain_that_only_the_plain_test_certifies_is_declined():
    d = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0, -0.5, 0.5])
    assert accept(d, HELD_OUT).decision == "accepted"
    assert accept(d, CROSS_FITTED, 8).decision == "declined"


def test_a_gain_must_be_confirmed_where_the_sweet_spots_did_not_look():
    d = np.array([1.0, 1.1, 0.9, 1.0, 1.2, 1.0, 0.9, 1.1, 0.5, -0.4])
    unseen = np.arange(10) >= 8
    found = accept(d, CROSS_FITTED, 10, unseen)
    # Two groups: mean 0.05, sd 0.9 / sqrt(2), t(.90, 1) = 3.077684, squared error times 1 + 10 / 9.
    error = 0.9 / math.sqrt(2) * math.sqrt((1 + 10 / 9) / 2)
    assert found.lower_unseen == pytest.approx(0.05 - 3.077684 * error, abs=1e-5)
    assert found.lower > 0
    assert found.decision == "declined"
    assert "It is not confirmed on the groups without a say in the sweet spots" in found.reason
    d[8:] = 1.0, 1.1
    assert accept(d, CROSS_FITTED, 10, unseen).decision == "accepted"
    assert "It is confirmed on the groups" in accept(d, CROSS_FITTED, 10, unseen).reason
    alone = accept(d, CROSS_FITTED, 10)
    assert alone.decision == "accepted"
    assert alone.lower_unseen is None
    assert "no others can confirm the gain" in alone.reason


def test_a_loss_is_declined_and_says_so():
    found = accept(-np.arange(1.0, 7.0), HELD_OUT)
    assert found.decision == "declined"
    assert "3.5 higher than" in found.reason
    assert found.groups_needed is None


def test_a_gain_too_small_for_its_spread_is_declined_with_the_groups_it_needs():
    d = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -0.5, 0.5, -0.5])
    found = accept(d, HELD_OUT)
    needed = math.ceil((2.5 * d.std(ddof=1) / d.mean()) ** 2)
    assert found.decision == "declined"
    assert found.groups_needed == needed
    assert f"would need about {needed} groups" in found.reason


@pytest.mark.parametrize("n", range(6))
def test_below_six_groups_nothing_is_decided(n):
    found = accept(np.arange(1.0, n + 1), HELD_OUT)
    assert found.decision == "undecidable"
    assert found.lower is None
    assert "at least 6 are needed" in found.reason
    assert found.groups_needed >= 6
    assert (found.smallest_detectable is None) == (n < 2)


def test_few_groups_say_how_many_the_gain_seen_needs():
    found = accept(np.array([0.1, -0.1, 0.2, -0.1]), CROSS_FITTED, 4)
    needed = math.ceil((1 + 4 / 3) * (2.5 * np.std([0.1, -0.1, 0.2, -0.1], ddof=1) / 0.025) ** 2)
    assert found.groups_needed == needed
    assert f"about {needed} for a gain as large as the one seen" in found.reason


def test_all_zero_is_undecidable_and_equal_gains_are_not():
    assert accept(np.zeros(30), HELD_OUT).decision == "undecidable"
    assert "there is nothing to test" in accept(np.zeros(30), HELD_OUT).reason
    assert accept(np.full(30, 0.25), HELD_OUT).decision == "accepted"


def test_losses_that_are_not_finite():
    d = np.ones(8)
    d[2] = -np.inf
    assert accept(d, HELD_OUT).decision == "declined"
    d[2] = np.inf
    assert accept(d, HELD_OUT).decision == "undecidable"
    d[2] = np.nan
    assert "In 1 of 8 groups" in accept(d, HELD_OUT).reason
    assert accept(np.array([-np.inf, 1.0]), HELD_OUT).decision == "undecidable"


def test_group_means_by_hand():
    means, codes = group_means(np.array([1.0, 2.0, 3.0, np.inf]), np.array([5, 5, 1, 9]))
    assert means.tolist() == [3.0, 1.5, np.inf]
    assert codes.tolist() == [1, 5, 9]


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"d has shape \(2, 3\)"):
        accept(np.zeros((2, 3)), HELD_OUT)
    with pytest.raises(ValueError, match="form is 'both'; allowed are 'held-out accept part', 'cross-fitted'"):
        accept(np.ones(6), "both")
    with pytest.raises(ValueError, match="blocks is None; the form 'cross-fitted' needs at least 2"):
        accept(np.ones(6), CROSS_FITTED)
    with pytest.raises(ValueError, match=r"blocks is 6; the form .* 'held-out accept part' needs None"):
        accept(np.ones(6), HELD_OUT, 6)
    with pytest.raises(ValueError, match=r"unseen has shape \(2,\); \(6,\) is needed"):
        accept(np.ones(6), CROSS_FITTED, 6, np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match=r"two arrays \(N,\), found \(2,\) and \(3,\)"):
        group_means(np.zeros(2), np.zeros(3, dtype=np.int64))
