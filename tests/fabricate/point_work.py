"""A point of a sweep as an objective gets it, with a claim that only remembers what it was told."""

from pathlib import Path
from typing import Any

from omegaconf import open_dict

from shared.sweep.claim import LeaseLost
from shared.sweep.objective import PointWork
from tests.fabricate.story_run import tiny_story_run

POINT = ("callbacks=minimal", "callbacks.progress.enabled=false", "stages=[fit]")


class NotedClaim:
    """Holds no lease: it is lost when the test says so.

    Args:
        lose_after: Checks after which the lease is lost, None for never.
    """

    def __init__(self, lose_after: int | None = None) -> None:
        self.facts: list[dict[str, Any]] = []
        self.epochs: list[int] = []
        self.left = lose_after

    @property
    def lost(self) -> bool:
        return self.left is not None and self.left <= 0

    def check(self) -> None:
        if self.left is not None:
            self.left -= 1
        if self.lost:
            raise LeaseLost("the point is somebody else's")

    def opened(self, run: str, **facts: Any) -> bool:
        self.facts.append({"run": run, **facts})
        return not self.lost

    def note(self, **facts: Any) -> None:
        self.epochs.append(facts["epoch"])


def story_point(root: Path, cache: Path, *overrides: str, **more: Any) -> PointWork:
    """A point on generated stories: two epochs of a tiny network; its sweep is root/redheart/sweeps/s."""
    folder = root / "redheart" / "sweeps" / "s"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"max_disk_gb": None, "keep_top": 1, "halving": None, "on_change": "refuse", **more.pop("settings", {})}
    given: dict[str, Any] = {
        "id": "0123456789ab",
        "generation": 0,
        "overrides": overrides,
        "resume": None,
        "claim": NotedClaim(),
        "values": {"optimizer.lr": 1e-4},
        "direction": "min",
    }
    config = tiny_story_run(root, cache, *POINT, *overrides)
    with open_dict(config):
        config.experiment = "sweep-s"
    return PointWork(config=config, folder=folder, settings=settings, **(given | more))
