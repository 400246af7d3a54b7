"""Outputs of a network's units, kept and given out again while their weights and inputs are the same."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from shared.crossover.side_effects import Watch, hooked_part, outside_ties
from shared.module_groups import ModuleGroups

PLAIN = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device)

Stored = tuple[list[Any], TreeSpec]


class ActivationCache:
    """Least recently used outputs under a budget of bytes.

    Args:
        max_bytes: Most bytes of tensors held; an output larger than that is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._entries: OrderedDict[bytes, tuple[Stored, int]] = OrderedDict()

    def get(self, key: bytes) -> Stored | None:
        """The output under a key, which thereby becomes the most recently used."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: bytes, stored: Stored) -> None:
        """Keep an output; the least recently used ones make room."""
        size = sum(leaf.numel() * leaf.element_size() for leaf in stored[0] if isinstance(leaf, Tensor))
        if size > self.max_bytes:
            return
        self._entries[key] = (stored, size)
        self.num_bytes += size
        while self.num_bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.num_bytes -= freed

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.num_bytes = 0


class CachedUnits:
    """Replaces the forward of each unit, on the instance, by one that looks into the cache first.

    The key of an output is a digest of the unit's name, its weights' key and its arguments. A tensor that another unit
    returned is known by the key it was computed under; any other one by a digest of its bytes; plain values by their
    text. A call with anything else among its arguments, a unit whose result is no plain structure of tensors, and a
    unit that writes into its arguments are computed every time.

    An output stands for its call only where the call leaves nothing behind (a skip tensor, an auxiliary loss, a
    counter). So the modules are watched (`Watch`): at each unit call of the first pass and of the first batch of each
    further pass, and at the end of each batch of the first pass and of each further pass. When anything has changed, no
    unit's outputs are given out any more, since any unit called later, in the next batch or pass too, may read it. A
    unit tied to modules outside of it is not cached.

    Everything given out is a copy and known only while nobody has written into it: a following `ReLU(inplace=True)`
    spoils neither the cache nor the identity of its input. So gradients may be off, but not in inference mode, whose
    tensors do not count writes.

    Attributes:
        active: Whether the cache is used; otherwise the units compute as always.
        computed: Calls computed, by unit.
        reused: Calls answered from the cache, by unit.
        seconds: Time of computed calls, by unit, while `timed`.
        timed: Measure `seconds`, waiting for the device.
        not_reused: Unit whose outputs are not given out (any more) -> why.
        stopped: Whether none are given out any more.
    """

    def __init__(
        self, module: nn.Module, units: Iterable[str], weights_key: Callable[[str], str], cache: ActivationCache
    ) -> None:
        submodules = dict(module.named_modules(remove_duplicate=False))
        self._units: dict[str, nn.Module] = {}
        for name in units:
            unit = submodules[name]
            # A compiled unit does not go through its forward, a scripted one has none to replace; neither may the whole
            # module be a unit, whose steps are what is called.
            plain = unit is not module and not isinstance(unit, torch.jit.ScriptModule)
            if plain and getattr(unit, "_compiled_call_impl", None) is None and unit not in self._units.values():
                self._units[name] = unit
        self._weights_key, self._cache = weights_key, cache
        self._known: dict[int, tuple[Tensor, bytes, int]] = {}
        self._watch = Watch(module, self._units)
        self._first_pass = self._closely = True
        self.stopped = False
        self.not_reused = {name: tie for name, unit in self._units.items() if (tie := outside_ties(unit)) is not None}
        self.active = self.timed = False
        self.computed = dict.fromkeys(self._units, 0)
        self.reused = dict.fromkeys(self._units, 0)
        self.seconds = dict.fromkeys(self._units, 0.0)
        for name, unit in self._units.items():
            if (part := hooked_part(unit)) is not None:
                self._stop(name, f"its part {part} has forward hooks, which a reused output would not call")

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Replace the forwards, and put them back afterwards."""
        before = {name: vars(unit).get("forward") for name, unit in self._units.items()}
        for name, unit in self._units.items():
            vars(unit)["forward"] = self._wrapped(name, unit.forward)
        try:
            yield
        finally:
            for name, unit in self._units.items():
                del vars(unit)["forward"]
                if (own := before[name]) is not None:
                    vars(unit)["forward"] = own

    def begin_pass(self) -> None:
        """Look at the modules with the weights of this pass."""
        if self.active and not self.stopped and (found := self._watch.begin()) is not None:
            self._stop(None, f"{found} has changed between two passes")

    def begin_anew(self) -> None:
        """Take the modules as they are after a trial of the step, which may have filled caches of the network's own."""
        if self.active:
            self._watch.begin()

    def end_batch(self, last: bool = False) -> None:
        """Look whether the batch left something behind: each batch of the first pass, else the first and the last."""
        watched = self.active and (self._closely or last) and not self.stopped
        if watched and (found := self._watch.changed()) is not None:
            self._stop(None, f"{found} has changed with a batch")
        self._closely = self._first_pass

    def end_pass(self) -> None:
        """Watch the next pass closely only in its first batch."""
        self._first_pass, self._closely = self._first_pass and not self.active, True

    def _stop(self, name: str | None, reason: str) -> None:
        """Give out nothing any more."""
        self.stopped = True
        self._cache.clear()
        if name is not None:
            self.not_reused[name] = reason
            reason = f"{name} is not reused either ({reason})"
        for other in self._units:
            self.not_reused.setdefault(other, reason)

    def begin_batch(self, tensors: Iterable[Tensor], digests: Iterable[bytes | None]) -> None:
        """Forget the last batch's tensors; what is known of this one's own need not be digested again."""
        self._known = {}
        for tensor, digest in zip(tensors, digests, strict=True):
            if digest is not None:
                self._remember(tensor, digest)

    def digests(self, tensors: Iterable[Tensor]) -> list[bytes | None]:
        """Digests that came up since the batch began, None for a tensor that no unit has seen."""
        return [self._known[id(tensor)][1] if id(tensor) in self._known else None for tensor in tensors]

    def _wrapped(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def cached_forward(*args: Any, **kwargs: Any) -> Any:
            watched = self.active and self._closely and not self.stopped
            if watched and (found := self._watch.changed()) is not None:
                self._stop(None, f"{found} has changed between two unit calls")
            key = self._key(name, args, kwargs) if self.active else None
            stored = None if key is None else self._cache.get(key)
            if stored is not None and key is not None:
                self.reused[name] += 1
                return self._given_out(key, stored)
            versions = [
                (leaf, version_of(leaf)) for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)
            ]
            around = self._watch.surroundings() if watched and not self.stopped else None
            outputs = self._computed(name, forward, args, kwargs)
            if around is not None and not self.stopped and (found := self._watch.spoiled(around)) is not None:
                self._stop(name, f"its call changes {found}")
            if any(version_of(leaf) != version for leaf, version in versions):
                self.not_reused.setdefault(name, "it writes into its arguments")
            elif key is not None and name not in self.not_reused:
                self._keep(name, key, outputs)
            return outputs

        return cached_forward

    def _computed(self, name: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Compute a call; count it while the cache is in use or time is taken."""
        self.computed[name] += 1
        if not self.timed:
            return forward(*args, **kwargs)
        _wait()
        started = time.perf_counter()
        outputs = forward(*args, **kwargs)
        _wait()
        self.seconds[name] += time.perf_counter() - started
        return outputs

    def _key(self, name: str, args: Any, kwargs: Any) -> bytes | None:
        """Key of a call, None where there can be none."""
        if name in self.not_reused:
            return None
        leaves, spec = tree_flatten((args, kwargs))
        digest = hashlib.blake2b(f"{name}|{self._weights_key(name)}|{spec!r}".encode(), digest_size=16)
        for leaf in leaves:
            identity = self._identity(leaf)
            if identity is None:
                return None
            digest.update(identity)
        return digest.digest()

    def _identity(self, leaf: Any) -> bytes | None:
        if not isinstance(leaf, Tensor):
            return f"|{leaf!r}|".encode() if isinstance(leaf, PLAIN) else None
        known = self._known.get(id(leaf))
        if known is not None and version_of(leaf) == known[2]:
            return known[1]
        digest = digest_of(leaf)
        if digest is not None:
            self._remember(leaf, digest)
        return digest

    def _remember(self, tensor: Tensor, key: bytes) -> None:
        version = version_of(tensor)
        if version is not None:
            self._known[id(tensor)] = (tensor, key, version)

    def _keep(self, name: str, key: bytes, outputs: Any) -> None:
        leaves, spec = tree_flatten(outputs)
        if not all(isinstance(leaf, (Tensor, *PLAIN)) for leaf in leaves):
            self.not_reused[name] = "it returns more than tensors and plain values"
            return
        self._cache.put(key, ([_copy(leaf) for leaf in leaves], spec))
        self._name_outputs(key, leaves)

    def _given_out(self, key: bytes, stored: Stored) -> Any:
        leaves = [_copy(leaf) for leaf in stored[0]]
        self._name_outputs(key, leaves)
        return tree_unflatten(leaves, stored[1])

    def _name_outputs(self, key: bytes, leaves: list[Any]) -> None:
        for number, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                self._remember(leaf, b"output|" + key + b"|%d" % number)


def unit_owners(module: nn.Module, groups: ModuleGroups) -> dict[str, list[str]]:
    """Unit -> the groups that own one of its tensors."""
    owners = {name: groups.owner(name) for name in groups.shapes}
    return {
        unit: sorted({owner for name, owner in owners.items() if name.startswith(f"{unit}.")})
        for unit in groups.units(module)
    }


def digest_of(tensor: Tensor) -> bytes | None:
    """Digest of a tensor's type, shape and bytes; None for a tensor that is not a plain block of memory."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return None
    values = tensor.detach().cpu().contiguous()
    digest = hashlib.blake2b(f"{tensor.dtype}{tuple(tensor.shape)}{tensor.device}".encode(), digest_size=16)
    if values.numel():
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def version_of(tensor: Tensor) -> int | None:
    """How often the tensor was written to; None in inference mode, which does not count."""
    return None if tensor.is_inference() else tensor._version


def _copy(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
