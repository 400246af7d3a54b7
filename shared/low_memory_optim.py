"""AdamW for weights in half precision: small states, and rounding that keeps small updates on average."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from shared.errors import ConfigError

KEEP_SMALL_UPDATES = ("adamw_factored", "adamw_8bit")
"""Optimisers of `shared.optim` that round weights in bfloat16 stochastically; the others round to nearest."""
MAIN_MEMORY = torch.device("cpu")


class FactoredAdamW(Optimizer):
    """AdamW whose second moment is kept as the sums of rows and columns, and whose first moment has two bytes a number.

    The second moment of a matrix is estimated by the outer product of its row and column means over their common mean;
    tensors with one dimension keep it whole, in float32. First moment and weights in bfloat16 are rounded
    stochastically: rounding to nearest would swallow every update below 1/256 of a weight. With bfloat16 weights and
    gradients that is 6 bytes a parameter, against 16 of AdamW in float32.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate > 0.
        betas: Decay of the first and the second moment, each in [0, 1).
        eps: Added to the root of the second moment, > 0.
        weight_decay: Decoupled, >= 0.

    Raises:
        ValueError: If a value is out of range.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay", ICLR 2019; Shazeer and Stern, "Adafactor", ICML 2018,
    algorithm 2 for the factored moment (with AdamW's constant betas, bias correction and rate, without its clipping);
    Zamirai et al., "Revisiting BFloat16 Training", 2020 for the rounding.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not (all(0 <= beta < 1 for beta in betas) and len(betas) == 2):
            raise ValueError(f"betas are {betas}, allowed: two numbers from 0 up to, but not, 1")
        if eps <= 0:
            raise ValueError(f"eps is {eps}, allowed: above 0")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights that have a gradient; returns what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's states in the precision in which they were kept.

        Plain optimisers cast them to that of the weights, in which a second moment would stop moving.
        """
        super().load_state_dict(state_dict)
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for weight, number in zip(group["params"], saved["params"], strict=True):
                for key, value in state_dict["state"].get(number, {}).items():
                    if isinstance(value, Tensor):
                        self.state[weight][key] = value.to(weight.device, copy=True)

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state |= _first_state(weight)
        first_beta, second_beta = group["betas"]
        state["step"] += 1
        gradient = weight.grad
        assert gradient is not None
        gradient = gradient.float()
        # In bfloat16 whatever the weight is, so this is a copy.
        momentum = state["momentum"].float().lerp_(gradient, 1 - first_beta)
        store(momentum, state["momentum"])
        scale = 1 - second_beta ** state["step"]
        root = _second_moment(gradient.square(), state, second_beta).div_(scale).sqrt_().add_(group["eps"])
        change = momentum.div_(1 - first_beta ** state["step"]).div_(root)
        rate = float(group["lr"])
        store(weight.float().mul(1 - rate * group["weight_decay"]).sub_(change, alpha=rate), weight)


def store(values: Tensor, into: Tensor) -> None:
    """Write float32 values into a tensor, in bfloat16 rounded up or down at random so that the mean is kept.

    Args:
        values: Float32.
        into: Of the same shape; overwritten. Other dtypes than bfloat16 are rounded to nearest.
    """
    if into.dtype != torch.bfloat16:
        into.copy_(values)
        return
    # A bfloat16 is the upper half of a float32: adding 16 random bits and cutting them off rounds up with a probability
    # equal to the fraction that is cut off, for negative numbers by magnitude.
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device)
    into.copy_((bits + noise).bitwise_and_(-(1 << 16)).view(torch.float32))


def adamw_8bit(
    params: Iterable[Any],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    block_size: int = 256,
) -> Optimizer:
    """AdamW of torchao: states of one byte a number, stochastic rounding of weights in bfloat16.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate > 0.
        betas: Decay of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled.
        block_size: Numbers that share a scale.

    Raises:
        ConfigError: If torchao is not installed.
    """
    try:
        from torchao.optim import AdamW8bit  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ConfigError(
            f"optimizer 'adamw_8bit' needs the package torchao ({error}); run `make extras`, or take "
            "optimizer.name=adamw_factored, which needs none"
        ) from None

    built = _with_plain_rates(AdamW8bit)(
        params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, block_size=block_size,
        bf16_stochastic_round=True,
    )  # fmt: skip
    return cast("Optimizer", built)


def _with_plain_rates(kind: Any) -> Any:
    """An optimiser of torchao whose rates are numbers outside of a step, as everywhere; inside, it wants tensors."""

    class PlainRates(kind):  # type: ignore[misc, unused-ignore]
        def add_param_group(self, param_group: dict[str, Any]) -> None:
            rate = float(param_group.get("lr", self.defaults["lr"]))
            super().add_param_group(param_group)
            self.param_groups[-1]["lr"] = rate

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            rates = [group["lr"] for group in self.param_groups]
            try:
                for group in self.param_groups:
                    group["lr"] = torch.tensor(float(group["lr"]))
                super().step()
            finally:
                for group, rate in zip(self.param_groups, rates, strict=True):
                    group["lr"] = rate
            return loss

    return PlainRates


def prepare_offload(optimizer: Optimizer) -> None:
    """Let `offload_states` be called at any time, also while a step computes its gradients in its closure.

    From then on a step calls its closure first and looks only afterwards where the states lie. A plain step calls it
    itself and would go on with states that have left the device meanwhile.

    Args:
        optimizer: Its `step` is replaced, once. It must call a closure once and before all else, as all of
            `shared.optim` do.
    """
    if hasattr(optimizer, "states_are_offloaded"):
        return
    plain_step = optimizer.step
    optimizer.states_are_offloaded = False  # type: ignore[attr-defined]

    @functools.wraps(plain_step)  # what a schedule marks its wrapped step with goes along
    def step(closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not states_are_offloaded(optimizer):
            plain_step()
            return loss
        for group in optimizer.param_groups:
            _step_one_by_one(optimizer, group, plain_step)
        return loss

    optimizer.step = step  # type: ignore[method-assign]


def offload_states(optimizer: Optimizer) -> bool:
    """Keep an optimiser's states in main memory: a step fetches those of one parameter at a time.

    They leave the device at once. Slower by the way over the bus and back; the result is that of the plain step, for
    every optimiser that treats its parameters one by one. Where a closure calls this, `prepare_offload` must have been
    called before its step began.

    Args:
        optimizer: Its `step` is replaced.

    Returns:
        False where it was done before.
    """
    prepare_offload(optimizer)
    if states_are_offloaded(optimizer):
        return False
    for group in optimizer.param_groups:
        for weight in group["params"]:
            _move_state(optimizer, weight, MAIN_MEMORY)
    optimizer.states_are_offloaded = True  # type: ignore[attr-defined]
    return True


def states_are_offloaded(optimizer: Optimizer) -> bool:
    """Whether an optimiser's states lie in main memory between steps."""
    return bool(getattr(optimizer, "states_are_offloaded", False))


def bytes_of_states(optimizer: Optimizer) -> int:
    """What an optimiser's states take now, wherever they lie; 0 before the first step."""
    tensors = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.nbytes for value in tensors if isinstance(value, Tensor))


