"""The optimism bill: how much of the gain that the search saw is luck, from reruns of the search on half the groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.crossover.search import Assignment, coordinate_search

INDISTINGUISHABLE, BEYOND = "indistinguishable from luck", "more than luck"
LEVEL = 0.05

_REMEMBERED = 50_000  # untried assignments whose columns and shrinkage are kept, some 20 MB


@dataclass(frozen=True)
class Luck:
    """How much of a search's gain is luck. All of it is about the search, before any choice of batch-norm statistics.

    Attributes:
        seen: Gain of the search's result over the best single checkpoint, mean over the groups that chose it.
        expected: Part of it that is luck, mean over the draws.
        left: seen - expected.
        p_value: Share of draws in which luck came to at least the gain seen.
        verdict: `INDISTINGUISHABLE` when the p value is above 0.05, else `BEYOND`.
        n_searched: Assignments that the search on all groups tried.
        draws: Draws of half the groups.
    """

    seen: float
    expected: float
    left: float
    p_value: float
    verdict: str
    n_searched: int
    draws: int

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def luck(
    gains: Mapping[Assignment, NDArray[np.float64]],
    starts: Sequence[Assignment],
    candidates: Sequence[Sequence[int]],
    order: Sequence[int],
    max_sweeps: int = 3,
    seed: int = 0,
    draws: int = 2000,
) -> Luck:
    """Rerun the search on random halves of the groups, and see how much of its gain the other half does not confirm.

    In each draw the coordinate search runs on h = n // 2 groups with the gains as they are. The child found has a mean
    gain there and one on the n - h groups that had no say; the difference, times sqrt(h / n), is the draw's luck. The
    factor carries it from h groups to n: a mean over n groups is sqrt(h / n) times as noisy. Candidates that are
    clearly worse are never chosen, so they add nothing, whatever their spread.

    Halves instead of the bootstrap (Efron, Harrell: search on groups drawn with replacement, take off the gain on all
    groups), since those draws share groups with what judges them: among equally good candidates it found two thirds
    of the luck. Where one candidate is ahead of the rest, halves choose more loosely than the whole would, and the bill
    errs high.

    Not in the bill is what was chosen on val before the search. In simulation of the selection as built (3 module
    groups, 30 equally good epochs, 12 and 40 groups, 30 runs each, 2026-11-21): with the sweet spots at the lowest
    epochs and the best single checkpoint fixed beforehand it shows 0.5 to 0.95 of the luck; with the best single
    checkpoint chosen on the same groups it errs high, by a sixth to nine tenths.

    An assignment that the real search never tried gets the sum of its sources' effects, fitted by least squares to
    those it did try, shrunk where its spread over groups would exceed the largest of those tried: where sources do not
    act additively the effects are noise, and their sum would be taken for luck.

    Args:
        gains: Assignment tried -> (n,) loss of the best single checkpoint minus the child's, by group; finite.
        starts: As given to the search; the first is the best single checkpoint.
        candidates: As given to the search.
        order: As given to the search.
        max_sweeps: As given to the search.
        seed: Of the draws.
        draws: Number of draws.

    Raises:
        ValueError: If the first start was not tried, a gain is not finite or there are fewer than 2 groups.

    Source: optimism of a selection rule, Efron and Gong, "A Leisurely Look at the Bootstrap, the Jackknife, and
    Cross-Validation", The American Statistician 37 (1983), here with the repeated half-sampling named there.
    """
    if starts[0] not in gains:
        raise ValueError(f"the first start {starts[0]} is not among the {len(gains)} assignments tried")
    table = np.stack(list(gains.values()))  # (M, n)
    num_groups = table.shape[1]
    if num_groups < 2 or not np.isfinite(table).all():
        raise ValueError(f"gains must be finite in at least 2 groups, found {num_groups} groups")
    world = _World(gains, table, starts[0], candidates)
    rng, half = np.random.default_rng(seed), num_groups // 2
    scale = float(np.sqrt(half / num_groups))
    found = np.empty(draws)
    for draw in range(draws):
        shuffled = rng.permutation(num_groups)
        chose, judged = world.means(shuffled[:half]), world.means(shuffled[half:])
        child = coordinate_search(lambda a, chose=chose: -chose(a), starts, candidates, order, max_sweeps).best  # type: ignore[misc]
        found[draw] = scale * (chose(child) - judged(child))
    seen, expected = float(table.mean(axis=1).max()), float(found.mean())
    # The small allowance keeps a draw equal to the gain seen from being lost to rounding.
    p_value = float(np.mean(found >= seen - 1e-12 * max(1.0, abs(seen))))
    verdict = INDISTINGUISHABLE if p_value > LEVEL else BEYOND
    return Luck(seen, expected, seen - expected, p_value, verdict, len(gains), draws)


class _World:
    """Mean gain of any assignment on any of the groups.

    Args:
        gains: As in `luck`.
        table: Its values, (M, n).
        start: The best single checkpoint.
        candidates: As in `luck`.
    """

    def __init__(
        self,
        gains: Mapping[Assignment, NDArray[np.float64]],
        table: NDArray[np.float64],
        start: Assignment,
        candidates: Sequence[Sequence[int]],
    ) -> None:
        tried = list(gains)
        columns, design = _design(tried, start, candidates)
        effects = np.linalg.pinv(design) @ table  # (K, n)
        centred = effects - effects.mean(axis=1, keepdims=True)
        widest = float(table.std(axis=1).max())
        self._row = {assignment: row for row, assignment in enumerate(tried)}
        self._table, self._effects = table, effects

        def columns_and_shrinkage(assignment: Assignment) -> tuple[list[int], float]:
            rows = [columns[pair] for pair in enumerate(assignment) if pair in columns]
            spread = float(centred[rows].sum(axis=0).std())
            return rows, widest / spread if spread > widest else 1.0

        self._extrapolation = lru_cache(_REMEMBERED)(columns_and_shrinkage)

    def means(self, groups: NDArray[np.int64]) -> Callable[[Assignment], float]:
        """Mean gain on these groups, as a function of the assignment; nothing of a draw is kept."""
        own, effects = self._table[:, groups].mean(axis=1).tolist(), self._effects[:, groups].mean(axis=1).tolist()

        def mean(assignment: Assignment) -> float:
            row = self._row.get(assignment)
            if row is not None:
                return float(own[row])
            rows, shrinkage = self._extrapolation(assignment)
            return shrinkage * float(sum(effects[column] for column in rows))

        return mean


def _design(
    tried: Sequence[Assignment], start: Assignment, candidates: Sequence[Sequence[int]]
) -> tuple[dict[tuple[int, int], int], NDArray[np.float64]]:
    """One column for each (group, source) other than the start's own; its number, and the 0/1 matrix (M, K)."""
    sources = [sorted({*candidates[group], *(a[group] for a in tried)} - {start[group]}) for group in range(len(start))]
    pairs = [(group, source) for group, options in enumerate(sources) for source in options]
    columns = {pair: number for number, pair in enumerate(pairs)}
    matrix = np.zeros((len(tried), len(pairs)))
    for row, assignment in enumerate(tried):
        for pair in enumerate(assignment):
            if pair in columns:
                matrix[row, columns[pair]] = 1.0
    return columns, matrix
