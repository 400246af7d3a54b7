"""Taking a network over for a while: what is inside the context leaves no trace on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchmetrics import Metric


def own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of the state dict, sharing memory with the module; extra state that is no tensor is left out."""
    return ((name, value) for name, value in module.state_dict().items() if isinstance(value, Tensor))


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
    devices = sorted({tensor.device.index or 0 for tensor in module.parameters() if tensor.is_cuda})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield
