"""An image network and a metadata network, each able to answer alone, joined at the end."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.battery.models.metadata import MetadataEncoder, joint_head
from projects.battery.models.network import Network
from shared.backbone import build_backbone, feature_dim


class LateFusion(Network):
    """Two networks, three answers: fused `logits`, `image_only`, `metadata_only`.

    The auxiliary heads are the honest baselines of the same fit. Two decisions make them honest:

    * No head sees the other input: `image_only` is a function of the image alone and `metadata_only` of the metadata
      alone, in value and in gradient.
    * Their gradient reaches the encoder below them, undiminished. Stopping it would leave `image_only` a linear probe
      on features that were never asked for what the metadata already says, a baseline that is weak by construction
      and would flatter the fusion. What remains: the backbone is shaped by the fused loss as well, so the row is an
      image network of equal budget, not one trained apart; `build_network("timm", ...)` is that.

    Only the metadata is ever dropped in training, so without metadata the fused answer still stands on the image.
    """

    uses_metadata = True
    auxiliary_rows = ("image_only", "metadata_only")

    def __init__(
        self,
        num_classes: int,
        meta_sizes: Sequence[int],
        backbone: str = "resnet18",
        in_channels: int = 1,
        embedding_dim: int = 8,
        output_dim: int = 32,
        hidden_dim: int = 128,
        dropout: float = 0.5,
        modality_dropout: float = 0.1,
        backbone_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        weights: str = "none",
    ) -> None:
        """Build both networks; `meta_sizes` and `modality_dropout` as in `MetadataEncoder`."""
        super().__init__()
        self.backbone, self.provenance = build_backbone(
            backbone, in_channels, backbone_drop_rate, drop_path_rate, weights
        )
        num_features = feature_dim(self.backbone)
        self.metadata = MetadataEncoder(meta_sizes, embedding_dim, output_dim, modality_dropout)
        self.image_head = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_classes))
        # No dropout here: the input is a handful of categories, and a baseline must not be held back.
        self.metadata_head = nn.Linear(output_dim, num_classes)
        self.fusion = joint_head(num_features + output_dim, hidden_dim, num_classes, dropout)

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the pooled features (B, F)."""
        return self.backbone(image)

    def fuse(self, image_features: Tensor, meta: Tensor) -> Tensor:
        """Return the fused logits (B, K)."""
        return self._join(image_features, self.metadata(meta))

    def rows(self, image_features: Tensor, meta: Tensor) -> dict[str, Tensor]:
        """Return `logits`, `image_only` and `metadata_only`, each (B, K)."""
        meta_features = self.metadata(meta)
        return {
            "logits": self._join(image_features, meta_features),
            "image_only": self.image_head(image_features),
            "metadata_only": self.metadata_head(meta_features),
        }

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """Backbone, metadata encoder, fusion, the two auxiliary heads."""
        return {
            "backbone": ("backbone.",),
            "metadata": ("metadata.",),
            "fusion": ("fusion.",),
            "heads": ("image_head.", "metadata_head."),
        }

    def group_rows(self) -> dict[str, tuple[str, ...]]:
        """Each encoder by the answer that stands on it alone, the fusion by the fused one."""
        return {
            "backbone": ("image_only",),
            "metadata": ("metadata_only",),
            "fusion": ("logits",),
            "heads": ("image_only", "metadata_only"),
        }

    def _join(self, image_features: Tensor, meta_features: Tensor) -> Tensor:
        """(B, F), (B, D) -> (B, K)."""
        return self.fusion(torch.cat([image_features, meta_features], dim=1))
