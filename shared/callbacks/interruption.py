"""Signals: finish the batch, save a checkpoint that resumes exactly, leave with the signal's exit code.

SIGINT and SIGTERM always; SIGUSR1 and SIGUSR2, by which schedulers say that the time is nearly over, where nobody else
(submitit, Lightning's requeueing under SLURM) listens to them.

Lightning's own handling returns from `fit` as if it had finished (Ctrl-C) or raises between two hooks (SIGTERM); both
may leave a half-done step in the checkpoint. Here a signal during the fit is only noted, and acted on where the state
is whole. Outside the fit all files are atomic, so there it stops at once.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from shared.distributed.collectives import largest_over_ranks, num_ranks
from shared.errors import RunInterrupted
from shared.sampler import ResumableLoader

SIGNALS = (signal.SIGINT, signal.SIGTERM)
USER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)

SAME_STOP_S = 1.0
"""One stop often arrives twice: from the terminal or scheduler, and from the parent process that hands it on."""


class Interruption:
    """What the signal handler and the callback share."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.deferred = False
        self.received: int | None = None
        self._received_at = 0.0

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if os.getpid() != self.owner:  # a forked loader worker has inherited the handler: it must simply end
            if signum in USER_SIGNALS:  # which a scheduler sends to everyone; the batch that is to be finished needs it
                return
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        if self.received is not None and self.deferred and time.monotonic() - self._received_at < SAME_STOP_S:
            return
        if self.received is not None or not self.deferred:  # the second signal does not wait
            self.received = signum
            self.raise_if_received()
        self.note(signum)

    def note(self, signum: int) -> None:
        """A signal has come, to this process or to another rank; its copy within a moment is the same stop."""
        self.received, self._received_at = signum, time.monotonic()

    def raise_if_received(self) -> None:
        """Raise if a signal has come.

        Raises:
            RunInterrupted: With the exit code 128 + signal number.
        """
        if self.received is not None:
            name = signal.Signals(self.received).name
            raise RunInterrupted(self.received, f"stopped by {name}")


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Handle the signals within the block; in a thread that may not set handlers the block runs without."""
    interruption = Interruption()
    try:
        taken = (*SIGNALS, *(signum for signum in USER_SIGNALS if _is_free(signum)))
        former = {signum: signal.signal(signum, interruption.handle) for signum in taken}
    except ValueError:  # only the main thread may set handlers
        former = {}
    try:
        yield interruption
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)


def _is_free(signum: int) -> bool:
    """Whether nobody else listens to a signal; an outer block of ours may be covered by an inner one."""
    if signum == signal.SIGUSR1 and SLURMEnvironment.detect():
        return False  # Lightning saves and requeues on it, but only where it finds the signal free
    handler = signal.getsignal(signum)
    return handler is signal.SIG_DFL or isinstance(getattr(handler, "__self__", None), Interruption)


class InterruptGuard(Callback):
    """Saves `last.ckpt` in mid-epoch, by the clock and on a signal.

    It never saves behind the last batch of an epoch: the epoch's own checkpoint follows after validation. On several
    ranks a signal to one of them stops all behind the same batch, and rank 0 has the clock.

    Args:
        interruption: Shared with the signal handler.
        path: Where last.ckpt stands.
        every_minutes: Time between checkpoints within an epoch.
    """

    def __init__(self, interruption: Interruption, path: Path, every_minutes: float) -> None:
        self.interruption = interruption
        self.path = path
        self.every_s = 60 * every_minutes
        self._last_save = time.monotonic()
        self._batches_done = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning, which has put its own SIGTERM handler in front by now."""
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for signum in SIGNALS:
                signal.signal(signum, self.interruption.handle)
        self.interruption.deferred = True
        # Lightning gives a loader its state back too early for schedules that ask for the number of steps: they make
        # it build the loader before the checkpoint is read. The loader reads this when its first batch is asked for.
        if isinstance(trainer.train_dataloader, ResumableLoader):
            trainer.train_dataloader.skip_batches = self._batches_done

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The checkpoint of the epoch before is on disk: a good place to stop."""
        self._batches_done = 0
        self._last_save = time.monotonic()
        signum, _ = self._agree(is_due=False)
        self._stop(signum)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time or a signal has come, and stop on a signal."""
        self._batches_done = batch_idx + 1
        if batch_idx + 1 >= trainer.num_training_batches or self._is_mid_accumulation(trainer, batch_idx):
            return
        is_due = trainer.is_global_zero and time.monotonic() - self._last_save >= self.every_s
        signum, is_due = self._agree(is_due)
        if not signum and not is_due:
            return
        trainer.save_checkpoint(self.path, weights_only=False)
        self._last_save = time.monotonic()
        self._stop(signum)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A checkpoint from here on belongs to a whole epoch."""
        self._batches_done = 0

    def state_dict(self) -> dict[str, Any]:
        """Batches done in the present epoch."""
        return {"batches_done": self._batches_done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Where the resumed epoch goes on."""
        self._batches_done = int(state_dict["batches_done"])

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """From here on a signal stops at once."""
        self.interruption.deferred = False

    def _agree(self, is_due: bool) -> tuple[int, bool]:
        """The signal that has come to one of the ranks, 0 for none, and whether one of them wants to save."""
        signum, due = largest_over_ranks([self.interruption.received or 0, int(is_due)])
        if signum and signum != self.interruption.received:
            self.interruption.note(signum)
        return signum, bool(due)

    def _stop(self, signum: int) -> None:
        """Stop on the signal agreed on; one that came to this rank since then waits until the others know of it."""
        if signum or num_ranks() == 1:
            self.interruption.raise_if_received()

    def _is_mid_accumulation(self, trainer: Trainer, batch_idx: int) -> bool:
        """Between two micro-batches of one step the gradients live nowhere but in memory."""
        return (batch_idx + 1) % trainer.accumulate_grad_batches != 0
