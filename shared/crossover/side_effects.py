"""Whether an output may stand for the call that gave it: what a call leaves behind, and what it depends on."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric

from shared.crossover.takeover import random_state
from shared.errors import TrainingError

TOLERANCE = 1e-5  # of the loss, relative; a repeated pass of one network on one device is nearly always bit-equal
_BOOKKEEPING = frozenset(vars(nn.Module())) - {"training"}  # parameters, buffers, submodules, hooks
_DEPTH = 2
_PLAIN = (type(None), bool, int, float, str, bytes)
_SIMPLE = (*_PLAIN, Tensor, nn.Module, type, FunctionType, MethodType)

Entry = tuple[str, Any, int]
"""Name, the object itself (kept alive, so that no other can take its place), version of a tensor."""


class CacheError(TrainingError):
    """Outputs that were kept gave other losses than the network itself."""

    def __init__(self) -> None:
        super().__init__(
            "caching is not valid for this module: a unit is not a function of weights and inputs; set "
            "callbacks.crossover.cache_mb=0"
        )


class Watch:
    """Tells whether the modules of a network still hold what they held when it began.

    Compared are each module's own attributes, what lists, dicts, sets and plain objects among them hold, parameters and
    buffers: plain values by value, all else by identity, tensors also by how often they were written to; and the state
    of torch's random generators. Not seen are globals, closures and arrays of other libraries. Metrics are left out:
    steps write them, networks do not read them.

    While nothing has changed, a unit can depend on its weights and inputs alone, and leaving out a call leaves out no
    effect; so outputs given out before the first change was seen were right.

    Args:
        module: The network.
        units: Names of its units. Outside of them a step may write (it collects outputs on itself), a unit may not.
    """

    def __init__(self, module: nn.Module, units: Iterable[str]) -> None:
        submodules = dict(module.named_modules())
        owned = {id(part) for name in units for part in submodules[name].modules()}
        metrics = {id(part) for own in submodules.values() if isinstance(own, Metric) for part in own.modules()}
        known = [
            (name, part)
            for name, part in submodules.items()
            if id(part) not in metrics and not isinstance(part, torch.jit.ScriptModule)
        ]
        self._inside = [(name, part) for name, part in known if id(part) in owned]
        self._outside = [(name, part) for name, part in known if id(part) not in owned]
        self._module = module
        self._attributes: list[Entry] | None = None
        self._weights: list[Entry] = []

    def begin(self) -> str | None:
        """Begin a pass, before which weights may have been put in.

        Returns:
            What has changed beside them since the last pass that was watched, None for nothing.
        """
        before, self._attributes = self._attributes, _attributes(self._inside, _DEPTH)
        self._weights = _weights(self._inside)
        return None if before is None else _difference(before, self._attributes)

    def changed(self) -> str | None:
        """What has changed in the units since the pass began, None for nothing."""
        assert self._attributes is not None
        return _difference(self._attributes, _attributes(self._inside, _DEPTH)) or _difference(
            self._weights, _weights(self._inside)
        )

    def surroundings(self) -> tuple[list[Entry], list[Tensor]]:
        """The modules outside of the units, and the random state, to be compared by `spoiled`."""
        return _attributes(self._outside, 1) + _weights(self._outside), random_state(self._module)

    def spoiled(self, before: tuple[list[Entry], list[Tensor]]) -> str | None:
        """What has changed since the pass began in the units, or since `before` outside of them."""
        if found := self.changed():
            return found
        entries, random = self.surroundings()
        if any(not torch.equal(old, new) for old, new in zip(before[1], random, strict=True)):
            return "torch's random state"
        return _difference(before[0], entries)


def outside_ties(unit: nn.Module) -> str | None:
    """What ties a unit to things outside of it that its key does not tell of, None for nothing.

    That is a module or a parameter of elsewhere among its modules' attributes or in a closure or method among them.
    """
    own = {id(part) for part in unit.modules()} | {id(tensor) for tensor in unit.parameters()}
    for name, part in unit.named_modules():
        for entry, value, _ in _attributes([(name, part)], _DEPTH):
            if any(isinstance(item, nn.Module | nn.Parameter) and id(item) not in own for item in _reached(value)):
                return f"its attribute {entry} holds a module or parameter of elsewhere"
    return None


def hooked_part(unit: nn.Module) -> str | None:
    """Name of an inner module with forward hooks, which would not be called when an output is given out."""
    for name, part in unit.named_modules():
        if part is not unit and (part._forward_hooks or part._forward_pre_hooks):
            return name
    return None


def equal_losses(known: NDArray[np.float64], fresh: NDArray[np.float64]) -> bool:
    """Whether losses (N,) are the same within 1e-5, relative; NaN equals NaN."""
    finite = np.abs(fresh[np.isfinite(fresh)])
    # Losses near zero are measured against the mean loss: a relative error of 1e-9 of a loss decides nothing.
    floor = TOLERANCE * float(finite.mean()) if len(finite) else 0.0
    return bool(np.isclose(known, fresh, rtol=TOLERANCE, atol=floor, equal_nan=True).all())


def _reached(value: Any) -> list[Any]:
    """The value, and what a method or a function carries with it."""
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, FunctionType):
        return [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
    return [value]


def _attributes(modules: Iterable[tuple[str, nn.Module]], depth: int) -> list[Entry]:
    """Everything that the modules' own attributes hold."""
    found: list[Entry] = []
    for name, part in modules:
        for key, value in vars(part).items():
            if key not in _BOOKKEEPING and key != "forward":
                _collect(f"{name}.{key}" if name else key, value, depth, found)
    return found


def _collect(name: str, value: Any, depth: int, found: list[Entry]) -> None:
    found.append((name, value, _version(value)))
    if depth and not isinstance(value, _SIMPLE):
        for item in _held(value, depth):
            _collect(name, item, depth - 1, found)


def _held(value: Any, depth: int) -> Iterator[Any]:
    """What a container or, where it is looked at closely, a plain object holds."""
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from value
    elif depth == _DEPTH and hasattr(value, "__dict__"):
        yield from vars(value).values()


def _weights(modules: Iterable[tuple[str, nn.Module]]) -> list[Entry]:
    """Parameters and buffers."""
    return [
        (f"{name}.{key}" if name else key, tensor, _version(tensor))
        for name, part in modules
        for tensors in (part._parameters, part._buffers)
        for key, tensor in tensors.items()
    ]


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def _difference(before: list[Entry], after: list[Entry]) -> str | None:
    """Name of the first entry that is another one, None if all are the same."""
    for (name, old, version), (other, new, now) in zip(before, after, strict=False):
        if version != now or name != other:
            return other
        if old is not new and not (type(old) is type(new) and isinstance(new, _PLAIN) and old == new):
            return other
    if len(before) != len(after):
        return (before if len(before) > len(after) else after)[min(len(before), len(after))][0]
    return None
