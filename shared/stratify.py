"""Iterative stratification of groups: which group goes to which fold, so that every class spreads in proportion."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

_MAX_PATTERNS = 256

_Cost = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def membership(label: NDArray[Any], group: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Tell which classes each group contains.

    Args:
        label: (N,) class codes.
        group: (N,) group codes, any values.

    Returns:
        (N,) position of each row's group among the G sorted group codes, and the (G, C) table of present classes.
    """
    names, group_of_row = np.unique(group, return_inverse=True)
    classes, class_of_row = np.unique(label, return_inverse=True)
    member = np.zeros((len(names), len(classes)), dtype=np.bool_)
    member[group_of_row, class_of_row] = True
    return group_of_row.astype(np.int64), member


def quotas(shares: NDArray[np.float64], num_groups: int) -> NDArray[np.int64]:
    """Round shares of `num_groups` to whole groups by largest remainder, at least one each where there are enough.

    Args:
        shares: (F,) positive, summing to 1.
        num_groups: How many groups are handed out.

    Returns:
        (F,) counts that sum to `num_groups`.

    Example:
        >>> quotas(np.array([0.5, 0.1, 0.15, 0.05, 0.2]), 30).tolist()
        [15, 3, 5, 1, 6]
    """
    # Rounded, so that 0.3 * 10 = 2.9999999999999996 counts as 3.
    exact = np.round(shares * num_groups, 9)
    counts = np.floor(exact).astype(np.int64)
    by_remainder = np.lexsort((-shares, counts - exact))
    counts[by_remainder[: num_groups - counts.sum()]] += 1
    if num_groups >= len(shares):
        while (counts == 0).any():
            surplus = np.where(counts > 1, counts - exact, -np.inf)
            counts[int(surplus.argmax())] -= 1
            counts[int(counts.argmin())] += 1
    return counts


def stratify_groups(
    member: NDArray[np.bool_], shares: NDArray[np.float64], seed: int, cover: int | None
) -> NDArray[np.int64]:
    """Assign groups to folds, the rarest class first.

    Args:
        member: (G, C) whether group g contains class c; every group contains one.
        shares: (F,) positive shares of the groups, summing to 1, F <= G.
        seed: Order in which equal groups are handed out.
        cover: Fold that must receive every class, or None.

    Returns:
        (G,) fold position of each group; fold sizes are `quotas(shares, G)` exactly.

    Raises:
        DataError: The fold `cover` is too small to receive every class.

    Source: Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011, algorithm 1.
    We depart from it in four ways: what is stratified is a group with its set of classes; the wanted counts of a
    class are whole numbers of at least one, so that a class with as many groups as folds reaches each of them; fold
    sizes are exact; and swaps of two groups follow, because the commonest class, which comes last, has to take what
    room is left (without them a class of 100 groups was up to 9 groups off its share).
    """
    allocation = _Allocation(member, shares, np.random.default_rng(seed).permutation(len(member)))
    if cover is not None:
        allocation.cover(cover)
    while any(allocation.left):
        rarest = min((count, code) for code, count in enumerate(allocation.left) if count)[1]
        for group in allocation.waiting(rarest):
            allocation.place(group, allocation.best_fold(group, rarest))
    return swap_groups(member, allocation.fold, shares, cover)


def swap_groups(
    member: NDArray[np.bool_], fold: NDArray[np.int64], shares: NDArray[np.float64], cover: int | None
) -> NDArray[np.int64]:
    """Swap pairs of groups between folds while that brings classes nearer to their shares; fold sizes stay.

    Groups with the same set of classes are interchangeable, so swaps are searched between sets. Above 256 different
    sets the search is left out: it would take minutes, and with so many groups the first pass is close already.

    Args:
        member: (G, C) whether group g contains class c.
        fold: (G,) fold position of each group.
        shares: (F,) positive shares, summing to 1.
        cover: Fold that must keep every class it has, or None.

    Returns:
        (G,) fold positions.
    """
    patterns, pattern = np.unique(member, axis=0, return_inverse=True)
    pattern = pattern.reshape(-1)
    if len(patterns) > _MAX_PATTERNS:
        return fold
    fold = fold.copy()
    cost = _class_cost(member.sum(axis=0), shares, cover)
    counts = np.stack([member[fold == code].sum(axis=0) for code in range(len(shares))])
    # Every swap lowers the cost, so this ends; the bound keeps a large table from taking minutes.
    for _ in range(len(member)):
        move = _best_swap(patterns.astype(np.float64), pattern, fold, counts, cost)
        if move is None:
            break
        one, other = move
        counts[fold[one]] += member[other].astype(np.int64) - member[one]
        counts[fold[other]] += member[one].astype(np.int64) - member[other]
        fold[one], fold[other] = fold[other], fold[one]
    return fold


