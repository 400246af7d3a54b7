"""Categorical metadata as features, and the classifier that joins them to the features of the image network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.battery.models.network import Network
from shared.backbone import build_backbone, feature_dim


class MetadataEncoder(nn.Module):
    """One embedding per column, with a learned row for 'missing', then a small network.

    Modality dropout (training only): a row loses all its metadata with probability p, and independently each single
    value with probability p, so both 'nothing known' and 'partly known' are seen. The draws come from torch's global
    generator of the tensor's device; reseeding that before a step reproduces them.
    """

    def __init__(self, meta_sizes: Sequence[int], embedding_dim: int, output_dim: int, modality_dropout: float) -> None:
        """Build the encoder.

        Args:
            meta_sizes: Number of known values of each metadata column.
            embedding_dim: Width of each column's embedding.
            output_dim: Width of the features.
            modality_dropout: p above, in [0, 1].

        Raises:
            ValueError: On no columns, an empty column, or p outside [0, 1].
        """
        super().__init__()
        if not meta_sizes or min(meta_sizes) < 1:
            raise ValueError(f"meta_sizes is {list(meta_sizes)}, allowed: at least one column, each with >= 1 value")
        if not 0.0 <= modality_dropout <= 1.0:
            raise ValueError(f"modality_dropout is {modality_dropout}, allowed: 0 to 1")
        self.modality_dropout = modality_dropout
        self.output_dim = output_dim
        # Row 0 is 'missing', value v is row v + 1; separate tables, so a code too large can never hit a neighbour.
        self.embeddings = nn.ModuleList(nn.Embedding(size + 1, embedding_dim) for size in meta_sizes)
        self.mix = nn.Sequential(
            nn.Linear(embedding_dim * len(meta_sizes), output_dim),
            nn.ReLU(),
            nn.Linear(output_dim, output_dim),
            nn.ReLU(),
        )

    def forward(self, meta: Tensor) -> Tensor:
        """Return features (B, output_dim) of `meta` (B, M) int64.

        Raises:
            ValueError: If the number of columns differs, or (on the CPU) a code is outside -1..size - 1.
        """
        if meta.ndim != 2 or meta.shape[1] != len(self.embeddings):
            raise ValueError(f"meta has shape {tuple(meta.shape)}, allowed: (batch, {len(self.embeddings)})")
        if self.training and self.modality_dropout > 0:
            meta = self._drop(meta)
        try:
            columns = [table(meta[:, column] + 1) for column, table in enumerate(self.embeddings)]
        except IndexError:
            raise ValueError(self._range_error(meta)) from None
        return self.mix(torch.cat(columns, dim=1))  # (B, M * embedding_dim) -> (B, output_dim)

    def _drop(self, meta: Tensor) -> Tensor:
        """Return `meta` with some rows and values set to -1."""
        draws = torch.rand(meta.shape[0], 1 + meta.shape[1], device=meta.device)
        hit = draws < self.modality_dropout
        return meta.masked_fill(hit[:, :1] | hit[:, 1:], -1)

    def _range_error(self, meta: Tensor) -> str:
        """Name the codes found and allowed, column by column."""
        parts = (
            f"column {i}: {int(meta[:, i].min())}..{int(meta[:, i].max())} (allowed -1..{table.num_embeddings - 2})"
            for i, table in enumerate(self.embeddings)
            if isinstance(table, nn.Embedding)
        )
        return f"meta holds codes outside the vocabulary; {', '.join(parts)}"


class MetadataClassifier(Network):
    """Battery type and axis, embedded and joined to the image features: one classifier over both.

    Dropout stands twice: on the joined features and on the hidden layer. There are no auxiliary heads; the honest
    baselines come from `LateFusion` or from runs of their own.
    """

    uses_metadata = True

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
        """Build the network; `meta_sizes` and `modality_dropout` as in `MetadataEncoder`."""
        super().__init__()
        self.backbone, self.provenance = build_backbone(
            backbone, in_channels, backbone_drop_rate, drop_path_rate, weights
        )
        self.metadata = MetadataEncoder(meta_sizes, embedding_dim, output_dim, modality_dropout)
        self.head = joint_head(feature_dim(self.backbone) + output_dim, hidden_dim, num_classes, dropout)

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the pooled features (B, F)."""
        return self.backbone(image)

    def fuse(self, image_features: Tensor, meta: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(torch.cat([image_features, self.metadata(meta)], dim=1))

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """Backbone, metadata encoder, head."""
        return {"backbone": ("backbone.",), "metadata": ("metadata.",), "head": ("head.",)}


def joint_head(in_dim: int, hidden_dim: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Return dropout, hidden layer, dropout, logits: the hidden layer is what lets the two inputs interact."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(in_dim, hidden_dim),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, num_classes),
    )
