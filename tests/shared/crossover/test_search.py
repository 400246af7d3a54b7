import doctest
import itertools

import numpy as np
import pytest

import shared.crossover.search as search
from shared.crossover.search import block_numbers, coordinate_search, cross_fit

ORDER = range(3)


def test_examples():
    assert doctest.testmod(search).failed == 0


@pytest.mark.parametrize("seed", range(20))
def test_separable_losses_give_the_exhaustive_minimum(seed):
    table = np.random.default_rng(seed).normal(size=(3, 5))
    found = coordinate_search(lambda a: sum(table[k, s] for k, s in enumerate(a)), [(0, 0, 0)], [range(5)] * 3, ORDER)
    grid = min(itertools.product(range(5), repeat=3), key=lambda a: sum(table[k, s] for k, s in enumerate(a)))
    assert found.best == grid
    assert len(found.tried) <= 1 + 3 * 4 + 3 * 4


@pytest.mark.parametrize("seed", range(20))
def test_never_worse_than_any_start(seed):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(4, 4, 4))
    starts = [tuple(map(int, rng.integers(0, 4, 3))) for _ in range(3)]
    found = coordinate_search(lambda a: table[a], starts, [range(4)] * 3, ORDER)
    assert found.value == table[found.best] == min(found.tried.values())
    assert found.value <= min(table[start] for start in starts)


def test_ties_keep_what_is_there():
    found = coordinate_search(lambda a: 1.0, [(2, 1, 0), (0, 0, 0)], [range(3)] * 3, ORDER)
    assert found.best == (2, 1, 0)
    assert found.sweeps == 1


def test_children_without_a_finite_loss_are_unusable():
    scores = {(0,): np.nan, (1,): np.inf, (2,): 5.0}
    found = coordinate_search(scores.__getitem__, [(0,)], [[0, 1, 2]], [0])
    assert (found.best, found.value) == ((2,), 5.0)
    assert found.tried[0,] == np.inf


def test_each_child_is_scored_once_and_sweeps_end():
    calls = []

    def score(assignment):
        calls.append(assignment)
        return float(-sum(assignment) + 3 * (assignment[0] != assignment[1]))

    found = coordinate_search(score, [(0, 0)], [range(3)] * 2, range(2), max_sweeps=1)
    assert found.sweeps == 1
    assert len(calls) == len(set(calls)) == len(found.tried)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [[0]], [0]), "starts is empty"),
        (([(0, 0)], [[0]], [0]), r"start \(0, 0\) names 2 sources; there are 1 groups"),
        (([(0,)], [[0]], [1]), r"order is \[1\]"),
        (([(0,)], [[0]], [0], 0), "max_sweeps is 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        coordinate_search(lambda a: 0.0, *arguments)


def test_blocks_are_even_seeded_and_no_more_than_groups():
    numbers = block_numbers(23, 10, seed=1)
    assert sorted(np.bincount(numbers).tolist()) == [2] * 7 + [3] * 3
    assert (block_numbers(23, 10, seed=1) == numbers).all()
    assert (block_numbers(23, 10, seed=2) != numbers).any()
    assert sorted(block_numbers(4, 10, seed=0).tolist()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="1 groups in 10 blocks"):
        block_numbers(1, 10, seed=0)


def test_cross_fit_judges_each_group_by_a_child_chosen_without_it():
    """The child's loss in a group is how many groups chose it, so a leak of the group itself would show."""
    seen = []

    def select(keep):
        seen.append(keep.copy())
        return np.where(keep, 100.0, float(keep.sum()))

    gains = cross_fit(select, np.full(12, 20.0), blocks=4, seed=3)
    assert gains.tolist() == [20.0 - 9.0] * 12
    assert (np.sum([~keep for keep in seen], axis=0) == 1).all()