def _class_cost(num_groups: NDArray[np.int64], shares: NDArray[np.float64], cover: int | None) -> _Cost:
    """Return what (F, C) counts of groups cost: the squared distance to the share, and far more for an empty cell."""
    expected = np.outer(shares, num_groups)
    empty = np.broadcast_to(np.where(num_groups >= len(shares), 1e3, 0.0), expected.shape).copy()
    if cover is not None:
        empty[cover] = 1e6  # outweighs any number of other cells

    def cost(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray((counts - expected) ** 2 / np.maximum(expected, 1.0) + empty * (counts <= 0))

    return cost


def _best_swap(
    patterns: NDArray[np.float64],
    pattern: NDArray[np.int64],
    fold: NDArray[np.int64],
    counts: NDArray[np.int64],
    cost: _Cost,
) -> tuple[int, int] | None:
    """Return the two groups whose swap lowers the cost most, or None if no swap does."""
    gain_of = cost(counts) - cost(counts + 1)  # (F, C) what one group more of a class would save
    loss_of = cost(counts) - cost(counts - 1)
    num_folds = len(counts)
    held = np.zeros((num_folds, len(patterns)), dtype=np.bool_)
    held[fold, pattern] = True
    best: tuple[float, int, int, int, int] = (1e-9, -1, -1, -1, -1)
    for a in range(num_folds):
        for b in range(a + 1, num_folds):
            # A class only in a's group leaves a and enters b; a class only in b's group goes the other way.
            saved = (patterns * (loss_of[a] + gain_of[b])) @ (1 - patterns).T
            saved += ((1 - patterns) * (gain_of[a] + loss_of[b])) @ patterns.T
            saved[~(held[a][:, None] & held[b])] = -np.inf
            p, q = np.unravel_index(int(saved.argmax()), saved.shape)
            if saved[p, q] > best[0]:
                best = (float(saved[p, q]), a, b, int(p), int(q))
    _, a, b, p_best, q_best = best
    if a < 0:
        return None
    one = np.flatnonzero((fold == a) & (pattern == p_best))[0]
    other = np.flatnonzero((fold == b) & (pattern == q_best))[0]
    return int(one), int(other)


class _Allocation:
    """The state of one split. Plain lists where the loop over groups reads: five numbers are too few for numpy."""

    def __init__(self, member: NDArray[np.bool_], shares: NDArray[np.float64], order: NDArray[np.int64]) -> None:
        self.member = member
        self.order = order
        self.fold = np.full(len(member), -1, dtype=np.int64)
        self.room: list[int] = quotas(shares, len(member)).tolist()
        counts = member.sum(axis=0)
        self.wanted: list[list[int]] = [quotas(shares, int(count)).tolist() for count in counts]
        self.left: list[int] = counts.tolist()  # groups of each class not placed yet
        _, classes = np.nonzero(member)
        ends = np.cumsum(member.sum(axis=1))[:-1]
        self.classes: list[list[int]] = [part.tolist() for part in np.split(classes, ends)]

    def waiting(self, class_code: int) -> list[int]:
        """Return the groups with this class that have no fold yet, in the drawn order."""
        return self.order[self.member[self.order, class_code] & (self.fold[self.order] < 0)].tolist()

    def best_fold(self, group: int, class_code: int) -> int:
        """Return the fold that wants this class most; among equals, the group's classes together, then the emptiest."""
        wanted, classes = self.wanted, self.classes[group]
        return max(
            (fold for fold, room in enumerate(self.room) if room),
            key=lambda fold: (wanted[class_code][fold], sum(wanted[code][fold] for code in classes), self.room[fold]),
        )

    def place(self, group: int, fold: int) -> None:
        """Put a group into a fold and note what that fold wants less of."""
        self.fold[group] = fold
        self.room[fold] -= 1
        for code in self.classes[group]:
            self.wanted[code][fold] -= 1
            self.left[code] -= 1

    def cover(self, fold: int) -> None:
        """Give every class to one fold first, rarest class first, each time by the group that adds most classes."""
        size = self.room[fold]
        absent = np.ones(self.member.shape[1], dtype=np.bool_)
        for class_code in np.argsort(self.member.sum(axis=0), kind="stable"):
            if not absent[class_code]:
                continue
            if self.room[fold] == 0:
                raise DataError(
                    f"train would get {size} of {len(self.member)} groups, too few to hold all {len(absent)} classes; "
                    "add groups or give train a larger share."
                )
            groups = self.waiting(int(class_code))
            gain = (self.member[groups] & absent).sum(axis=1)
            chosen = groups[int(gain.argmax())]
            self.place(chosen, fold)
            absent &= ~self.member[chosen]
