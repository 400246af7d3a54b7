"""What the ranks of a fit tell each other; where a process is alone, each function gives back what it got."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 32 * 2**20
"""Gradients that are added up at once: enough for full bandwidth, and little memory beside the gradients."""

_words: dict[str, Any] = {}
"""The group for words between the ranks: on the CPU, so that no GPU is waited for."""

Value = TypeVar("Value")


def num_ranks() -> int:
    """Processes that train together, 1 outside of a fit."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if num_ranks() > 1 else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of all ranks' tensors of one shape, on the tensor's device; no gradient goes through it."""
    if num_ranks() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def scalars_over_ranks(numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each scalar's sum over the ranks, by one exchange; all have the same names in the same order."""
    if num_ranks() == 1:
        return dict(numbers)
    return dict(zip(numbers, sum_over_ranks(torch.stack(list(numbers.values()))), strict=True))


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of all ranks' tensors of one shape."""
    return values if num_ranks() == 1 else sum_over_ranks(values) / num_ranks()


def largest_over_ranks(numbers: Sequence[int]) -> list[int]:
    """The largest of each number over the ranks: how they agree on a signal that came to one of them."""
    if num_ranks() == 1:
        return list(numbers)
    words = torch.tensor(list(numbers), dtype=torch.int64)
    dist.all_reduce(words, op=dist.ReduceOp.MAX, group=_group_for_words())
    return [int(number) for number in words]


def gathered(value: Value) -> list[Value]:
    """The values of all ranks, in their order, on every rank; plain data and tensors on the CPU."""
    if num_ranks() == 1:
        return [value]
    found: list[Any] = [None] * num_ranks()
    dist.all_gather_object(found, value, group=_group_for_words())
    return found


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over the ranks.

    A weight that has a gradient on some ranks only counts as 0 on the others; one without any stays without.

    Args:
        parameters: The same on all ranks, in the same order.
    """
    if num_ranks() == 1:
        return
    weights = [weight for weight in parameters if weight.requires_grad]
    has_gradient = largest_over_ranks([int(weight.grad is not None) for weight in weights])
    gradients = []
    for weight, has in zip(weights, has_gradient, strict=True):
        if has:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            gradients.append(weight.grad)
    for _, alike in groupby(gradients, key=lambda gradient: (gradient.dtype, gradient.device)):
        for bucket in _buckets(list(alike)):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))


def leave() -> None:
    """Take leave of the other ranks; from here on the process is alone."""
    _words.clear()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _group_for_words() -> Any:
    if "group" not in _words:
        _words["group"] = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
    return _words["group"]


def _buckets(gradients: list[Tensor]) -> list[list[Tensor]]:
    buckets: list[list[Tensor]] = [[]]
    size = 0
    for gradient in gradients:
        if size + gradient.nbytes > BUCKET_BYTES and buckets[-1]:
            buckets.append([])
            size = 0
        buckets[-1].append(gradient)
        size += gradient.nbytes
    return buckets
