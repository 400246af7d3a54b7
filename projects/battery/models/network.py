"""What every battery classifier offers, so that the module, the audit rows and Grad-CAM need no special cases."""

from typing import ClassVar

from torch import Tensor, nn

from shared.backbone import Provenance


class Network(nn.Module):
    """A classifier in two halves: the costly image pass, and everything that comes after it.

    `fuse(encode_image(image), other_meta)` answers for other metadata without a second image pass; that is how the
    row 'fused with metadata permuted' stays free.

    Attributes:
        uses_metadata: Whether `meta` can change the logits at all.
        auxiliary_rows: Names of the further logits that `forward` returns; each must be trained (see `losses.py`).
        provenance: Where the backbone's weights came from.
    """

    uses_metadata: ClassVar[bool] = False
    auxiliary_rows: ClassVar[tuple[str, ...]] = ()
    provenance: Provenance

    def encode_image(self, image: Tensor) -> Tensor:
        """Return image features (B, F) of `image` (B, C, H, W), normalised."""
        raise NotImplementedError

    def fuse(self, image_features: Tensor, meta: Tensor) -> Tensor:
        """Return logits (B, K) from image features (B, F) and metadata codes (B, M) int64, -1 for missing."""
        raise NotImplementedError

    def rows(self, image_features: Tensor, meta: Tensor) -> dict[str, Tensor]:
        """Return `logits` (B, K) and one further (B, K) entry for each of `auxiliary_rows`."""
        return {"logits": self.fuse(image_features, meta)}

    def forward(self, image: Tensor, meta: Tensor) -> dict[str, Tensor]:
        """Return `rows` of the image (B, C, H, W) and the metadata (B, M)."""
        return self.rows(self.encode_image(image), meta)

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """Return group name -> name prefixes; each parameter and buffer matches exactly one prefix."""
        raise NotImplementedError

    def group_rows(self) -> dict[str, tuple[str, ...]]:
        """Return group name -> rows whose loss says how good that group alone is; empty where all share one answer."""
        return {}
