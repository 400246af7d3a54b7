"""Logs how much memory a run takes, and how busy the GPU is."""

import time
from typing import Any

import psutil
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

GB = 1e9


class DeviceMemory(Callback):
    """Scalars `system/...` at the end of each epoch and every few minutes.

    On a GPU `gpu_memory_gb`, the largest amount allocated so far; between epochs also `gpu_memory_now_gb` and
    `gpu_utilisation_percent`, where the driver's library is installed. Everywhere `process_memory_gb`, the resident
    memory of this process without its loader workers. Of several ranks rank 0 tells of itself. Gigabytes are 10^9
    bytes.

    Args:
        every_minutes: Minutes between two looks within epochs, above 0.

    Raises:
        ValueError: If that is not above 0.
    """

    def __init__(self, every_minutes: float = 3.0) -> None:
        if every_minutes <= 0:
            raise ValueError(f"every_minutes is {every_minutes}, allowed: above 0")
        self.every_minutes = every_minutes
        self._process = psutil.Process()
        self._last = 0.0
        self._utilisation_works = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look every few minutes."""
        if time.monotonic() - self._last >= 60 * self.every_minutes:
            self._log(trainer, pl_module.device)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the end of each epoch."""
        self._log(trainer, pl_module.device)

    def _log(self, trainer: Trainer, device: torch.device) -> None:
        self._last = time.monotonic()
        values = {"system/process_memory_gb": self._process.memory_info().rss / GB}
        if device.type == "cuda":
            values |= self._gpu(device)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _gpu(self, device: torch.device) -> dict[str, float]:
        values = {
            "system/gpu_memory_gb": torch.cuda.max_memory_allocated(device) / GB,
            "system/gpu_memory_now_gb": torch.cuda.memory_allocated(device) / GB,
        }
        if self._utilisation_works:
            try:
                values["system/gpu_utilisation_percent"] = float(torch.cuda.utilization(device))
            except (ModuleNotFoundError, RuntimeError) as error:
                self._utilisation_works = False
                rank_zero_warn(f"the GPU's utilisation cannot be read and is left out: {error}")
        return values
