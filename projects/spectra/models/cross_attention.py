"""Each wavelength asks the encoder's map for what it needs: a transformer decoder whose queries are the wavelengths."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.spectra.models.curve_network import CurveNetwork
from projects.spectra.models.encoder import check_share

FEED_FORWARD_FACTOR = 4


class Attention(nn.Module):
    """Multi-head attention without dropout on its weights, so that the fused kernels apply."""

    def __init__(self, d_model: int, heads: int) -> None:
        """Build the projections; keys and values come from one matrix product."""
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(d_model, d_model)
        self.to_key_value = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Queries from x (B, L, D), keys and values from memory (B, T, D) -> (B, L, D)."""
        query = self._split(self.to_query(x))
        key, value = (self._split(part) for part in self.to_key_value(memory).chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value)  # (B, heads, L, D / heads)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, heads, L, D / heads)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Wavelengths look at each other, then at the map, then think alone; each step normalised first and added."""

    def __init__(self, d_model: int, heads: int, dropout: float) -> None:
        """Build one layer."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(3))
        self.self_attention = Attention(d_model, heads)
        self.cross_attention = Attention(d_model, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, FEED_FORWARD_FACTOR * d_model),
            nn.SiLU(),
            nn.Linear(FEED_FORWARD_FACTOR * d_model, d_model),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """(B, L, D) and (B, T, D) -> (B, L, D)."""
        normed = self.norms[0](x)
        x = x + self.dropout(self.self_attention(normed, normed))
        x = x + self.dropout(self.cross_attention(self.norms[1](x), memory))
        return x + self.dropout(self.feed_forward(self.norms[2](x)))


class CrossAttentionNetwork(CurveNetwork):
    """Encoder, then a transformer decoder over its map as memory tokens, then the head.

    No mask anywhere: a spectrum has no direction, so each wavelength may look at all others.

    Args:
        output_shape: See `CurveNetwork`.
        image_side_px: See `CurveNetwork`.
        width: See `CurveNetwork`.
        use_circular_padding: See `Encoder`.
        stem_stride: See `encoder.map_side`.
        decoder_layers: Layers of the decoder, at least 1.
        heads: Heads of each attention; d_model is a multiple of it.
        dropout: Share dropped from what each decoder step adds.
        head_dropout: See `CurveNetwork`.
        cnn_dropout: See `Encoder`.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        output_shape: Sequence[int],
        image_side_px: int,
        width: float = 1.0,
        use_circular_padding: bool = True,
        stem_stride: int = 2,
        decoder_layers: int = 4,
        heads: int = 8,
        dropout: float = 0.1,
        head_dropout: float = 0.2,
        cnn_dropout: float = 0.05,
    ) -> None:
        if decoder_layers < 1 or heads < 1:
            raise ValueError(f"decoder_layers is {decoder_layers} and heads {heads}, allowed: 1 or more each")
        check_share("dropout", dropout)
        super().__init__(
            output_shape=output_shape,
            image_side_px=image_side_px,
            width=width,
            stem_stride=stem_stride,
            use_circular_padding=use_circular_padding,
            cnn_dropout=cnn_dropout,
            head_dropout=head_dropout,
            multiple=2 * heads,
        )
        self.to_memory = nn.Linear(self.encoder.out_channels, self.d_model)
        self.memory_norm = nn.LayerNorm(self.d_model)
        self.decoder = nn.ModuleList(DecoderLayer(self.d_model, heads, dropout) for _ in range(decoder_layers))
        # Learned: which corner of the cell a token belongs to decides what it means, and there are only a few.
        self.place = nn.Parameter(0.02 * torch.randn(self.num_tokens, self.d_model))

    def read(self, tokens: Tensor, query: Tensor) -> Tensor:
        """(B, T, C) and (B, L, D) -> (B, L, D)."""
        memory = self.memory_norm(self.to_memory(tokens) + self.place)
        for layer in self.decoder:
            query = layer(query, memory)
        return query

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """As in `CurveNetwork`, with the memory in the decoder."""
        groups = super().module_groups()
        return groups | {"decoder": (*groups["decoder"], "to_memory.", "memory_norm.", "place")}
