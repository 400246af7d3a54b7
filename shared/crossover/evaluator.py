"""Losses of crossed networks, sample by sample, without computing again what did not change.

A child differs from the one before it in the source of one module group. What the other groups' units computed on the
way is kept (`shared.crossover.activations`) and given out again where weights and inputs are equal. For G groups with E
sources each, a sweep of the coordinate search looks at about G (E - 1) children. With c_g the share of a pass that
group g costs (sum 1), one sweep from a child already computed costs, in validation passes:

- Backbone and leaves (each leaf reads the backbone's output): (E - 1) for the backbone, whose change reaches every
  leaf, and (E - 1) c_g for each leaf, together (E - 1) (2 - c_backbone) at most; uncached G (E - 1).
- Chain (each group reads the one before): a change reaches all that follows, (E - 1) sum over g of (c_g + ... + c_G);
  (E - 1) (G + 1) / 2 for equal shares. Uncached G (E - 1).
- Parallel branches joined at the end: (E - 1) (c_g + c_join) for each branch, together
  (E - 1) (1 + (G - 1) c_join) with the join's own turn. Uncached G (E - 1).

The search also begins at each whole snapshot among the sources: E - 1 more children. Their backbone outputs are those
that the first sweep asks for, so this adds the leaves' share, (E - 1) (1 - c_backbone); in a chain, all of it. Further
sweeps find the outputs of upstream sources in the cache and pay only for what lies below them. The grid would take E^G
passes. bench/bench_crossover.py counts the calls. What stands between units (pooling, concatenation, the loss) and the
digests of tensors that no unit returned are paid every time.

A reused output is right only if a unit is a function of weights and inputs and leaves nothing behind. What can be seen
of that is watched (`shared.crossover.side_effects`), and the rest is tried: whenever other units than before are
reused, an eighth of the batches is computed a second time without the cache and compared.
"""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from shared.crossover.activations import ActivationCache, CachedUnits, unit_owners, version_of
from shared.crossover.batch_norm import has_batch_norm, reestimate
from shared.crossover.search import Assignment
from shared.crossover.side_effects import CacheError, equal_losses
from shared.crossover.takeover import copied, own_tensors, random_state, repeatable, restored, set_random_state
from shared.errors import CheckpointError, TrainingError
from shared.module_groups import ModuleGroups
from shared.sample_losses import Step, choose_step, group_of, sample_losses, step_outputs

Batches = Callable[[], Iterable[Any]]

VERIFIED_SHARE = 8  # one batch in so many is computed twice where a verification is due
_MB = 1024 * 1024


@dataclass(frozen=True)
class Source:
    """Where a module group can take its weights from.

    Attributes:
        epoch: Epoch of the weights.
        label: In words, for tables.
        load: Gives the tensors that a group owns, on the CPU.
    """

    epoch: int
    label: str
    load: Callable[[str], Mapping[str, Tensor]]


