"""The convolutional encoder of a periodic cell: a picture in, a small map of tokens out."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM_CHANNELS = 64
STAGE_CHANNELS = (96, 128, 192, 256)
NUM_NORM_GROUPS = 8


def scaled(count: int, width: float, multiple: int = 8) -> int:
    """`count` times `width`, rounded to a multiple of `multiple` and never below one of it.

    Example:
        >>> scaled(96, 0.25), scaled(64, 0.01), scaled(192, 1.0)
        (24, 8, 192)
    """
    return max(multiple, round(count * width / multiple) * multiple)


def map_side(image_side_px: int, stem_stride: int) -> int:
    """Side of the map that the encoder makes of a square picture: the stem and four stages each keep 1 of 2 rows.

    A side that the strides do not divide would give the periodic picture a seam: the last window would reach over the
    border by another amount than the others.

    Args:
        image_side_px: Side of the picture, in pixels.
        stem_stride: 2, or 1 (for 64 px pictures, so that the map stays 4 x 4).

    Raises:
        ValueError: If the stride is neither, or the side is no multiple of 16 strides.

    Example:
        >>> map_side(128, 2), map_side(64, 1)
        (4, 4)
    """
    if stem_stride not in (1, 2):
        raise ValueError(f"stem_stride is {stem_stride}, allowed: 1 or 2")
    reduction = stem_stride * 2 ** len(STAGE_CHANNELS)
    if image_side_px < reduction or image_side_px % reduction:
        raise ValueError(
            f"image_side_px is {image_side_px}, allowed with stem_stride {stem_stride}: multiples of {reduction} "
            "(128 with stride 2, 64 with stride 1)"
        )
    return image_side_px // reduction


class PeriodicConv2d(nn.Conv2d):
    """A convolution without bias whose padding continues the picture periodically, or with zeros.

    The kernel is odd and the padding the same on both sides, so with stride 2 every window is centred on an even pixel:
    a shift of the cell by two pixels shifts the result by one, exactly, across the border as well.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, periodic: bool) -> None:
        """Store the geometry; a kernel of 1 needs no padding."""
        margin = kernel // 2
        super().__init__(
            in_channels, out_channels, kernel, stride=stride, padding=0 if periodic else margin, bias=False
        )
        self.margin = margin if periodic else 0

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        return super().forward(wrap(input, self.margin) if self.margin else input)


def wrap(picture: Tensor, margin: int) -> Tensor:
    """The picture with `margin` pixels of its periodic continuation on each side.

    In training with a backward pass of its own: autograd's for slices fills and adds six full-size maps of zeros a
    call, a third of a training step on the CPU (measured 2026-11-21, width 0.5). `F.pad(mode="circular")` besides
    gives up the channels-last layout.

    Args:
        picture: (B, C, H, W).
        margin: 1 to H.

    Returns:
        (B, C, H + 2 margin, W + 2 margin), in the layout of `picture`.

    Example:
        >>> wrap(torch.tensor([[[[1, 2], [3, 4]]]]), 1)[0, 0].tolist()
        [[4, 3, 4, 3], [2, 1, 2, 1], [4, 3, 4, 3], [2, 1, 2, 1]]
    """
    if torch.is_grad_enabled() and picture.requires_grad:
        return _Wrap.apply(picture, margin)
    return _concatenated(picture, margin)


class _Wrap(torch.autograd.Function):
    """`_concatenated`, whose backward pass adds the margins onto one copy."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, margin: int) -> Tensor:
        ctx.margin = margin
        return _concatenated(picture, margin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _folded(grad, ctx.margin), None


def _concatenated(picture: Tensor, margin: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H + 2 margin, W + 2 margin)."""
    wide = torch.cat([picture[..., -margin:], picture, picture[..., :margin]], dim=3)
    return torch.cat([wide[..., -margin:, :], wide, wide[..., :margin, :]], dim=2)


