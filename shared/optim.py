"""Optimisers and learning-rate schedules by name, from plain configuration values."""

import inspect
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers  # type: ignore[attr-defined]
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingWarmRestarts,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
)

from shared.errors import ConfigError, TrainingError
from shared.low_memory_optim import FactoredAdamW, adamw_8bit

# These two names mean torch's own classes with torch's own defaults; timm's `sgd` is Nesterov with momentum 0.9.
_TORCH_OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
# For weights in half precision; what they cost is told in bench/redheart_memory.py.
_LOW_MEMORY_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw_8bit": adamw_8bit,
    "adamw_factored": FactoredAdamW,
}
LR_SCALE = "lr_scale"
"""Key of a parameter group: its rate as a multiple of `optimizer.lr`, kept by every schedule."""
_OWN_OPTIMIZER_KEYS = ("name", "lr", "weight_decay", "decay_norm_and_bias")
_NOT_FROM_CONFIG = {"self", "params", "lr", "weight_decay", "kwargs"}


def build_optimizer(
    parameters: Iterable[Tensor] | Iterable[tuple[str, Tensor]],
    config: Mapping[str, Any],
    lr_scale: Callable[[str], float] | None = None,
) -> Optimizer:
    """Build an optimiser.

    Args:
        parameters: Parameters or `named_parameters()`; frozen ones are left out. With names, every `*.bias` counts as
            a bias; without, what has at most one dimension.
        config: `name` (`adamw`, `sgd`, `adamw_8bit`, `adamw_factored`, or one of `timm.optim.list_optimizers()`), `lr`
            > 0, and optionally `weight_decay` >= 0 (default 0), `decay_norm_and_bias` (default false: no weight decay
            on norms and biases) and any argument of the optimiser's own, such as `betas`. `lr_from` must have been
            resolved before.
        lr_scale: Name of a parameter -> its rate as a multiple of `lr`, above 0; needs names. None: `lr` for all.

    Returns:
        The optimiser, with one parameter group, or two where norms and biases go without weight decay; with `lr_scale`
        so many for each rate, the highest first.

    Raises:
        ConfigError: On an unknown name or key (naming the nearest), a missing one, or a value out of range.
        ValueError: If there is nothing to train.
    """
    known = [*_TORCH_OPTIMIZERS, *_LOW_MEMORY_OPTIMIZERS, *map(str, list_optimizers())]
    name = _name(config, known, "optimizer")
    factory, own_keys = _optimizer_factory(name)
    _check_keys(config, [*_OWN_OPTIMIZER_KEYS, *own_keys], "optimizer")
    lr = _number(config, "lr", "optimizer", above=0.0)
    weight_decay = _number(config, "weight_decay", "optimizer", at_least=0.0, default=0.0)
    decay_all = _flag(config, "decay_norm_and_bias", "optimizer", default=False)
    options = {key: _plain(value) for key, value in config.items() if key not in _OWN_OPTIMIZER_KEYS}
    groups = _parameter_groups(parameters, weight_decay, decay_all, lr, lr_scale)
    try:
        return factory(groups, lr=lr, weight_decay=weight_decay, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"optimizer {name!r} refuses {options}: {error}") from None