class ChildEvaluator:
    """Computes the losses of children of one network on one set of batches; a context manager.

    Inside the context the module is in evaluation mode; leaving it puts weights, modes, forwards, metrics and random
    state back. Results and activations outlive the context, which can be entered again.

    Args:
        module: The network on its device.
        groups: Its groups.
        sources: What an assignment's numbers stand for.
        batches: Gives the batches, the same ones in the same order at each call. They are kept in memory, on the
            module's device, where they take at most half of the budget.
        cache_mb: Budget for kept batches and activations together, MB; 0 switches both off.
        forward_context: Entered around each step, for example a precision plugin's; None: nothing.

    Raises:
        ValueError: If cache_mb is negative.
    """

    def __init__(
        self,
        module: nn.Module,
        groups: ModuleGroups,
        sources: Sequence[Source],
        batches: Batches,
        cache_mb: float = 2048.0,
        forward_context: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> None:
        if not cache_mb >= 0:
            raise ValueError(f"cache_mb is {cache_mb}; 0 (off) or more is needed")
        self.module, self.groups, self.sources = module, groups, tuple(sources)
        self._batches, self._forward_context = batches, forward_context or nullcontext
        self.has_batch_norm = has_batch_norm(module)
        self._cached = cache_mb > 0
        self._keep_below = int(cache_mb * _MB / 2)
        self._cache = ActivationCache(int(cache_mb * _MB))
        unit_groups = unit_owners(module, groups)
        self._units = CachedUnits(module, unit_groups, self._weights_key, self._cache)
        self._unit_groups = unit_groups
        self._kept: list[Any] | None = None
        self._digests: dict[int, list[bytes | None]] = {}  # of the tensors of kept batches
        self._memo: dict[Assignment, NDArray[np.float64]] = {}
        self._group: NDArray[np.int64] | None = None
        self._loaded: dict[str, int] = {}
        self._tensors: dict[str, Tensor] = {}
        self._step: Step | None = None
        self._context: ExitStack | None = None
        self.groups_known = False
        self.num_passes, self.seconds = 0, 0.0
        self._per_call: dict[str, float] = {}
        self._calls_per_pass: dict[str, int] = {}
        self._num_batches, self._num_verified = 0, 0
        self._verified: set[Hashable] = set()  # what the verified batches were like, see `_occasions`
        self._differing: frozenset[str] | None = None  # groups with other sources than in the first child
        self._first_child: Assignment | None = None

    def __enter__(self) -> "ChildEvaluator":
        """Save what must be put back, and take the module over."""
        with ExitStack() as stack:
            stack.enter_context(restored(self.module))
            stack.enter_context(self._units.patched())
            self._tensors, self._loaded = dict(own_tensors(self.module)), {}
            self._context = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Put everything back."""
        assert self._context is not None
        self._units.begin_batch([], [])
        self._context.close()
        self._context, self._tensors = None, {}

    @property
    def group(self) -> NDArray[np.int64]:
        """Group of each sample, (N,); known after the first pass. Without `group_index` each sample is its own."""
        if self._group is None:
            raise ValueError("the groups are known after the first pass over the batches; there was none yet")
        return self._group

    def losses(self, assignment: Assignment) -> NDArray[np.float64]:
        """Losses (N,) of the child with these sources; computed once for each assignment.

        Raises:
            ValueError: If the assignment does not name one known source for each group.
            CheckpointError: If a source's tensors do not fit the network.
            TrainingError: If the step does not return what is needed, the batches are not the same as before, or the
                cache gave other losses than the network.
        """
        names = self.groups.names
        if len(assignment) != len(names) or not all(0 <= source < len(self.sources) for source in assignment):
            raise ValueError(
                f"assignment {assignment} must name one of {len(self.sources)} sources for each of {names}"
            )
        if assignment not in self._memo:
            for name, source in zip(names, assignment, strict=True):
                if self._loaded.get(name) != source:
                    self._copy_in(dict(self.sources[source].load(name)), self.groups.members[name])
                    self._loaded[name] = source
            self._first_child = self._first_child or assignment
            pairs = zip(names, assignment, self._first_child, strict=True)
            self._differing = frozenset(name for name, source, first in pairs if source != first)
            self._memo[assignment] = self._pass(cached=self._cached)
        return self._memo[assignment]

    def state_losses(self, state: Mapping[str, Tensor]) -> NDArray[np.float64]:
        """Losses (N,) of any full set of weights, computed anew, without the cache.

        Raises:
            CheckpointError: If names or shapes do not fit the network.
            TrainingError: As in `losses`.
        """
        self._load(state)
        return self._pass(cached=False)

    def statistics(self, state: Mapping[str, Tensor], train: Batches, num_batches: int) -> dict[str, Tensor]:
        """Batch-norm statistics of a set of weights, estimated anew on training batches; see `reestimate`.

        Args:
            state: Full state dict.
            train: Gives the training batches.
            num_batches: How many of them to use at most.
        """
        self._load(state)
        step = self._step or self._step_of_first_batch()
        with self._uncounted(), torch.inference_mode(False), repeatable(self.module):
            return reestimate(self.module, train(), num_batches, step, self._forward_context)

    def state(self, assignment: Assignment) -> dict[str, Tensor]:
        """The full state dict of a child, on the CPU, tied tensors under each of their names."""
        parts = {
            name: self.sources[source].load(name) for name, source in zip(self.groups.names, assignment, strict=True)
        }
        return self.groups.join(parts)

    def check(self, assignment: Assignment) -> bool:
        """Compute a child's losses once more without the cache, from its full state.

        Returns:
            True if they are equal within 1e-5 relative; False, which only happens where nothing was reused, if the
            network itself does not repeat its losses.

        Raises:
            TrainingError: If the cache gave other losses than the network.
        """
        known, fresh = self.losses(assignment), self.state_losses(self.state(assignment))
        equal = equal_losses(known, fresh)
        if not equal and any(self._units.reused.values()):
            raise CacheError
        return equal

    @property
    def cost(self) -> dict[str, Any]:
        """What was computed so far: passes, seconds, unit calls, and their forward time in full passes."""
        full = sum(self._per_call[name] * calls for name, calls in self._calls_per_pass.items())
        spent = sum(self._per_call.get(name, 0.0) * calls for name, calls in self._units.computed.items())
        verified = self._num_verified / self._num_batches if self._num_batches else 0.0
        return {
            "passes": self.num_passes,
            "equivalent_passes": (spent / full if full > 0 else float(self.num_passes)) + verified,
            "verified_batches": self._num_verified,
            "seconds": self.seconds,
            "unit_calls_computed": dict(self._units.computed),
            "unit_calls_reused": dict(self._units.reused),
            "not_reused": dict(self._units.not_reused) if self._cached else {},
        }

    def _weights_key(self, unit: str) -> str:
        """The sources of all groups that own a tensor of the unit, tied ones too."""
        return ",".join(f"{group}={self._loaded[group]}" for group in self._unit_groups[unit])

    def _load(self, state: Mapping[str, Tensor]) -> None:
        """Put a full set of weights into the module."""
        self._loaded = {}
        self._copy_in(state, tuple(self._tensors))

    def _chosen_step(self, batch: Any) -> Step:
        """The step to call, found on the first batch."""
        if self._step is None:
            trial = copied(batch)  # the trial must not write into the batch
            with self._uncounted():
                self._step = choose_step(self.module, trial)
            self._units.begin_anew()
        return self._step

    def _step_of_first_batch(self) -> Step:
        with torch.inference_mode(False), torch.no_grad(), self._forward_context():
            return self._chosen_step(next(iter(self._moved_batches())))

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        """Unit calls inside use no cache and do not count."""
        active, timed, computed = self._units.active, self._units.timed, dict(self._units.computed)
        self._units.active = self._units.timed = False
        try:
            yield
        finally:
            self._units.active, self._units.timed = active, timed
            self._units.computed.update(computed)

    def _copy_in(self, state: Mapping[str, Tensor], names: Sequence[str]) -> None:
        for name in names:
            own, new = self._tensors[name], state.get(name)
            if new is None or new.shape != own.shape:
                found = "is missing" if new is None else f"has shape {tuple(new.shape)}"
                raise CheckpointError(f"tensor {name} {found} in the weights; this network has {tuple(own.shape)}")
            with torch.no_grad():
                own.copy_(new)

    def _pass(self, cached: bool) -> NDArray[np.float64]:
        """Losses over all batches with the weights as they stand."""
        started = time.perf_counter()
        first = self.num_passes == 0
        before = dict(self._units.computed)
        self._units.active, self._units.timed = cached, first
        reused, stopped = sum(self._units.reused.values()), self._units.stopped
        try:
            losses, groups = self._all_batches()
            if self._units.stopped and not stopped and sum(self._units.reused.values()) > reused:
                losses, groups = self._all_batches()  # what was reused may not have been right; now nothing is
        finally:
            self._units.end_pass()
            self._units.active = self._units.timed = False
        if first:
            self._calls_per_pass = {name: calls - before[name] for name, calls in self._units.computed.items()}
            self._per_call = {
                name: self._units.seconds[name] / calls if calls else 0.0
                for name, calls in self._calls_per_pass.items()
            }
        self._check_batches(losses, groups)
        self.num_passes += 1
        self.seconds += time.perf_counter() - started
        return np.concatenate(losses) if losses else np.empty(0)

    def _all_batches(self) -> tuple[list[NDArray[np.float64]], list[NDArray[np.int64] | None]]:
        """Losses and groups of each batch."""
        losses, groups, seen = [], [], set[Hashable]()
        stride = min(VERIFIED_SHARE, self._num_batches or VERIFIED_SHARE)
        with torch.inference_mode(False), torch.no_grad(), repeatable(self.module):
            self._units.begin_pass()
            for number, batch in enumerate(self._moved_batches()):
                due = self._units.active and not self._units.stopped and number % stride == self.num_passes % stride
                copy, random = (copied(batch), random_state(self.module)) if due else (None, None)
                before = dict(self._units.reused)
                batch_losses, group = self._batch_losses(batch, number)
                occasions = self._occasions(before) - self._verified if random is not None else set()
                if occasions and random is not None:
                    self._verify(copy, number, batch_losses, random)
                    seen |= occasions
                losses.append(batch_losses)
                groups.append(group)
            self._units.end_batch(last=True)
        self._verified |= seen
        self._num_batches = len(losses)
        return losses, groups

    def _occasions(self, before: Mapping[str, int]) -> set[Hashable]:
        """What of a batch asks for a verification, once: the units reused in it, and each group crossed in."""
        if self._units.stopped:
            return set()
        units = frozenset(name for name, calls in self._units.reused.items() if calls > before[name])
        return {units, *(self._differing or ())} if units else set()

    def _verify(self, batch: Any, number: int, known: NDArray[np.float64], random: list[Tensor]) -> None:
        """Compute a batch without the cache, from the random state that it began with, and compare.

        Raises:
            TrainingError: If the losses differ.
        """
        with self._uncounted(), set_random_state(self.module, random), self._forward_context():
            outputs = step_outputs(self.module, batch, number, self._chosen_step(batch))
            fresh = np.asarray(sample_losses(self.module, outputs).cpu().numpy(), dtype=np.float64)
        self._num_verified += 1
        if not equal_losses(known, fresh):
            raise CacheError

    def _batch_losses(self, batch: Any, number: int) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """Losses and groups of one batch; the batch may be written into, which ends its being kept."""
        leaves, spec = tree_flatten(batch)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        known = self._digests.get(number) if self._kept is not None else None
        self._units.begin_batch(tensors, known or [None] * len(tensors))
        versions = [version_of(tensor) for tensor in tensors]
        batch = tree_unflatten(leaves, spec)  # new containers: the step may put things into them
        with self._forward_context():
            step = self._chosen_step(batch)
            outputs = step_outputs(self.module, batch, number, step)
        self._units.end_batch()
        if versions != [version_of(tensor) for tensor in tensors]:
            self._kept, self._keep_below = None, 0
        self._digests[number] = self._units.digests(tensors)
        losses = np.asarray(sample_losses(self.module, outputs).cpu().numpy(), dtype=np.float64)
        group = group_of(batch, outputs)
        return losses, None if group is None else np.asarray(group.numpy(), dtype=np.int64)

    def _moved_batches(self) -> Iterator[Any]:
        """The batches on the device; those of the first pass are kept where the budget allows."""
        if self._kept is not None:
            yield from list(self._kept)
            return
        device = next(iter(self._tensors.values())).device if self._tensors else torch.device("cpu")
        kept, size = [], 0
        for batch in self._batches():
            moved = move_data_to_device(batch, device)
            size += sum(
                leaf.numel() * leaf.element_size() for leaf in tree_flatten(moved)[0] if isinstance(leaf, Tensor)
            )
            if size <= self._keep_below:
                kept.append(moved)
            else:
                kept = []
            yield moved
        if self._cached and 0 < size <= self._keep_below:
            self._kept = kept
            self._cache.max_bytes -= size

    def _check_batches(self, losses: list[NDArray[np.float64]], groups: list[NDArray[np.int64] | None]) -> None:
        """The samples and their groups are those of the first pass."""
        found = [group for group in groups if group is not None]
        self.groups_known = bool(found) and len(found) == len(groups)
        sizes = [len(part) for part in losses]
        if self.groups_known:
            if sizes != [len(part) for part in found]:
                raise TrainingError(f"losses of {sum(sizes)} samples and groups of {sum(map(len, found))} do not match")
            group = np.concatenate(found)
        else:
            group = np.arange(sum(sizes), dtype=np.int64)
        if self._group is not None and not np.array_equal(group, self._group):
            raise TrainingError(
                f"the batches differ from those of the first pass ({len(group)} samples after {len(self._group)}, or "
                "another order): the loader must give the same samples in the same order, without shuffling"
            )
        self._group = group
