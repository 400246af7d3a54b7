"""What a snapshot of a network with 100 million parameters costs the training thread, on a local disk.

Real training steps of a stack of linear layers, on a small batch, so that a step is as cheap as such a network allows
and the share is not flattered. A snapshot at the end of each epoch, written while the next epoch trains; the callback's
own counter tells the time of the hook. The share is that time over the time of 500 steps.
"""

import tempfile
import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.record import Record, run_benchmark
from shared.callbacks.sweet_spot import SweetSpotCheckpoint

WIDTH, NUM_LAYERS, NUM_GROUPS = 2236, 20, 4  # 20 x (2236^2 + 2236) = 100.0 million
BATCH = 8
STEPS_PER_EPOCH = 8
NUM_SNAPSHOTS = 6  # the first warms up and does not count
STEPS_PER_SNAPSHOT = 500


class Stack(LightningModule):
    """Linear layers in four groups."""

    def __init__(self) -> None:
        super().__init__()
        per_group = NUM_LAYERS // NUM_GROUPS
        for group in range(NUM_GROUPS):
            layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(per_group)]
            self.add_module(f"part{group}", nn.Sequential(*layers))
        self.step_s: list[float] = []
        self._began = 0.0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        hidden = batch
        for part in self.children():
            hidden = part(hidden)
        return hidden.square().mean()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.step_s.append(time.perf_counter() - self._began)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Noise(Dataset[Tensor]):
    """Random rows."""

    def __len__(self) -> int:
        return BATCH * STEPS_PER_EPOCH

    def __getitem__(self, row: int) -> Tensor:
        return torch.randn(WIDTH)


class TimedSnapshots(SweetSpotCheckpoint):
    """Keeps the seconds of each snapshot; the one before is let finish first, as within 500 steps it would have."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, at_fit_end=False)
        self.hook_s: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.flush()
        before = self.training_thread_s
        super().on_train_epoch_end(trainer, pl_module)
        self.hook_s.append(self.training_thread_s - before)


def measure(record: Record) -> None:
    """Train, and compare the hook with the step."""
    torch.manual_seed(0)
    module = Stack()
    with tempfile.TemporaryDirectory() as folder:
        snapshots = TimedSnapshots(folder)
        trainer = Trainer(
            max_epochs=NUM_SNAPSHOTS, default_root_dir=folder, accelerator="cpu", logger=False, callbacks=[snapshots],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(Noise(), batch_size=BATCH))
        disk = snapshots.store.size_bytes() / snapshots.num_snapshots
    # The first epoch has no writer beside it: its steps are the undisturbed ones. Its first step warms up.
    steps = module.step_s[1:STEPS_PER_EPOCH]
    beside = module.step_s[STEPS_PER_EPOCH:]
    step = sorted(steps)[len(steps) // 2]
    record.add("parameters", sum(parameter.numel() for parameter in module.parameters()) / 1e6, "million")
    record.add("disk of a snapshot", disk / 1e6, "MB")
    record.add_samples("training step", [1000 * seconds for seconds in steps], "ms")
    record.add_samples("training step beside the writer", [1000 * seconds for seconds in beside], "ms")
    record.add_samples("snapshot: training thread", [1000 * seconds for seconds in snapshots.hook_s[1:]], "ms")
    shares = [100 * seconds / (STEPS_PER_SNAPSHOT * step) for seconds in snapshots.hook_s[1:]]
    record.add_samples(f"snapshot: share of {STEPS_PER_SNAPSHOT} steps", shares, "%")


if __name__ == "__main__":
    run_benchmark("bench_snapshots", measure)
