"""The crossover: groups from their own epochs, searched on val, certified on accept, or else the best checkpoint."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from shared.callbacks.crossover import ParameterCrossover
from shared.callbacks.sweet_spot import SWEET_SPOTS_FILE, SweetSpotCheckpoint
from shared.checkpoint_io import load_checkpoint
from shared.crossover import BestSingle, CrossoverData
from shared.module_groups import ModuleGroups
from shared.session import Session, progress_bars
from shared.snapshots import SnapshotStore


def cross_over(session: Session) -> None:
    """Search, decide, and write crossover_final.safetensors; nothing to do without the callback."""
    callback = session.callback(ParameterCrossover)
    if callback is None or session.run.done("crossover") is not None:
        return
    sweet_spot = session.callback(SweetSpotCheckpoint)
    assert session.module is not None
    assert sweet_spot is not None  # the callbacks were checked with the configuration
    groups = ModuleGroups.of(session.module, sweet_spot.groups)
    chosen = json.loads((session.run.path / SWEET_SPOTS_FILE).read_text(encoding="utf-8"))
    best = load_checkpoint(session.run.checkpoints / "best.ckpt")
    data = CrossoverData(
        select=partial(session.datamodule.loader, "val", "select"),
        accept=_opener(session, "accept", "accept"),
        train=_opener(session, "train", "batch_norm"),
    )
    with progress_bars(session.console) as progress, _on_device(session) as forward_context:
        result = callback.run(
            session.module, groups, SnapshotStore(session.run.path / "snapshots", groups), chosen,
            BestSingle(best["state_dict"], int(best["epoch"])), data, session.run.path,
            say=session.say, progress=progress, forward_context=forward_context,
        )  # fmt: skip
    files = {row: str(path.relative_to(session.run.path)) for row, path in result.rows.items()}
    session.run.mark_done("crossover", {"report": result.report, "files": files})


def _opener(session: Session, fold: str, purpose: str) -> Callable[[], Iterable[Any]] | None:
    """Batches of a fold, opened when they are asked for; None where the fold is empty."""
    if len(session.datamodule.rows(fold)) == 0:
        return None
    return partial(session.datamodule.loader, fold, purpose)


@contextmanager
def _on_device(session: Session) -> Iterator[Callable[[], AbstractContextManager[Any]]]:
    """Put the module where it was trained; yields the trainer's precision context for a forward pass."""
    assert session.module is not None
    assert session.trainer is not None
    session.module.to(session.trainer.strategy.root_device)
    try:
        yield session.trainer.precision_plugin.forward_context
    finally:
        session.module.to("cpu")
