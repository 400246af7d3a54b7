"""Runs that come out the same on one process and on several: nothing in them is drawn, or normalised over a batch."""

import csv
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from tests.fabricate.spectra_run import tiny_run
from tests.fabricate.story_run import tiny_story_run

LEAN = ("stages=[fit]", "callbacks=minimal", "callbacks.progress.enabled=false", "optimizer.lr=0.001")
"""Overrides for a fit alone."""


def story_fit(outputs: Path, cache: Path, *overrides: Any) -> DictConfig:
    """A tiny fit on generated stories, without dropout: its step is trained in pieces."""
    config = tiny_story_run(outputs, cache, *LEAN, "model.micro_batch=3", *overrides)
    _without_dropout(config.model)
    return config


def curve_fit(outputs: Path, cache: Path, *overrides: Any) -> DictConfig:
    """A tiny fit of curves, whose backward pass is Lightning's; its norms are by sample."""
    config = tiny_run(outputs, cache, "stages=[fit]", *overrides)  # with all callbacks
    _without_dropout(config.model)
    return config


def rows_of(run: Path) -> list[dict[str, float]]:
    """metrics.csv of a run."""
    with (run / "metrics.csv").open(encoding="utf-8") as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def _without_dropout(node: DictConfig) -> None:
    with open_dict(node):
        for key in node:
            if isinstance(node[key], DictConfig):
                _without_dropout(node[key])
            elif str(key).endswith("dropout"):
                node[key] = 0.0
