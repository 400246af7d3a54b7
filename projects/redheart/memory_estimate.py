"""How much memory a training step takes: weights, gradients, optimiser states, activations.

`python -m projects.redheart.memory_estimate redheart_full --weights bfloat16 --optimizer adamw_factored`
Counted from the network's own tensors; activations are those that autograd keeps in a forward pass of one and of two
rows, without any random weights.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from projects.redheart.tasks import EMOTION, TASKS
from shared.entry import exit_codes
from shared.errors import ConfigError
from shared.low_memory_optim import KEEP_SMALL_UPDATES

GB = 1e9
OPTIMIZERS = ("adamw", "adamw_8bit", "adamw_factored")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BLOCK = 256
"""Numbers of an 8-bit state that share a float32 scale."""
STEP_COPIES = 5
"""Float32 copies of one tensor that a step of a parameter-wise optimiser holds at once."""


def estimate(
    sizes: Mapping[str, Any],
    *,
    embedding_dim: int,
    weights: str = "float32",
    optimizer: str = "adamw",
    micro_batch: int = 4,
    parts: int = 16,
    checkpointing: bool = False,
    passes: int = 1,
) -> dict[str, float]:
    """Estimate the memory of a step.

    Args:
        sizes: Of `StoryNetwork`.
        embedding_dim: Size of an embedded part.
        weights: "float32" or "bfloat16"; gradients and activations as well.
        optimizer: "adamw", "adamw_8bit" or "adamw_factored".
        micro_batch: Rows at once.
        parts: Parts of each story.
        checkpointing: Whether activations are computed again in the backward pass.
        passes: 2 with R-Drop.

    Returns:
        Bytes of "weights", "gradients", "states", "activations" (at the end of the forward pass, with checkpointing
        also the largest segment that is computed again), "step" (what the optimiser's step needs for itself), and their
        "peak": activations and the step's do not meet.

    Raises:
        ConfigError: If a name is unknown or a number below 1.
    """
    for name, value, allowed in (("weights", weights, tuple(DTYPES)), ("optimizer", optimizer, OPTIMIZERS)):
        if value not in allowed:
            raise ConfigError(f"{name} is {value!r}, allowed: {', '.join(allowed)}")
    if min(micro_batch, parts, passes) < 1:
        raise ConfigError(f"micro_batch, parts and passes are {micro_batch}, {parts} and {passes}, allowed: 1 or more")
    network = empty_network(sizes, embedding_dim, DTYPES[weights])
    tensors = list(network.parameters())
    own = float(sum(tensor.nbytes for tensor in tensors))
    found = {"weights": own, "gradients": own, "states": state_bytes(tensors, optimizer)}
    one, two = (_kept(network, rows, parts, checkpointing) for rows in (1, 2))
    rows = micro_batch * passes
    found["activations"] = max(0.0, one + (two - one) * (rows - 1))
    if checkpointing:
        found["activations"] += rows * _largest_segment(network, parts)
    found["step"] = step_room(tensors, optimizer)
    fixed = found["weights"] + found["gradients"] + found["states"]
    return found | {"peak": fixed + max(found["activations"], found["step"])}


def state_bytes(tensors: Sequence[Tensor], optimizer: str) -> float:
    """Bytes of an optimiser's states for these parameters.

    Args:
        tensors: The parameters.
        optimizer: A name of `shared.optim`. Beside those of OPTIMIZERS, "sgd" is taken to keep one number a weight (its
            momentum) and every other one two, in the weights' own precision.
    """
    if optimizer == "adamw_8bit":
        return float(sum(2 * (tensor.numel() + 4 * tensor.numel() / BLOCK) for tensor in tensors))
    if optimizer != "adamw_factored":
        return float(sum((1 if optimizer == "sgd" else 2) * tensor.nbytes for tensor in tensors))
    total = 0
    for tensor in tensors:
        second = tensor.numel() if tensor.ndim < 2 else tensor.shape[0] + tensor.numel() // tensor.shape[0]
        total += 2 * tensor.numel() + 4 * second
    return float(total)


def step_room(tensors: Sequence[Tensor], optimizer: str) -> float:
    """Bytes that an optimiser's step needs beside weights, gradients and states, for these parameters.

    Those of `shared.low_memory_optim` treat one tensor at a time; others, torch's AdamW among them, all at once with a
    copy of them.
    """
    if optimizer in KEEP_SMALL_UPDATES:
        return float(STEP_COPIES * 4 * max(tensor.numel() for tensor in tensors))
    return float(sum(tensor.nbytes for tensor in tensors))


def empty_network(sizes: Mapping[str, Any], embedding_dim: int, dtype: torch.dtype) -> nn.Module:
    """The network with zeros for weights: the time to draw 730 million random numbers is saved."""
    from projects.redheart.models.network import StoryNetwork

    with torch.device("meta"):
        network = StoryNetwork(embedding_dim, sizes).to(dtype)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()
    return network


def blank_batch(rows: int, parts: int, embedding_dim: int) -> dict[str, Any]:
    """A StoryBatch of random embeddings with every target."""
    generator = torch.Generator().manual_seed(0)
    target: dict[str, Tensor] = {task: torch.rand(rows, size, generator=generator) for task, size in TASKS.items()}
    target[EMOTION] = torch.randint(TASKS[EMOTION], (rows,), generator=generator)
    index = torch.arange(rows)
    return {
        "embedding": torch.randn(rows, parts, embedding_dim, generator=generator) / embedding_dim**0.5,
        "embedding_mask": torch.ones(rows, parts, dtype=torch.bool),
        "part": torch.zeros(rows, parts, dtype=torch.int64),
        "target": target,
        "target_mask": {task: torch.ones_like(value, dtype=torch.bool) for task, value in target.items()},
        "sample_index": index, "group_index": index, "domain": torch.zeros_like(index),
    }  # fmt: skip


@contextmanager
def kept_by_autograd(network: nn.Module) -> Iterator[dict[int, Any]]:
    """Collect what a forward pass keeps for its backward pass: storages beside the weights, each once."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that its address is not given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _kept(network: Any, rows: int, parts: int, checkpointing: bool) -> float:
    network.activation_checkpointing = checkpointing
    with kept_by_autograd(network) as kept:
        outputs = _forward(network, rows, parts)
    found = float(sum(storage.nbytes() for storage in kept.values()))
    del outputs
    return found


def _largest_segment(network: Any, parts: int) -> float:
    """Bytes a row that the largest segment between two checkpoints keeps."""
    network.activation_checkpointing = False
    segments = [*network.analyzers.values(), *network.backbone.layers, network.heads.trunk]
    found, marks = [], []
    with kept_by_autograd(network) as kept:

        def now() -> float:
            return float(sum(storage.nbytes() for storage in kept.values()))

        handles = [segment.register_forward_pre_hook(lambda *_: marks.append(now())) for segment in segments]
        handles += [segment.register_forward_hook(lambda *_: found.append(now() - marks.pop())) for segment in segments]
        outputs = _forward(network, 1, parts)
    for handle in handles:
        handle.remove()
    del outputs
    return max(found)


def _forward(network: Any, rows: int, parts: int) -> Any:
    batch = blank_batch(rows, parts, network.embedding_dim)
    dtype = next(network.parameters()).dtype
    return network(batch["embedding"].to(dtype), batch["embedding_mask"], batch["part"])


def breakdown(found: Mapping[str, float]) -> str:
    """The estimate as lines of text, in GB of 10^9 bytes."""
    return "\n".join(f"{name:<12} {value / GB:7.3f} GB" for name, value in found.items())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see `--help`."""
    from projects.redheart.describe import EMBEDDING_DIM, read_sizes

    parser = argparse.ArgumentParser(prog="python -m projects.redheart.memory_estimate", description=__doc__)
    parser.add_argument("model", nargs="?", default="redheart_full")
    parser.add_argument("--weights", default="bfloat16", choices=DTYPES)
    parser.add_argument("--optimizer", default="adamw_factored", choices=OPTIMIZERS)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--rdrop", action="store_true", help="two passes a row")
    given = parser.parse_args(argv)
    with exit_codes():
        found = estimate(
            read_sizes(given.model), embedding_dim=EMBEDDING_DIM, weights=given.weights, optimizer=given.optimizer,
            micro_batch=given.micro_batch, parts=given.parts, checkpointing=given.checkpointing,
            passes=2 if given.rdrop else 1,
        )  # fmt: skip
        print(breakdown(found))


if __name__ == "__main__":
    main()
