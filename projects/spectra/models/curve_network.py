"""What the networks share: the encoder's map as tokens, one query a wavelength that begins with a summary, a head."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from projects.spectra.models.encoder import Encoder, check_share, map_side, scaled

D_MODEL = 256


def sinusoids(num_positions: int, dim: int) -> Tensor:
    """Sine and cosine of each position at `dim` / 2 frequencies, falling geometrically from 1 to 1/10,000.

    Args:
        num_positions: Positions 0, 1, ...
        dim: Even.

    Returns:
        (num_positions, dim) in [-1, 1]: first all sines, then all cosines.

    Raises:
        ValueError: If `dim` is odd.

    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.5; there sines and cosines alternate.

    Example:
        >>> sinusoids(2, 2).tolist()[0]
        [0.0, 1.0]
    """
    if dim % 2:
        raise ValueError(f"dim is {dim}, allowed: even numbers")
    rates = torch.exp(-math.log(10_000.0) * torch.arange(dim // 2) / (dim // 2))
    angles = torch.arange(num_positions)[:, None] * rates  # (num_positions, dim / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class CurveHead(nn.Module):
    """From features of each point of the axis to the values of all curves there.

    What the layers say counts in units of the targets' spread from their mean: `centre` (*channels, L) and `spread`
    (), which begin as 0 and 1 and are set from the training data, see `set_units`.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, d_model: int, shape: Sequence[int], dropout: float) -> None:
        """Build the head for curves of shape (*channels, L)."""
        super().__init__()
        check_share("head_dropout", dropout)
        self.channels = tuple(shape[:-1])
        self.register_buffer("centre", torch.zeros(*shape))
        self.register_buffer("spread", torch.ones(()))
        self.layers = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, d_model),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(d_model, math.prod(self.channels)),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, L, D) -> (B, *channels, L)."""
        values = self.layers(features).transpose(1, 2).contiguous()  # (B, C, L)
        # Half precision has no digits to spare for a small deviation from a large mean.
        return self.centre + self.spread * values.reshape(len(values), *self.channels, -1).float()

    @torch.no_grad()
    def set_units(self, centre: Tensor, spread: float) -> None:
        """Take the mean (*channels, L) and the spread of the training targets.

        Raises:
            ValueError: If the mean has another shape, or the spread is not positive and finite.
        """
        if centre.shape != self.centre.shape or not bool(torch.isfinite(centre).all()):
            raise ValueError(
                f"the mean has shape {tuple(centre.shape)}, allowed: finite numbers of shape {tuple(self.centre.shape)}"
            )
        if not (math.isfinite(spread) and spread > 0):
            raise ValueError(f"the spread is {spread}, allowed: above 0")
        self.centre.copy_(centre)
        self.spread.fill_(spread)


class CurveNetwork(nn.Module):
    """A picture of a cell to curves along an axis; a subclass says how the queries read the encoder's map.

    Args:
        output_shape: (*channels, L): L points of the axis; at least one channel dimension.
        image_side_px: Side of the square picture.
        width: Scales every number of channels, above 0.
        stem_stride: See `encoder.map_side`.
        use_circular_padding: See `Encoder`.
        cnn_dropout: See `Encoder`.
        head_dropout: Share of features dropped before the last layer.
        multiple: d_model is 256 width, rounded to a multiple of this.

    Raises:
        ValueError: If a value is out of range, or the side does not fit the strides.
    """

    def __init__(
        self,
        *,
        output_shape: Sequence[int],
        image_side_px: int,
        width: float,
        stem_stride: int,
        use_circular_padding: bool,
        cnn_dropout: float,
        head_dropout: float,
        multiple: int,
    ) -> None:
        super().__init__()
        shape = tuple(int(size) for size in output_shape)
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError(
                f"output_shape is {list(output_shape)}, allowed: (channels..., points of the axis), each >= 1"
            )
        self.image_side_px = image_side_px
        self.num_tokens = map_side(image_side_px, stem_stride) ** 2
        self.encoder = Encoder(width, stem_stride, use_circular_padding, cnn_dropout)
        self.d_model = scaled(D_MODEL, width, multiple)
        self.num_points = shape[-1]
        self.register_buffer("positions", sinusoids(self.num_points, self.d_model), persistent=False)
        self.query = nn.Parameter(0.02 * torch.randn(self.num_points, self.d_model))
        self.squeeze = nn.Linear(self.num_tokens * self.encoder.out_channels, self.d_model)
        self.squeeze_norm = nn.LayerNorm(self.d_model)
        self.head = CurveHead(self.d_model, shape, head_dropout)

    positions: Tensor
    head: CurveHead

    def forward(self, image: Tensor) -> Tensor:
        """Curves of each picture.

        Args:
            image: (B, 1, H, W) floating, H = W = `image_side_px`.

        Returns:
            (B, *output_shape).

        Raises:
            ValueError: If the pictures have another shape.
        """
        side = self.image_side_px
        if image.ndim != 4 or tuple(image.shape[1:]) != (1, side, side):
            raise ValueError(f"image has shape {tuple(image.shape)}, allowed: (batch, 1, {side}, {side})")
        tokens = self.encoder(image).flatten(2).transpose(1, 2)  # (B, T, C)
        # Not averaged: the corners of the cell mean different things. With queries that know nothing of the picture the
        # attention starts as an average over it, and did not learn to look anywhere in 500 steps.
        summary = self.squeeze_norm(self.squeeze(tokens.flatten(1)))  # (B, D)
        return self.head(self.read(tokens, summary[:, None] + self.query + self.positions))

    def read(self, tokens: Tensor, query: Tensor) -> Tensor:
        """Features of each point of the axis (B, L, D), from tokens (B, T, C) and queries (B, L, D)."""
        raise NotImplementedError

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """Stem, four stages, decoder and head -> name prefixes; each parameter matches exactly one."""
        return {
            **self.encoder.module_groups("encoder"),
            "decoder": ("query", "squeeze.", "squeeze_norm.", "decoder."),
            "head": ("head.",),
        }
