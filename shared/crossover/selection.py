"""Choosing a child on some of the groups: the search, and batch norm both ways, as one rule that can be rerun."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.crossover.acceptance import CROSS_FITTED, group_means
from shared.crossover.candidates import CandidateTable
from shared.crossover.evaluator import ChildEvaluator
from shared.crossover.luck import Luck, luck
from shared.crossover.search import Assignment, SearchResult, coordinate_search, cross_fit
from shared.crossover.settings import Batches, CrossoverSettings

Gains = NDArray[np.float64]


class Selection:
    """The rule by which a child is chosen, on any subset of the groups.

    Args:
        evaluator: On the batches that decide, entered.
        table: The candidates.
        settings: Of the crossover.
        train: Batches for batch-norm statistics; None: children keep those they were crossed with.
        tell: Told (children looked at, about how many there will be).
    """

    def __init__(
        self,
        evaluator: ChildEvaluator,
        table: CandidateTable,
        settings: CrossoverSettings,
        train: Batches | None,
        tell: Callable[[int, int], None],
    ) -> None:
        self.evaluator, self.table, self.settings = evaluator, table, settings
        self._train, self._tell = train, tell
        self._means: dict[Assignment, Gains] = {}
        self._reestimated: dict[Assignment, Gains] = {}
        self._statistics: dict[Assignment, dict[str, Tensor]] = {}
        self._expected = len(table.starts) + sum(len(options) - 1 for options in table.candidates)

    @property
    def num_seen(self) -> int:
        """Children looked at so far: by every search, reruns without a block included, and for batch norm."""
        return len(self._means) + len(self._reestimated)

    @property
    def order(self) -> range:
        """Groups as they were named, upstream first."""
        return range(len(self.table.candidates))

    @property
    def reference(self) -> Gains:
        """Mean loss of the best single checkpoint in each group, (n,)."""
        return self.means(self.table.best_single)

    def means(self, assignment: Assignment) -> Gains:
        """Mean loss of a child in each group, (n,), with the batch-norm statistics that it was crossed with."""
        if assignment not in self._means:
            losses = self.evaluator.losses(assignment)
            self._means[assignment] = group_means(losses, self.evaluator.group)[0]
            self._tell(len(self._means), max(self._expected, len(self._means)))
        return self._means[assignment]

    def search(self, keep: NDArray[np.bool_] | None = None) -> SearchResult:
        """The coordinate search on the groups marked in `keep`; None: on all."""
        return coordinate_search(
            lambda assignment: float(np.mean(self.means(assignment) if keep is None else self.means(assignment)[keep])),
            self.table.starts, self.table.candidates, self.order, self.settings.max_sweeps,
        )  # fmt: skip

    def reestimated(self, assignment: Assignment) -> Gains | None:
        """Mean loss of a child in each group with batch norm re-estimated; None where that does not arise."""
        if len(set(assignment)) == 1 or self._train is None or not self.evaluator.has_batch_norm:
            return None
        if assignment not in self._reestimated:
            state = self.evaluator.state(assignment)
            statistics = self.evaluator.statistics(state, self._train, self.settings.batch_norm_batches)
            self._statistics[assignment] = statistics
            losses = self.evaluator.state_losses({**state, **statistics})
            self._reestimated[assignment] = group_means(losses, self.evaluator.group)[0]
        return self._reestimated[assignment]

    def chosen(self, assignment: Assignment, keep: NDArray[np.bool_] | None = None) -> tuple[Gains, bool]:
        """A child with the better of its two sets of batch-norm statistics.

        Returns:
            Its mean loss in each group, and whether the statistics were re-estimated.
        """
        plain, fresh = self.means(assignment), self.reestimated(assignment)
        mask = np.ones(len(plain), dtype=bool) if keep is None else keep
        if fresh is not None and np.mean(fresh[mask]) < np.mean(plain[mask]):
            return fresh, True
        return plain, False

    def state(self, assignment: Assignment, reestimated: bool) -> dict[str, Tensor]:
        """Full state dict of a child, with the statistics that `chosen` judged."""
        state = self.evaluator.state(assignment)
        return {**state, **self._statistics[assignment]} if reestimated else state

    @property
    def blocks(self) -> int:
        """Blocks of the cross-fitted form."""
        return min(self.settings.blocks, len(self.reference))

    def cross_fitted(self) -> Gains:
        """Held-out gain of each group, (n,): search and batch-norm choice rerun without its block."""
        return cross_fit(
            lambda keep: self.chosen(self.search(keep).best, keep)[0],
            self.reference, self.settings.blocks, self.settings.seed,
        )  # fmt: skip

    def luck(self, result: SearchResult) -> Luck | None:
        """The optimism bill of a search on all groups; None where the losses are not finite or groups are too few."""
        gains = {assignment: self.reference - self._means[assignment] for assignment in result.tried}
        gains = {assignment: gain for assignment, gain in gains.items() if np.isfinite(gain).all()}
        if self.table.best_single not in gains or len(self.reference) < 2:
            return None
        return luck(
            gains, self.table.starts, self.table.candidates, self.order, self.settings.max_sweeps,
            self.settings.seed, self.settings.draws,
        )  # fmt: skip

    def typical_detectable(self, result: SearchResult, num_groups: int) -> float | None:
        """Smallest gain that a test on so many groups could see, from the median spread of the children tried."""
        gains = [self.reference - self._means[a] for a in result.tried if a != self.table.best_single]
        spreads = [float(gain.std(ddof=1)) for gain in gains if len(gain) > 1 and np.isfinite(gain).all()]
        if not spreads or not num_groups:
            return None
        return 2.5 * float(np.median(spreads)) / float(np.sqrt(num_groups))

    def listed(self, result: SearchResult) -> list[dict[str, Any]]:
        """Every child tried, in order, for crossover.json."""
        return [
            {"sources": [self.table.sources[source].label for source in assignment], "loss": value}
            for assignment, value in result.tried.items()
        ]


def verdict_sentence(bill: Luck | None, form: str) -> str:
    """What the search saw against what luck gives."""
    if bill is None:
        return ""
    part = "val and accept together" if form == CROSS_FITTED else "val"
    return (
        f" The search tried {bill.n_searched} children on {part} and gained {bill.seen:.4g} there; luck alone gives "
        f"such a search about {bill.expected:.4g}: {bill.verdict}."
    )
