"""The sweet spots as they are, and shifted by a few epochs, as rows of the table that nothing has certified."""

from pathlib import Path
from typing import Any

from shared.crossover.candidates import CandidateTable
from shared.crossover.evaluator import ChildEvaluator
from shared.crossover.files import CANDIDATES, save_state
from shared.crossover.search import Assignment
from shared.crossover.settings import Batches, CrossoverSettings
from shared.crossover.soups import Progress, better_statistics
from shared.module_groups import ModuleGroups
from shared.table_rows import SWEET_SPOT, variant_row

Members = dict[str, tuple[Assignment, dict[str, int]]]


def variant_members(groups: ModuleGroups, table: CandidateTable) -> Members:
    """Row -> its sources and the epoch of each group; a shift that ends at the same weights as another row is left out.

    Args:
        groups: The network's groups.
        table: The candidates.
    """
    found: Members = {SWEET_SPOT: (table.sweet_spot, table.epochs(groups, table.sweet_spot))}
    for variant in table.variants:
        if all(variant.assignment != assignment for assignment, _ in found.values()):
            found[variant_row(variant.shift)] = (variant.assignment, table.epochs(groups, variant.assignment))
    return found


def write_variants(
    evaluator: ChildEvaluator,
    groups: ModuleGroups,
    table: CandidateTable,
    train: Batches | None,
    settings: CrossoverSettings,
    out: Path,
    progress: Progress,
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Put the rows together, each with the better batch-norm statistics, and write them one after the other.

    So no more than one of them is in memory. The search has looked at all of them already; these rows only tell what
    they are worth on test, and final is not chosen by them.

    Args:
        evaluator: On the select part, entered.
        groups: The network's groups.
        table: The candidates.
        train: Batches for batch-norm statistics; None: they stay as crossed.
        settings: Of the crossover.
        out: Folder that gets candidates/.
        progress: Told how far it is.

    Returns:
        Row -> its weights file, and for crossover.json row -> {epochs, loss, batch_norm}.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    members = variant_members(groups, table)
    paths, details = {}, {}
    for done, (row, (assignment, epochs)) in enumerate(members.items(), start=1):
        mixed = len(set(assignment)) > 1
        state, loss, batch_norm = better_statistics(evaluator, evaluator.state(assignment), train, settings, mixed)
        paths[row] = out / CANDIDATES / f"{row}.safetensors"
        source_epochs = {name: epochs[groups.owner(name)] for name in groups.shapes}
        save_state(paths[row], state, {"row": row, "source_epochs": source_epochs, "batch_norm": batch_norm["used"]})
        details[row] = {"epochs": epochs, "loss": loss, "batch_norm": batch_norm}
        progress("shifted sweet spots", done, len(members))
    return paths, details
