"""A redheart configuration small enough to run through the whole engine in a few seconds."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tests.fabricate.battery_run import composed

TINY = (
    "data.standin.num_stories=160",
    "data.num_workers=0",
    "data.batch_size=16",
    "model.micro_batch=8",
    "trainer.max_epochs=2",
    "runtime.threads=1",
    "callbacks.progress.enabled=false",
)
"""Overrides that shrink any redheart experiment: pieces of 8 rows, two epochs."""


def tiny_story_run(outputs: Path, cache: Path, *overrides: Any) -> DictConfig:
    """Compose a tiny run on generated stories that writes below `outputs` and keeps its data in `cache`."""
    places = (f"paths.outputs={outputs}", f"paths.cache={cache}")
    return composed("redheart", *TINY, *places, *overrides)