def build_scheduler(
    optimizer: Optimizer, config: Mapping[str, Any], total_steps: float, steps_per_epoch: int
) -> dict[str, Any]:
    """Build a schedule, stepped after each optimiser step.

    | name | keys (default) | rate |
    |---|---|---|
    | `constant` | | the base rate |
    | `cosine_warm_restarts` | `T_0`, `T_mult` (1), `eta_min` (0); periods in epochs | cosine from base to `eta_min`, restarting after T_0, T_0·T_mult, ... epochs |
    | `warmup_cosine` | `warmup` (0.05, share of all steps), `warmup_start` (1/(W+1), share of base at step 0), `eta_min` (0) | linear over W steps up to base, then one cosine to `eta_min` |
    | `one_cycle` | `pct_start`, `div_factor`, `final_div_factor`, `anneal_strategy`, `cycle_momentum` (torch's) | torch's OneCycleLR with base as its maximum |

    A run may end inside a cosine period: 50 epochs of T_0 10, T_mult 2 end half-way through the third.

    Args:
        optimizer: Its groups' rates are the base rates.
        config: `name` and the keys above.
        total_steps: Optimiser steps of the whole fit; Lightning's `estimated_stepping_batches`, which may be infinite.
        steps_per_epoch: Optimiser steps of one epoch.

    Returns:
        `{"scheduler": LRScheduler, "interval": "step"}` for Lightning's `configure_optimizers`.

    Raises:
        ConfigError: On an unknown name or key (naming the nearest), a value out of range, or an infinite number of
            steps where the schedule needs its end.
    """  # noqa: E501 - a table row cannot be wrapped
    if steps_per_epoch < 1:
        raise ConfigError(f"scheduler: {steps_per_epoch} optimiser steps an epoch, allowed: 1 or more")
    name = _name(config, list(_SCHEDULERS), "scheduler")
    builder, keys, needs_end = _SCHEDULERS[name]
    _check_keys(config, ["name", *keys], "scheduler")
    if needs_end and not (math.isfinite(total_steps) and total_steps >= 1):
        raise ConfigError(
            f"scheduler {name!r} needs the number of steps, found {total_steps}; set trainer.max_epochs or max_steps"
        )
    steps = int(total_steps) if math.isfinite(total_steps) else 0
    return {"scheduler": builder(optimizer, config, steps, steps_per_epoch), "interval": "step"}


def check_parameter_groups(optimizer: Optimizer, named: Iterable[tuple[str, Tensor]]) -> None:
    """See that an optimiser trains each parameter that asks for it, once, and nothing else.

    Args:
        optimizer: Built from parameters of the module.
        named: `named_parameters()` of the module.

    Raises:
        TrainingError: Naming a trainable parameter that stands in no group or in two, or counting those of the
            optimiser that the module does not have.
    """
    seen = Counter(id(tensor) for group in optimizer.param_groups for tensor in group["params"])
    trainable = {name: tensor for name, tensor in named if tensor.requires_grad}
    for name, tensor in trainable.items():
        if seen[id(tensor)] != 1:
            raise TrainingError(
                f"parameter {name} is trainable and stands in {seen[id(tensor)]} groups of the optimiser, allowed: in "
                "exactly 1"
            )
    owned = {id(tensor) for tensor in trainable.values()}
    strays = [t for group in optimizer.param_groups for t in group["params"] if t.requires_grad and id(t) not in owned]
    if strays:
        raise TrainingError(f"the optimiser has {len(strays)} trainable parameters that the module does not have")


def _constant(optimizer: Optimizer, config: Mapping[str, Any], total_steps: int, steps_per_epoch: int) -> LRScheduler:
    return ConstantLR(optimizer, factor=1.0, total_iters=1)


def _cosine_warm_restarts(
    optimizer: Optimizer, config: Mapping[str, Any], total_steps: int, steps_per_epoch: int
) -> LRScheduler:
    first = _number(config, "T_0", "scheduler", at_least=1, whole=True)
    growth = _number(config, "T_mult", "scheduler", at_least=1, whole=True, default=1)
    eta_min = _eta_min(optimizer, config)
    # In steps: the rate falls smoothly and equals the epoch-wise schedule at the start of every epoch.
    return _ScaledRestarts(optimizer, T_0=int(first) * steps_per_epoch, T_mult=int(growth), eta_min=eta_min)


