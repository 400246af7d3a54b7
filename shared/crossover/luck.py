"""The optimism bill: the gain that the same search would have found among checkpoints none of which is better."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.crossover.search import Assignment, coordinate_search

INDISTINGUISHABLE, BEYOND = "indistinguishable from luck", "more than luck"
LEVEL = 0.05


@dataclass(frozen=True)
class Luck:
    """What luck alone gives.

    Attributes:
        seen: Gain of the search's result over the best single checkpoint, mean over groups.
        expected: Mean gain of the same search when no candidate is better.
        p_value: Share of draws in which luck gave at least the gain seen.
        verdict: `INDISTINGUISHABLE` when the p value is above 0.05, else `BEYOND`.
        n_candidates: Assignments tried.
        draws: Bootstrap draws.
    """

    seen: float
    expected: float
    p_value: float
    verdict: str
    n_candidates: int
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
    """Replay the search on data in which, by construction, no candidate is better than the best single checkpoint.

    A search that goes on from what it found adds up the luck of each group, so the maximum over the candidates it tried
    says too little. Here each draw resamples the groups of the centred gains and runs the whole coordinate search
    anew. An assignment that the real search never tried gets the sum of its sources' effects, fitted by least squares
    to those it did try; one that was tried gets its own resampled gain. With groups few the spread is widened by
    sqrt(n / (n - 1)), which the bootstrap of a mean lacks.

    A candidate that is clearly worse stays as much worse: checkpoints of the first epochs differ from the best one so
    much, group by group, that taken for equals they would be credited with more luck than the search ever had. Clearly
    is by more than sqrt(2 log log n) standard errors.

    The first start counts as the best single checkpoint. Where it was itself chosen on these groups its own luck is
    not counted, and the bill is on the high side.

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

    Source: White, "A Reality Check for Data Snooping", Econometrica 68 (2000), the bootstrap of a maximum over centred
    candidates; there all candidates are known, here the search that made them is run again in each draw. For the
    threshold, Hansen, "A Test for Superior Predictive Ability", J. Bus. Econ. Stat. 23 (2005), section 2.4.
    """
    if starts[0] not in gains:
        raise ValueError(f"the first start {starts[0]} is not among the {len(gains)} assignments tried")
    tried = list(gains)
    table = np.stack([gains[assignment] for assignment in tried])  # (M, n)
    num_groups = table.shape[1]
    if num_groups < 2 or not np.isfinite(table).all():
        raise ValueError(f"gains must be finite in at least 2 groups, found {num_groups} groups")
    seen = float(table.mean(axis=1).max())
    columns, design = _design(tried, starts[0], candidates)
    centred = _null_world(table)
    effects = np.linalg.pinv(design) @ centred  # (K, n)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(num_groups, np.full(num_groups, 1.0 / num_groups), size=draws) / num_groups
    own = dict(zip(tried, (weights @ centred.T).T, strict=True))
    replay = _Replay(own, columns, effects, weights, float(centred.std(axis=1).max()))
    found = np.empty(draws)
    for replay.draw in range(draws):
        found[replay.draw] = -coordinate_search(replay.score, starts, candidates, order, max_sweeps).value
    # The small allowance keeps a draw equal to the gain seen from being lost to rounding.
    p_value = float(np.mean(found >= seen - 1e-12 * max(1.0, abs(seen))))
    verdict = INDISTINGUISHABLE if p_value > LEVEL else BEYOND
    return Luck(seen, float(found.mean()), p_value, verdict, len(tried), draws)


def _null_world(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gains (M, n) with mean zero where a candidate may be as good, and with its own mean where it is clearly worse."""
    num_groups = table.shape[1]
    mean = table.mean(axis=1, keepdims=True)
    error = table.std(axis=1, ddof=1, keepdims=True) / np.sqrt(num_groups)
    # Below 16 groups the iterated logarithm falls under 1, where it would call every second candidate worse.
    threshold = np.sqrt(2.0 * np.log(np.log(max(num_groups, 16))))
    worse = mean < -threshold * error
    return np.asarray((table - mean) * np.sqrt(num_groups / (num_groups - 1)) + np.where(worse, mean, 0.0))


class _Replay:
    """Scores of the resampled world, one draw after the other.

    Args:
        own: Assignment tried -> (D,) its resampled gain.
        columns: (group, source) -> its row in `effects`.
        effects: (K, n) gain of each source by sample group.
        weights: (D, n) rows of weights that sum to 1.
        widest: Largest spread of a tried assignment over the sample groups. A sum of fitted effects may not exceed it:
            where sources do not act additively the effects are noise, and their sum would be taken for luck.
    """

    def __init__(
        self,
        own: Mapping[Assignment, NDArray[np.float64]],
        columns: Mapping[tuple[int, int], int],
        effects: NDArray[np.float64],
        weights: NDArray[np.float64],
        widest: float,
    ) -> None:
        self._values = {assignment: values.tolist() for assignment, values in own.items()}
        self._columns, self._effects, self._weights, self._widest = columns, effects, weights, widest
        self.draw = 0

    def score(self, assignment: Assignment) -> float:
        """Loss relative to the best single checkpoint in the present draw."""
        if assignment not in self._values:
            self._values[assignment] = self._extrapolated(assignment)
        return -float(self._values[assignment][self.draw])

    def _extrapolated(self, assignment: Assignment) -> list[float]:
        """The sum of the sources' effects in every draw, (D,)."""
        rows = [self._columns[pair] for pair in enumerate(assignment) if pair in self._columns]
        summed = self._effects[rows].sum(axis=0)
        spread = float(summed.std())
        scale = self._widest / spread if spread > self._widest else 1.0
        return list((self._weights @ summed * scale).tolist())


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
