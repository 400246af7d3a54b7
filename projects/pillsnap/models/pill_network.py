"""A timm backbone with one linear head for the pill and one for each attribute that the data have labels for."""

from collections.abc import Mapping

from torch import Tensor, nn

from shared.backbone import build_backbone, feature_dim


class PillNetwork(nn.Module):
    """Photo to pill, and to attributes such as shape and colour.

    Attributes:
        provenance: Where the backbone's weights came from.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "tf_efficientnetv2_s",
        dropout: float = 0.3,
        drop_path_rate: float = 0.2,
        attribute_sizes: Mapping[str, int] | None = None,
        weights: str = "none",
    ) -> None:
        """Build the network.

        Args:
            num_classes: K.
            backbone: Name of a timm network.
            dropout: Before the heads, in [0, 1).
            drop_path_rate: Stochastic depth of the backbone, in [0, 1).
            attribute_sizes: Name of an attribute -> number of its values; each gets a head.
            weights: See `shared.backbone.build_backbone`.
        """
        super().__init__()
        self.backbone, self.provenance = build_backbone(backbone, 3, 0.0, drop_path_rate, weights)
        width = feature_dim(self.backbone)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))
        sizes = attribute_sizes or {}
        self.attribute_heads = nn.ModuleDict(
            {name: nn.Sequential(nn.Dropout(dropout), nn.Linear(width, size)) for name, size in sizes.items()}
        )

    def features(self, image: Tensor) -> Tensor:
        """Pooled features (B, F) of `image` (B, 3, S, S), as the preprocessor gives it."""
        return self.backbone(image)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, K) of `image` (B, 3, S, S)."""
        return self.head(self.features(image))

    def attributes(self, features: Tensor) -> dict[str, Tensor]:
        """Logits (B, values) of every attribute."""
        return {name: head(features) for name, head in self.attribute_heads.items()}

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """Backbone, the pill's head, and the attribute heads where there are any."""
        groups: dict[str, tuple[str, ...]] = {"backbone": ("backbone.",), "head": ("head.",)}
        return groups | ({"attributes": ("attribute_heads.",)} if len(self.attribute_heads) else {})
