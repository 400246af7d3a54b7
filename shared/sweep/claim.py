"""A point in somebody's hands: the heartbeat, and the only writes that its holder may do."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from shared.errors import UserError
from shared.sweep.lease import Heartbeat, beat_path
from shared.sweep.states import Lease, PointView

if TYPE_CHECKING:
    from shared.sweep.ledger import SweepLedger


class LeaseLost(UserError):  # noqa: N818 - it is a fact, and others work on
    """The point was taken for dead and given to somebody else, so that nothing may be written about it."""


class Claim:
    """The lease of one point, a context manager: inside, a thread sends heartbeats.

    Each write is a compare-and-swap on the next event number, so that a holder who was paused, was taken for dead and
    comes back writes nothing: the number is taken.

    Args:
        ledger: The ledger that made it.
        view: The point just before it was claimed, with the run directory to resume.
        lease: The lease.
        beat_s: Seconds between heartbeats.
    """

    def __init__(self, ledger: SweepLedger, view: PointView, lease: Lease, beat_s: float) -> None:
        self.view = view
        self.lease = lease
        self._ledger = ledger
        self._mutex = threading.RLock()
        self._settled = False
        path = beat_path(ledger.beats_folder, view.id, lease.event)
        self._heartbeat = Heartbeat(path, beat_s, lambda: not ledger.holds(view.id, lease))

    @property
    def id(self) -> str:
        """Id of the point."""
        return self.view.id

    def __enter__(self) -> Self:
        self._heartbeat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the heartbeat; what is still open becomes interrupted, since nobody works on it any more."""
        try:
            if not self._settled:
                self.interrupted("left without a result" if kind is None else f"left with {kind.__name__}: {error}")
        finally:
            self._heartbeat.stop()

    @property
    def lost(self) -> bool:
        """Whether the lease was lost; the heartbeat thread looks, and this call does where the thread is late."""
        if not self._settled and not self._heartbeat.lost.is_set() and self._heartbeat.is_late:
            self._heartbeat.look()
        return self._heartbeat.lost.is_set()

    def check(self) -> None:
        """Raise where the lease was lost.

        Raises:
            LeaseLost: It was; the work is to be left.
        """
        if self.lost:
            raise LeaseLost(
                f"point {self.view.number} ({self.id}) was taken for dead while this process did not answer, and is "
                "no longer its own; nothing is written about it here."
            )

    def note(self, **facts: Any) -> None:
        """Show facts in the heartbeat, e.g. `epoch=3`; an epoch more also counts as progress between interruptions."""
        self._heartbeat.note = self._heartbeat.note | facts

    def opened(self, run: str, **facts: Any) -> bool:
        """Write down the run directory, by which the next attempt resumes.

        Args:
            run: The directory.
            facts: Plain values, e.g. the hash of the initial weights.

        Returns:
            False: the lease was lost, nothing is written.
        """
        return self._write("opened", {"run": run, **facts})

    def done(self, outcome: dict[str, Any]) -> bool:
        """Write the result; False: the lease was lost, nothing is written.

        Raises:
            ValueError: The outcome is no JSON, e.g. holds NaN; the point is still held.
        """
        return self._settle("done", {"outcome": outcome})

    def failed(self, error: str, *, final: bool = False) -> bool:
        """Write that the attempt failed; False: the lease was lost, nothing is written.

        Args:
            error: One sentence.
            final: Not to be tried again.
        """
        return self._settle("failed", {"error": error, "final": final})

    def interrupted(self, reason: str) -> bool:
        """Write that the attempt was stopped from outside; False: the lease was lost, nothing is written."""
        return self._settle("interrupted", {"reason": reason, "epoch": self._heartbeat.note.get("epoch")})

    def _settle(self, kind: str, data: dict[str, Any]) -> bool:
        with self._mutex:
            written = self._write(kind, data)
            self._settled = True
            return written

    def _write(self, kind: str, data: dict[str, Any]) -> bool:
        with self._mutex:
            if self._settled or self._heartbeat.lost.is_set():
                return False
            if not self._ledger.extend(self.id, self.lease, kind, data):
                self._heartbeat.lost.set()
                return False
            return True
