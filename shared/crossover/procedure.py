"""The crossover, from the sweet spots to the weights that a run ends with: searched, tested, dropped when in doubt."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from shared.atomic import write_json
from shared.crossover.acceptance import CROSS_FITTED, HELD_OUT
from shared.crossover.barrier import between, loss_barrier
from shared.crossover.candidates import CandidateTable, build_candidates, damaged_snapshots
from shared.crossover.decision import Decider, Finding
from shared.crossover.evaluator import ChildEvaluator
from shared.crossover.files import CANDIDATES, FINAL, REPORT, save_state
from shared.crossover.settings import Batches, BestSingle, CrossoverData, CrossoverSettings
from shared.crossover.side_effects import CacheError
from shared.crossover.soups import Progress, build_soups, select_loss
from shared.crossover.variant_rows import write_variants
from shared.module_groups import ModuleGroups
from shared.snapshots import SnapshotStore

SCHEMA = 1
LUCK_ABOUT = "the search alone, with the batch-norm statistics that children were crossed with"
GAIN_ABOUT = "the child as it was tested, its choice of batch-norm statistics included"
CANDIDATES_ABOUT = "all children looked at: by the search, by its reruns without a block, and for batch norm"


@dataclass
class CrossoverResult:
    """What the crossover leaves.

    Attributes:
        final_state: Full state dict of the final network, on the CPU.
        child_state: That of the child found, accepted or not; None without a search.
        rows: Row of the results table -> its weights file.
        report: The `crossover` part of report.json.
        details: Content of crossover.json.
    """

    final_state: dict[str, Tensor]
    child_state: dict[str, Tensor] | None
    rows: dict[str, Path]
    report: dict[str, Any]
    details: dict[str, Any]


def run_crossover(
    module: nn.Module,
    groups: ModuleGroups,
    store: SnapshotStore,
    sweet_spots: Mapping[str, Any],
    best: BestSingle,
    data: CrossoverData,
    settings: CrossoverSettings,
    out: Path,
    say: Callable[[str], None],
    progress: Progress = lambda what, done, total: None,
    forward_context: Callable[[], AbstractContextManager[Any]] | None = None,
) -> CrossoverResult:
    """Search a better network among the sources of each module group, test it, and write what came of it.

    Below `settings.min_groups_split` groups in val and accept together, or without an accept fold, the test is
    cross-fitted over all of them, with its error corrected for the data that the blocks share, and the gain must be
    confirmed on the groups of accept; see `accept`. The optimism bill is told and decides nothing.

    False acceptance and power in simulation of all this on loss tables (2,000 and 200 runs, 2026-11-21,
    tests/shared/crossover/test_false_acceptance.py: 3 module groups, 30 epochs, sweet spots at the lowest val losses;
    gains in sd of one module group's loss over groups, in a child that has two while every epoch has one). First
    with the best single checkpoint chosen on val by that loss, then with one fixed beforehand:

    - 40 + 48 groups, held out: 5.1 and 5.1 %; power 91 and 90 % at a gain of 1, 100 % at 1.5.
    - 8 + 12, cross-fitted: 1.3 and 3.9 %; power 22 and 29 % at 1, 79 and 82 % at 2, 99 % at 3.
    - 34 + 4, cross-fitted: 0.4 and 3.1 %; power 17 and 19 % at 1, 45 and 44 % at 2, 68 and 63 % at 3.
    - 4 + 4, cross-fitted: 0.9 and 4.0 %; power 10 and 16 % at 1, 34 and 37 % at 2, 62 and 59 % at 3.

    The corrected test without the confirmation accepted up to 1.8 % and 28 % among equals (800 runs). So without an
    accept fold its level holds only where the best single checkpoint was chosen by a measure close to the loss; the
    reason then says that nothing else confirms the gain.

    Deterministic: called again with equal inputs it writes equal weights and decides the same.

    Args:
        module: The network on its device; afterwards as before, except that its torchmetrics are reset.
        groups: Its module groups.
        store: Its snapshots.
        sweet_spots: {"decision": "chosen" or "declined", "reason", "epochs": {group: epoch}} and perhaps
            {"keys": {"loss": key of the loss on val}}, as `SweetSpots.as_dict` gives it.
        best: The best single checkpoint.
        data: The batches.
        settings: See there.
        out: Folder for crossover.json, crossover_final.safetensors and candidates/.
        say: Told, in sentences, what a user should read.
        progress: Told (what, done, total).
        forward_context: Entered around each step, such as a precision plugin's.

    Raises:
        LeakError: If a group stands in val and in accept.
        TrainingError: If the steps do not return what is needed.
        CheckpointError: If a snapshot cannot be read or a file not be written.
    """

    def attempt(chosen: CrossoverSettings) -> CrossoverResult:
        return _attempt(module, groups, store, sweet_spots, best, data, chosen, out, say, progress, forward_context)

    try:
        return attempt(settings)
    except CacheError as error:
        say(f"{error}. The crossover begins again without the cache.")
        return attempt(replace(settings, cache_mb=0.0))


def _attempt(
    module: nn.Module,
    groups: ModuleGroups,
    store: SnapshotStore,
    sweet_spots: Mapping[str, Any],
    best: BestSingle,
    data: CrossoverData,
    settings: CrossoverSettings,
    out: Path,
    say: Callable[[str], None],
    progress: Progress,
    forward_context: Callable[[], AbstractContextManager[Any]] | None,
) -> CrossoverResult:
    """The procedure with one setting of the cache."""
    started = time.perf_counter()
    damaged = _damaged(store, say)
    table, no_search = _candidates(groups, store, sweet_spots, best, settings, damaged, say)

    def new_evaluator(batches: Batches, cached: bool) -> ChildEvaluator:
        sources = () if table is None else table.sources
        cache_mb = settings.cache_mb if cached else 0.0
        return ChildEvaluator(module, groups, sources, batches, cache_mb, forward_context)

    select = new_evaluator(data.select, True)
    details: dict[str, Any] = {
        "schema": SCHEMA, "module_groups": groups.describe(), "damaged_snapshots": damaged,
        "cost": {"cache_mb": settings.cache_mb},
    }  # fmt: skip
    finding = None
    if table is not None:
        decider = Decider(new_evaluator, groups, table, best, data, settings, say, progress)
        finding = _search(decider, select, new_evaluator, groups, store, details, say)
    loss_key = str(sweet_spots.get("keys", {}).get("loss", "val/loss"))
    with select:
        before = select.cost
        soups, details["soups"] = build_soups(select, groups, store, data.train, settings, progress, loss_key, damaged)
        variants = _variants(select, groups, table, data.train, settings, out, progress, details)
        details["cost"]["soups"] = _since(select.cost, before)
    details["cost"]["seconds"] = time.perf_counter() - started
    return _written(groups, table, finding, no_search, best, soups, variants, details, out, say)


def _variants(
    select: ChildEvaluator,
    groups: ModuleGroups,
    table: CandidateTable | None,
    train: Batches | None,
    settings: CrossoverSettings,
    out: Path,
    progress: Progress,
    details: dict[str, Any],
) -> dict[str, Path]:
    """Row -> weights file of the shifted sweet spots, where they are asked for and there are any."""
    if table is None or not settings.variant_rows:
        return {}
    paths, details["variant_rows"] = write_variants(select, groups, table, train, settings, out, progress)
    return paths


def _damaged(store: SnapshotStore, say: Callable[[str], None]) -> dict[int, str]:
    """Snapshots that cannot be used, told one by one."""
    damaged = damaged_snapshots(store)
    for epoch, fault in damaged.items():
        say(f"The snapshot of epoch {epoch} is left out: {fault}.")
    return damaged


def _candidates(
    groups: ModuleGroups,
    store: SnapshotStore,
    sweet_spots: Mapping[str, Any],
    best: BestSingle,
    settings: CrossoverSettings,
    damaged: Mapping[int, str],
    say: Callable[[str], None],
) -> tuple[CandidateTable | None, str]:
    """The candidates, or None and why there is no search."""
    if sweet_spots["decision"] != "chosen":
        return None, f"there are no sweet spots: {sweet_spots['reason']}"
    if damaged and len(damaged) == len(store.epochs()):
        return None, f"none of the {len(damaged)} snapshots can be used"
    table = build_candidates(groups, store, sweet_spots["epochs"], best, settings.neighbours, damaged)
    for group, epoch in table.clipped.items():
        say(
            f"The sweet spot of {group}, epoch {sweet_spots['epochs'][group]}, has no snapshot that can be used; the "
            f"nearest, epoch {epoch}, stands in."
        )
    return table, ""


def _search(
    decider: Decider,
    select: ChildEvaluator,
    new_evaluator: Callable[[Batches, bool], ChildEvaluator],
    groups: ModuleGroups,
    store: SnapshotStore,
    details: dict[str, Any],
    say: Callable[[str], None],
) -> Finding:
    """Barriers first, then search and test in the form that the number of groups allows."""
    decider.look_at_accept()
    cost = details["cost"]
    with select:
        details["barriers"] = _barriers(select, groups, store, decider, say)
        cost["barriers"] = select.cost
        select.losses(decider.table.best_single)
        form = decider.form(select)
        if form == HELD_OUT:
            finding = decider.find(select, form)
            cost["search"] = _since(select.cost, cost["barriers"])
    if form == HELD_OUT:
        decider.test_held_out(finding)
        return finding
    with new_evaluator(decider.pooled, True) as pooled:
        finding = decider.find(pooled, CROSS_FITTED)
        cost["search"] = pooled.cost
    return finding


def _barriers(
    select: ChildEvaluator, groups: ModuleGroups, store: SnapshotStore, decider: Decider, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Loss barrier between the best single checkpoint and each distinct sweet-spot epoch, told before anything else."""
    best, sources = decider.best, decider.table.sources
    found = []
    for number in sorted({number for number in decider.table.sweet_spot if number}):
        epoch = sources[number].epoch
        if not store.is_whole(epoch):
            say(f"The loss barrier to epoch {epoch} is not known: module groups of its snapshot were thinned out.")
            continue
        other = groups.join({name: store.load(epoch, name) for name in groups.names})
        barrier = loss_barrier(
            lambda share, other=other: select_loss(select, between(best.state, other, share)),  # type: ignore[misc]
            decider.settings.barrier_points,
        )
        found.append({"from": best.epoch, "to": epoch, **barrier.as_dict()})
        between_them = f"between the best single checkpoint (epoch {best.epoch}) and epoch {epoch}"
        if barrier.height > 0.0:
            say(f"Loss barrier {between_them}: {barrier.height:.4g} at {barrier.at:g} of the way.")
        else:
            say(f"No loss barrier {between_them}.")
    return found


def _written(
    groups: ModuleGroups,
    table: CandidateTable | None,
    finding: Finding | None,
    no_search: str,
    best: BestSingle,
    soups: dict[str, dict[str, Tensor]],
    variants: Mapping[str, Path],
    details: dict[str, Any],
    out: Path,
    say: Callable[[str], None],
) -> CrossoverResult:
    """Write weights and crossover.json, the latter last, and put the result together."""
    accepted = finding is not None and finding.decision == "accepted"
    whole = dict.fromkeys(groups.names, best.epoch)
    child_epochs = whole if finding is None or table is None else table.epochs(groups, finding.assignment)
    final, epochs = (finding.child, child_epochs) if finding and accepted else (best.state, whole)
    report = _report(finding, no_search, epochs)
    states = dict(soups) if finding is None else {"crossover": finding.child, **soups}
    rows = dict(variants)
    for row, state in states.items():
        rows[row] = out / CANDIDATES / f"{row}.safetensors"
        members = {"row": row} if row != "crossover" else _origin(groups, child_epochs, row, finding)
        save_state(rows[row], state, members)
    origin = _origin(groups, epochs, "final", finding if accepted else None)
    save_state(out / FINAL, final, {**origin, "decision": report["decision"], "reason": report["reason"]})
    details = {**report, "child_sources": child_epochs, **_finding_details(finding), **details}
    if table is not None:
        details["clipped"] = table.clipped
        details["child_is_single_epoch"] = None if finding is None else table.single_epoch(finding.assignment)
    details = _plain(details)
    write_json(out / REPORT, details)
    say(f"Crossover {report['decision']}: {report['reason']}")
    return CrossoverResult(final, None if finding is None else finding.child, rows, report, details)


def _report(finding: Finding | None, no_search: str, epochs: dict[str, int]) -> dict[str, Any]:
    """The `crossover` part of report.json."""
    if finding is None:
        return {
            "decision": "declined", "reason": f"No search, since {no_search}",
            "n_candidates": 0, "expected_luck": None, "gain_val": None, "gain_accept": None,
            "smallest_detectable": None, "sources": epochs,
        }  # fmt: skip
    return {
        "decision": finding.decision,
        "reason": finding.reason,
        "n_candidates": finding.n_candidates,
        "expected_luck": None if finding.bill is None else finding.bill.expected,
        "gain_val": finding.gain_val,
        "gain_accept": None if finding.acceptance is None else finding.acceptance.mean_gain,
        "smallest_detectable": finding.smallest_detectable,
        "sources": epochs,
    }


def _finding_details(finding: Finding | None) -> dict[str, Any]:
    """What crossover.json tells beyond the report."""
    if finding is None:
        return {}
    return {
        "form": finding.form,
        "n_groups": finding.n_groups,
        "acceptance": None if finding.acceptance is None else finding.acceptance.as_dict(),
        "luck": None if finding.bill is None else {"about": LUCK_ABOUT, **finding.bill.as_dict()},
        "gain_val_about": GAIN_ABOUT,
        "n_candidates_about": CANDIDATES_ABOUT,
        "batch_norm_reestimated": finding.reestimated,
        **finding.details,
    }


def _origin(groups: ModuleGroups, epochs: Mapping[str, int], row: str, finding: Finding | None) -> dict[str, Any]:
    """Metadata of a weights file: the source epoch of every parameter and buffer."""
    return {
        "row": row,
        "source_epochs": {name: epochs[groups.owner(name)] for name in groups.shapes},
        "batch_norm": "re-estimated" if finding is not None and finding.reestimated else "as stored",
    }


def _since(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What was spent between two looks at an evaluator's cost."""

    def difference(key: str, value: Any) -> Any:
        if key == "not_reused":  # sentences, which hold for the whole of it
            return value
        return _since(value, before[key]) if isinstance(value, Mapping) else value - before[key]

    return {key: difference(key, value) for key, value in now.items()}


def _plain(value: Any) -> Any:
    """The value for JSON, which has no NaN and no infinity: both become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
