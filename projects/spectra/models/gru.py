"""The lighter network: the summary of the map, then a recurrence along the wavelengths."""

from collections.abc import Sequence

from torch import Tensor, nn

from projects.spectra.models.curve_network import CurveNetwork
from projects.spectra.models.encoder import check_share


class GruNetwork(CurveNetwork):
    """Encoder, the summary of its map, then a GRU over the wavelengths in both directions.

    Each direction has half of d_model.

    Args:
        output_shape: See `CurveNetwork`.
        image_side_px: See `CurveNetwork`.
        width: See `CurveNetwork`.
        use_circular_padding: See `Encoder`.
        stem_stride: See `encoder.map_side`.
        gru_layers: Layers of the GRU, at least 1.
        dropout: Share dropped between its layers.
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
        gru_layers: int = 2,
        dropout: float = 0.1,
        head_dropout: float = 0.2,
        cnn_dropout: float = 0.05,
    ) -> None:
        if gru_layers < 1:
            raise ValueError(f"gru_layers is {gru_layers}, allowed: 1 or more")
        check_share("dropout", dropout)
        super().__init__(
            output_shape=output_shape,
            image_side_px=image_side_px,
            width=width,
            stem_stride=stem_stride,
            use_circular_padding=use_circular_padding,
            cnn_dropout=cnn_dropout,
            head_dropout=head_dropout,
            multiple=8,
        )
        self.decoder = nn.GRU(
            self.d_model,
            self.d_model // 2,
            num_layers=gru_layers,
            batch_first=True,
            dropout=dropout if gru_layers > 1 else 0.0,
            bidirectional=True,
        )

    def read(self, tokens: Tensor, query: Tensor) -> Tensor:
        """(B, T, C) and (B, L, D) -> (B, L, D)."""
        features: Tensor = self.decoder(query)[0]
        return features
