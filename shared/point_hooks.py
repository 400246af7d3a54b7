"""What the engine asks of a sweep that it trains a point for; `shared.sweep.engine_point` answers."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lightning import Callback

    from shared.checkpoint_io import AtomicCheckpointIO
    from shared.run_dir import RunDirectory

POINT_KIND = "point"
"""`kind` in the status of such a run: `latest` never points to it, and `resume=auto` never takes it up."""


class PointHooks(Protocol):
    """Where a sweep reaches into a run of the engine."""

    def on_open(self, run: "RunDirectory") -> None:
        """Learn the run directory, before anything is trained in it."""
        ...

    def callbacks(self) -> "list[Callback]":
        """Callbacks that stand behind the run's own and the configured ones."""
        ...

    def checkpoint_io(self) -> "AtomicCheckpointIO | None":
        """Writer of checkpoints, None for the engine's own."""
        ...
