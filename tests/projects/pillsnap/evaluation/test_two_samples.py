import math

import numpy as np
import pytest
from scipy import stats

from projects.pillsnap.evaluation import two_samples
from projects.pillsnap.evaluation.open_set_scores import false_positive_rate
from projects.pillsnap.evaluation.two_samples import Sides, TwoSampleIntervals, estimate_two_samples
from shared.auroc import PooledAuroc
from shared.statistics import BoundedStatistic, estimate


def difference_of_means(first: np.ndarray, second: np.ndarray) -> BoundedStatistic:
    """Return mean of the first minus mean of the second, each group of weight 1, in a range far wider than needed."""

    def value(weights: np.ndarray) -> np.ndarray:
        own, other = weights[:, : len(first)], weights[:, len(first) :]
        return own @ first / own.sum(axis=1) - other @ second / other.sum(axis=1)

    return BoundedStatistic(value, -1e6, 1e6)


@pytest.mark.parametrize("sizes", [(12, 7), (6, 29)])
def test_a_difference_of_means_has_welchs_interval(sizes: Sides) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(3.0, 1.0, sizes[0]), rng.normal(2.0, 4.0, sizes[1])
    found = estimate_two_samples(difference_of_means(first, second), sizes)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found.value == pytest.approx(first.mean() - second.mean())
    # In the middle of so wide a range log-odds are straight.
    assert (found.lo, found.hi) == (pytest.approx(expected.low, rel=1e-4), pytest.approx(expected.high, rel=1e-4))
    assert found.n_groups == min(sizes)


def test_a_large_sample_is_drawn_alone_and_adds_its_variance() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.0, 3.0, 80), rng.normal(0.0, 1.0, 9)
    found = estimate_two_samples(difference_of_means(first, second), (80, 9), draws=8_000)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found.hi - found.lo == pytest.approx(expected.high - expected.low, rel=0.05)


def test_two_large_samples_are_each_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def share(weights: np.ndarray) -> np.ndarray:
        seen.append(weights)
        return weights[:, 0] / 40.0

    statistic = BoundedStatistic(share, 0.0, 1.0)
    found = estimate_two_samples(statistic, (40, 31), draws=500)
    drawn = seen[-1]
    assert (drawn[:, :40].sum(axis=1) == 40).all()
    assert (drawn[:, 40:].sum(axis=1) == 31).all()
    assert found.method == "group bootstrap of 40 and 31 groups, 500 draws"
    monkeypatch.setattr(two_samples, "_CELLS_PER_CHUNK", 7 * 71)
    assert estimate_two_samples(statistic, (40, 31), draws=500) == found
    assert TwoSampleIntervals(0, 500).of_two_samples(statistic, (40, 31)) == found.as_dict()


@pytest.mark.parametrize(("sides", "words"), [((60, 5), "5 groups"), ((1, 60), "1 group")])
def test_a_handful_on_one_side_has_no_interval(sides: Sides, words: str) -> None:
    found = estimate_two_samples(difference_of_means(np.arange(sides[0]), np.arange(sides[1])), sides)
    assert (found.lo, found.hi, found.method) == (None, None, f"no interval: {words}")


def test_what_is_undefined_without_a_group_has_no_interval() -> None:
    def needs_the_last(weights: np.ndarray) -> np.ndarray:
        return np.where(weights[:, -1] > 0, 0.5, np.nan)

    for sides, words in (((60, 8), "undefined without 1 of the 8 groups"), ((40, 40), "group bootstrap draws")):
        found = estimate_two_samples(BoundedStatistic(needs_the_last, 0.0, 1.0), sides)
        assert found.value == 0.5
        assert found.lo is None
        assert words in found.method
    nowhere = estimate_two_samples(BoundedStatistic(lambda w: np.full(len(w), np.nan), 0.0, 1.0), (60, 8))
    assert math.isnan(nowhere.value)
    assert nowhere.method == "no interval: undefined on these data"


def test_no_variation_is_said_and_the_range_is_kept() -> None:
    same = estimate_two_samples(BoundedStatistic(lambda w: np.ones(len(w)), 0.0, 1.0), (60, 8))
    assert (same.lo, same.hi) == (1.0, 1.0)
    assert same.method.endswith("no variation between groups")
    at_the_end = BoundedStatistic(lambda w: 1.0 - (w[:, -1] != 1.0) * 0.3, 0.0, 1.0)
    found = estimate_two_samples(at_the_end, (60, 8))
    assert found.value == found.hi == 1.0
    assert 0.0 <= found.lo < 1.0


def test_a_sample_without_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the samples have 3 and 0 groups; each needs at least 1"):
        estimate_two_samples(difference_of_means(np.ones(3), np.ones(0)), (3, 0))


def open_set(rng: np.random.Generator, sides: Sides) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores and group of known photos (3 a pill) and unknown ones (8 a class); half of it all by group."""
    group = np.repeat(np.arange(sum(sides)), np.repeat([3, 8], sides))
    unknown = group >= sides[0]
    shared, own = rng.normal(size=sum(sides))[group], rng.normal(size=len(group))
    return 1.5 * unknown + np.sqrt(0.5) * (shared + own), unknown, group


def test_coverage_with_ten_held_out_classes() -> None:
    sides, rng = (60, 10), np.random.default_rng(5)
    count = sum(sides)
    truth = {"auroc": stats.norm.cdf(1.5 / np.sqrt(2)), "fpr95": stats.norm.cdf(stats.norm.ppf(0.95) - 1.5)}
    held = {"auroc": 0, "fpr95": 0, "pooled": 0}
    for _ in range(200):
        score, unknown, group = open_set(rng, sides)
        area = BoundedStatistic(PooledAuroc(score, unknown, group, count), 0.0, 1.0)
        rate = false_positive_rate(score[~unknown], score[unknown], group, count)
        for name, statistic in (("auroc", area), ("fpr95", rate)):
            found = estimate_two_samples(statistic, sides, draws=100)
            held[name] += found.lo <= truth[name] <= found.hi
        pooled = estimate(area, count, draws=100)
        held["pooled"] += pooled.lo <= truth["auroc"] <= pooled.hi
    assert held["auroc"] >= 0.92 * 200
    assert held["fpr95"] >= 0.92 * 200
    assert held["pooled"] < held["auroc"]  # what the plain method gives for the same photos
