import numpy as np
import pytest

from shared.crossover.luck import BEYOND, INDISTINGUISHABLE, luck
from shared.crossover.search import coordinate_search


def searched(rng, num_groups, num_modules=4, num_sources=5, gain=0.0):
    """A search on sources of equal worth, but for a gain of the last source of the first group."""
    effects = rng.normal(size=(num_modules, num_sources, num_groups))
    effects[0, -1] -= gain
    candidates, order = [range(num_sources)] * num_modules, range(num_modules)
    starts = [(0,) * num_modules]

    def losses(assignment):
        return sum(effects[k, source] for k, source in enumerate(assignment))

    result = coordinate_search(lambda a: float(losses(a).mean()), starts, candidates, order)
    return {a: losses(starts[0]) - losses(a) for a in result.tried}, starts, candidates, order


@pytest.mark.parametrize(("num_groups", "num_modules"), [(12, 4), (60, 4), (20, 1)])
def test_expected_luck_is_the_mean_gain_among_equals(num_groups, num_modules):
    rng = np.random.default_rng(num_groups)
    bills = [luck(*searched(rng, num_groups, num_modules), draws=100, seed=i) for i in range(50)]
    seen, expected = [bill.seen for bill in bills], [bill.expected for bill in bills]
    error = np.std(np.subtract(seen, expected), ddof=1) / np.sqrt(len(bills))
    # Few groups make the bootstrap a little short: 7 % is allowed beside three standard errors of the simulation.
    assert abs(np.mean(seen) - np.mean(expected)) < 3 * error + 0.07 * np.mean(seen)
    assert np.mean([bill.verdict == INDISTINGUISHABLE for bill in bills]) >= 0.8


def test_a_real_gain_is_more_than_luck():
    bill = luck(*searched(np.random.default_rng(0), 60, gain=1.5), draws=500)
    assert bill.verdict == BEYOND
    assert bill.p_value <= 0.05
    assert bill.seen > bill.expected > 0


def test_candidates_that_are_clearly_worse_bring_no_luck():
    rng = np.random.default_rng(3)
    gains, starts, candidates, order = searched(rng, 40, num_modules=1)
    alone = luck(gains, starts, candidates, order, draws=500)
    # Five times the spread of the others, and ten standard errors worse.
    poor = {(source,): 5.0 * rng.normal(size=40) - 8.0 for source in (5, 6, 7)}
    with_poor = luck(gains | poor, starts, [range(8)], order, draws=500)
    assert with_poor.expected == pytest.approx(alone.expected, rel=0.05)
    even = {key: gain - gain.mean() for key, gain in poor.items()}  # the same ones, were they as good
    assert luck(gains | even, starts, [range(8)], order, draws=500).expected > 2 * alone.expected


def test_one_candidate_by_hand():
    """One candidate with gains +1, -1, ...: half the draws have a positive mean, none is expected to reach 1."""
    gains = {(0,): np.zeros(40), (1,): np.tile([1.0, -1.0], 20)}
    bill = luck(gains, [(0,)], [[0, 1]], [0], draws=4000)
    spread = np.sqrt(1 / 40 * 40 / 39)
    assert bill.seen == 0.0
    assert bill.expected == pytest.approx(spread / np.sqrt(2 * np.pi), rel=0.05)  # E max(0, N(0, s))
    assert bill.p_value == 1.0


def test_equal_calls_give_equal_bills():
    arguments = searched(np.random.default_rng(1), 15)
    assert luck(*arguments, seed=4, draws=100) == luck(*arguments, seed=4, draws=100)
    assert luck(*arguments, seed=4, draws=100).expected != luck(*arguments, seed=5, draws=100).expected


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"first start \(1,\) is not among the 1 assignments"):
        luck({(0,): np.zeros(9)}, [(1,)], [[0, 1]], [0])
    with pytest.raises(ValueError, match="finite in at least 2 groups, found 9"):
        luck({(0,): np.full(9, np.nan)}, [(0,)], [[0]], [0])
