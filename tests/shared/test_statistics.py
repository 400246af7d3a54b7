import doctest
import json
import math

import numpy as np
import pytest
from scipy import stats

import shared.statistics as statistics
from shared.statistics import BoundedStatistic, estimate, estimate_difference


def mean_of(values, sizes=None):
    """The mean of group sums; the simplest statistic there is."""
    sizes = np.ones(len(values)) if sizes is None else sizes
    return lambda weights: (weights @ values) / (weights @ sizes)


def needs(first_k, num_groups):
    """A statistic that is undefined unless one of the first k groups is there, as a rare class makes it."""
    rare = np.arange(num_groups) < first_k

    def statistic(weights):
        present = (weights @ rare.astype(float)) > 0
        return np.where(present, weights.mean(axis=1), np.nan)

    return statistic


def test_examples():
    assert doctest.testmod(statistics).failed == 0


@pytest.mark.parametrize(("num_groups", "text"), [(1, "no interval: 1 group"), (4, "no interval: 4 groups")])
def test_few_groups_have_no_interval(num_groups, text):
    found = estimate(mean_of(np.arange(num_groups, dtype=float)), num_groups)
    assert (found.lo, found.hi, found.method, found.n_groups) == (None, None, text, num_groups)
    assert found.value == pytest.approx((num_groups - 1) / 2)


@pytest.mark.parametrize("num_groups", [6, 29])
def test_jackknife_of_a_mean_is_the_t_interval(num_groups):
    values = np.random.default_rng(0).normal(size=num_groups)
    found = estimate(mean_of(values), num_groups, level=0.9)
    lo, hi = stats.t.interval(0.9, num_groups - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.lo, found.hi) == (pytest.approx(lo), pytest.approx(hi))
    assert found.method == "t interval over jackknife pseudo-values"


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(1).exponential(size=60)
    found = estimate(mean_of(values), 60, seed=3, draws=8000)
    other = stats.bootstrap((values,), np.mean, n_resamples=8000, method="percentile", rng=4).confidence_interval
    width = other.high - other.low
    assert (found.lo, found.hi) == (
        pytest.approx(other.low, abs=0.05 * width),
        pytest.approx(other.high, abs=0.05 * width),
    )
    assert found.method == "group bootstrap, 8000 draws"


def test_thirty_groups_are_bootstrapped():
    assert "bootstrap" in estimate(mean_of(np.arange(30.0)), 30).method


def test_seed_decides_the_draws_and_chunks_do_not(monkeypatch):
    statistic = mean_of(np.random.default_rng(2).normal(size=40))
    whole = estimate(statistic, 40, seed=5)
    monkeypatch.setattr(statistics, "_WEIGHTS_PER_CHUNK", 40 * 33)
    assert estimate(statistic, 40, seed=5) == whole
    assert estimate(statistic, 40, seed=6) != whole


def test_groups_are_drawn_with_their_number():
    seen = []

    def recording(weights):
        seen.append(weights.copy())
        return weights[:, 0]

    estimate(recording, 50, draws=500)
    drawn = np.concatenate(seen[1:])
    assert drawn.shape == (500, 50)
    assert (drawn.sum(axis=1) == 50).all()
    assert (drawn == np.round(drawn)).all()
    assert drawn[:, 0].var() == pytest.approx(49 / 50, rel=0.25)  # binomial(50, 1/50)


def test_few_undefined_draws_are_dropped_and_counted():
    found = estimate(needs(6, 60), 60)  # about exp(-6) = 0.25 % of the draws
    assert found.lo is not None
    assert "undefined, dropped" in found.method


def test_many_undefined_draws_leave_no_interval():
    found = estimate(needs(2, 60), 60)  # about exp(-2) = 14 %
    assert (found.value, found.lo, found.hi) == (1.0, None, None)
    assert found.method.startswith("no interval: undefined on ")
    share = int(found.method.split()[4]) / 2000
    assert share == pytest.approx(math.exp(-2), abs=0.03)


def test_undefined_jackknife_replicate_leaves_no_interval():
    found = estimate(needs(1, 12), 12)
    assert (found.lo, found.method) == (None, "no interval: undefined without 1 of the 12 groups")


@pytest.mark.parametrize("num_groups", [3, 12, 60])
def test_undefined_value_is_json_null(num_groups):
    found = estimate(lambda weights: np.full(len(weights), np.nan), num_groups)
    assert math.isnan(found.value)
    assert found.method == "no interval: undefined on these data"
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == {
        "value": None, "lo": None, "hi": None, "n_groups": num_groups, "method": found.method,
    }  # fmt: skip


@pytest.mark.parametrize("num_groups", [10, 60])
def test_zero_width_says_why(num_groups):
    found = estimate(mean_of(np.full(num_groups, 0.7)), num_groups)
    assert found.lo == pytest.approx(0.7)
    assert found.method.endswith("no variation between groups")


