"""Speed of a run's fit, with everything that a run switches on, against the same fit written by hand.

One `shared.engine.fit` of the demo's configuration, with shorter epochs. A stopwatch among its callbacks stops the
engine's clock after each block of steps and at the end of each epoch, and lets the hand-written loop do the same work
before the engine goes on: both meet the same neighbours on the machine. The first epoch warms up and does not count.
"""

import os
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

import shared.stages.train as train_stage
from bench.demo import HandLoop, demo_data, demo_module, demo_settings
from bench.record import Record, run_benchmark
from shared.config import Settings
from shared.engine import fit
from shared.session import Session

NUM_EPOCHS = 4  # one to warm up, two plain ones, and a last one that draws the panels
BLOCK_STEPS = 5
BLOCKS_PER_EPOCH = 6
LAYOUT_BLOCKS = 6

Pair = tuple[float, float]
"""Seconds of the engine, seconds by hand."""


class Stopwatch(Callback):
    """Runs the hand-written loop between parts of the engine's fit, and times both.

    Attributes:
        blocks: Times of `BLOCK_STEPS` steps, without the first epoch.
        processor: The same in processor time of this process, all its threads together; what else runs on the machine
            changes it little.
        ends: Times from the last step of an epoch to the next epoch: validation, and for the engine everything that
            it does there beside; without the first epoch.
        full_epoch: Steps that a whole epoch of the data has.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.blocks: list[Pair] = []
        self.processor: list[Pair] = []
        self.ends: list[Pair] = []
        self.full_epoch = 0
        self.loop: HandLoop | None = None
        self._resumed, self._resumed_processor = 0.0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the other loop: same weights, same folds, loaders of its own."""
        self.loop = HandLoop(pl_module, trainer.datamodule, self.settings)  # type: ignore[arg-type, attr-defined]
        self.full_epoch = len(self.loop.train_loader)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The end of the epoch before is over."""
        if trainer.current_epoch > 0:
            self._close_epoch(trainer.current_epoch - 1)
        self._resume()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a block of the engine one of the hand-written loop."""
        if (batch_idx + 1) % BLOCK_STEPS:
            return
        assert self.loop is not None
        engine_s, paused = time.perf_counter() - self._resumed, time.process_time()
        hand_s = self.loop.run(BLOCK_STEPS)
        if trainer.current_epoch > 0:
            self.blocks.append((engine_s, hand_s))
            self.processor.append((paused - self._resumed_processor, time.process_time() - paused))
        self._resume()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The end of the last epoch."""
        self._close_epoch(NUM_EPOCHS - 1)
        assert self.loop is not None
        self.loop.close()

    def _resume(self) -> None:
        self._resumed, self._resumed_processor = time.perf_counter(), time.process_time()

    def _close_epoch(self, epoch: int) -> None:
        engine_s = time.perf_counter() - self._resumed
        assert self.loop is not None
        hand_s = self.loop.validate()
        if epoch > 0:
            self.ends.append((engine_s, hand_s))


def measure(record: Record) -> None:
    """Fit, then compare the two layouts of the weights."""
    with tempfile.TemporaryDirectory() as folder:
        settings = demo_settings(
            f"trainer.max_epochs={NUM_EPOCHS}", f"trainer.limit_train_batches={BLOCK_STEPS * BLOCKS_PER_EPOCH}",
            "stages=[fit]", f"paths.outputs={folder}",
        )  # fmt: skip
        stopwatch = timed_fit(settings)
    blocks, (*plain, drawing) = stopwatch.blocks, stopwatch.ends
    record.add_samples("step of the engine", [1000 * a / BLOCK_STEPS for a, _ in blocks], "ms")
    record.add_samples("step by hand", [1000 * b / BLOCK_STEPS for _, b in blocks], "ms")
    record.add_samples("speed of the engine / by hand: steps", [b / a for a, b in blocks], "ratio")
    processor = [b / a for a, b in stopwatch.processor]
    record.add_samples("processor time by hand / of the engine: steps", processor, "ratio")
    record.add_samples("end of an epoch: engine", [a for a, _ in plain], "s")
    record.add("end of an epoch: engine, panels drawn", drawing[0], "s")
    record.add_samples("end of an epoch: validation by hand", [b for _, b in stopwatch.ends], "s")
    record.add("speed of the engine / by hand: whole epochs", epoch_ratio(stopwatch, plain), "ratio")
    record.add("speed of the engine / by hand: epoch with panels", epoch_ratio(stopwatch, [drawing]), "ratio")
    record.add_samples("processor time of contiguous / channels_last weights: steps", layout_ratios(settings), "ratio")


def timed_fit(settings: Settings) -> Stopwatch:
    """Run the engine with the stopwatch as its first callback and everything else as configured."""
    stopwatch = Stopwatch(settings)
    build_trainer = train_stage.build_trainer

    def with_stopwatch(session: Session, resume_step: int | None) -> Trainer:
        trainer = build_trainer(session, resume_step)
        trainer.callbacks.insert(0, stopwatch)  # type: ignore[attr-defined]
        return trainer

    # The progress bar must cost what it costs in a terminal, wherever this output goes.
    terminal = patch.dict(os.environ, {"TTY_COMPATIBLE": "1", "COLUMNS": "120"})
    hook = patch.object(train_stage, "build_trainer", with_stopwatch)
    with terminal, hook, Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        fit(settings.plain, quiet=True)
    return stopwatch


def epoch_ratio(stopwatch: Stopwatch, ends: list[Pair]) -> float:
    """Seconds by hand over the engine's for a whole epoch: the mean step times its steps, and the mean end."""
    engine_s, hand_s = (
        stopwatch.full_epoch * sum(pair[who] for pair in stopwatch.blocks) / (BLOCK_STEPS * len(stopwatch.blocks))
        + sum(pair[who] for pair in ends) / len(ends)
        for who in (0, 1)
    )
    return hand_s / engine_s


def layout_ratios(settings: Settings) -> list[float]:
    """Processor time with contiguous weights over that with channels_last, block by block."""
    datamodule = demo_data(settings)
    module = demo_module(settings, datamodule)
    layouts = (torch.channels_last, torch.contiguous_format)
    loops = [HandLoop(module, datamodule, settings, layout) for layout in layouts]
    marks = [time.process_time()]
    for _ in range(1 + LAYOUT_BLOCKS):
        for loop in loops:
            loop.run(BLOCK_STEPS)
            marks.append(time.process_time())
    for loop in loops:
        loop.close()
    channels_last, contiguous = np.diff(marks).reshape(-1, 2)[1:].T
    return list(contiguous / channels_last)


if __name__ == "__main__":
    run_benchmark("bench_training_step", measure)
