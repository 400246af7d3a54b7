"""Configurations small enough to run through the whole engine in a second or two."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from shared.entry import CONFIG_FOLDER

TINY = (
    "data.standin.num_slices=240",
    "data.standin.num_batteries=48",
    "data.standin.size_px=32",
    "data.image_size_px=32",
    "data.num_workers=0",
    "data.scan_workers=1",
    "data.batch_size=16",
    "model.parameters.backbone=test_resnet",
    "trainer.max_epochs=3",
    "audit.permutations=19",
    "runtime.threads=1",
    "callbacks.progress.enabled=false",
)
"""Overrides that shrink any CT experiment: 240 slices of 32 px, a network of half a million weights, three epochs."""

EXCLUDED = ("run", "started", "finished", "cost", "resume", "artifacts", "git")
"""Parts of report.json in which a resumed run may differ from the uninterrupted one."""


class CrashError(RuntimeError):
    """Stands for anything that ends the process."""


def composed(primary: str, *overrides: str) -> DictConfig:
    """Compose a primary configuration as the command line would."""
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        return compose(primary, list(overrides))


def tiny_run(outputs: Path, cache: Path, *overrides: Any, experiment: str = "late_fusion") -> DictConfig:
    """Compose a tiny battery run that writes below `outputs` and keeps its data in `cache`."""
    places = (f"paths.outputs={outputs}", f"paths.cache={cache}")
    return composed("battery", f"+experiment={experiment}", *TINY, *places, *overrides)
