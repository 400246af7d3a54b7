"""Tells, while a launcher is at work, which points have been settled: one line each, whoever ran them."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console

from shared.sweep.planner import Planner
from shared.sweep.scoring import measured, ranked
from shared.sweep.search import Search
from shared.sweep.show import settings as values_text
from shared.sweep.states import PointView

__all__ = ["Teller", "told_to", "values_text"]
LOOK_S = 1.0


class Teller:
    """A context manager that looks into the ledger now and then; it changes nothing.

    Args:
        search: Whose points.
        planner: Says which of them count, and how many there will be.
        console: Where the lines go.
    """

    def __init__(self, search: Search, planner: Planner, console: Console) -> None:
        self._planner = planner
        self._console = console
        self._direction = search.direction
        self._ledger = search.ledger()
        self._over = threading.Event()
        self._settled: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="sweep-progress", daemon=True)

    def __enter__(self) -> Self:
        points = self._points()
        self._settled = {view.id: view.last_event for view in points if view.is_settled}
        if self._settled:
            self._console.print(
                f"{len(self._settled)} of {self._total(points)} points are settled already", markup=False
            )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self._look()
            except OSError:  # a file system that is away for a moment; the loop itself says so if it stays away
                continue

    def _look(self) -> None:
        points = self._points()
        for view in points:
            if view.is_settled and view.id not in self._settled:
                self._settled[view.id] = view.last_event
                self._console.print(self._line(view, points), markup=False, highlight=False, soft_wrap=True)

    def _line(self, view: PointView, points: list[PointView]) -> str:
        head = f"{len(self._settled)} of {self._total(points)}: {values_text(view.values) or 'the point'}"
        score = measured(view)
        what = f"score {score:.6g}" if score is not None else f"failed: {view.error}"
        best = ranked(points, self._direction)
        tail = "" if not best else f"; best so far {measured(best[0]):.6g} at {values_text(best[0].values) or 'it'}"
        return f"{head}: {what}{tail}"

    def _total(self, points: list[PointView]) -> int:
        """A search over another range may keep more points than it would plan itself."""
        return max(self._planner.total or 0, len(points))

    def _points(self) -> list[PointView]:
        return [view for view in self._ledger.points() if self._planner.contains(view.values)]


@contextmanager
def told_to(say: Callable[[str], None]) -> Iterator[None]:
    """Hand what any ledger of this process finds odd to `say`, in place of the log, while the block lives."""
    logger = logging.getLogger("shared.sweep")
    handler = _Saying(say)
    former = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = former


class _Saying(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())
