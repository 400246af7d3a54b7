"""One optimiser step from a batch that goes through the network in pieces, smaller ones where memory ends."""

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.errors import ConfigError, TrainingError

OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",  # DefaultCPUAllocator
    "not enough memory",  # the same on Windows
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
BLOCK_BYTES = 64 * 2**20
"""One allocation of `has_room`: about the state of a large weight, so that smaller gaps do not count as room."""


@dataclass(frozen=True)
class Remedy:
    """Something that frees memory once a piece of one row is too large.

    Attributes:
        name: What it is called in sentences and checkpoints.
        apply: Switches it on; False where it is on already or there is nothing to switch.
    """

    name: str
    apply: Callable[[], bool]


@dataclass
class MicroBatches:
    """Runs a step piece by piece; the pieces' gradients add up to that of the whole batch.

    A piece's loss must be its share of the whole batch's: sums over its rows, divided by what the whole batch has.
    Where memory ends, the gradients so far are dropped, the pieces halved, and the step is done again from the random
    state it began with. At one row the remedies are switched on, in their order. The new size stays.

    Args:
        size: Rows of a piece, 1 or more.
        remedies: What else can be done at one row.
        may_shrink: False where other processes must go through the same pieces at the same time.

    Attributes:
        oom_events: How often memory ended.
        applied: Names of the remedies that are on.
        sentences: What was changed and why, for the report.

    Raises:
        ConfigError: If the size is below 1.
    """

    size: int
    remedies: Sequence[Remedy] = ()
    may_shrink: bool = True
    oom_events: int = 0
    applied: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ConfigError(f"model.micro_batch is {self.size!r}, allowed: a whole number, 1 or more")

    def run(self, batch: Mapping[str, Any], rows: int, piece: Callable[[dict[str, Any]], None], clear: Callable[[], None]) -> None:  # fmt: skip  # noqa: E501
        """Do one step's forward and backward passes.

        Args:
            batch: Tensors whose first dimension is the batch, nested in mappings as one likes.
            rows: Length of that dimension.
            piece: Forward and backward of some rows; adds to the gradients.
            clear: Drops the gradients.

        Raises:
            TrainingError: If memory ends and nothing is left to be done about it, or nothing may.
        """
        state = _random_state()
        while True:
            clear()
            if self._attempt(batch, rows, piece):
                return
            # Outside the handler: its traceback would keep the failed pass's tensors alive.
            clear()
            free_memory()
            self._shrink(rows)
            _set_random_state(state)

    def foresee(self, name: str, why: str) -> bool:
        """Switch a remedy on before memory ends in a step that cannot be done again; it counts as an end of memory.

        Args:
            name: Of one of the remedies.
            why: Beginning of the sentence, up to the colon.

        Returns:
            False where it is on already or has no effect.
        """
        remedy = next(remedy for remedy in self.remedies if remedy.name == name)
        if name in self.applied or not remedy.apply():
            return False
        self.oom_events += 1
        self.applied.append(name)
        self._say(f"{why}: {name} is switched on")
        return True

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "size": self.size, "oom_events": self.oom_events, "applied": list(self.applied),
            "sentences": list(self.sentences),
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on as the checkpoint's run did: its size if that is smaller, its remedies switched on."""
        self.size = min(self.size, int(state["size"]))
        self.oom_events = int(state["oom_events"])
        self.sentences = list(state["sentences"])
        for remedy in self.remedies:
            if remedy.name in state["applied"] and remedy.name not in self.applied:
                remedy.apply()
                self.applied.append(remedy.name)

    def _attempt(self, batch: Mapping[str, Any], rows: int, piece: Callable[[dict[str, Any]], None]) -> bool:
        try:
            for part in pieces(batch, rows, self.size):
                piece(part)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _shrink(self, rows: int) -> None:
        self.oom_events += 1
        tried = min(self.size, rows)
        if not self.may_shrink:
            raise TrainingError(
                f"out of memory with {tried} rows at once on one of several ranks, which must all go through the same "
                "pieces with trainer.strategy=fsdp: set a smaller model.micro_batch"
            )
        if tried > 1:
            self.size = (tried + 1) // 2
            self._say(f"out of memory with {tried} rows at once: from now on {self.size}, in more passes a step")
            return
        for remedy in self.remedies:
            if remedy.name not in self.applied and remedy.apply():
                self.applied.append(remedy.name)
                self._say(f"out of memory with 1 row at once: {remedy.name} is switched on")
                return
        done = f" and with {' and '.join(self.applied)}" if self.applied else ""
        raise TrainingError(
            f"out of memory with 1 row at once{done}: nothing is left to be made smaller; take a smaller model, "
            "shorter inputs or a larger device"
        )

    def _say(self, sentence: str) -> None:
        self.sentences.append(sentence)
        rank_zero_warn(sentence)


def pieces(batch: Mapping[str, Any], rows: int, size: int) -> Iterator[dict[str, Any]]:
    """Cut a batch along the first dimension.

    Args:
        batch: Tensors (rows, ...) in mappings; what is no tensor of that length goes into every piece as it is.
        rows: Length of the batch.
        size: Rows of a piece; the last piece may be shorter.

    Example:
        >>> [piece["x"].tolist() for piece in pieces({"x": torch.arange(5)}, rows=5, size=2)]
        [[0, 1], [2, 3], [4]]
    """
    for first in range(0, rows, size):
        yield {key: _cut(value, rows, slice(first, first + size)) for key, value in batch.items()}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has ended, on a GPU or in the CPU's allocator."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)


def has_room(num_bytes: float, device: torch.device) -> bool:
    """Whether so many bytes can be had beside what is in use; they are reserved in blocks and given back at once.

    Args:
        num_bytes: 0 or more.
        device: Where.
    """
    free_memory()
    blocks = []
    try:
        for _ in range(math.ceil(num_bytes / BLOCK_BYTES)):
            blocks.append(torch.empty(BLOCK_BYTES, dtype=torch.uint8, device=device))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        blocks.clear()
        free_memory()
    return True


def free_memory() -> None:
    """Give back what a failed pass has left."""
    gc.collect()
    torch.clear_autocast_cache()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def refuse_batch_statistics(network: nn.Module) -> None:
    """Raise where a layer looks at the whole batch, so that pieces would not add up to it.

    Raises:
        ConfigError: Naming the layer.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            raise ConfigError(
                f"{name} is a {type(module).__name__}, whose output depends on the other rows: a batch cannot go "
                "through it in pieces; allowed: norms by row, such as LayerNorm or GroupNorm"
            )


def _cut(value: Any, rows: int, where: slice) -> Any:
    if isinstance(value, Tensor) and value.ndim and len(value) == rows:
        return value[where]
    if isinstance(value, Mapping):
        return {key: _cut(inner, rows, where) for key, inner in value.items()}
    return value


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
