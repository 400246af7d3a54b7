"""The classifier of the battery project: any of its networks under focal loss."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from projects.battery.losses import JointLoss
from projects.battery.metrics import macro_f1, validation_metrics
from projects.battery.models import Network, build_network
from projects.battery.sampling import correction_warning, effective_number_weights, inverse_frequency_weights
from shared.base_module import BaseModule
from shared.errors import ConfigError
from shared.metric_keys import group_loss_key, metric_key

FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
"""Axes of (B, C, H, W) that each view turns over; the first is the image as it is."""

CLASS_WEIGHTS = {"inverse": inverse_frequency_weights, "effective": effective_number_weights}


class BatteryClassifier(BaseModule):
    """Slices (and metadata) to defect classes.

    Args:
        network: Name in `projects.battery.models.BUILDERS`.
        parameters: Arguments of that network, such as backbone and dropout.
        pretrained: Take the backbone's weights from the hub.
        weights_path: Take them from a local file instead.
        focal_gamma: Focusing exponent of the loss, >= 0; 0 is cross-entropy.
        focal_alpha: (K,) weight of each class; None: none.
        class_weights: "none", "inverse" or "effective": computed from the train fold's class counts.
        label_smoothing: Share of the label spread over all classes, in [0, 1).
        auxiliary_weight: Weight of each auxiliary head's loss, > 0.
        average_flips: Outside training, average the logits over the image and its three flips.
        classes: Class names, K (from the datamodule).
        class_counts: Samples of each class in train, (K,) (from the datamodule).
        meta_names: Metadata column -> its values; a code is a position there (from the datamodule).
        balanced_sampling: Whether the train loader draws the classes equally often (from the datamodule).
        optimizer: See `shared.optim`.
        scheduler: See `shared.optim`.

    Raises:
        ConfigError: If class weights are given twice or under an unknown name.
        CheckpointError: If the asked-for weights cannot be had.
    """

    network: Network

    loading_overrides: ClassVar[dict[str, Any]] = {"pretrained": False, "weights_path": None}

    def __init__(
        self,
        *,
        network: str,
        parameters: Mapping[str, Any],
        pretrained: bool,
        weights_path: str | None,
        focal_gamma: float,
        focal_alpha: Sequence[float] | None,
        class_weights: str,
        label_smoothing: float,
        auxiliary_weight: float,
        average_flips: bool,
        classes: Sequence[str],
        class_counts: Sequence[int],
        meta_names: Mapping[str, Sequence[str]],
        balanced_sampling: bool,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        self.save_hyperparameters()
        self.classes = tuple(classes)
        self.average_flips = average_flips
        weights = weights_path or ("hub" if pretrained else "none")
        sizes = {} if network == "timm" else {"meta_sizes": tuple(len(names) for names in meta_names.values())}
        self.network = build_network(network, num_classes=len(classes), weights=weights, **sizes, **dict(parameters))
        # Convolutions run faster on the CPU and on tensor cores in this layout (docs/benchmarks.md).
        self.network.to(memory_format=torch.channels_last)
        alpha = _alpha(focal_alpha, class_weights, class_counts)
        rows = dict.fromkeys(self.network.auxiliary_rows, auxiliary_weight)
        self.loss = JointLoss(focal_gamma, alpha, label_smoothing, rows)
        self.metrics = validation_metrics(len(classes))
        # The baselines are followed as well: a fused curve that rises above its image-only one is the axis speaking.
        self.row_metrics = nn.ModuleDict({row: macro_f1(len(classes)) for row in rows})
        self._warning = correction_warning(balanced_sampling, alpha is not None, label_smoothing > 0)

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """The network's own groups."""
        groups = self.network.module_groups()
        return {name: tuple(f"network.{prefix}" for prefix in prefixes) for name, prefixes in groups.items()}

    def findings(self) -> list[str]:
        """Say when several corrections for rare classes are stacked."""
        return [] if self._warning is None else [self._warning]

    def describe(self) -> dict[str, str]:
        """Network, size, and where the first weights came from."""
        origin = self.network.provenance
        weights = origin.kind if origin.kind == "none" else f"{origin.kind} ({origin.detail})"
        return {"network": str(self.hparams["network"]), **super().describe(), "pretrained weights": weights}

    def shared_step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Any]:
        """Loss and logits, and the rows that come without a second image pass."""
        rows = self._rows(batch, stage)
        permuted = rows.pop("fused_metadata_permuted", None)
        losses = self.loss(rows, batch["target"])
        outputs: dict[str, Any] = {
            "loss": losses["loss"],
            "logits": rows["logits"],
            "target": batch["target"],
            "sample_index": batch["sample_index"],
            "row_losses": losses,
        }
        outputs["baselines"] = {name: logits for name, logits in rows.items() if name != "logits"}
        if permuted is not None:
            outputs["baselines"]["fused_metadata_permuted"] = permuted
        return outputs

    def _rows(self, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        """Logits of the network, its auxiliary heads and under permuted metadata, (B, K); one image pass a view."""
        views = FLIPS if self.average_flips and stage != "train" else FLIPS[:1]
        sums: dict[str, Tensor] = {}
        for flip in views:
            image = batch["image"].flip(flip) if flip else batch["image"]
            features = self.network.encode_image(image)
            rows = self.network.rows(features, batch["meta"])
            if self.network.uses_metadata and "meta_permuted" in batch:
                rows["fused_metadata_permuted"] = self.network.fuse(features, batch["meta_permuted"])
            sums = {name: sums[name] + logits if name in sums else logits for name, logits in rows.items()}
        return {name: total / len(views) for name, total in sums.items()}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Loss and metrics on val."""
        outputs = super().validation_step(batch, batch_idx)
        self.metrics.update(outputs["logits"], outputs["target"])
        for name, metric in self.metrics.items():
            self.log(metric_key("val", name), metric, prog_bar=name == "f1_macro")
        size = len(outputs["target"])
        for group, rows in self.network.group_rows().items():
            loss = torch.stack([outputs["row_losses"][row] for row in rows]).mean()
            self.log(group_loss_key(group), loss, batch_size=size, sync_dist=True)
        for row, logits in outputs["baselines"].items():
            metric = cast("Metric", self.row_metrics[row])
            metric.update(logits, outputs["target"])
            self.log(metric_key("val", "f1_macro", task=row), metric)
        return outputs


def _alpha(focal_alpha: Sequence[float] | None, class_weights: str, counts: Sequence[int]) -> list[float] | None:
    """The loss's class weights, from the one place that gives them."""
    if class_weights == "none":
        return None if focal_alpha is None else [float(value) for value in focal_alpha]
    if focal_alpha is not None:
        raise ConfigError("model.focal_alpha and model.class_weights both weigh the classes; set one of them")
    if class_weights not in CLASS_WEIGHTS:
        raise ConfigError(f"model.class_weights is {class_weights!r}; allowed are none, {', '.join(CLASS_WEIGHTS)}")
    label = np.repeat(np.arange(len(counts)), counts)
    return [float(value) for value in CLASS_WEIGHTS[class_weights](label, len(counts))]
