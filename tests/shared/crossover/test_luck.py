import tracemalloc

import numpy as np
import pytest

from shared.crossover.luck import BEYOND, INDISTINGUISHABLE, luck
from shared.crossover.search import coordinate_search
from tests.shared.crossover.loss_tables import selection_of


def searched(rng, num_groups, num_modules=4, num_sources=5, gain=0.0, spread=None, worse=0.0):
    """A search on sources of equal worth, but for a gain of the last source of the first group.

    Args:
        rng: Generator.
        num_groups: Sample groups.
        num_modules: Module groups.
        num_sources: Sources of each.
        gain: See above.
        spread: Spread of each source, (num_sources,); None: 1.
        worse: Loss that a source has more for each unit that its spread exceeds the first one's.
    """
    spread = np.ones(num_sources) if spread is None else spread
    effects = rng.normal(size=(num_modules, num_sources, num_groups)) * spread[:, None]
    effects += worse * (spread - spread[0])[:, None]
    effects[0, -1] -= gain
    candidates, order = [range(num_sources)] * num_modules, range(num_modules)
    starts = [(0,) * num_modules]

    def losses(assignment):
        return sum(effects[k, source] for k, source in enumerate(assignment))

    result = coordinate_search(lambda a: float(losses(a).mean()), starts, candidates, order)
    return {a: losses(starts[0]) - losses(a) for a in result.tried}, starts, candidates, order


def bills_of(number, *args, **kwargs):
    rng = np.random.default_rng(args[0])
    return [luck(*searched(rng, *args, **kwargs), draws=100, seed=i) for i in range(number)]


@pytest.mark.parametrize("spread", [None, np.array([0.5, 0.7, 1.0, 2.0, 4.0])])
@pytest.mark.parametrize(("num_groups", "num_modules"), [(12, 4), (60, 4), (20, 1)])
def test_expected_luck_is_the_mean_gain_among_equals(num_groups, num_modules, spread):
    bills = bills_of(60, num_groups, num_modules, spread=spread)
    seen, expected = [bill.seen for bill in bills], [bill.expected for bill in bills]
    error = np.std(np.subtract(seen, expected), ddof=1) / np.sqrt(len(bills))
    # The fit of untried children and the reference's own place among them leave 15 % beside the simulation's error.
    assert abs(np.mean(seen) - np.mean(expected)) < 3 * error + 0.15 * np.mean(seen)
    p_values = [bill.p_value for bill in bills]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.12
    assert 0.2 < np.median(p_values) < 0.9


def test_worse_and_noisier_epochs_leave_the_bill_calibrated():
    """Early epochs are noisier and worse by less than their noise, as in a fit."""
    bills = bills_of(60, 40, 4, spread=np.array([0.3, 0.4, 0.6, 1.0, 2.0]), worse=0.3)
    p_values = np.array([bill.p_value for bill in bills])
    assert np.mean(p_values <= 0.05) <= 0.12
    assert 0.2 < np.median(p_values) < 0.9


def test_a_real_gain_is_more_than_luck_in_most_runs():
    bills = bills_of(20, 60, gain=1.5)
    assert np.mean([bill.verdict == BEYOND for bill in bills]) >= 0.8
    bill = bills[0]
    assert bill.left == pytest.approx(bill.seen - bill.expected)
    assert bill.seen > bill.left > 0


def test_candidates_that_are_clearly_worse_change_nothing():
    rng = np.random.default_rng(3)
    gains, starts, candidates, order = searched(rng, 40, num_modules=1)
    alone = luck(gains, starts, candidates, order, draws=300)
    # Five times the spread of the others, and ten standard errors worse.
    poor = {(source,): 5.0 * rng.normal(size=40) - 8.0 for source in (5, 6, 7)}
    with_poor = luck(gains | poor, starts, [range(8)], order, draws=300)
    assert (with_poor.expected, with_poor.p_value) == (alone.expected, alone.p_value)
    even = {key: gain - gain.mean() for key, gain in poor.items()}  # the same ones, were they as good
    assert luck(gains | even, starts, [range(8)], order, draws=300).expected > 2 * alone.expected


def test_one_candidate_by_hand():
    """Half of 4 groups: chosen when its sum over 2 of them is positive; (6, -2, -2, -2) has mean 0.

    With the 6 (half of the draws) it gains 2 there and -2 on the others; scaled by sqrt(1 / 2). Without it, nothing.
    """
    gains = {(0,): np.zeros(4), (1,): np.array([6.0, -2.0, -2.0, -2.0])}
    bill = luck(gains, [(0,)], [[0, 1]], [0], draws=4000)
    assert bill.seen == 0.0
    assert bill.expected == pytest.approx(0.5 * 4.0 * np.sqrt(0.5), rel=0.06)
    assert bill.p_value == 1.0
    assert bill.verdict == INDISTINGUISHABLE


def test_a_reference_chosen_on_the_same_groups_makes_the_bill_err_high():
    bills = []
    for run in range(30):
        effects = np.random.default_rng(run).normal(size=(3, 30, 40))
        selection, _ = selection_of(effects, 40, draws=100, seed=run)
        bills.append(selection.luck(selection.search()))
    assert np.mean([bill.expected for bill in bills]) > np.mean([bill.seen for bill in bills])


def test_memory_stays_small_for_many_module_groups():
    arguments = searched(np.random.default_rng(0), 60, num_modules=7)
    tracemalloc.start()
    luck(*arguments, draws=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_equal_calls_give_equal_bills():
    arguments = searched(np.random.default_rng(1), 15)
    assert luck(*arguments, seed=4, draws=100) == luck(*arguments, seed=4, draws=100)
    assert luck(*arguments, seed=4, draws=100).expected != luck(*arguments, seed=5, draws=100).expected


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"first start \(1,\) is not among the 1 assignments"):
        luck({(0,): np.zeros(9)}, [(1,)], [[0, 1]], [0])
    with pytest.raises(ValueError, match="finite in at least 2 groups, found 9"):
        luck({(0,): np.full(9, np.nan)}, [(0,)], [[0]], [0])