class _ScaledRestarts(CosineAnnealingWarmRestarts):
    """torch's schedule with the floor scaled like the rate, so that a group keeps its multiple of the base rate."""

    def get_lr(self) -> list[float | Tensor]:
        share = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        floors = [self.eta_min * group.get(LR_SCALE, 1.0) for group in self.optimizer.param_groups]
        return [floor + (base - floor) * share for floor, base in zip(floors, self.base_lrs, strict=True)]


def _warmup_cosine(
    optimizer: Optimizer, config: Mapping[str, Any], total_steps: int, steps_per_epoch: int
) -> LRScheduler:
    share = _number(config, "warmup", "scheduler", at_least=0.0, default=0.05)
    if share >= 1:
        raise ConfigError(f"scheduler.warmup is {share}, allowed: a share of all steps, 0 up to, but not, 1")
    warmup_steps = round(share * total_steps)
    start = _number(config, "warmup_start", "scheduler", at_least=0.0, default=1 / (warmup_steps + 1))
    if start > 1:
        raise ConfigError(f"scheduler.warmup_start is {start:g}, allowed: a share of the base rate, 0 to 1")
    floor = _eta_min(optimizer, config)
    floors = [floor * group.get(LR_SCALE, 1.0) / float(group["lr"]) for group in optimizer.param_groups]
    return LambdaLR(optimizer, [_warmup_cosine_factor(warmup_steps, total_steps, start, floor) for floor in floors])


