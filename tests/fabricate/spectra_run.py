"""A spectra configuration small enough to run through the whole engine in seconds."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tests.fabricate.battery_run import composed

TINY = (
    "data.standin.num_samples=160",
    "data.standin.side_px=32",
    "data.standin.sigma_px=3.0",
    "data.standin_workers=1",
    "data.num_wavelengths=8",
    "data.shares={train: 0.5, val: 0.15, accept: 0.1, calibrate: 0.1, test: 0.15}",
    "data.batch_size=16",
    "model.parameters.width=0.0625",
    "model.parameters.stem_stride=1",
    "model.parameters.decoder_layers=1",
    "model.parameters.heads=2",
    "trainer.max_epochs=3",
    "runtime.threads=1",
    "callbacks.progress.enabled=false",
    "callbacks.live_push.enabled=false",
)
"""Overrides that shrink an experiment with cross-attention: 160 cells of 32 px, three epochs, no page."""


def tiny_run(outputs: Path, cache: Path, *overrides: Any, experiment: str = "cnn_xattn") -> DictConfig:
    """Compose a tiny run that writes below `outputs` and keeps its data in `cache`."""
    places = (f"paths.outputs={outputs}", f"paths.cache={cache}")
    return composed("spectra", f"+experiment={experiment}", *TINY, *places, *overrides)
