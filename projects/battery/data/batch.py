"""What a batch of the battery project holds: the one vocabulary of all projects, for grey images with metadata."""

from typing import NotRequired, TypedDict

from torch import Tensor

IMAGE_MEAN = 0.449
IMAGE_STD = 0.226
"""Grey mean and deviation, on [0, 1], of the images that timm's backbones were trained on (mean of its three channels).

Constants and not estimates: no fold's statistics reach another, and the server needs no file to know them."""


class BatteryBatch(TypedDict):
    """A collated batch of B slices; a single sample of the dataset has the same keys without the leading B."""

    image: Tensor
    """(B, 1, H, W) float32, (grey / 255 - IMAGE_MEAN) / IMAGE_STD: from -1.99 (black) to 2.44 (white)."""
    meta: Tensor
    """(B, M) int64, codes into the index's `meta_names` in the order of the dataset's `meta_columns`, -1 = missing."""
    target: Tensor
    """(B,) int64, code into the index's `classes`."""
    sample_index: Tensor
    """(B,) int64, row of the index."""
    group_index: Tensor
    """(B,) int64, code into the index's `group_names`: the battery."""
    domain: Tensor
    """(B,) int64, code of the dataset's `domain_column`, e.g. the kind; 0 for all without one, -1 = missing."""
    meta_permuted: NotRequired[Tensor]
    """(B, M) int64, on the test fold only: the metadata of another sample of the same kind."""