def _warmup_cosine_factor(warmup_steps: int, total_steps: int, start: float, floor: float) -> Callable[[int], float]:
    """Return step -> share of the base rate: linear from `start` to 1 over W steps, then a cosine down to `floor`."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return start + (1.0 - start) * step / warmup_steps
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))

    return factor


def _one_cycle(optimizer: Optimizer, config: Mapping[str, Any], total_steps: int, steps_per_epoch: int) -> LRScheduler:
    options = {key: _plain(value) for key, value in config.items() if key != "name"}
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    try:
        return OneCycleLR(optimizer, max_lr=rates, total_steps=total_steps, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"scheduler 'one_cycle' refuses {options}: {error}") from None


_Builder = Callable[[Optimizer, Mapping[str, Any], int, int], LRScheduler]
_ONE_CYCLE_KEYS = ("pct_start", "div_factor", "final_div_factor", "anneal_strategy", "cycle_momentum")
# name -> builder, its keys, whether it needs the total number of steps
_SCHEDULERS: dict[str, tuple[_Builder, tuple[str, ...], bool]] = {
    "constant": (_constant, (), False),
    "cosine_warm_restarts": (_cosine_warm_restarts, ("T_0", "T_mult", "eta_min"), False),
    "warmup_cosine": (_warmup_cosine, ("warmup", "warmup_start", "eta_min"), True),
    "one_cycle": (_one_cycle, _ONE_CYCLE_KEYS, True),
}


def _optimizer_factory(name: str) -> tuple[Callable[..., Optimizer], list[str]]:
    """Return the function that builds `name` and the keys that are its own."""
    if name in _LOW_MEMORY_OPTIMIZERS:
        builder = _LOW_MEMORY_OPTIMIZERS[name]
        return builder, _own_keys(builder)
    if name in _TORCH_OPTIMIZERS:
        torch_class = _TORCH_OPTIMIZERS[name]
        return torch_class, _own_keys(torch_class)
    try:
        timm_class = get_optimizer_class(name, bind_defaults=False)
    except (AssertionError, ImportError) as error:
        raise ConfigError(f"optimizer {name!r} cannot be used here: {error}") from None

    def factory(groups: list[dict[str, Any]], **options: Any) -> Optimizer:
        return create_optimizer_v2(groups, opt=name, **options)

    return factory, _own_keys(timm_class)


def _own_keys(function: Callable[..., Any]) -> list[str]:
    """Arguments that a config may set."""
    return [key for key in inspect.signature(function).parameters if key not in _NOT_FROM_CONFIG]


def _parameter_groups(
    parameters: Iterable[Tensor] | Iterable[tuple[str, Tensor]],
    weight_decay: float,
    decay_all: bool,
    lr: float,
    lr_scale: Callable[[str], float] | None,
) -> list[dict[str, Any]]:
    """Split by rate and by what decays and what does not; a group that would be empty is left out."""
    named = [item if isinstance(item, tuple) else ("", item) for item in parameters]
    named = [(name, tensor) for name, tensor in named if tensor.requires_grad]
    if not named:
        raise ValueError("no parameter requires a gradient, so there is nothing to optimise")
    members: dict[tuple[float, float], list[Tensor]] = defaultdict(list)
    for name, tensor in named:
        decays = decay_all or not (tensor.ndim <= 1 or name.endswith(".bias"))
        scale = 1.0 if lr_scale is None else float(lr_scale(name))
        if not 0 < scale < math.inf:
            raise ValueError(f"the learning rate's multiple for {name} is {scale}, allowed: above 0")
        members[scale, weight_decay if decays else 0.0].append(tensor)
    # The base rate first: logs show the first group's.
    order = sorted(members, key=lambda key: (key[0] != 1.0, -key[0], -key[1]))
    groups: list[dict[str, Any]] = [{"params": members[key], "weight_decay": key[1]} for key in order]
    if lr_scale is not None:
        for group, (scale, _) in zip(groups, order, strict=True):
            group |= {"lr": lr * scale, LR_SCALE: scale}
    return groups


def _name(config: Mapping[str, Any], allowed: list[str], root: str) -> str:
    """Return `config["name"]`, or raise ConfigError naming the nearest."""
    name = config.get("name")
    if name in allowed:
        return str(name)
    near = get_close_matches(str(name), allowed, n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}" if near else f"allowed: {', '.join(sorted(set(allowed)))}"
    raise ConfigError(f"{root}.name is {name!r}, which is unknown; {hint}")


def _check_keys(config: Mapping[str, Any], allowed: list[str], root: str) -> None:
    """Raise ConfigError on the first key that nothing would read."""
    for key in config:
        if key not in allowed:
            near = get_close_matches(str(key), allowed, n=1, cutoff=0.5)
            hint = f"nearest: {near[0]}" if near else f"allowed: {', '.join(allowed)}"
            raise ConfigError(f"{root}.{key} is not read by {root} {config['name']!r}; {hint}")


def _number(
    config: Mapping[str, Any],
    key: str,
    root: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    whole: bool = False,
    default: float | None = None,
) -> float:
    """Return a finite number from the config within its bound, or raise ConfigError."""
    value = config.get(key, default)
    bound = f"above {above:g}" if above is not None else f"{at_least:g} or more"
    kind = "a whole number" if whole else "a number"
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number:
        number = float(value)
        in_range = number > above if above is not None else at_least is None or number >= at_least
        if in_range and (not whole or number == int(number)):
            return number
    found = "missing" if value is None else f"{value!r}"
    raise ConfigError(f"{root}.{key} is {found}, allowed: {kind}, {bound}")


def _flag(config: Mapping[str, Any], key: str, root: str, *, default: bool) -> bool:
    """Return a boolean from the config, or raise ConfigError."""
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{root}.{key} is {value!r}, allowed: true or false")
    return value


def _eta_min(optimizer: Optimizer, config: Mapping[str, Any]) -> float:
    """Return the lowest rate; above the base rate the 'decay' would be a rise."""
    eta_min = _number(config, "eta_min", "scheduler", at_least=0.0, default=0.0)
    lowest = min(float(group["lr"]) / group.get(LR_SCALE, 1.0) for group in optimizer.param_groups)
    if eta_min > lowest:
        raise ConfigError(f"scheduler.eta_min is {eta_min:g}, allowed: at most the learning rate, {lowest:g}")
    return eta_min


def _plain(value: Any) -> Any:
    """Lists, as YAML has them, as the tuples that optimisers expect."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else value
