"""FSDP: each rank holds a part of every weight, and puts a unit of the network together while it computes with it."""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from shared.distributed.collectives import sum_over_ranks
from shared.errors import ConfigError


@runtime_checkable
class Shardable(Protocol):
    """A module that can be trained in parts.

    Its step sums gradients over the ranks where DDP would take their mean: what is not cut by `sum_gradients`.
    """

    def sharded_units(self) -> list[nn.Module]:
        """What is put together at once, inner units before the outer ones; the others' weights stay whole."""
        ...


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, for modules that are `Shardable`.

    Checkpoints are whole: one file, as that of one process. Gradients are summed over the ranks.

    Args:
        count: Ranks.
        timeout: For an answer of another rank.
    """

    def __init__(self, count: int, timeout: timedelta) -> None:
        super().__init__(
            data_parallel_size=count, tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout
        )

    def setup_environment(self) -> None:
        """Have the module cut when Lightning lets it configure itself.

        Set here and no method of the module: Lightning takes that as the sign of a network that is made late.
        """
        super().setup_environment()
        module: Any = self.lightning_module
        module.configure_model = partial(_cut, module, self.device_mesh["data_parallel"])

    def teardown(self) -> None:
        """Leave the module without the hook."""
        module: Any = self.lightning_module
        vars(module).pop("configure_model", None)
        super().teardown()


def require_shardable(module: nn.Module) -> None:
    """Refuse, before processes are started, to cut a module that does not say how.

    Raises:
        ConfigError: If so.
    """
    if not isinstance(module, Shardable):
        raise ConfigError(
            f"trainer.strategy is fsdp, which {type(module).__name__} does not support: it has no sharded_units(); "
            "take trainer=ddp"
        )


def is_cut(module: nn.Module) -> bool:
    """Whether weights of a module are in parts on the ranks."""
    return any(isinstance(child, FSDPModule) for child in module.modules())


def whole_weights(module: nn.Module) -> list[nn.Parameter]:
    """The weights that every rank holds as a whole."""
    return [weight for weight in module.parameters() if not isinstance(weight, DTensor)]


def clip_norm(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale the gradients so that their norm, over all parts of all of them, is not above a value.

    torch's own does not take weights in parts together with whole ones.

    Args:
        parameters: Weights, in parts or whole.
        largest: Above 0.

    Returns:
        The norm before, scalar float32.
    """
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    parts = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    norm = (sum_over_ranks(_squares(parts)) + _squares(whole)).sqrt()
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)  # the small number is torch's
    for gradient in [*parts, *whole]:
        gradient.mul_(factor.to(gradient.device, gradient.dtype))
    return norm


def _squares(gradients: list[Tensor]) -> Tensor:
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    return torch.stack(norms).square().sum() if norms else torch.zeros(())


def _cut(module: nn.Module, mesh: DeviceMesh) -> None:
    if is_cut(module):
        return
    scalars = {weight for weight in module.parameters() if weight.ndim == 0}  # which cannot be cut
    for unit in cast(Shardable, module).sharded_units():
        fully_shard(unit, mesh=mesh, ignored_params=scalars)
    for child in module.modules():
        if isinstance(child, FSDPModule):
            child.set_gradient_divide_factor(1.0)
            child.set_force_sum_reduction_for_comms(True)  # gloo knows no other way to leave the division out
