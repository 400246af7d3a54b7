"""What a batch of the spectra project holds."""

from typing import TypedDict

from torch import Tensor


class SpectraBatch(TypedDict):
    """A whole batch of B structures, made at once by `CurveDataset.__getitems__`."""

    image: Tensor
    """(B, 1, H, W) uint8, 0 or 1; the module makes it float on its own device."""
    target: Tensor
    """(B, *output_shape) float32, wavelengths last; for a cell (B, 2, 2, L), power as a share of the incident one."""
    sample_index: Tensor
    """(B,) int64, row of the index."""
    group_index: Tensor
    """(B,) int64, code into the index's `group_names`: the pattern with all its variants, or the geometry."""
    domain: Tensor
    """(B,) int64, zeros: there is but one domain."""
