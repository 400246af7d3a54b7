"""Coordinate search over which source each module group takes its weights from, and its rerun without each block."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Assignment: TypeAlias = tuple[int, ...]
"""Number of the source of each module group, in the order of the groups."""

Score: TypeAlias = Callable[[Assignment], float]
"""Loss of the child with these sources; lower is better, not finite means unusable."""


@dataclass(frozen=True)
class SearchResult:
    """Outcome of a search.

    Attributes:
        best: The assignment found.
        value: Its score.
        tried: Every assignment looked at, in order, with its score (infinite where it was not finite).
        sweeps: Sweeps over the groups, the last one without a change included.
    """

    best: Assignment
    value: float
    tried: dict[Assignment, float]
    sweeps: int


def coordinate_search(
    score: Score,
    starts: Sequence[Assignment],
    candidates: Sequence[Sequence[int]],
    order: Sequence[int],
    max_sweeps: int = 3,
) -> SearchResult:
    """Descend from the best of the starts, one group at a time, to the best source of that group.

    Exact for a score that is a sum over groups; otherwise a local minimum. Never worse than any of the starts. Ties
    keep what is there: the earlier start, the present source. Each assignment is scored once.

    Args:
        score: See `Score`.
        starts: Assignments to begin with, the first preferred among equals.
        candidates: Sources allowed for each group.
        order: Group numbers in the order in which a sweep visits them.
        max_sweeps: Most sweeps over all groups; it stops earlier when a sweep changes nothing.

    Raises:
        ValueError: If there is no start, an assignment has another length than `candidates`, the order is no
            permutation of the groups or max_sweeps < 1.

    Example:
        >>> table = [[3.0, 1.0], [2.0, 5.0]]
        >>> found = coordinate_search(lambda a: table[0][a[0]] + table[1][a[1]], [(0, 0)], [[0, 1], [0, 1]], [0, 1])
        >>> found.best, found.value, len(found.tried)
        ((1, 0), 3.0, 3)
    """
    _check(starts, candidates, order, max_sweeps)
    tried: dict[Assignment, float] = {}

    def value_of(assignment: Assignment) -> float:
        if assignment not in tried:
            found = float(score(assignment))
            tried[assignment] = found if math.isfinite(found) else math.inf
        return tried[assignment]

    best = min(starts, key=value_of)  # min keeps the first of equals
    sweeps, changed = 0, True
    while changed and sweeps < max_sweeps:
        sweeps, changed = sweeps + 1, False
        for group in order:
            children = [(*best[:group], source, *best[group + 1 :]) for source in candidates[group]]
            winner = min([best, *children], key=value_of)
            changed, best = changed or winner != best, winner
    return SearchResult(best, tried[best], tried, sweeps)


def _check(
    starts: Sequence[Assignment], candidates: Sequence[Sequence[int]], order: Sequence[int], max_sweeps: int
) -> None:
    if not starts:
        raise ValueError("starts is empty; at least one assignment is needed")
    for start in starts:
        if len(start) != len(candidates):
            raise ValueError(f"start {start} names {len(start)} sources; there are {len(candidates)} groups")
    if sorted(order) != list(range(len(candidates))):
        raise ValueError(f"order is {list(order)}; each of the {len(candidates)} groups must stand in it once")
    if max_sweeps < 1:
        raise ValueError(f"max_sweeps is {max_sweeps}; at least 1 is needed")


def block_numbers(num_groups: int, blocks: int, seed: int) -> NDArray[np.int64]:
    """Block of each group, (n,): min(blocks, groups) blocks whose sizes differ by one at most, seeded.

    Raises:
        ValueError: If there are fewer than 2 groups or fewer than 2 blocks.
    """
    if num_groups < 2 or blocks < 2:
        raise ValueError(f"{num_groups} groups in {blocks} blocks; at least 2 of each are needed")
    numbers = np.arange(num_groups) % min(blocks, num_groups)
    return np.random.default_rng(seed).permutation(numbers).astype(np.int64)


def cross_fit(
    select: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
    reference: NDArray[np.float64],
    blocks: int = 10,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Held-out gains: the whole selection is rerun without each block of groups, and judged on that block.

    Args:
        select: Carries out the selection on the groups marked True in a mask (n,) and returns the chosen child's mean
            loss in ALL groups, (n,). It must not look at the others when it chooses.
        reference: (n,) mean loss of the best single checkpoint in each group.
        blocks: min(blocks, n) blocks are made.
        seed: Of the cut into blocks.

    Returns:
        (n,) gain of each group under the child that was chosen without it.

    Raises:
        ValueError: As in `block_numbers`.
    """
    number = block_numbers(len(reference), blocks, seed)
    gains = np.empty(len(reference))
    for block in range(int(number.max()) + 1):
        held_out = number == block
        child = select(~held_out)
        with np.errstate(invalid="ignore"):
            gains[held_out] = (reference - child)[held_out]
    return gains