def _folded(grad: Tensor, m: int) -> Tensor:
    """(B, C, H + 2m, W + 2m) -> (B, C, H, W): each margin added to the pixels that it repeats."""
    middle = slice(m, -m)
    out = grad[..., middle, middle].clone(memory_format=torch.preserve_format)
    margins = ((slice(-m, None), slice(0, m)), (slice(0, m), slice(-m, None)))  # (to, from)
    for to, source in margins:
        out[..., to, :] += grad[..., source, middle]
        out[..., :, to] += grad[..., middle, source]
        for other, corner in margins:
            out[..., to, other] += grad[..., source, corner]
    return out


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with group normalisation and SiLU, added to the input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float, periodic: bool) -> None:
        """Build the block; `dropout` takes whole channels, since neighbouring pixels say nearly the same."""
        super().__init__()
        self.conv1 = PeriodicConv2d(in_channels, out_channels, 3, stride, periodic)
        self.norm1 = nn.GroupNorm(NUM_NORM_GROUPS, out_channels)
        self.dropout = nn.Dropout2d(dropout)
        self.conv2 = PeriodicConv2d(out_channels, out_channels, 3, 1, periodic)
        self.norm2 = nn.GroupNorm(NUM_NORM_GROUPS, out_channels)
        # Averaging before the 1 x 1 convolution, not a stride in it: nothing is skipped, and oneDNN's backward pass of
        # a strided 1 x 1 convolution over 8 channels ends the process (torch 2.15 on the CPU, 2026-11-21).
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        inner = self.dropout(F.silu(self.norm1(self.conv1(x))))
        return F.silu(self.norm2(self.conv2(inner)) + self.shortcut(self.pool(x)))


class Encoder(nn.Module):
    """Stem 5 x 5, then four stages of two residual blocks, each stage at half the resolution of the one before.

    Args:
        width: Scales every number of channels (64, then 96, 128, 192, 256), above 0.
        stem_stride: 2, or 1 for pictures of half the side.
        use_circular_padding: Continue the picture periodically over its border, as the cell is; otherwise with zeros.
        dropout: Share of channels dropped inside each block in training, in [0, 1).

    Raises:
        ValueError: If width or dropout is out of range.

    Attributes:
        out_channels: Channels of the map.
    """

    def __init__(self, width: float, stem_stride: int, use_circular_padding: bool, dropout: float) -> None:
        super().__init__()
        if not width > 0:
            raise ValueError(f"width is {width}, allowed: above 0")
        check_share("cnn_dropout", dropout)
        channels = [scaled(count, width) for count in (STEM_CHANNELS, *STAGE_CHANNELS)]
        self.stem = PeriodicConv2d(1, channels[0], 5, stem_stride, use_circular_padding)
        self.stem_norm = nn.GroupNorm(NUM_NORM_GROUPS, channels[0])
        for stage, (below, above) in enumerate(itertools.pairwise(channels), start=1):
            blocks = nn.Sequential(
                ResidualBlock(below, above, 2, dropout, use_circular_padding),
                ResidualBlock(above, above, 1, dropout, use_circular_padding),
            )
            self.add_module(f"stage{stage}", blocks)
        self.out_channels = channels[-1]

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, out_channels, H / r, W / r), r = 16 stem strides."""
        x = self.stem(image)
        # One channel has no layout of its own, so nothing above says which one the rest should have.
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.silu(self.stem_norm(x))
        for stage in range(1, len(STAGE_CHANNELS) + 1):
            x = self.get_submodule(f"stage{stage}")(x)
        return x

    def module_groups(self, prefix: str) -> dict[str, tuple[str, ...]]:
        """Stem and stages -> prefixes of their tensors, where the encoder is called `prefix`."""
        stages = {f"stage{n}": (f"{prefix}.stage{n}.",) for n in range(1, len(STAGE_CHANNELS) + 1)}
        return {"stem": (f"{prefix}.stem.", f"{prefix}.stem_norm."), **stages}


def check_share(name: str, value: float) -> None:
    """Refuse a dropout that is no share.

    Raises:
        ValueError: If it is outside [0, 1).
    """
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} is {value}, allowed: 0 up to, but not, 1")
