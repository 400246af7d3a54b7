"""What a sweep may keep on the disk: checkpoints of its best points, and never more bytes than it was given.

All files of the sweep's folder and of its points' run directories count. A checkpoint is written only if it fits beside
what is there, with room left for tables and logs. Where it does not, the weights of points that are settled and not
among the best go first; then the point goes on without a checkpoint to resume from, which is said once and costs no
result.

Who saves holds a lock (`flock` on a file of the sweep's folder), so that two cannot fill the same room. On one machine
any file system will do; over several it takes one whose `flock` reaches all of them: NFS from Linux 2.6.12 on without
`local_lock`, Lustre with `-o flock`, GPFS. Where a lock cannot be had no checkpoint is written.
"""

import fcntl
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH

from shared.atomic import replacing
from shared.checkpoint_io import AtomicCheckpointIO, as_checkpoint_error
from shared.errors import CheckpointError
from shared.point_hooks import POINT_KIND
from shared.run_dir import RunDirectory

LOCK_FILE = "disk.lock"
LOCK_WAIT_S = 120.0
RESERVED = 0.05
"""Share of the budget that checkpoints leave to tables, logs and split files."""

BLOCK = 4096
GB = 10**9
SETTLED = "point"
"""Stage of a point's status in which its result stands."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class SweepDisk:
    """The room of one sweep.

    Attributes:
        folder: Of the sweep.
        runs: Folder of its points' run directories.
        max_bytes: What all files may take, None for no limit.
        keep_top: So many settled points keep their checkpoints, the best first.
        direction: "min" or "max".
    """

    folder: Path
    runs: Path
    max_bytes: int | None = None
    keep_top: int = 1
    direction: str = "min"

    @property
    def for_checkpoints(self) -> float:
        """Bytes up to which checkpoints may fill the room."""
        return float("inf") if self.max_bytes is None else self.max_bytes * (1 - RESERVED)

    def used(self) -> int:
        """Bytes on the disk of all that belongs to the sweep."""
        return sum(_bytes_below(root) for root in (self.folder, self.runs))

    @contextmanager
    def locked(self, wait_s: float = LOCK_WAIT_S) -> Iterator[bool]:
        """Hold the sweep's disk lock; yields False where it cannot be had in time or at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            yield _flock(descriptor, wait_s)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where another thread has forked meanwhile
            os.close(descriptor)

    def prune(self) -> None:
        """Remove the checkpoints of settled points beyond the best; under the lock."""
        for run in self._beyond_best():
            drop_checkpoints(run)

    def _beyond_best(self) -> list[RunDirectory]:
        sign = 1.0 if self.direction == "min" else -1.0
        settled: list[tuple[tuple[Any, ...], RunDirectory]] = []
        for path in sorted(self.runs.glob("*/status.json")):
            run = RunDirectory(path.parent)
            result = _result(run)
            if result is None:
                continue
            score = result.get("score")
            # The newest generation counts; a point that was given up stands behind those that went to the end.
            rank = (
                -int(result["generation"]),
                score is None,
                result.get("stopped_at") is not None,
                sign * (score or 0.0),
            )
            settled.append((rank, run))
        settled.sort(key=lambda row: row[0])
        kept = [run for rank, run in settled[: self.keep_top] if not rank[1]]
        return [run for _, run in settled if run not in kept]


def settle(run: RunDirectory, generation: int, score: float | None, stopped_at: int | None) -> None:
    """Write into a point's status that it will not go on, with what its checkpoints are ranked by."""
    former = run.done(SETTLED) or {}
    run.mark_done(
        SETTLED, {**former, "settled": True, "generation": generation, "score": score, "stopped_at": stopped_at}
    )


def drop_checkpoints(run: RunDirectory) -> None:
    """Remove all checkpoints of a run that nothing will resume."""
    for path in sorted(run.checkpoints.rglob("*.ckpt")):
        path.unlink(missing_ok=True)


class BudgetedCheckpointIO(AtomicCheckpointIO):
    """Writes a checkpoint only where it fits into the sweep's room; rather none than too much.

    Args:
        disk: The room.
        tell: Called with a sentence, once, where a checkpoint was left out.
    """

    def __init__(self, disk: SweepDisk, tell: Tell) -> None:
        super().__init__()
        self.disk = disk
        self.tell = tell
        self._told = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write it atomically if there is room; the one before it, if there is one, stays until then.

        Raises:
            CheckpointError: If the file cannot be written for another reason (full disk, permissions).
        """
        size = _in_blocks(size_of(checkpoint))
        if size > self.disk.for_checkpoints:
            self._leave_out(f"one checkpoint takes {_mb(size)}, and the whole sweep may take {self._limit()}")
            return
        with self.disk.locked() as has_lock:
            if not has_lock:
                self._leave_out(f"{self.disk.folder / LOCK_FILE} cannot be locked, so nobody can tell what is free")
                return
            if self.disk.used() + size > self.disk.for_checkpoints:
                self.disk.prune()
            used = self.disk.used()
            if used + size > self.disk.for_checkpoints:
                self._leave_out(f"{_mb(used)} of {self._limit()} are taken and a checkpoint takes {_mb(size)}")
                return
            with as_checkpoint_error(path), replacing(Path(path)) as temporary, temporary.open("wb") as stream:
                torch.save(checkpoint, stream)

    def _leave_out(self, reason: str) -> None:
        if self._told:
            return
        self._told = True
        self.tell(
            "the point goes on without a new checkpoint, and if it is stopped begins where its last one stands: "
            f"{reason}; raise hydra.sweeper.max_disk_gb or lower hydra.sweeper.keep_top"
        )

    def _limit(self) -> str:
        assert self.disk.max_bytes is not None
        return _mb(self.disk.max_bytes)


def size_of(checkpoint: dict[str, Any]) -> int:
    """Bytes of a checkpoint's file, found by writing it to nowhere; a temporary file might already be too much."""
    counter = _Counter()
    torch.save(checkpoint, counter)  # type: ignore[arg-type]  # the same writer as for an open file, so the same bytes
    return counter.size


class _Counter(io.RawIOBase):
    """A stream that only counts."""

    def __init__(self) -> None:
        self.size = 0

    def writable(self) -> bool:
        """It takes anything."""
        return True

    def write(self, data: Any) -> int:
        """Count."""
        size = memoryview(data).nbytes
        self.size += size
        return size


def _result(run: RunDirectory) -> dict[str, Any] | None:
    """What `settle` wrote; None for a point that may go on, and for what is no point."""
    try:
        status = run.status()
    except CheckpointError:
        return None
    result = status.get("stages", {}).get(SETTLED)
    if status.get("kind") != POINT_KIND or not result or not result.get("settled"):
        return None
    return dict(result)


def _flock(descriptor: int, wait_s: float) -> bool:
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        except OSError:  # a file system without locks
            return False
        else:
            return True


def _bytes_below(root: Path) -> int:
    """Sizes of all files, rounded up to blocks, since a file system that writes late counts blocks late."""
    total = 0
    folders: Sequence[str] = [str(root)]
    while folders:
        below: list[str] = []
        for folder in folders:
            try:
                entries = list(os.scandir(folder))
            except FileNotFoundError:
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                    total += BLOCK
                    continue
                try:
                    total += _in_blocks(entry.stat(follow_symlinks=False).st_size)
                except FileNotFoundError:  # a temporary file of somebody else
                    continue
        folders = below
    return total


def _in_blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB"
