"""How many processes train a run, and how: read from the trainer's configuration, refused before anything begins."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import ConfigError

DDP, FSDP = "ddp", "fsdp"
STRATEGIES = {
    "auto": DDP,
    "ddp": DDP,
    "ddp_find_unused_parameters_false": DDP,
    "ddp_find_unused_parameters_true": DDP,
    "fsdp": FSDP,
}
"""`trainer.strategy` -> what several devices then do."""

GPUS = ("gpu", "cuda")
ACCELERATORS = ("auto", "cpu", *GPUS)
FSDP_PRECISIONS = ("32-true",)
FSDP_OPTIMIZERS = ("adamw",)
FSDP_REFUSES = {
    "shared.callbacks.ema.EmaWeights": "its average would be a whole second network on every rank",
    "shared.callbacks.sweet_spot.SweetSpotCheckpoint": "its snapshots need the whole network on one rank",
    "shared.callbacks.update_monitor.UpdateMonitor": "it looks at whole weights",
    "shared.callbacks.gradient_norms.GradientNorms": "it looks at whole gradients",
}
"""Callback -> why it cannot work where each rank has a part of every weight."""


@dataclass(frozen=True)
class RankPlan:
    """What `trainer.devices` and `trainer.strategy` come to.

    Attributes:
        count: Processes, 1 or more.
        kind: "ddp" or "fsdp"; of no meaning for one process.
        on_gpu: Whether each has a GPU.
        find_unused: Whether DDP looks for weights without a gradient in each step.
        sync_batch_norm: Whether batch normalisation sees the rows of all ranks.
    """

    count: int
    kind: str
    on_gpu: bool
    find_unused: bool
    sync_batch_norm: bool

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds a part of every weight."""
        return self.count > 1 and self.kind == FSDP


def plan_ranks(plain: Mapping[str, Any]) -> RankPlan:
    """Read and check the plan.

    Args:
        plain: The whole configuration in plain containers.

    Raises:
        ConfigError: Naming the key, for whatever cannot be trained on this machine in this way.
    """
    trainer = plain["trainer"]
    nodes = trainer.get("num_nodes", 1)
    if nodes != 1:
        raise ConfigError(f"trainer.num_nodes is {nodes!r}, allowed: 1; a run starts its processes on its own machine")
    on_gpu = _is_on_gpu(trainer.get("accelerator", "auto"))
    count = _count(trainer.get("devices", "auto"), on_gpu)
    strategy = trainer.get("strategy", "auto") if count > 1 else "auto"  # of no meaning for one process
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise ConfigError(f"trainer.strategy is {strategy!r}, allowed: {', '.join(STRATEGIES)}")
    sync = trainer.get("sync_batchnorm")
    if sync and not on_gpu and count > 1:
        raise ConfigError("trainer.sync_batchnorm is true, allowed on CPUs: false or null; torch has it for GPUs only")
    plan = RankPlan(count, STRATEGIES[strategy], on_gpu, strategy.endswith("_true"), on_gpu if sync is None else sync)
    if count > 1:
        _check_accelerator(trainer.get("accelerator", "auto"), on_gpu)
        _check_batch(plain, count)
        if plan.is_sharded:
            _check_sharded(plain)
    return plan


def check_ranks(plain: Mapping[str, Any]) -> None:
    """Refuse before a run begins what `plan_ranks` refuses, and ranks inside of somebody else's ranks.

    Args:
        plain: The whole configuration in plain containers.

    Raises:
        ConfigError: Naming the key, or the variable of the other launcher.
    """
    if plan_ranks(plain).count == 1:
        return
    for name in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        if name in os.environ:
            raise ConfigError(
                f"trainer.devices: the environment has {name}, so another launcher has started this process; start one "
                "process as usual, it starts the others itself"
            )
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if tasks != "1" and "SLURM_PROCID" in os.environ:
        raise ConfigError(
            f"trainer.devices: this SLURM job has {tasks} tasks, allowed: 1, which starts the ranks itself (set "
            "hydra.launcher.tasks_per_node=1)"
        )


def unused_strategy(plain: Mapping[str, Any], plan: RankPlan) -> list[str]:
    """What to say where a strategy is configured for one process, which has no use for it.

    Args:
        plain: The whole configuration in plain containers.
        plan: What it came to.
    """
    strategy = plain["trainer"].get("strategy", "auto")
    if plan.count > 1 or strategy in ("auto", None):
        return []
    devices = plain["trainer"].get("devices", "auto")
    return [f"trainer.strategy is {strategy!r} and is not used: trainer.devices={devices} is one process"]


