"""A machine that joins a sweep: takes one point after the other, as long as there is one to be had."""

import time
from collections.abc import Callable
from pathlib import Path

from shared.sweep.jobs import run_job
from shared.sweep.ledger import PointView, SweepLedger
from shared.sweep.overview import SweepReader
from shared.sweep.search import Search
from shared.sweep.show import settings

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
MAX_FUTILE = 3


def work(folder: Path, *, max_points: int | None = None, wait: bool = False, say: Callable[[str], None] = print) -> int:
    """Run points on this machine, each in a process of its own, beside whoever else works on the sweep.

    It plans nothing: new points come from whoever runs the sweep itself.

    Args:
        folder: Of the sweep.
        max_points: Stop after so many; None: as many as there are.
        wait: Where no point is to be had now, wait for one until the sweep is settled.
        say: Told of each point and of the reason for leaving.

    Returns:
        How many points were run here, whatever came of them.

    Raises:
        ConfigError: There is no such sweep, or the code here is another.
        RunInterrupted: A signal; the point has saved what it could.
    """
    reader = SweepReader(folder, writes=True)
    Search.load(folder).require_known_code()
    futile: dict[str, int] = {}
    ran, pause = 0, FIRST_WAIT_S
    while max_points is None or ran < max_points:
        view = _next(reader, futile)
        if view is not None:
            pause = FIRST_WAIT_S
            ran += _run(reader.ledger, view, folder, futile, say)
            continue
        overview = reader.read(thorough=False)
        if overview["finished"] or not wait:
            say(_why(overview["counts"], overview["finished"], set(futile)))
            break
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_WAIT_S)
    return ran


def _next(reader: SweepReader, futile: dict[str, int]) -> PointView | None:
    """The first point of this search that nobody has and that has not failed to begin here again and again."""
    space = reader.space()
    for view in reader.ledger.claimable():
        if space.contains(view.values) and futile.get(view.id, 0) < MAX_FUTILE:
            return view
    return None


def _run(ledger: SweepLedger, view: PointView, folder: Path, futile: dict[str, int], say: Callable[[str], None]) -> int:
    """Run one point; returns 1 if it was this machine that had it."""
    say(f"point {view.number} ({settings(view.values)})")
    state = run_job(folder, view.id)
    after = ledger.point(view.id)
    if after.last_event == view.last_event:
        futile[view.id] = futile.get(view.id, 0) + 1
        say(f"point {view.number} was not begun")
        return 0
    new = [event for event in after.history if event.n > view.last_event]
    if not any(event.kind == "running" and event.host == ledger.host for event in new):
        return 0  # somebody else was quicker
    say(f"point {view.number} is {state}{'' if after.error is None else f': {after.error}'}")
    return 1


def _why(counts: dict[str, int], is_finished: bool, futile: set[str]) -> str:
    if is_finished:
        return "all points are settled"
    if futile:
        return f"{len(futile)} points could not be begun here {MAX_FUTILE} times; their messages stand above"
    running = f"{counts['running']} are running elsewhere" if counts["running"] else "none is running"
    return f"no point is to be had now ({running}); --wait stays for points still to come"
