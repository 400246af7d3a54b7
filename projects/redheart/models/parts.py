"""The kinds of parts of a story: sentences of its text, its title, its action."""

import torch
from torch import Tensor

from projects.redheart.models.layers import masked_mean

KINDS = ("text", "title", "action")
"""Names of the codes in a batch's `part`."""


def kind_masks(mask: Tensor, part: Tensor) -> Tensor:
    """Where the parts of each kind are.

    Args:
        mask: (B, S) bool.
        part: (B, S) int64 codes.

    Returns:
        (B, 3, S) bool.
    """
    codes = torch.arange(len(KINDS), device=part.device)
    return (part[:, None, :] == codes[:, None]) & mask[:, None, :]


def kind_means(sequence: Tensor, masks: Tensor) -> Tensor:
    """Mean state of each kind.

    Args:
        sequence: (B, S, H).
        masks: (B, 3, S) bool, see `kind_masks`.

    Returns:
        (B, 3, H); 0 for a kind that a story does not have.
    """
    return torch.stack([masked_mean(sequence, masks[:, kind]) for kind in range(len(KINDS))], dim=1)
