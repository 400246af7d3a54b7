"""TensorBoard figures of the validation fold: confusion matrix, per-class scores, reliability, confidence."""

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.metrics import confusion_matrix, f1_score

from shared.metric_keys import metric_key
from shared.report import figures


class ClassificationPanels(Callback):
    """Draws what val looks like, from the outputs of `validation_step` alone.

    Works with any module that returns {"logits", "target"}; class names are taken from its `classes` if it has them.

    Args:
        every_n_epochs: Epochs between drawings; the first and the last epoch are always drawn.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self._logits: list[torch.Tensor] = []
        self._target: list[torch.Tensor] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the epoch before."""
        self._logits, self._target = [], []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep this batch where its epoch is drawn."""
        if self._is_due(trainer):
            self._logits.append(outputs["logits"].detach().float().cpu())
            self._target.append(outputs["target"].detach().cpu())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw into every TensorBoard logger."""
        writers = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not writers or not self._logits:
            return
        probs = torch.cat(self._logits).double().softmax(dim=1).numpy()
        target = torch.cat(self._target).numpy().astype(np.int64)
        classes = list(getattr(pl_module, "classes", [str(k) for k in range(probs.shape[1])]))
        predicted = probs.argmax(axis=1)
        counts = confusion_matrix(target, predicted, labels=np.arange(len(classes)))
        f1 = f1_score(target, predicted, labels=np.arange(len(classes)), average=None, zero_division=0.0)
        # One epoch of one fold: the curve shows the spread, the report the intervals.
        per_class: dict[str, dict[str, Any]] = {
            name: {"f1": {"value": float(f1[k]), "lo": None, "hi": None}, "support": int(counts[k].sum())}
            for k, name in enumerate(classes)
        }
        drawn = {
            "confusion": figures.confusion_figure(counts, classes),
            "per_class": figures.per_class_figure(per_class),
            "reliability": figures.reliability_figure(probs, target),
            "confidence": figures.confidence_figure(probs, target),
        }
        for writer in writers:
            for name, figure in drawn.items():
                writer.add_figure(metric_key("val", name), figure, global_step=trainer.global_step)
            for name, row in per_class.items():
                writer.add_scalar(metric_key("val", "f1", task=name), row["f1"]["value"], trainer.global_step)

    def _is_due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch
        is_last = trainer.max_epochs is not None and epoch + 1 >= trainer.max_epochs
        return epoch % self.every_n_epochs == 0 or is_last