def test_bounded_statistic_stays_in_its_range():
    hits = np.array([10.0, 10, 10, 10, 10, 10, 10, 4])
    free = estimate(mean_of(hits, np.full(8, 10.0)), 8)
    cut = estimate(BoundedStatistic(mean_of(hits, np.full(8, 10.0)), 0.0, 1.0), 8)
    assert free.hi > 1.0
    assert cut.hi == 1.0
    assert cut.lo == free.lo


@pytest.mark.parametrize("num_groups", [12, 60])
def test_difference_is_paired(num_groups):
    rng = np.random.default_rng(7)
    common = rng.normal(scale=10.0, size=num_groups)
    a, b = common + 1.0 + rng.normal(scale=0.1, size=num_groups), common
    found = estimate_difference(mean_of(a), mean_of(b), num_groups)
    paired = stats.t.interval(0.95, num_groups - 1, loc=np.mean(a - b), scale=stats.sem(a - b))
    assert (found.lo, found.hi) == (pytest.approx(paired[0], abs=0.02), pytest.approx(paired[1], abs=0.02))
    alone = estimate(mean_of(a), num_groups)
    assert alone.hi - alone.lo > 50 * (found.hi - found.lo)


def test_difference_is_undefined_where_either_is():
    assert estimate_difference(mean_of(np.ones(60)), needs(1, 60), 60).lo is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_groups": 0}, "num_groups is 0"),
        ({"num_groups": 9, "draws": 5}, "draws is 5"),
        ({"num_groups": 9, "level": 95.0}, "level is 95.0"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        estimate(mean_of(np.ones(9)), **settings)


def test_statistic_must_return_a_value_per_draw():
    with pytest.raises(ValueError, match=r"returned shape \(\) for weights"):
        estimate(lambda weights: np.mean(weights), 8)


def coverage(num_groups, repetitions):
    """Share of simulated data sets whose interval holds the true accuracy; groups differ in size and in difficulty."""
    rng = np.random.default_rng(num_groups)
    held = 0
    for repetition in range(repetitions):
        sizes = rng.integers(5, 25, num_groups).astype(float)
        hits = rng.binomial(sizes.astype(int), rng.beta(7, 3, num_groups)).astype(float)
        found = estimate(mean_of(hits, sizes), num_groups, seed=repetition)
        held += found.lo is not None and found.lo <= 0.7 <= found.hi
    return held / repetitions


@pytest.mark.parametrize(("num_groups", "repetitions"), [(8, 400), (18, 400), (60, 120)])
def test_coverage_is_near_nominal(num_groups, repetitions):
    # 95 % nominal; the bounds leave four standard errors of the simulation below 94 % and above 95 %.
    error = math.sqrt(0.95 * 0.05 / repetitions)
    assert 0.94 - 4 * error <= coverage(num_groups, repetitions) <= 0.95 + 4 * error


@pytest.mark.slow
@pytest.mark.parametrize("num_groups", [8, 18, 60])
def test_coverage_in_full(num_groups):
    # Measured 2026-11-21 with other seeds, nominal 95 %: 93.3 % at 8 and 93.8 % at 18 groups (20,000 data sets each),
    # 93.3 % at 60 (3,000). An independent delta-method t interval gave 93.0, 93.7 and 94.1 %, so 8 and 18 are the
    # method's own; with groups of equal size ours held 94.2, 94.7 and 94.4 %. The band was set after seeing these
    # numbers: it guards against a change and does not show 95 %.
    assert 0.92 <= coverage(num_groups, 2000) <= 0.96


@pytest.mark.slow
def test_four_groups_never_get_an_interval():
    assert coverage(4, 2000) == 0.0


@pytest.mark.parametrize("num_groups", [4, 12, 50])
def test_many_at_once_are_the_same_as_one_by_one(num_groups):
    numbers = np.random.default_rng(0).random(num_groups)
    lacking = np.where(np.arange(num_groups) == 0, 1.0, 0.0)  # undefined in a draw without the first group

    def mean(weights):
        return weights @ numbers / weights.sum(axis=1)

    def rare(weights):
        present = weights @ lacking
        return np.divide(weights @ numbers, present, out=np.full(len(weights), np.nan), where=present > 0)

    def never(weights):
        return np.full(len(weights), np.nan)

    singles = [statistics.BoundedStatistic(mean, 0.0, 0.5), rare, never]
    found = statistics.estimate_many(
        lambda weights: np.stack([single(weights) for single in singles], axis=1),
        [(0.0, 0.5), (-np.inf, np.inf), (-np.inf, np.inf)], num_groups, seed=3, draws=200,
    )  # fmt: skip
    expected = [statistics.estimate(single, num_groups, seed=3, draws=200) for single in singles]
    assert [one.as_dict() for one in found] == [one.as_dict() for one in expected]


def test_many_must_give_as_many_values_as_bounds():
    with pytest.raises(ValueError, match=r"returned shape \(1, 2\) for weights \(1, 9\); it must be \(1, 3\)"):
        statistics.estimate_many(lambda weights: np.zeros((len(weights), 2)), [(0.0, 1.0)] * 3, 9)
