import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from shared.rank_correlation import RankCorrelations


@pytest.mark.parametrize("decimals", [8, 1])  # without ties, and with many
def test_a_draw_is_spearman_of_the_drawn_samples(decimals):
    rng = np.random.default_rng(3)
    group = rng.integers(0, 12, 90)
    target = np.round(rng.normal(size=90), decimals)
    said = [np.round(target + rng.normal(size=90), decimals), np.round(rng.normal(size=90), decimals), target]
    weights = rng.multinomial(12, np.full(12, 1 / 12), size=40).astype(float)
    found = RankCorrelations(said, target, group)(weights)
    for row, values in zip(weights.astype(int), found, strict=True):
        drawn = np.repeat(np.arange(90), row[group])
        expected = [spearmanr(one[drawn], target[drawn]).statistic for one in said]
        np.testing.assert_allclose(values, expected, atol=1e-12)


def test_a_hand_value():
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 (1 + 1) / (4 * 15) = 0.8
    found = RankCorrelations([np.array([10.0, 30, 20, 40])], np.array([1.0, 2, 3, 4]), np.arange(4))
    assert found(np.ones((1, 4)))[0, 0] == pytest.approx(0.8)
    assert found(np.full((1, 4), 3.0))[0, 0] == pytest.approx(0.8)  # each sample three times


def test_no_spread_is_undefined_not_zero():
    target = np.array([1.0, 2, 2])
    found = RankCorrelations([np.array([5.0, 5, 5]), np.array([1.0, 3, 2])], target, np.arange(3))
    assert np.isnan(found(np.ones((1, 3)))[0]).tolist() == [True, False]
    assert np.isnan(found(np.array([[0.0, 2, 1], [0, 0, 0]]))).all()  # this draw has equal targets only, that one none
    assert np.isnan(RankCorrelations([np.empty(0)], np.empty(0), np.empty(0, dtype=int))(np.ones((2, 3)))).all()


def test_two_thousand_draws_of_five_thousand_groups_are_quick():
    rng = np.random.default_rng(0)
    target = rng.normal(size=5000)
    correlation = RankCorrelations([target + rng.normal(size=5000)], target, np.arange(5000))
    weights = rng.multinomial(5000, np.full(5000, 1 / 5000), size=200).astype(float)
    started = time.process_time()
    correlation(weights)
    assert time.process_time() - started < 1.0  # a tenth of the draws; about 0.05 s when measured
