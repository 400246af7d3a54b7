"""What Lightning's trainer is told about the ranks."""

from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.distributed.plan import RankPlan, device_of_one
from shared.distributed.sharding import ShardedStrategy

ANSWER_WITHIN = timedelta(minutes=30)
"""A rank that lives and does not answer for so long, while rank 0 writes to a slow disk for example, ends the fit."""


def trainer_arguments(plan: RankPlan | None, devices: Any = 1) -> dict[str, Any]:
    """Arguments of `Trainer` that take the place of `trainer.devices`, `strategy` and `sync_batchnorm`.

    Args:
        plan: The ranks; None: one process, whatever is configured.
        devices: `trainer.devices` as configured: one process takes the GPU that it names.
    """
    if plan is None or plan.count == 1:
        return {"devices": device_of_one(devices), "strategy": "auto", "sync_batchnorm": False}
    strategy: Any
    if plan.is_sharded:
        strategy = ShardedStrategy(plan.count, ANSWER_WITHIN)
    else:
        strategy = DDPStrategy(find_unused_parameters=plan.find_unused, timeout=ANSWER_WITHIN)
    # The sampler knows the ranks; Lightning's own would repeat samples to fill up.
    return {
        "devices": plan.count, "strategy": strategy, "use_distributed_sampler": False,
        "sync_batchnorm": plan.sync_batch_norm and not plan.is_sharded,
    }  # fmt: skip


def trainer_plugins(plan: RankPlan | None) -> list[Any]:
    """Plugins that go with them: a scheduler's own environment would count its tasks and not our ranks."""
    return [LightningEnvironment()] if plan is not None and plan.count > 1 else []


def batch_norm_findings(plan: RankPlan, module: nn.Module, batch_size: int) -> list[str]:
    """What to say where batch normalisation sees fewer rows than a batch has."""
    layers = [name for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)]
    if plan.count == 1 or plan.sync_batch_norm or not layers:
        return []
    return [
        f"{len(layers)} layers of batch normalisation, {layers[0]} the first, see the {batch_size // plan.count} rows "
        f"of one rank and not the {batch_size} of a batch, and keep the statistics of rank 0: the fit is not that of "
        "one process (on GPUs trainer.sync_batchnorm puts the rows together)"
    ]
