"""TensorBoard figures of the validation fold: of classes, or of predicted curves."""

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, f1_score

from shared.curve_scores import CurveAxes
from shared.distributed.collectives import gathered
from shared.metric_keys import metric_key
from shared.report import figures, figures_curves


class ValidationPanels(Callback):
    """Draws what val looks like, from the outputs of `validation_step` alone.

    Works with any module that returns {"logits", "target"}: confusion matrix, scores of each class, reliability,
    confidence; class names are taken from its `classes` if it has them. Also with one that returns {"prediction",
    "target"} and says by `curve_axes()` what they are: the best, the median and the worst sample, and predicted against
    true values.

    Args:
        every_n_epochs: Epochs between drawings; the first and the last epoch are always drawn.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self._logits: list[torch.Tensor] = []
        self._prediction: list[torch.Tensor] = []
        self._target: list[torch.Tensor] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the epoch before."""
        self._logits, self._prediction, self._target = [], [], []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep this batch where its epoch is drawn."""
        if not self._is_due(trainer):
            return
        for name, kept in (("logits", self._logits), ("prediction", self._prediction), ("target", self._target)):
            if name in outputs:
                kept.append(outputs[name].detach().cpu())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw into every TensorBoard logger."""
        writers = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not writers or not self._target:
            return
        self._gather()
        if not trainer.is_global_zero:
            return
        if self._logits:
            drawn, scalars = self._of_classes(pl_module)
        else:
            drawn, scalars = self._of_curves(pl_module), {}
        for writer in writers:
            for name, figure in drawn.items():
                writer.add_figure(metric_key("val", name), figure, global_step=trainer.global_step)
            for key, value in scalars.items():
                writer.add_scalar(key, value, trainer.global_step)

    def _gather(self) -> None:
        """Take in what the other ranks have kept, in the order of the fold."""
        for kept in (self._logits, self._prediction, self._target):
            kept[:] = [part for parts in gathered(kept) for part in parts]

    def _of_classes(self, module: LightningModule) -> tuple[dict[str, Figure], dict[str, float]]:
        probs = torch.cat(self._logits).double().softmax(dim=1).numpy()
        target = torch.cat(self._target).numpy().astype(np.int64)
        classes = list(getattr(module, "classes", [str(k) for k in range(probs.shape[1])]))
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
        return drawn, {metric_key("val", "f1", task=name): row["f1"]["value"] for name, row in per_class.items()}

    def _of_curves(self, module: LightningModule) -> dict[str, Figure]:
        describe = getattr(module, "curve_axes", None)
        described = None if describe is None else describe()
        if described is None or not self._prediction:
            return {}
        axes = CurveAxes.from_dict(described)
        shape = (-1, len(axes.channels), len(axes.values))
        prediction, target = (
            torch.cat(parts).double().reshape(shape).numpy() for parts in (self._prediction, self._target)
        )
        rows = figures_curves.example_rows(prediction, target)
        return {
            "samples": figures_curves.samples_figure(prediction[rows], target[rows], axes, figures_curves.EXAMPLES),
            "agreement": figures_curves.agreement_figure(prediction, target, axes.channels),
        }

    def _is_due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch
        is_last = trainer.max_epochs is not None and epoch + 1 >= trainer.max_epochs
        return epoch % self.every_n_epochs == 0 or is_last
