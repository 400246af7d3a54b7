"""The flat sweep: each rate a short fit from the same initial weights on the same subset, never made twice."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table

from projects.redheart.sweep.engine_runs import composed, run_once
from projects.redheart.sweep.points import Point, edge_sentence, make_point, ranked, write_sweep
from shared.config import check_config, differing_keys
from shared.errors import ConfigError
from shared.resume import saved_settings
from shared.run_dir import RunDirectory

RATES = (1e-5, 5e-5, 1e-4, 2e-4, 5e-4)
NUM_EPOCHS = 5
NUM_STORIES = 1000
MAY_DIFFER = ("resume", "optimizer.lr", "optimizer.lr_from")
KEPT_CALLBACKS = ("progress", "gradient_norms")
"""A point is a fit with `callbacks=minimal` and the norm of its gradient; it never saves snapshots nor stops early."""

Say = Callable[[str], None]


def point_config(overrides: Sequence[str], name: str, rate: float, epochs: int, num_stories: int | None) -> DictConfig:
    """The configuration of one point: the same for all but for the rate; it never opens accept, calibrate or test.

    Args:
        overrides: As for `train`.
        name: Of the sweep; its points are runs of the experiment `sweep-<name>`.
        rate: Learning rate.
        epochs: Length of the fit.
        num_stories: Size of the subset, None for all stories.

    Raises:
        ConfigError: If the configuration cannot be composed, or its data cannot be cut to a subset.
    """
    config = composed(overrides)
    with open_dict(config):
        config.experiment = f"sweep-{name}"
        config.stages = ["fit"]
        config.resume = None
        config.optimizer.lr = rate
        if "lr_from" in config.optimizer:
            config.optimizer.lr_from = None
        config.trainer.max_epochs = epochs
        config.callbacks = {name: node for name, node in config.callbacks.items() if name in KEPT_CALLBACKS}
        if num_stories is not None:
            _cut(config, num_stories)
    return config


def _cut(config: DictConfig, num_stories: int) -> None:
    if "num_stories" not in config.data:
        raise ConfigError(
            f"data._target_ is {config.data._target_}, which has no data.num_stories and cannot be cut to a subset; "
            "give --num-stories all"
        )
    if config.data.num_stories is None or config.data.num_stories > num_stories:
        config.data.num_stories = num_stories


def run_sweep(
    overrides: Sequence[str],
    *,
    name: str,
    rates: Sequence[float] = RATES,
    epochs: int = NUM_EPOCHS,
    num_stories: int | None = NUM_STORIES,
    console: Console,
    again: str = "",
) -> tuple[Path, Point]:
    """Train every rate that is not there yet and write the sweep's files.

    Returns:
        The sweep's folder `outputs/<project>/sweeps/<name>` and the best point.

    Raises:
        RunInterrupted: A signal stopped a point; the same call goes on with it.
        DataError: If every rate failed.
    """
    points: list[Point] = []
    folder = Path()
    for number, rate in enumerate(check_rates(rates), start=1):
        config = point_config(overrides, name, rate, epochs, num_stories)
        settings = check_config(config)
        folder = settings.outputs / settings.project / "sweeps" / name
        console.print(f"sweep {name}, rate {number} of {len(rates)}: {rate:g}", markup=False)
        made = run_once(config, [*overrides, f"optimizer.lr={rate:g}"], quiet=console.quiet, again=again)
        points.append(make_point(rate, made.run.path, made.run.done("fit"), made.failure))
        word = "done before" if made.found else "done"
        shown = points[-1].reason if points[-1].score is None else f"score {points[-1].score:.4f}"
        console.print(f"  {word}: {shown} ({made.run.path})", markup=False)
    facts = {"name": name, "num_epochs": epochs, "num_stories": num_stories, "overrides": list(overrides)}
    best = write_sweep(folder, points, facts)
    show(points, folder, console)
    return folder, best


def check_rates(rates: Sequence[float]) -> list[float]:
    """Return the rates in ascending order.

    Raises:
        ConfigError: If there is none, one is not above 0, or one stands twice.
    """
    if not rates or any(not 0 < rate < 1 for rate in rates) or len(set(rates)) < len(rates):
        shown = ", ".join(f"{rate:g}" for rate in rates) or "none"
        raise ConfigError(f"--rates are {shown}; allowed are distinct numbers above 0 and below 1")
    return sorted(rates)


def collect_runs(paths: Sequence[Path], folder: Path, console: Console) -> Point:
    """Make a sweep of runs that are there already, as a plain multirun over optimizer.lr leaves them.

    Args:
        paths: Run directories, or folders of them.
        folder: Of the sweep.
        console: Where the table goes.

    Raises:
        ConfigError: If there is no run, one is not finished, or two differ in more than the rate.
        DataError: If every rate failed.
    """
    runs = [RunDirectory(path.parent) for path in _status_files(paths)]
    if not runs:
        raise ConfigError(f"there is no run directory in {', '.join(map(str, paths))}; name runs or folders of runs")
    plains = [saved_settings(run).plain for run in runs]
    points: dict[float, Point] = {}
    for run, plain in zip(runs, plains, strict=True):
        keys = [key for key in differing_keys(plains[0], plain) if key not in MAY_DIFFER]
        if keys:
            raise ConfigError(f"{run.path} differs from {runs[0].path} in {', '.join(keys[:5])}; only the rate may")
        points |= {point.lr: point for point in [_point_of(run, plain)]}
    facts = {"name": folder.name, "collected": [str(run.path) for run in runs]}
    best = write_sweep(folder, list(points.values()), facts)
    show(list(points.values()), folder, console)
    return best


def _status_files(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (path / "status.json", *sorted(path.glob("*/status.json")))]
    return [file for file in files if file.is_file()]


def _point_of(run: RunDirectory, plain: dict[str, Any]) -> Point:
    status = run.status()
    failure = None
    if run.done("fit") is None:
        if status["state"] != "failed":
            raise ConfigError(f"{run.path} has no finished fit (its state is {status['state']}); resume it first")
        failure = str(status.get("error", "the run failed"))
    return make_point(float(plain["optimizer"]["lr"]), run.path.resolve(), run.done("fit"), failure)


def show(points: Sequence[Point], folder: Path, console: Console) -> None:
    """The table in the terminal."""
    table = Table("rank", "lr", "score", "last train loss", "last val loss", "status")
    for rank, point in enumerate(ranked(points), start=1):
        losses = ["", ""]
        if point.epochs:
            losses = [f"{point.epochs[-1].train_loss:.4f}", f"{point.epochs[-1].val_loss:.4f}"]
        shown = "" if point.score is None else f"{point.score:.4f}"
        table.add_row(str(rank), f"{point.lr:g}", shown, *losses, point.reason or point.status)
    console.print(table)
    edge = edge_sentence(points)
    if edge:
        console.print(f"note: {edge}", markup=False)
    console.print(f"sweep: {folder}", markup=False)


def seconds_per_sample(folder: Path) -> float | None:
    """Time of one training sample with its share of validation, from the sweep's own fits; None where none has one."""
    content = json.loads((folder / "lr_sweep_results.json").read_text(encoding="utf-8"))
    timed = [point for point in content["points"] if point["seconds"] and point["samples"]]
    if not timed:
        return None
    return float(sum(point["seconds"] for point in timed) / sum(point["samples"] for point in timed))
