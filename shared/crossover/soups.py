"""The averaged rows of the table: uniform soup, greedy soup, LAWA, each with the better batch-norm statistics."""

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from torch import Tensor

from shared.crossover.acceptance import group_means
from shared.crossover.averages import average, greedy_soup
from shared.crossover.evaluator import ChildEvaluator
from shared.crossover.settings import Batches, CrossoverSettings
from shared.module_groups import ModuleGroups
from shared.snapshots import SnapshotStore

Progress = Callable[[str, int, int], None]


def build_soups(
    evaluator: ChildEvaluator,
    groups: ModuleGroups,
    store: SnapshotStore,
    train: Batches | None,
    settings: CrossoverSettings,
    progress: Progress,
    loss_key: str,
    leave_out: Collection[int] = (),
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Make the rows from all whole snapshots that can be used; none where there is no such snapshot.

    Args:
        evaluator: On the select part, entered.
        groups: The network's groups.
        store: Its snapshots.
        train: Batches for batch-norm statistics; None: they stay averaged.
        settings: Of the crossover.
        progress: Told how far the greedy soup is.
        loss_key: Metric of the snapshots that the greedy soup is ordered by.
        leave_out: Epochs whose snapshots are not to be used, such as damaged ones.

    Returns:
        Row -> full state dict, and for crossover.json row -> {members, loss, batch_norm}.
    """
    epochs = [epoch for epoch in store.epochs() if epoch not in leave_out and store.is_whole(epoch)]
    if not epochs:
        return {}, {}

    def load(epoch: int) -> dict[str, Tensor]:
        return groups.join({name: store.load(epoch, name) for name in groups.names})

    latest = epochs[-settings.lawa_k :]
    soup, members, _ = greedy_soup(
        _by_loss(store, epochs, loss_key),
        load,
        lambda state: select_loss(evaluator, state),
        lambda done: progress("greedy soup", done, len(epochs)),
    )
    averaged = {
        "uniform_soup": (average(map(load, epochs)), epochs),
        "greedy_soup": (soup, members),
        "lawa": (average(map(load, latest)), latest),
    }
    states, details = {}, {}
    for row, (state, used) in averaged.items():
        states[row], loss, batch_norm = better_statistics(evaluator, state, train, settings, mixed=len(used) > 1)
        details[row] = {"members": list(used), "loss": loss, "batch_norm": batch_norm}
    return states, details


def better_statistics(
    evaluator: ChildEvaluator,
    state: dict[str, Tensor],
    train: Batches | None,
    settings: CrossoverSettings,
    mixed: bool,
) -> tuple[dict[str, Tensor], float, dict[str, Any]]:
    """A state as it is or with batch norm re-estimated, whichever has the lower loss on the select part.

    Args:
        evaluator: On the select part, entered.
        state: Full state dict.
        train: Training batches; None: it stays as it is.
        settings: Of the crossover.
        mixed: Whether it comes from more than one snapshot; one alone keeps its own statistics.

    Returns:
        The state, its loss, and what was compared.
    """
    loss = select_loss(evaluator, state)
    if not mixed or train is None or not evaluator.has_batch_norm:
        return state, loss, {"used": "as averaged", "compared": False}
    fresh = {**state, **evaluator.statistics(state, train, settings.batch_norm_batches)}
    fresh_loss = select_loss(evaluator, fresh)
    compared = {"compared": True, "loss_as_averaged": loss, "loss_reestimated": fresh_loss}
    # A loss that is not finite never wins a comparison.
    if fresh_loss < loss or (math.isfinite(fresh_loss) and not math.isfinite(loss)):
        return fresh, fresh_loss, {"used": "re-estimated", **compared}
    return state, loss, {"used": "as averaged", **compared}


def select_loss(evaluator: ChildEvaluator, state: dict[str, Tensor]) -> float:
    """Mean over groups of the group mean loss; infinite where it is not finite."""
    losses = evaluator.state_losses(state)
    mean = float(np.mean(group_means(losses, evaluator.group)[0]))
    return mean if math.isfinite(mean) else math.inf


def _by_loss(store: SnapshotStore, epochs: list[int], loss_key: str) -> list[int]:
    """Epochs by validation loss, best first; those without one last, in order of time."""
    losses = {epoch: store.metrics(epoch).get(loss_key, math.nan) for epoch in epochs}
    known = sorted((losses[epoch], epoch) for epoch in epochs if not math.isnan(losses[epoch]))
    return [epoch for _, epoch in known] + [epoch for epoch in epochs if math.isnan(losses[epoch])]