def _step_one_by_one(optimizer: Optimizer, group: dict[str, Any], plain_step: Callable[[], Any]) -> None:
    """Step each parameter of a group by itself, its state on its device meanwhile."""
    groups, alone = optimizer.param_groups, group
    try:
        for weight in group["params"]:
            if weight.grad is None:
                continue
            _move_state(optimizer, weight, weight.device)
            alone = group | {"params": [weight]}
            optimizer.param_groups = [alone]
            plain_step()
            _move_state(optimizer, weight, MAIN_MEMORY)
    finally:
        optimizer.param_groups = groups
    # Some optimisers count their steps in the group; each parameter began from the same count.
    group |= {key: value for key, value in alone.items() if key != "params"}


def _move_state(optimizer: Optimizer, weight: Tensor, device: torch.device) -> None:
    state = optimizer.state.get(weight)
    if state:
        for key, value in state.items():
            if isinstance(value, Tensor) and key != "step":  # a plain AdamW keeps its step count on the CPU
                state[key] = value.to(device)


def _first_state(weight: Tensor) -> dict[str, Any]:
    state: dict[str, Any] = {"step": 0, "momentum": torch.zeros_like(weight, dtype=torch.bfloat16)}
    if weight.ndim < 2:
        return state | {"second": torch.zeros_like(weight, dtype=torch.float32)}
    rows, columns = weight.shape[0], weight.numel() // weight.shape[0]
    zeros = {"dtype": torch.float32, "device": weight.device}
    return state | {"rows": torch.zeros(rows, **zeros), "columns": torch.zeros(columns, **zeros)}  # type: ignore[call-overload]


def _second_moment(squares: Tensor, state: dict[str, Any], beta: float) -> Tensor:
    """Fold the squared gradient in; the moment's estimate in the weight's shape."""
    if "second" in state:
        state["second"].lerp_(squares, 1 - beta)
        return cast("Tensor", state["second"].clone())
    flat = squares.reshape(squares.shape[0], -1)
    rows = state["rows"].lerp_(flat.mean(dim=1), 1 - beta)
    columns = state["columns"].lerp_(flat.mean(dim=0), 1 - beta)
    mean = rows.mean().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.outer(rows / mean, columns).reshape(squares.shape)
