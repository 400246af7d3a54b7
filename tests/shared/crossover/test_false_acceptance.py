"""How often a child among equally good checkpoints is accepted, and a better one is, on pure loss tables."""

import math

import numpy as np
import pytest

from shared.crossover.acceptance import CROSS_FITTED, HELD_OUT, accept
from shared.crossover.luck import INDISTINGUISHABLE, luck
from shared.crossover.search import coordinate_search, cross_fit

MODULES, SOURCES = 3, 5
ORDER, CANDIDATES = range(MODULES), [range(SOURCES)] * MODULES


def decide(rng, num_val, num_accept, form, gain, chosen_on_val, shared):
    """One run of the rule on checkpoints of equal worth, but for the gain of the last source in the first group.

    Each group of samples has a difficulty that all checkpoints share, and noise of each source by itself.
    """
    num_groups = num_val + num_accept
    effects = rng.normal(size=(MODULES, SOURCES, num_groups))
    effects[0, -1] -= gain
    difficulty = shared * rng.normal(size=num_groups)

    def losses(assignment):
        return difficulty + sum(effects[k, source] for k, source in enumerate(assignment))

    whole = [losses((epoch,) * MODULES)[:num_val].mean() for epoch in range(SOURCES - (gain > 0))]
    best = (int(np.argmin(whole)) if chosen_on_val else 0,) * MODULES

    def searched(keep):
        return coordinate_search(lambda a: float(losses(a)[keep].mean()), [best], CANDIDATES, ORDER)

    everything = np.ones(num_groups, dtype=bool)
    if form == HELD_OUT:
        child = searched(np.arange(num_groups) < num_val).best
        return accept((losses(best) - losses(child))[num_val:], form).decision == "accepted"
    result = searched(everything)
    if result.best == best:
        return False
    gains = cross_fit(lambda keep: losses(searched(keep).best), losses(best), seed=int(rng.integers(1 << 30)))
    if accept(gains, form).decision != "accepted":
        return False
    bill = luck({a: losses(best) - losses(a) for a in result.tried}, [best], CANDIDATES, ORDER, draws=300)
    return bill.verdict != INDISTINGUISHABLE


def share_accepted(repetitions, num_val, num_accept, form, gain=0.0, chosen_on_val=True, shared=0.0, seed=0):
    rng = np.random.default_rng(seed)
    found = [decide(rng, num_val, num_accept, form, gain, chosen_on_val, shared) for _ in range(repetitions)]
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 3.0])
@pytest.mark.parametrize("chosen_on_val", [True, False])
@pytest.mark.parametrize(
    ("num_val", "num_accept", "form"),
    [(40, 48, HELD_OUT), (8, 12, CROSS_FITTED), (4, 34, CROSS_FITTED), (4, 4, CROSS_FITTED)],
)
def test_among_equals_at_most_one_in_twenty_is_accepted(num_val, num_accept, form, chosen_on_val, shared):
    # The t test of the cross-fitted gains alone accepted 4.4 % at 8 + 12 groups with the best single checkpoint chosen
    # on val, and 10.9 % with any other one as reference (1,000 runs, 2026-11-21): hence the luck verdict in that form.
    repetitions = 2000
    error = math.sqrt(0.05 * 0.95 / repetitions)
    found = share_accepted(repetitions, num_val, num_accept, form, chosen_on_val=chosen_on_val, shared=shared, seed=7)
    assert found <= 0.05 + 2 * error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_val", "num_accept", "form", "gain"), [(40, 48, HELD_OUT, 1.0), (8, 12, CROSS_FITTED, 2.0)]
)
def test_a_real_gain_is_accepted_most_of_the_time(num_val, num_accept, form, gain):
    # Measured with 400 runs: 93 % held out at 1.0; cross-fitted 27 % at 1.0, 70 % at 1.5, 95 % at 2.0.
    assert share_accepted(150, num_val, num_accept, form, gain=gain, shared=3.0) >= 0.8


@pytest.mark.parametrize(("form", "gain"), [(HELD_OUT, 1.5), (CROSS_FITTED, 3.0)])
def test_a_few_runs_of_each_kind(form, gain):
    num_val, num_accept = (40, 48) if form == HELD_OUT else (8, 12)
    assert share_accepted(20, num_val, num_accept, form) <= 0.2
    assert share_accepted(20, num_val, num_accept, form, gain=gain) >= 0.8
