"""What a batch of the pillsnap project holds: the one vocabulary of all projects, for colour photos."""

from typing import TypedDict

from torch import Tensor


class PillBatch(TypedDict):
    """A collated batch of B photos; a single sample of the dataset has the same keys without the leading B."""

    image: Tensor
    """(B, 3, S, S) float32, what `UnifiedPreprocessor` gives: normalised by ImageNet's mean and deviation."""
    target: Tensor
    """(B,) int64, code into the index's `classes`."""
    attributes: Tensor
    """(B, A) int64, codes into the index's `meta_names` in the order of the dataset's attributes, -1 = unknown."""
    sample_index: Tensor
    """(B,) int64, row of the index."""
    group_index: Tensor
    """(B,) int64, code into the index's `group_names`: one physical pill and sitting."""
    domain: Tensor
    """(B,) int64, code of the metadata column `domain`: studio, real."""
