"""The end of a sweep: its exports, the table, and the last lines."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from shared.errors import DataError, TrainingError
from shared.sweep.exports import read_best
from shared.sweep.loop import SweepLoop
from shared.sweep.objective import NOT_FINITE
from shared.sweep.overview import SweepReader
from shared.sweep.rebuild import rebuild_exports
from shared.sweep.show import ranking, shown
from shared.sweep.show import settings as values_text
from shared.sweep.states import PointView


def finish(loop: SweepLoop, console: Console) -> None:
    """Run the loop, write the exports, and say what was found.

    Args:
        loop: The sweep.
        console: Where the table goes; the last lines go to standard output.

    Raises:
        RunInterrupted: A signal stopped the sweep.
        DataError: The exports cannot be written.
        TrainingError: Points failed for good, or none has a score. A fit whose loss was not finite is a result.
    """
    folder = loop.search.folder
    points = loop.run()
    if not loop.has_launched:
        console.print("there was nothing left to run", markup=False)
    best_before = read_best(folder)
    settled = sum(view.is_settled for view in points)
    is_fresh = loop.has_launched or best_before is None or best_before.get("points") != settled
    try:
        rebuild_exports(folder, complete=True, pictures=is_fresh)
    except OSError as error:
        raise DataError(
            f"all points are settled, but the exports cannot be written to {folder} ({error.strerror or error}); "
            f"make room there, then python -m shared.sweep table {os.path.relpath(folder)}"
        ) from error
    overview = SweepReader(folder).read(thorough=False)
    for line in ranking(overview):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    best = next((point for point in overview["points"] if point["id"] == overview["best"]), None)
    if best is not None:
        _say_best(best, folder, console)
    named = os.path.relpath(folder)
    print(f"sweep: {named}", flush=True)
    _fail_for(points, named, has_best=best is not None)


def _say_best(best: Mapping[str, Any], folder: Path, console: Console) -> None:
    note = (read_best(folder) or {}).get("note")
    if note:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    print(" ".join(part for part in ("best:", values_text(best["values"]), f"score {shown(best['score'])}") if part))


def _fail_for(points: Sequence[PointView], folder: str, has_best: bool) -> None:
    failed = [view for view in points if view.final and NOT_FINITE not in (view.error or "")]
    if failed:
        named = ", ".join(f"{view.number} ({values_text(view.values)})" for view in failed[:5])
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise TrainingError(
            f"{len(failed)} of {len(points)} points failed for good: {named}{more}; the first: {failed[0].error} "
            f"(python -m shared.sweep status {folder}; retry {folder} --all lets them be tried again)"
        )
    if not has_best:
        raise TrainingError(f"no point of the sweep {folder} has a score; see python -m shared.sweep status {folder}")
