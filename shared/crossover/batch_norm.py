"""Batch-norm statistics estimated anew: those of a crossed or averaged network belong to none of its parents."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn
from torch.utils._pytree import tree_flatten

from shared.sample_losses import Step, step_outputs


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a layer of the module keeps running statistics."""
    return any(isinstance(part, _BatchNorm) and part.track_running_stats for part in module.modules())


def reestimate(
    module: nn.Module,
    batches: Iterable[Any],
    num_batches: int,
    step: Step,
    forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Tensor]:
    """Running statistics of all batch-norm layers as the plain mean over training batches.

    Only the batch-norm layers are in training mode, so dropout stays off and the statistics are those of the network as
    it predicts. The module itself is left as it was found: statistics, momenta and modes.

    Args:
        module: On its device.
        batches: Training batches; one of a single sample is left out, since it has no variance.
        num_batches: How many to use at most, >= 1.
        step: The step that runs the network.
        forward_context: Entered around each step.

    Returns:
        Name in the state dict -> new running mean, variance and counter, on the CPU.

    Raises:
        ValueError: If num_batches < 1 or there is no usable batch.

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018, section 3;
    torch.optim.swa_utils.update_bn, there with dropout on.
    """
    if num_batches < 1:
        raise ValueError(f"num_batches is {num_batches}; at least 1 is needed")
    layers = {name: part for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
    buffers = {
        f"{name}.{key}" if name else key: buffer
        for name, layer in layers.items()
        for key, buffer in layer.named_buffers(recurse=False)
    }
    before = {name: buffer.detach().clone() for name, buffer in buffers.items()}
    momenta = {layer: layer.momentum for layer in layers.values()}
    modes = {part: part.training for part in module.modules()}
    device = next((tensor.device for tensor in module.state_dict().values()), torch.device("cpu"))
    count = _Counted(islice((batch for batch in batches if _batch_size(batch) > 1), num_batches), device)
    try:
        update_bn(count, _OnlyBatchNorm(module, step, forward_context))
        if not count.number:
            raise ValueError("batches holds no batch of at least 2 samples; batch-norm statistics need one")
        return {name: buffer.detach().cpu().clone() for name, buffer in buffers.items()}
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
        for part, mode in modes.items():
            part.training = mode
        with torch.no_grad():
            for name, buffer in buffers.items():
                buffer.copy_(before[name])


@dataclass
class _Boxed:
    """A batch in a box: `update_bn` would take the first element out of a tuple."""

    batch: Any
    number: int


class _Counted:
    """The batches on the device, boxed and counted."""

    def __init__(self, batches: Iterable[Any], device: torch.device) -> None:
        self._batches, self._device = batches, device
        self.number = 0

    def __iter__(self) -> Iterator[_Boxed]:
        for batch in self._batches:
            yield _Boxed(move_data_to_device(batch, self._device), self.number)
            self.number += 1


class _OnlyBatchNorm(nn.Module):
    """The module's step as a forward; training mode reaches only the batch-norm layers."""

    def __init__(
        self, module: nn.Module, step: Step, forward_context: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        super().__init__()
        self.module, self._step, self._forward_context = module, step, forward_context

    def train(self, mode: bool = True) -> "_OnlyBatchNorm":
        """Everything to evaluation mode, batch norm to the mode asked for."""
        for part in self.module.modules():
            part.training = mode and isinstance(part, _BatchNorm)
        self.training = mode
        return self

    def forward(self, boxed: _Boxed) -> None:
        """Run the step; its outputs are not needed."""
        with self._forward_context():
            step_outputs(self.module, boxed.batch, boxed.number, self._step)


def _batch_size(batch: Any) -> int:
    """Length of the first tensor that has one."""
    return next((len(leaf) for leaf in tree_flatten(batch)[0] if isinstance(leaf, Tensor) and leaf.ndim), 0)
