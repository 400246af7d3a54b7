"""Writes what happens in the fit: events.jsonl, metrics.csv, train_log.txt and the heartbeat in status.json."""

import csv
import io
import math
import os
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from shared.events import EventWriter
from shared.metric_keys import STAGES, metric_key
from shared.run_dir import RunDirectory

HEARTBEAT_S = 10.0


class RunLog(Callback):
    """Keeps one row of metrics an epoch and the running mean of the training loss; both travel in the checkpoint.

    So a run resumed in mid-epoch has the same rows and the same mean as the uninterrupted one.

    Args:
        run: Run directory.
        events: Writer of events.jsonl.
        monitor: Key whose best value the log line shows.
        mode: "max" or "min".
    """

    def __init__(self, run: RunDirectory, events: EventWriter, monitor: str, mode: str) -> None:
        self.run = run
        self.events = events
        self.monitor = monitor
        self.mode = mode
        self.rows: list[dict[str, float]] = []
        self._loss_sum: torch.Tensor | None = None
        self._num_batches = 0
        self._last_beat = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Announce the (re)start: events past this step are superseded."""
        self.events.write(
            "start", trainer.global_step, trainer.current_epoch,
            max_epochs=trainer.max_epochs, batches_per_epoch=trainer.num_training_batches, monitor=self.monitor,
            mode=self.mode, **model_facts(pl_module),
        )  # fmt: skip

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new mean."""
        self._loss_sum, self._num_batches = None, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's loss without waiting for a GPU; step events and heartbeats go by the clock."""
        loss = outputs["loss"].detach().double()
        self._loss_sum = loss if self._loss_sum is None else self._loss_sum + loss
        self._num_batches += 1
        now = time.monotonic()
        if self.events.step_is_due():
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.events.write(
                "step", trainer.global_step, trainer.current_epoch, loss=_number(float(loss)), lr=rate, batch=batch_idx
            )
        if now - self._last_beat > HEARTBEAT_S:
            self._last_beat = now
            self.run.heartbeat(stage="fit", epoch=trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the epoch's row (validation has run by now) and write the files anew."""
        if self._loss_sum is not None:
            mean = float(self._loss_sum) / self._num_batches  # of the whole batches' losses, the same on all ranks
            pl_module.log(metric_key("train", "loss"), mean, sync_dist=True)
        # Keys of our form only: a learning-rate monitor's own keys depend on where its logging interval began.
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.split("/")[0] in STAGES}
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append(row)
        self._write_files(trainer.max_epochs)
        data = {key: _number(value) for key, value in row.items() if key not in ("epoch", "step")}
        self.events.write("epoch", trainer.global_step, trainer.current_epoch, **data)
        self.run.heartbeat(stage="fit", epoch=trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Rows so far and the running mean of the present epoch."""
        loss_sum = None if self._loss_sum is None else float(self._loss_sum)
        return {"rows": self.rows, "loss_sum": loss_sum, "num_batches": self._num_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint; rows of epochs past it are gone with it."""
        self.rows = list(state_dict["rows"])
        loss_sum = state_dict["loss_sum"]
        self._loss_sum = None if loss_sum is None else torch.tensor(loss_sum, dtype=torch.float64)
        self._num_batches = int(state_dict["num_batches"])

    def _write_files(self, max_epochs: int | None) -> None:
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self.run.write_file("metrics.csv", table.getvalue())
        self.run.write_file("train_log.txt", "".join(self._lines(max_epochs)))

    def _lines(self, max_epochs: int | None) -> list[str]:
        """`[EPOCH] N/total train_loss=X val_loss=Y best_val=Z lr=A`, with the monitor's best value."""
        better = max if self.mode == "max" else min
        best, lines = None, []
        for row in self.rows:
            value = row.get(self.monitor, math.nan)
            best = value if best is None else better(best, value)
            lines.append(
                f"[EPOCH] {int(row['epoch']) + 1}/{max_epochs} train_loss={row.get('train/loss', math.nan):.6f} "
                f"val_loss={row.get('val/loss', math.nan):.6f} best_val={best:.6f} lr={row['lr']:.3e}{os.linesep}"
            )
        return lines


def model_facts(module: LightningModule) -> dict[str, Any]:
    """What the `start` event tells about the network: its class, `describe()`, and its loss's LaTeX `formula()`.

    Both methods may be absent, as in somebody else's module; then the number of parameters stands alone.
    """
    count = sum(parameter.numel() for parameter in module.parameters())
    describe, formula = (getattr(module, name, None) for name in ("describe", "formula"))
    facts = describe() if callable(describe) else {"parameters": f"{count:,}"}
    found: dict[str, Any] = {"model": {"class": type(module).__name__, **{key: str(facts[key]) for key in facts}}}
    if callable(formula) and (latex := formula()) is not None:
        found["formula"] = str(latex)
    return found


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
