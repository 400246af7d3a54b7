"""Sweeps over the toy objective: in this process, and by the command line as a user gives it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from shared.sweep.grid import GridPlanner
from shared.sweep.plans import next_number
from shared.sweep.search import Search
from shared.sweep.settings import GridSettings

ROOT = Path(__file__).resolve().parents[2]
OBJECTIVE = "tests.fabricate.toy_objective.run"
SETTINGS = {
    "name": "toy", "objective": OBJECTIVE, "epochs": 3, "num_samples": None, "subset_key": "data.n",
    "retries": 1, "max_interruptions": 3,
    "lease_s": 3.0, "on_change": "refuse", "max_disk_gb": None, "keep_top": 3, "halving": None,
    "at_once": None,
}  # fmt: skip


def rates_planner(*rates: float) -> GridPlanner:
    """A grid over learning rates."""
    return GridPlanner({"optimizer.lr": {f"optimizer.lr={rate}": rate for rate in rates}})


def toy_search(tmp_path: Path, said: list[str] | None = None, **changes) -> Search:
    """A search in its folder below tmp_path; `overrides`, `config`, `choices`, `sweeper`, settings can be changed."""
    fixed = (f"paths.outputs={tmp_path}", *changes.pop("overrides", ()))
    choices = changes.pop("choices", None)
    config = changes.pop("config", {"optimizer": {"lr": 1e-3}, "seed": 0})
    return Search.open_or_create(
        tmp_path / "redheart" / "sweeps" / "toy",
        sweeper=changes.pop("sweeper", "grid"),
        primary="redheart",
        overrides=fixed,
        settings=GridSettings(**(SETTINGS | changes)),
        direction="min",
        score_name="val/loss",
        config=config,
        say=(said if said is not None else []).append,
        choices=choices,
    )


def planned(search: Search, *rates: float) -> list[str]:
    """Plan these rates; returns the ids of the points."""
    ledger, planner = search.ledger(), rates_planner(*rates)
    assert ledger.plan(planner.propose([]) or [], space=planner.space(), after=next_number(ledger.plans()))
    return [view.id for view in ledger.points()]


def command(tmp_path: Path, *arguments: str) -> list[str]:
    """The command line of a sweep over the toy objective below tmp_path."""
    return [
        sys.executable, "-W", "ignore", "-m", "projects.redheart.train", "-m", f"paths.outputs={tmp_path}",
        f"hydra.sweeper.objective={OBJECTIVE}", *arguments,
    ]  # fmt: skip


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of such a command: it finds `tests`, and keeps off the other core."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOY_LOG": str(tmp_path / "log")} | more


def sweep(tmp_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a sweep to its end."""
    return subprocess.run(
        command(tmp_path, *arguments), cwd=ROOT, env=environment(tmp_path, **more), capture_output=True, text=True,
        timeout=110,
    )  # fmt: skip


def epochs_run(tmp_path: Path) -> list[tuple[str, int]]:
    """Point and epoch of everything that any process has trained."""
    lines = (tmp_path / "log").read_text().splitlines()
    return [(line["point"], line["epoch"]) for line in map(json.loads, lines)]
