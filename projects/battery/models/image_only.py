"""Any timm backbone with a linear head: sees the image and nothing else."""

from torch import Tensor, nn

from projects.battery.models.network import Network
from shared.backbone import build_backbone, feature_dim


class ImageClassifier(Network):
    """timm backbone, dropout, linear layer; `meta` is accepted and ignored, so that it is exchangeable."""

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet18",
        in_channels: int = 1,
        dropout: float = 0.5,
        backbone_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        weights: str = "none",
    ) -> None:
        """Build the network; `weights` as in `build_backbone`."""
        super().__init__()
        self.backbone, self.provenance = build_backbone(
            backbone, in_channels, backbone_drop_rate, drop_path_rate, weights
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(feature_dim(self.backbone), num_classes))

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the pooled features (B, F)."""
        return self.backbone(image)

    def fuse(self, image_features: Tensor, meta: Tensor) -> Tensor:
        """Return logits (B, K); `meta` has no influence."""
        return self.head(image_features)

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """Backbone and head."""
        return {"backbone": ("backbone.",), "head": ("head.",)}
