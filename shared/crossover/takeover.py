"""Taking a network over for a while: what is inside the context leaves no trace on it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torchmetrics import Metric


def own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of the state dict, sharing memory with the module; extra state that is no tensor is left out."""
    return ((name, value) for name, value in module.state_dict().items() if isinstance(value, Tensor))


def copied(batch: Any) -> Any:
    """A batch with tensors and containers of its own, for a step that may write into it."""
    leaves, spec = tree_flatten(batch)
    return tree_unflatten([leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec)


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards weights and modes as before, and torchmetrics reset."""
    modes = {part: part.training for part in module.modules()}
    weights = {name: tensor.detach().clone() for name, tensor in own_tensors(module)}
    module.eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in own_tensors(module):
                tensor.copy_(weights[name])
        for part, mode in modes.items():
            part.training = mode
            if isinstance(part, Metric):
                part.reset()  # a validation step has counted children into it


@contextmanager
def repeatable(module: nn.Module) -> Iterator[None]:
    """Fixed random state for a pass, so that a step that draws at evaluation draws the same; the old one afterwards."""
    with torch.random.fork_rng(devices=_devices(module)):
        torch.manual_seed(0)
        yield


def random_state(module: nn.Module) -> list[Tensor]:
    """State of torch's random generators, of the CPU's and of those of the module's devices."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in _devices(module))]


@contextmanager
def set_random_state(module: nn.Module, state: Sequence[Tensor]) -> Iterator[None]:
    """A former `random_state` inside; the present one afterwards."""
    devices = _devices(module)
    with torch.random.fork_rng(devices=devices):
        torch.set_rng_state(state[0])
        for device, own in zip(devices, state[1:], strict=True):
            torch.cuda.set_rng_state(own, device)
        yield


def _devices(module: nn.Module) -> list[int]:
    return sorted({tensor.device.index or 0 for tensor in module.parameters() if tensor.is_cuda})
