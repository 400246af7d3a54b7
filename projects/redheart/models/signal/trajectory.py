"""The emotion trajectory of a story as a signal: samples in order from the first on, in full precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from projects.redheart.models.context import Context
from projects.redheart.models.parts import KINDS

TEXT = KINDS.index("text")


class Signal(NamedTuple):
    """A batch of signals of unequal length.

    Attributes:
        values: (B, S, C) float32 or float64, the samples first and zeros after them.
        present: (B, S) bool, True for the first `length` positions.
        length: (B,) int64 number of samples, 0 to S.
    """

    values: Tensor
    present: Tensor
    length: Tensor


def close_gaps(values: Tensor, mask: Tensor) -> Signal:
    """Move what is there to the front, in its order: what is absent takes no time.

    Args:
        values: (B, S, C), anything where the mask is False.
        mask: (B, S) bool, True where there is a sample.

    Returns:
        The samples in the dtype they came in.

    Raises:
        ValueError: If mask and values do not fit together.
    """
    if values.ndim != 3 or values.shape[:2] != mask.shape:
        raise ValueError(f"values are (B, S, C) with a mask (B, S); got {tuple(values.shape)} and {tuple(mask.shape)}")
    order = mask.long().argsort(dim=1, descending=True, stable=True)
    gathered = values.gather(1, order[..., None].expand_as(values))
    length = mask.sum(1)
    present = torch.arange(mask.shape[1], device=mask.device) < length[:, None]
    return Signal(gathered.masked_fill(~present[..., None], 0.0), present, length)


def as_signal(trajectory: Tensor, mask: Tensor) -> Signal:
    """Close the gaps of a trajectory, in float32 at least: recursions lose too much in half precision.

    Args:
        trajectory: (B, S, C), anything where the mask is False.
        mask: (B, S) bool, True where there is a sample.

    Returns:
        The signal.

    Raises:
        ValueError: If mask and trajectory do not fit together.
    """
    return close_gaps(trajectory.to(torch.promote_types(trajectory.dtype, torch.float32)), mask)


def sentences(context: Context) -> Tensor:
    """Where the signal's samples are (B, S) bool: the sentences of the text; title and action are no moments of it.

    A story without a sentence is followed over what it has.
    """
    text = context.mask & (context.part == TEXT)
    return torch.where(text.any(dim=1, keepdim=True), text, context.mask)


def last_sample(values: Tensor, length: Tensor) -> Tensor:
    """(B, S, ...) and (B,) -> (B, ...): the value at position length - 1, zero where there is none."""
    if values.shape[1] == 0:
        return values.new_zeros(values.shape[0], *values.shape[2:])
    last = values[torch.arange(len(length), device=length.device), (length - 1).clamp(min=0)]
    return last * (length > 0).view(-1, *[1] * (last.ndim - 1)).to(last.dtype)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast changes nothing on this device."""
    if not torch.amp.autocast_mode.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