def device_of_one(devices: Any) -> int | list[int]:
    """`trainer.devices` for Lightning where one process trains: the GPU that is named by its number, otherwise any one.

    Args:
        devices: As configured.

    Example:
        >>> device_of_one([1]), device_of_one("1,"), device_of_one("1"), device_of_one(4)
        ([1], [1], 1, 1)
    """
    named = _named(devices)
    return named if named is not None and len(named) == 1 else 1


def threads_of_rank(threads: int | None, plan: RankPlan) -> int:
    """Threads of torch in each rank: as configured, otherwise the cores shared among the ranks.

    Args:
        threads: `runtime.threads`.
        plan: The plan.
    """
    return threads or max(1, len(os.sched_getaffinity(0)) // plan.count)


def _is_on_gpu(accelerator: Any) -> bool:
    if accelerator == "cpu":
        return False
    import torch

    return bool(torch.cuda.is_available())


def _count(devices: Any, on_gpu: bool) -> int:
    gpus = _num_gpus() if on_gpu else None
    if devices in ("auto", -1, "-1"):
        return 1 if gpus is None else gpus
    named = _named(devices)
    if named is not None and len(named) > 1:
        shown = ",".join(map(str, named))
        raise ConfigError(
            f"trainer.devices is {devices!r}, allowed: auto, a whole number from 1 on, or one GPU by its number; for "
            f"these GPUs set CUDA_VISIBLE_DEVICES={shown} and trainer.devices={len(named)}"
        )
    if named is not None:
        if gpus is not None and named[0] >= gpus:
            raise ConfigError(f"trainer.devices is {devices!r}, allowed: GPUs 0 to {gpus - 1}, those of this machine")
        return 1
    count = int(devices) if isinstance(devices, str) and devices.strip().isdecimal() else devices
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"trainer.devices is {devices!r}, allowed: auto or a whole number from 1 on")
    if gpus is not None and count > gpus:
        raise ConfigError(f"trainer.devices is {devices}, allowed: up to {gpus}, the GPUs of this machine")
    return count


def _named(devices: Any) -> list[int] | None:
    """GPUs that are named by their numbers, as Lightning reads a list or a string with a comma; None otherwise."""
    if isinstance(devices, str) and "," in devices:
        parts = [part.strip() for part in devices.split(",") if part.strip()]
        return [int(part) for part in parts] if parts and all(part.isdecimal() for part in parts) else None
    if not isinstance(devices, list | tuple) or not devices:
        return None
    return list(devices) if all(type(device) is int and device >= 0 for device in devices) else None


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _check_accelerator(accelerator: Any, on_gpu: bool) -> None:
    if accelerator not in ACCELERATORS or (accelerator in GPUS and not on_gpu):
        found = "auto, cpu" + (", gpu" if on_gpu else " (torch sees no GPU here)")
        raise ConfigError(f"trainer.accelerator is {accelerator!r}, allowed with several devices: {found}")


def _check_batch(plain: Mapping[str, Any], count: int) -> None:
    size = plain["data"].get("batch_size")
    if isinstance(size, int) and size % count:
        raise ConfigError(
            f"data.batch_size is {size}, which trainer.devices={count} do not divide: it is the batch of all ranks "
            f"together; the nearest that fits is {max(1, round(size / count)) * count}"
        )


def _check_sharded(plain: Mapping[str, Any]) -> None:
    precision = str(plain["trainer"].get("precision", "32-true"))
    if precision not in FSDP_PRECISIONS:
        raise ConfigError(
            f"trainer.precision is {precision!r}, allowed with trainer.strategy=fsdp: {', '.join(FSDP_PRECISIONS)}"
        )
    optimizer = plain["optimizer"]["name"]
    if optimizer not in FSDP_OPTIMIZERS:
        raise ConfigError(
            f"optimizer.name is {optimizer!r}, allowed with trainer.strategy=fsdp: {', '.join(FSDP_OPTIMIZERS)}"
        )
    if plain["model"].get("optimizer_offload"):
        raise ConfigError(
            "model.optimizer_offload is true, allowed with trainer.strategy=fsdp: false; add trainer.devices"
        )
    algorithm = plain["trainer"].get("gradient_clip_algorithm")
    if algorithm not in (None, "norm"):
        raise ConfigError(f"trainer.gradient_clip_algorithm is {algorithm!r}, allowed with trainer.strategy=fsdp: norm")
    if plain["runtime"].get("rehearse"):
        raise ConfigError("runtime.rehearse is true, allowed with trainer.strategy=fsdp: false; rehearse with ddp")
    for name, node in (plain["callbacks"] or {}).items():
        why = FSDP_REFUSES.get(node.get("_target_", "")) if node.get("enabled") else None
        if why is not None:
            raise ConfigError(
                f"callbacks.{name} is enabled, which trainer.strategy=fsdp does not allow: {why}; set "
                f"callbacks.{name}.enabled=false"
            )
