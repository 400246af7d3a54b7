"""What a rank above 0 does: build the same as rank 0 from its run directory, train with it, and write nothing."""

import ctypes
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from shared.callbacks.interruption import interruptible
from shared.checkpoint_io import AtomicCheckpointIO
from shared.distributed.collectives import leave
from shared.distributed.launch import READY
from shared.distributed.plan import plan_ranks, threads_of_rank
from shared.distributed.share import RankShare
from shared.engine import build_datamodule, build_module, quiet_lightning
from shared.errors import DataError
from shared.events import EventWriter
from shared.ledger import Ledger
from shared.point_hooks import POINT_KIND, PointHooks
from shared.resume import saved_settings
from shared.run_dir import RunDirectory
from shared.seeding import seed_all
from shared.session import Session
from shared.splits import write_splits
from shared.stages.train import fit_module

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Place:
    """Where a rank stands.

    Attributes:
        folder: Run directory.
        share: Which rank of how many.
        checkpoint: What all ranks go on from, None to begin.
        ready: File descriptor that rank 0 reads.
        parent: Process of rank 0.
    """

    folder: Path
    share: RankShare
    checkpoint: Path | None
    ready: int
    parent: int


class ReadOnlyRun(RunDirectory):
    """The run directory of rank 0, in which another rank changes nothing."""

    def write_file(self, name: str, content: str) -> None:
        """Rank 0 writes it."""

    def _write_status(self, status: dict[str, Any]) -> None:
        """Rank 0 writes it."""


class _PointOfRankZero:
    """Stands for the sweep whose point is trained: rank 0 speaks with it."""

    def on_open(self, run: RunDirectory) -> None:
        """Nothing."""

    def callbacks(self) -> list[Any]:
        """None."""
        return []

    def checkpoint_io(self) -> AtomicCheckpointIO | None:
        """The engine's own: this rank only reads."""
        return None


def run_rank(place: Place) -> None:
    """Train as one of several ranks.

    Raises:
        UserError: As `shared.engine.fit`; also if the data are not those of rank 0.
    """
    die_with(place.parent)
    run = ReadOnlyRun(place.folder)
    settings = saved_settings(run)
    plan = plan_ranks(settings.plain)
    torch.set_num_threads(threads_of_rank(settings.runtime.threads, plan))
    seed_all(settings.seed)
    quiet_lightning()
    with interruptible() as interruption:
        session = Session(
            settings=settings, run=run, interruption=interruption, console=Console(file=sys.stderr),
            events=EventWriter(run.path / "events.jsonl", run.path.name, silent=True),
            ledger=Ledger(run.path, tuple(Path(parent) for parent in run.status()["parents"]), read_only=True),
            datamodule=build_datamodule(settings),
        )  # fmt: skip
        session.datamodule.ledger = session.ledger
        session.datamodule.share = place.share
        session.point = _point(run)
        refuse_other_data(session)
        session.module = build_module(session)
        os.write(place.ready, READY)
        os.close(place.ready)
        fit_module(session, place.checkpoint, step=None)
        leave()


def refuse_other_data(session: Session) -> None:
    """See that this rank found the samples and folds of rank 0.

    Raises:
        DataError: If it did not.
    """
    index = session.datamodule.index
    with tempfile.TemporaryDirectory() as folder:
        found = write_splits(Path(folder) / "splits.csv", index, session.datamodule.fold)
    checked = session.run.done("check") or {}
    if (found, index.data_hash()) != (checked.get("splits_hash"), checked.get("data_hash")):
        raise DataError(
            f"rank {session.datamodule.share.rank} has other samples or folds (splits.csv {found[:12]}) than rank 0 "
            f"({str(checked.get('splits_hash'))[:12]}): the data changed while the run began; start it again"
        )


def die_with(parent: int) -> None:
    """Have the kernel kill this process when rank 0 is gone, however it went.

    Raises:
        SystemExit: If it is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the kernel was asked
        raise SystemExit(1)


def _point(run: RunDirectory) -> PointHooks | None:
    return _PointOfRankZero() if run.status().get("kind") == POINT_KIND else None
