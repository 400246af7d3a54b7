"""The classifier of the pillsnap project: a photo to one of the pills, with heads for what else is labelled."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from projects.pillsnap.losses import pill_loss
from projects.pillsnap.metrics import top, validation_metrics
from projects.pillsnap.mixing import Mixing
from projects.pillsnap.models import PillNetwork, build_network
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.base_module import BaseModule
from shared.distributed.collectives import largest_over_ranks, num_ranks
from shared.errors import CheckpointError
from shared.metric_keys import metric_key

DIGEST = "preprocessing_digest"


class PillClassifier(BaseModule):
    """Photos to pills.

    Args:
        network: Name in `projects.pillsnap.models.BUILDERS`.
        parameters: Arguments of that network, such as backbone and dropout.
        pretrained: Take the backbone's weights from the hub.
        weights_path: Take them from a local file instead.
        label_smoothing: Share of the label spread over all classes, in [0, 1).
        mixing: Arguments of `Mixing`: mixup_alpha, cutmix_alpha, cutmix_area, probability.
        attribute_weight: Weight of the mean loss of the attribute heads, >= 0.
        classes: Class names, K (from the datamodule).
        attribute_names: Attribute -> its values; a code is a position there (from the datamodule).
        domains: Names of the codes in a batch's `domain` (from the datamodule).
        preprocessing: `UnifiedPreprocessor.get_config()` of the pixels it was trained on (from the datamodule).
        optimizer: See `shared.optim`.
        scheduler: See `shared.optim`.

    Raises:
        ConfigError: If a value is out of range.
        CheckpointError: If the asked-for weights cannot be had.
    """

    network: PillNetwork

    loading_overrides: ClassVar[dict[str, Any]] = {"pretrained": False, "weights_path": None}

    def __init__(
        self,
        *,
        network: str,
        parameters: Mapping[str, Any],
        pretrained: bool,
        weights_path: str | None,
        label_smoothing: float,
        mixing: Mapping[str, Any],
        attribute_weight: float,
        classes: Sequence[str],
        attribute_names: Mapping[str, Sequence[str]],
        domains: Sequence[str],
        preprocessing: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        self.save_hyperparameters()
        self.domains = tuple(domains)
        self.attribute_names = {name: tuple(values) for name, values in attribute_names.items()}
        self.label_smoothing = label_smoothing
        self.attribute_weight = attribute_weight
        self.mixing = Mixing(**mixing)
        weights = weights_path or ("hub" if pretrained else "none")
        sizes = {name: len(values) for name, values in self.attribute_names.items()}
        self.network = build_network(
            network, num_classes=len(classes), weights=weights, attribute_sizes=sizes, **dict(parameters)
        )
        # Convolutions run faster on the CPU and on tensor cores in this layout (docs/benchmarks.md).
        self.network.to(memory_format=torch.channels_last)
        self.metrics = validation_metrics(len(classes))
        self.unmixed_accuracy = top(1, len(classes))
        self.part_metrics = nn.ModuleDict(
            {name: top(1, len(classes)) for name in self.domains} | {name: top(1, size) for name, size in sizes.items()}
        )

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """The network's own groups."""
        groups = self.network.module_groups()
        return {name: tuple(f"network.{prefix}" for prefix in prefixes) for name, prefixes in groups.items()}

    def describe(self) -> dict[str, str]:
        """Network, size, and where the first weights came from."""
        origin = self.network.provenance
        weights = origin.kind if origin.kind == "none" else f"{origin.kind} ({origin.detail})"
        return {"network": str(self.hparams["network"]), **super().describe(), "pretrained weights": weights}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the pixels that the weights belong to."""
        checkpoint[DIGEST] = UnifiedPreprocessor.from_config(self.hparams["preprocessing"]).digest()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that were trained on other pixels.

        Raises:
            CheckpointError: Naming both digests.
        """
        own = UnifiedPreprocessor.from_config(self.hparams["preprocessing"]).digest()
        if checkpoint.get(DIGEST) != own:
            raise CheckpointError(
                f"the checkpoint was trained on pixels of preprocessing {str(checkpoint.get(DIGEST))[:12]}; this run "
                f"has {own[:12]}"
            )

    def features(self, image: Tensor) -> Tensor:
        """Pooled features (B, F) of the network's input (B, 3, S, S), for retrieval."""
        return self.network.features(image)

    def shared_step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Any]:
        """Loss and logits; in training the images of a batch may be mixed, and the labels with them."""
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        shares = None
        if stage == "train":
            image, shares = self.mixing(image)
        features = self.network.features(image)
        logits = self.network.head(features)
        smoothing = self.label_smoothing
        loss = pill_loss(logits, batch["target"], smoothing=smoothing, shares=shares)
        heads = self.network.attributes(features)
        if heads and self.attribute_weight > 0 and "attributes" in batch:
            losses = [
                pill_loss(values, batch["attributes"][:, place], smoothing=smoothing, shares=shares)
                for place, values in enumerate(heads.values())
            ]
            loss = loss + self.attribute_weight * torch.stack(losses).mean()
        outputs = {"loss": loss, "logits": logits, "target": batch["target"], "sample_index": batch["sample_index"]}
        if stage == "train" and shares is None:
            self.unmixed_accuracy.update(logits, batch["target"])
        return outputs | ({"attribute_logits": heads} if heads else {})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Loss of one batch; accuracy is that of the batches left unmixed, where a label means what it says."""
        outputs = super().training_step(batch, batch_idx)
        # Ranks log alike, whatever their rows: they exchange what they have logged at the end of the epoch.
        if largest_over_ranks([int(self.unmixed_accuracy.update_called)])[0]:
            self.log(metric_key("train", "accuracy"), self.unmixed_accuracy, on_step=False, on_epoch=True)
        return outputs

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Loss and metrics on val, also by domain and by attribute."""
        outputs = super().validation_step(batch, batch_idx)
        self.metrics.update(outputs["logits"], outputs["target"])
        for name, metric in self.metrics.items():
            self.log(metric_key("val", name), metric, prog_bar=name == "accuracy")
        for code, name in enumerate(self.domains):
            here = batch["domain"] == code
            self._log_part(name, outputs["logits"][here], outputs["target"][here])
        for place, (name, logits) in enumerate(outputs.get("attribute_logits", {}).items()):
            known = batch["attributes"][:, place] >= 0
            self._log_part(name, logits[known], batch["attributes"][known, place])
        return outputs

    def on_validation_epoch_end(self) -> None:
        """On several ranks a part is logged if one had a row of it; not in the steps, whose number may differ."""
        if num_ranks() == 1:
            return
        parts = {name: cast("Metric", metric) for name, metric in self.part_metrics.items()}
        had_rows = largest_over_ranks([int(metric.update_called) for metric in parts.values()])
        for (name, metric), has in zip(parts.items(), had_rows, strict=True):
            if has:
                self.log(metric_key("val", "accuracy", task=name), metric)

    def _log_part(self, name: str, logits: Tensor, target: Tensor) -> None:
        metric = cast("Metric", self.part_metrics[name])
        if not len(target):
            return
        metric.update(logits, target)
        if num_ranks() == 1:
            self.log(metric_key("val", "accuracy", task=name), metric)
