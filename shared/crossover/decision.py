"""Search and test of one run: which child is found, and whether it replaces the best single checkpoint."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.crossover.acceptance import CROSS_FITTED, HELD_OUT, Acceptance, accept, group_means
from shared.crossover.candidates import CandidateTable
from shared.crossover.evaluator import ChildEvaluator
from shared.crossover.luck import Luck
from shared.crossover.search import Assignment, SearchResult
from shared.crossover.selection import Selection, verdict_sentence
from shared.crossover.settings import Batches, BestSingle, CrossoverData, CrossoverSettings
from shared.crossover.soups import Progress
from shared.errors import LeakError, TrainingError
from shared.module_groups import ModuleGroups

NOTHING_BETTER = "nothing better than the best single checkpoint on val"


@dataclass
class Finding:
    """What search and test came to.

    Attributes:
        decision: "accepted", "declined" or "undecidable".
        reason: In plain sentences.
        form: Of the test.
        n_groups: Groups that the test had or would have had.
        assignment: Sources of the child found.
        child: Its full state dict; the best single's own where nothing better was found.
        reestimated: Whether its batch-norm statistics were estimated anew.
        gain_val: Its gain on the groups that chose it, choice of batch norm included; None where not finite.
        acceptance: The test; None where there was nothing to test.
        smallest_detectable: Smallest gain that the test could have seen.
        bill: The optimism bill.
        search: Everything that the search on all groups tried.
        n_candidates: All children looked at, by reruns of the search and for batch norm too.
        single_epoch: The epoch that the child is as a whole; None for a mixture.
        details: For crossover.json.
    """

    decision: str
    reason: str
    form: str
    n_groups: int
    assignment: Assignment
    child: dict[str, Tensor]
    reestimated: bool
    gain_val: float | None
    acceptance: Acceptance | None
    smallest_detectable: float | None
    bill: Luck | None
    search: SearchResult
    n_candidates: int
    single_epoch: int | None
    details: dict[str, Any]


class Decider:
    """Carries the parts of one run through search and test.

    Args:
        new_evaluator: Makes an evaluator of (batches, cached).
        groups: The network's groups.
        table: The candidates.
        best: The best single checkpoint.
        data: The batches.
        settings: Of the crossover.
        say: Told what a user should read.
        progress: Told (what, done, total).
    """

    def __init__(
        self,
        new_evaluator: Callable[[Batches, bool], ChildEvaluator],
        groups: ModuleGroups,
        table: CandidateTable,
        best: BestSingle,
        data: CrossoverData,
        settings: CrossoverSettings,
        say: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._new_evaluator, self._groups, self.table, self.best = new_evaluator, groups, table, best
        self.data, self.settings, self._say, self._progress = data, settings, say, progress
        self._accept: ChildEvaluator | None = None
        self._accept_reference: NDArray[np.float64] = np.empty(0)

    def look_at_accept(self) -> None:
        """Losses of the best single checkpoint on the accept fold, which also tell how many groups it has."""
        if self.data.accept is None:
            return
        # Two passes in all, of the best single and of the child, so there is nothing to cache.
        with self._new_evaluator(self.data.accept, False) as evaluator:
            losses = evaluator.state_losses(self.best.state)
        if len(losses):
            self._accept, self._accept_reference = evaluator, group_means(losses, evaluator.group)[0]

    def form(self, select: ChildEvaluator) -> str:
        """Which form of the test the number of groups allows.

        Raises:
            LeakError: If a group stands in both folds.
            TrainingError: If only one of the folds tells the groups.
        """
        if self._accept is None:
            return CROSS_FITTED
        if select.groups_known != self._accept.groups_known:
            with_, without = ("val", "accept") if select.groups_known else ("accept", "val")
            raise TrainingError(f"the batches of {with_} hold group_index and those of {without} do not; both must")
        shared = set(select.group.tolist()) & set(self._accept.group.tolist()) if select.groups_known else set()
        if shared:
            raise LeakError(
                f"{len(shared)} groups stand in val and in accept, for example group_index {min(shared)}; the "
                "acceptance test needs groups that the search has not seen"
            )
        total = len(set(select.group.tolist())) + len(self._accept_reference)
        return HELD_OUT if total >= self.settings.min_groups_split else CROSS_FITTED

    def find(self, evaluator: ChildEvaluator, form: str) -> Finding:
        """Search on an evaluator that is entered, and in the cross-fitted form test as well."""
        selection = Selection(
            evaluator, self.table, self.settings, self.data.train,
            lambda done, total: self._progress("crossover search", done, total),
        )  # fmt: skip
        result = selection.search()
        reference, best_single = selection.reference, self.table.best_single
        means, reestimated = selection.chosen(result.best)
        finding = Finding(
            "declined", "", form, self._num_test_groups(form, reference), result.best, self.best.state, reestimated,
            0.0, None, None, selection.luck(result), result, selection.num_seen,
            self.table.single_epoch(result.best), self._details(selection, result),
        )  # fmt: skip
        finding.smallest_detectable = selection.typical_detectable(result, finding.n_groups)
        if not evaluator.check(result.best):
            finding.details["repeatable"] = False
            self._say("The network's losses differ from one pass to the next, so the search sees noise of its own.")
        if result.best == best_single:
            finding.reason = _nothing_better(finding)
            return finding
        finding.child = selection.state(result.best, reestimated)
        gain = float(np.mean(reference - means))
        finding.gain_val = gain if np.isfinite(gain) else None
        if form == CROSS_FITTED:
            _conclude(finding, self._cross_fitted(selection))
            finding.n_candidates = selection.num_seen
        return finding

    def _cross_fitted(self, selection: Selection) -> Acceptance:
        """The test over all groups; one group alone leaves nothing to choose on without it."""
        if len(selection.reference) < 2:
            return accept(np.empty(0), CROSS_FITTED, self.settings.blocks)
        return accept(selection.cross_fitted(), CROSS_FITTED, selection.blocks, self._unseen(selection.evaluator))

    def _unseen(self, pooled: ChildEvaluator) -> NDArray[np.bool_] | None:
        """Which of the pooled groups come from accept, in the order of their codes; None without an accept fold."""
        if self._accept is None:
            return None
        codes = np.unique(pooled.group)
        if pooled.groups_known:
            return np.isin(codes, self._accept.group)
        return np.arange(len(codes)) >= len(codes) - len(self._accept_reference)  # accept's samples come last

    def test_held_out(self, finding: Finding) -> None:
        """The test of a child on the accept fold."""
        assert self._accept is not None
        if finding.assignment == self.table.best_single:
            return
        with self._accept as evaluator:
            child = group_means(evaluator.state_losses(finding.child), evaluator.group)[0]
        with np.errstate(invalid="ignore"):
            _conclude(finding, accept(self._accept_reference - child, HELD_OUT))

    def pooled(self) -> Iterable[Any]:
        """The batches of val and accept."""
        return chain(self.data.select(), self.data.accept() if self._accept is not None and self.data.accept else ())

    def _num_test_groups(self, form: str, reference: NDArray[np.float64]) -> int:
        return len(reference) if form == CROSS_FITTED else len(self._accept_reference)

    def _details(self, selection: Selection, result: SearchResult) -> dict[str, Any]:
        """Everything tried, for crossover.json."""
        names, fresh = self._groups.names, selection.reestimated(result.best)
        variants = [
            {"shift": variant.shift, "epochs": variant.epochs, "loss": result.tried[variant.assignment]}
            for variant in self.table.variants
        ]
        plain = float(np.mean(selection.means(result.best)))
        return {
            "groups": list(names),
            "group_index": "from the batches" if selection.evaluator.groups_known else "none: each sample is a group",
            "n_select_groups": len(selection.reference),
            "best_single_loss": result.tried[self.table.best_single],
            "sweet_spot_loss": result.tried[self.table.sweet_spot],
            "variants": variants,
            "tried": selection.listed(result),
            "sweeps": result.sweeps,
            "batch_norm": {
                "compared": fresh is not None,
                "loss_as_crossed": plain,
                "loss_reestimated": None if fresh is None else float(np.mean(fresh)),
            },
            "repeatable": True,
        }


def _conclude(finding: Finding, outcome: Acceptance) -> None:
    """Put the outcome of the test into the finding; the bill is told, and decides nothing."""
    finding.acceptance, finding.decision = outcome, outcome.decision
    finding.smallest_detectable = outcome.smallest_detectable
    finding.reason = outcome.reason + verdict_sentence(finding.bill, finding.form)
    if finding.single_epoch is not None:
        finding.reason += f" The child is epoch {finding.single_epoch} as a whole, not a mixture."


def _nothing_better(finding: Finding) -> str:
    """The reason when the search ends where it began."""
    smallest = "unknown" if finding.smallest_detectable is None else f"about {finding.smallest_detectable:.4g}"
    counted = "1 group" if finding.n_groups == 1 else f"{finding.n_groups} groups"
    return (
        f"The search tried {finding.n_candidates} children and found {NOTHING_BETTER}. On {counted} "
        f"({finding.form}) the smallest gain that could have been seen is {smallest}."
    )
