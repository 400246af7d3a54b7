"""A sweep of runs that are there already, as a plain multirun over optimizer.lr leaves them."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from projects.redheart.sweep.results import COLLECTED, RESULTS_FILE, read_results, refuse_older, write_results
from shared.config import differing_keys
from shared.errors import ConfigError, DataError
from shared.resume import saved_settings
from shared.run_dir import RunDirectory
from shared.sweep.canonical import point_id
from shared.sweep.exports import Best, SweepFacts, write_exports
from shared.sweep.grid import GridPlanner
from shared.sweep.scoring import RATE_KEY, RATE_SCORE, lr_score, read_epochs
from shared.sweep.states import PointView
from shared.sweep.sweep_file import SWEEP_FILE

MAY_DIFFER = ("resume", RATE_KEY, f"{RATE_KEY}_from")


def collect_runs(paths: Sequence[Path], folder: Path, console: Console) -> Best:
    """Make a sweep of runs that are there already; nothing is trained.

    Args:
        paths: Run directories, or folders of them.
        folder: Of the sweep.
        console: Where the note about an edge goes.

    Raises:
        ConfigError: If there is no run, one is not finished, or two differ in more than the rate; if the folder holds
            a sweep of another kind.
        DataError: If every rate failed.
    """
    _refuse_other_sweep(folder)
    runs = [RunDirectory(path.parent) for path in _status_files(paths)]
    if not runs:
        raise ConfigError(f"there is no run directory in {', '.join(map(str, paths))}; name runs or folders of runs")
    plains = [saved_settings(run).plain for run in runs]
    found: dict[float, PointView] = {}
    for number, (run, plain) in enumerate(zip(runs, plains, strict=True)):
        keys = [key for key in differing_keys(plains[0], plain) if key not in MAY_DIFFER]
        if keys:
            raise ConfigError(f"{run.path} differs from {runs[0].path} in {', '.join(keys[:5])}; only the rate may")
        rate = float(plain["optimizer"]["lr"])
        found[rate] = _point(number, rate, run)
    points = list(found.values())
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "tb", ignore_errors=True)  # of other runs with these rates, collected before
    planner = GridPlanner({RATE_KEY: {f"{RATE_KEY}={rate!r}": rate for rate in sorted(found)}})
    facts = SweepFacts(folder, planner.space(), planner.contains, score_name=RATE_SCORE, complete=True)
    best = write_exports(facts, points)
    write_results(folder, points, {"name": folder.name, COLLECTED: [str(run.path) for run in runs]})
    if best is None:
        raise DataError(f"no rate of the sweep {folder} has a score; the first failed with: {points[0].error}")
    if best.note:
        console.print(f"note: {best.note}", markup=False, soft_wrap=True)
    return best


def _refuse_other_sweep(folder: Path) -> None:
    """A folder of collected runs may be written again, no other.

    Raises:
        ConfigError: It has a ledger, or results of an older version.
    """
    if (folder / SWEEP_FILE).exists():
        raise ConfigError(f"{folder} is a sweep with points of its own; give another --name for those of --runs")
    if (folder / RESULTS_FILE).exists() and COLLECTED not in read_results(folder):
        refuse_older(folder)


def _status_files(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (path / "status.json", *sorted(path.glob("*/status.json")))]
    return [file for file in files if file.is_file()]


def _point(number: int, rate: float, run: RunDirectory) -> PointView:
    """A run as a point of a sweep.

    Raises:
        ConfigError: Its fit is not finished.
    """
    status, fit = run.status(), run.done("fit")
    epochs = read_epochs(run.path / "metrics.csv")
    failure = None
    if fit is None:
        if status["state"] != "failed":
            raise ConfigError(f"{run.path} has no finished fit (its state is {status['state']}); resume it first")
        failure = str(status.get("error", "the run failed"))
    elif not epochs:
        failure = "metrics.csv has no epoch"
    elif not all(math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss) for epoch in epochs):
        failure = "a loss in metrics.csv is not finite"
    values, path = {RATE_KEY: rate}, str(run.path.resolve())
    common: dict[str, Any] = {"overrides": (f"{RATE_KEY}={rate!r}",), "attempts": 1, "run": path}
    id = point_id(values, generation=0)
    if failure is not None or fit is None:
        return PointView(id, number, 0, 0, values, state="failed", final=True, error=failure, **common)
    outcome = {
        "score": lr_score(epochs), "run": path, "seconds": fit.get("seconds"), "samples": fit.get("samples"),
        "epochs": [asdict(epoch) for epoch in epochs],
    }  # fmt: skip
    return PointView(id, number, 0, 0, values, state="done", outcome=outcome, **common)
