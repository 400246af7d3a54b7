"""How often a child among equally good epochs is accepted, and a better one is: the selection as built, on tables."""

import math

import numpy as np
import pytest

from shared.crossover.acceptance import CROSS_FITTED, HELD_OUT
from tests.shared.crossover.loss_tables import MODULES, outcome

EPOCHS = 30
SIZES = [(40, 48, HELD_OUT), (8, 12, CROSS_FITTED), (34, 4, CROSS_FITTED), (4, 4, CROSS_FITTED)]


def share_accepted(repetitions, num_val, num_accept, form, gain=0.0, chosen_on_val=True, seed=0):
    """Share of runs accepted; with a gain, one module gains in the first half of the run, another in the second.

    So every whole epoch has one of the two gains, and a child can have both. Difficulty shared by all children drops
    out of paired gains; it is here so that an unpaired step would show.
    """
    rng = np.random.default_rng(seed)
    found = []
    for run in range(repetitions):
        effects = rng.normal(size=(MODULES, EPOCHS, num_val + num_accept))
        effects[0, : EPOCHS // 2] -= gain
        effects[1, EPOCHS // 2 :] -= gain
        difficulty = 3.0 * rng.normal(size=num_val + num_accept)
        best = None if chosen_on_val else EPOCHS - 5
        found.append(outcome(effects, num_val, form, best, difficulty, run) == "accepted")
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.parametrize("chosen_on_val", [True, False])
@pytest.mark.parametrize(("num_val", "num_accept", "form"), SIZES)
def test_among_equals_at_most_one_in_twenty_is_accepted(num_val, num_accept, form, chosen_on_val):
    repetitions = 2000
    error = math.sqrt(0.05 * 0.95 / repetitions)
    found = share_accepted(repetitions, num_val, num_accept, form, chosen_on_val=chosen_on_val, seed=7)
    assert found <= 0.05 + 2 * error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_val", "num_accept", "form", "gain", "least"), [(40, 48, HELD_OUT, 1.5, 0.8), (8, 12, CROSS_FITTED, 3.0, 0.8)]
)
def test_a_real_gain_is_accepted_most_of_the_time(num_val, num_accept, form, gain, least):
    assert share_accepted(300, num_val, num_accept, form, gain=gain) >= least


@pytest.mark.parametrize(("num_val", "num_accept", "form"), SIZES)
def test_a_few_runs_of_each_kind(num_val, num_accept, form):
    assert share_accepted(40, num_val, num_accept, form) <= 0.2
    assert share_accepted(40, num_val, num_accept, form, gain=6.0) >= 0.5
